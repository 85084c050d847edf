"""Latency profiles of GPUs: fitted to measured iteration times."""
