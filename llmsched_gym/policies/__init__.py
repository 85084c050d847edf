"""Schedulers, one file each."""
