"""How long moving the outputs of tasks takes beside computing them: one number, to be swept.

Text is a few kilobytes, which no network notices; a scientific workflow's files are not those of an LLM's. So where
outputs are to matter, their size is set: so large that moving a task's output over a reference link takes a given share
of the time that the task takes by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError
from llmsched_gym.numbers import real_number
from llmsched_gym.workloads.history import NOMINAL_PS, nominal_ns
from llmsched_gym.workloads.validate import MAX_BYTES
from llmsched_gym.workloads.workload import BYTES_PER_TOKEN, Workload

REFERENCE_BYTES_PER_NS: Final = 2.5
"""The reference link, 2.5 GB/s: what an Ethernet-class network between two machines carries (NCCL, 64 MiB; measured by
microsoft/vidur, 7d47513, MIT)."""

MAX_RATIO: Final = 1000.0


def with_transfer_ratio(workload: Workload, ratio: float) -> Workload:
    """Return the same jobs whose outputs are so large that moving them takes `ratio` times as long as making them.

    Of every task, LLM or tool: bytes over the reference link / time alone on an idle nominal executor (`nominal_ns`).

    Args:
        workload: Jobs.
        ratio: 0 to 1000. Recorded scientific workflows have at most 0.0034, at 1.1 GB/s.

    Raises:
        InputError: It is not such a number.
    """
    share = real_number(ratio)
    if share is None or not 0.0 <= share <= MAX_RATIO:
        raise InputError(f"workload {workload.name}", "transfer_ratio", ratio, f"a number from 0 to {MAX_RATIO:g}")
    tasks = workload.tasks.copy()
    bytes_ = np.rint(nominal_ns(tasks) * (share * REFERENCE_BYTES_PER_NS))
    tasks["output_bytes"] = np.minimum(bytes_, MAX_BYTES).astype(np.int64)
    return replace(workload, tasks=tasks, provenance={**workload.provenance, "transfer_ratio": share})


def expected_output_bytes(workload: Workload) -> tuple[NDArray[np.float64], ...]:
    """Return the bytes that a stage of each template node writes on average, by historical means alone.

    With a ratio (in the provenance) they follow from the node's mean time, else LLM stages write text of 4 bytes per
    token and tools nothing that is known before. A dynamic node holds the sum over its sub-DAG.

    Returns:
        Per application, float64 (nodes,), over all tasks of the stage, given that it is present.
    """
    ratio = workload.provenance.get("transfer_ratio")
    return tuple(_expected(history, ratio) for history in workload.history)


def _expected(history: NDArray[Any], ratio: float | None) -> NDArray[np.float64]:
    if ratio is None:
        return history["output_tokens"] * BYTES_PER_TOKEN
    a, b, c, d = NOMINAL_PS
    output = history["output_tokens"]
    decodes = np.maximum(output - np.where(output > 0, history["n_tasks"], 0.0), 0.0)
    compute = output * a + decodes * b + history["prefill_tokens"] * c + history["context_tokens"] * d
    return ratio * REFERENCE_BYTES_PER_NS * (compute / 1000.0 + history["seconds"] * 1e9)
