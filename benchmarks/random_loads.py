"""Random loads of one engine that use all of its rules, for checks of one engine against another.

Short KV caches, chunked prompts, bursts; prompts that share an application's prefix, turns of conversations, siblings
sampled from one prompt, turns that leave their conversation early or come before the turn they follow has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plain_engine import Request

from llmsched_gym.backends.replay import RequestLog
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.workloads.contents import prompt_contents
from llmsched_gym.workloads.workload import TASK

_APPS, _JOBS = 2, 4


@dataclass(frozen=True)
class Load:
    """Requests for one engine.

    Attributes:
        config: The engine.
        arrival_ns: int64 (n,), ascending.
        tasks: `TASK` rows (n,), for their prompts.
    """

    config: EngineConfig
    arrival_ns: NDArray[np.int64]
    tasks: NDArray[Any]

    @property
    def log(self) -> RequestLog:
        """The requests as `replay.serve` takes them."""
        return RequestLog(
            [str(index) for index in range(len(self.tasks))],
            self.arrival_ns,
            self.tasks["prompt_tokens"].astype(np.int64),
            self.tasks["output_tokens"].astype(np.int64),
            prompt_contents(self.tasks, _APPS, _APPS + _JOBS).columns(self.tasks),
        )

    @property
    def requests(self) -> list[Request]:
        """The requests as the plain engine takes them."""
        names = ("prompt_tokens", "output_tokens", "app_prefix", "app_prefix_tokens", "job_prefix")
        own_from = prompt_contents(self.tasks, _APPS, _APPS + _JOBS).own_from
        columns = (self.arrival_ns, *(self.tasks[name] for name in names), own_from)
        return [Request(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]

    def scheduled(self, *, asynchronous: bool) -> Load:
        """The same load on an engine that schedules asynchronously, or does not."""
        return replace(self, config=replace(self.config, async_scheduling=asynchronous))


def random_load(seed: int) -> Load:
    """Draw a load."""
    rng = np.random.default_rng(seed)
    n, scale = int(rng.integers(2, 40)), int(rng.choice([1, 1, 3]))
    tasks = np.zeros(n, TASK)
    app_tokens = rng.integers(0, 30 * scale, _APPS)
    job_app = rng.integers(-1, _APPS, _JOBS)
    sharing, longest_output = rng.random(3), int(rng.choice([2, 20, 60, 100]))
    ends: list[list[int]] = [[] for _ in range(_JOBS)]  # per job: where its text could be left
    for task in tasks:
        app = int(rng.integers(_APPS)) if rng.random() < sharing[0] else -1
        job = int(rng.integers(_JOBS)) if rng.random() < sharing[1] else -1
        if job >= 0 and rng.random() < 0.95:
            app = int(job_app[job])
        shared = int(app_tokens[app]) if app >= 0 and rng.random() < 0.9 else int(rng.integers(0, 9)) * (app >= 0)
        chained = shared
        if job >= 0:
            ends[job] = ends[job] or [shared + int(rng.integers(0, 40 * scale))]
            left = ends[job][-1] if rng.random() < sharing[2] else int(rng.choice(ends[job]))
            chained = max(shared, left - (int(rng.integers(0, 9)) if rng.random() < 0.1 else 0))
        room = max(1, 150 * scale - chained)
        new = 0 if job >= 0 and chained > 0 and rng.random() < 0.3 else int(rng.integers(1, max(2, room // 2)))
        task["app_prefix"], task["app_prefix_tokens"] = app, shared
        task["job_prefix"], task["job_prefix_tokens"] = _APPS + job if job >= 0 else -1, chained
        task["prompt_tokens"] = max(1, chained + new)
        task["output_tokens"] = rng.integers(1, longest_output)
        if job >= 0:
            ends[job] += [int(task["prompt_tokens"]), int(task["prompt_tokens"] + task["output_tokens"])]
    gap = int(rng.choice([0, 10**3, 10**6, 10**8]))
    return Load(_random_engine(rng, tasks), np.sort(rng.integers(0, n * gap + 1, n)), tasks)


def _random_engine(rng: np.random.Generator, tasks: NDArray[Any]) -> EngineConfig:
    block_size = int(rng.choice([1, 4, 7, 16], p=[0.1, 0.4, 0.1, 0.4]))
    slots = int(rng.integers(1, 11))
    a, b, c, d = (int(rng.integers(low, high)) for low, high in ((10**3, 10**8), (0, 10**6), (0, 10**6), (0, 10**4)))
    longest = int((tasks["prompt_tokens"] + tasks["output_tokens"]).max()) - 1
    least = -(-longest // block_size)
    return EngineConfig(
        LatencyProfile("random", a, b, c, d, attention_ps=int(rng.choice([0, 0, 300]))),
        max_num_seqs=slots,
        max_num_batched_tokens=slots + int(rng.choice([0, 10, 60, 400])),
        kv_blocks=least + int(rng.integers(0, int(rng.choice([1, least // 2 + 1, least + 1, 4 * least + 1])) + 1)),
        block_size=block_size,
        watermark=float(rng.choice([0.0, 0.0, 0.0, 0.01, 0.1, 0.3])),
        prefix_caching=bool(rng.random() < 0.85),
    )
