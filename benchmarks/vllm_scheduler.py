"""Hold the simulated engine against vLLM's own V1 scheduler on random loads: every time of every request, to the ns.

    make vllm
    python benchmarks/vllm_scheduler.py [--loads 500] [--async-loads 200] [--seed 0]

Per load, three engines serve the same requests: vLLM's `Scheduler` (or `AsyncScheduler`) in a process of the Python
that has vLLM (`vllm_driver.py`), the plain loop over iterations and blocks (`plain_engine.py`), and the compiled one.
Compared are first-token and finish time and preemptions of every request, and the KV blocks in use in every iteration.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from plain_engine import PlainEngine
from random_loads import Load, random_load
from rich.console import Console
from rich.table import Table

from llmsched_gym.backends.replay import serve
from llmsched_gym.backends.vllm.dummy_model import dummy_model
from llmsched_gym.backends.vllm.launch_spec import find_python

TIMES = ("first_token_ns", "finish_ns", "restarts")


def content_ranges(load: Load) -> list[list[tuple[int, int, int]]]:
    """Return the tokens of each request, output included, as (number of the content, first position, position behind).

    Contents follow one rule: what the application's prefix does not cover the job's chain does up to where the task's
    own begins.
    """
    ranges: list[list[tuple[int, int, int]]] = []
    for index, request in enumerate(load.requests):
        end = request.prompt + request.output
        cuts = (0, request.app_prefix_tokens, max(request.app_prefix_tokens, min(request.own_from, end)), end)
        numbers = (1 + max(request.app_prefix, 0), 100 + max(request.job_prefix, 0), 1000 + index)
        ranges.append([(number, *cuts[k : k + 2]) for k, number in enumerate(numbers) if cuts[k] < cuts[k + 1]])
    return ranges


def as_json(load: Load) -> dict[str, Any]:
    """Write a load as `vllm_driver.py` reads it."""
    config, profile = load.config, load.config.profile
    names = ("max_num_seqs", "max_num_batched_tokens", "kv_blocks", "block_size", "watermark", "prefix_caching")
    engine = {name: getattr(config, name) for name in (*names, "async_scheduling")}
    coefficients = (profile.iteration_ps, profile.decode_ps, profile.prefill_ps, profile.context_ps)
    requests = [
        {"arrival_ns": request.arrival_ns, "output": request.output, "tokens": tokens}
        for request, tokens in zip(load.requests, content_ranges(load), strict=True)
    ]
    return {"engine": {**engine, "latency_ps": [*coefficients, profile.attention_ps]}, "requests": requests}


class VllmScheduler:
    """A process in which vLLM's scheduler serves loads; a context manager.

    Attributes:
        version: Version of vLLM.
    """

    def __init__(self) -> None:
        """Start it, which takes vLLM some seconds.

        Raises:
            InputError: There is no vLLM here.
        """
        python = find_python()
        model = dummy_model("tiny")
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("vllm_driver.py"), model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.version: str = self._read()["vllm"]

    def __enter__(self) -> VllmScheduler:
        """Return the process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.communicate()
        self._errors.close()

    def serve(self, load: Load) -> dict[str, Any]:
        """Return vLLM's times of a load."""
        assert self._process.stdin is not None
        print(json.dumps(as_json(load)), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"vLLM's scheduler ended:\n{self._errors.read()[-2000:]}")
        return json.loads(line)
