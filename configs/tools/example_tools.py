r"""Real tools in place of timed waits: a subprocess and an HTTP request. Copy and change.

    llmsched-gym compare --scenario chain --policies fcfs --jobs 5 --seeds 0 --backend vllm --servers dummy:tiny \
        --tools configs/tools/example_tools.yaml

A tool is an async function of one `ToolCall`. What it returns is ignored; if it raises, it is called again, three times
in all. It runs in the thread of all connections: a tool that computes or blocks belongs into ``asyncio.to_thread`` or a
subprocess, as here.
"""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp

from llmsched_gym.backends.vllm.tools import ToolCall


async def run_tests(call: ToolCall) -> None:
    """Run a Python program, as the test stage of code generation does; it takes as long as the workload says."""
    program = f"import time; time.sleep({call.duration_s!r}); assert 1 + 1 == 2"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    try:
        if await process.wait() != 0:
            raise RuntimeError(f"the tests of job {call.job} could not be run")
    finally:
        if process.returncode is None:  # the episode ended: leave no process behind
            process.kill()


async def search(call: ToolCall) -> None:
    """Ask the search service that SEARCH_URL names."""
    timeout = aiohttp.ClientTimeout(total=30)
    query = {"q": f"job {call.job}"}
    url = os.environ["SEARCH_URL"]
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, params=query) as response:
        response.raise_for_status()
        await response.read()
