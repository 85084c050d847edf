"""Executors, latency profiles, cluster state and the transitions of jobs, stages and tasks."""
