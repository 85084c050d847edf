"""What an episode on real servers leaves behind beside the cluster's state: counters, requests, overhead."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.vllm.client import Completion, MalformedReply, RequestError, ServerError, ServerHung
from llmsched_gym.cluster.state import FAR

REQUEST: Final = np.dtype(
    [
        ("enabled_ns", "i8"),  # when the task could have been sent: its stage was ready and the slot free
        ("start_ns", "i8"),  # when the policy had decided
        ("sent_ns", "i8"),  # when the request had been written to its connection
        ("first_token_ns", "i8"),  # FAR without streaming
        ("finish_ns", "i8"),  # when the reply had been read
        ("executor", "i4"),
        ("attempts", "i4"),
        ("prompt_tokens", "i4"),  # as the server counted them
        ("output_tokens", "i4"),
        ("cached_tokens", "i4"),  # -1 where the server does not tell
    ],
    align=True,
)
"""One row per task; times of the attempt that was accepted. Regular tasks have no tokens."""


@dataclass
class FaultCounts:
    """How often what went wrong.

    Attributes:
        retries: Tasks that were sent again.
        quarantines: Times that an executor was taken out of use.
        server_restarts: Launched servers that were started anew.
        refused: Connections refused, or dropped before the reply was complete.
        timeouts: Requests to servers that were silent for too long.
        http_errors: Replies with an HTTP status other than 200.
        malformed: Replies that were no completion of their request.
        duplicate_outputs: Outputs dropped, because their task had been withdrawn.
        tool_retries: Tool calls that raised and were repeated.
    """

    retries: int = 0
    quarantines: int = 0
    server_restarts: int = 0
    refused: int = 0
    timeouts: int = 0
    http_errors: int = 0
    malformed: int = 0
    duplicate_outputs: int = 0
    tool_retries: int = 0

    def count(self, error: RequestError) -> None:
        """Count a failed request by its kind."""
        if isinstance(error, ServerHung):
            self.timeouts += 1
        elif isinstance(error, ServerError):
            self.http_errors += 1
        elif isinstance(error, MalformedReply):
            self.malformed += 1
        else:
            self.refused += 1


class ServedRecord:
    """Requests of an episode.

    Args:
        n_tasks: Tasks of the workload.
        n_executors: Executors of the cluster.

    Attributes:
        requests: `REQUEST` rows.
        faults: Counters.
    """

    def __init__(self, n_tasks: int, n_executors: int) -> None:
        self.requests: NDArray[Any] = np.zeros(n_tasks, REQUEST)
        for column in ("enabled_ns", "start_ns", "sent_ns", "first_token_ns", "finish_ns"):
            self.requests[column] = FAR
        self.requests["executor"] = -1
        self.faults = FaultCounts()
        self._freed: list[deque[int]] = [deque() for _ in range(n_executors)]
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()

    def free(self, executor: int, at_ns: int) -> None:
        """Note that a slot became free."""
        self._freed[executor].append(at_ns)

    def start(self, task: int, executor: int, ready_ns: int, now_ns: int) -> int:
        """Note that a task goes out; returns the number of the attempt, from 1."""
        freed = self._freed[executor]
        row = self.requests[task]
        row["enabled_ns"] = max(ready_ns, freed.popleft() if freed else 0)
        row["start_ns"] = now_ns
        row["executor"] = executor
        row["attempts"] += 1
        return int(row["attempts"])

    def accept(self, task: int, at_ns: int, wire_ns: int, first_ns: int, completion: Completion) -> None:
        """Note the reply that counts."""
        row = self.requests[task]
        row["sent_ns"], row["first_token_ns"], row["finish_ns"] = wire_ns, first_ns, at_ns
        row["prompt_tokens"], row["output_tokens"] = completion.prompt_tokens, completion.output_tokens
        row["cached_tokens"] = -1 if completion.cached_tokens is None else completion.cached_tokens

    def accepted(self) -> NDArray[Any]:
        """Return the rows of the LLM tasks that have been served."""
        return self.requests[self.requests["sent_ns"] != FAR]

    def summary(self, tasks: NDArray[Any]) -> dict[str, Any]:
        """Return counters and overhead, JSON-able.

        Args:
            tasks: `TASK` rows of the workload.

        Returns:
            The fields of `FaultCounts`; ``accepted_requests`` and, of these, ``token_mismatches``: with other token
            counts than the workload's; ``dispatch_overhead_ms_p50`` and ``_p99``: from when a task could start (stage
            ready and slot free) to when its request was on the wire, the policy's time included;
            ``process_cpu_share``: CPU time of this process over wall time.
        """
        served = self.requests["sent_ns"] != FAR
        rows, truth = self.requests[served], tasks[served]
        wrong = (rows["prompt_tokens"] != truth["prompt_tokens"]) | (rows["output_tokens"] != truth["output_tokens"])
        overhead_ms = (rows["sent_ns"] - rows["enabled_ns"]) * 1e-6
        p50, p99 = np.percentile(overhead_ms, [50, 99]).tolist() if len(rows) else (None, None)
        wall_s = time.perf_counter() - self._wall_s
        return asdict(self.faults) | {
            "accepted_requests": len(rows),
            "token_mismatches": int(np.count_nonzero(wrong)),
            "dispatch_overhead_ms_p50": p50,
            "dispatch_overhead_ms_p99": p99,
            "process_cpu_share": (time.process_time() - self._cpu_s) / max(wall_s, 1e-9),
        }
