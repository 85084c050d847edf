"""Real clusters: every LLM executor is one vLLM server. Needs the ``vllm`` extra (aiohttp)."""
