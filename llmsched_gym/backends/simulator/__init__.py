"""Simulated cluster: a compiled event loop over executors, and LLM engines that batch as vLLM does."""
