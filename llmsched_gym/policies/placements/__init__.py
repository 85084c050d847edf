"""Placements: rules that pick the executor that a task goes to, one file each."""
