"""A Gymnasium benchmark for scheduling compound LLM applications."""
