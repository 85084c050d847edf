"""Hand-made observations: what a policy sees, written down row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Executor, Job, Node, System, Truth

Row = Mapping[str, float]
ROWS, JOB_ROWS = 8, 6


def table(columns: type[IntEnum], rows: Sequence[Row], size: int) -> NDArray[np.float32]:
    """Return a padded table from rows of {column name in lower case: value}."""
    values = np.zeros((size, len(columns)), np.float32)
    for row, content in zip(values, rows, strict=False):
        for name, value in content.items():
            row[columns[name.upper()]] = value
    return values


@pytest.fixture
def observe() -> Callable[..., dict[str, NDArray[Any]]]:
    """Builder of observations of up to 8 candidates and 6 jobs; a candidate is legal unless ``free_slots`` is 0."""

    def build(
        candidates: Sequence[Row],
        jobs: Sequence[Row] = (),
        *,
        executors: Sequence[Row] = (),
        nodes: Sequence[Row] = (),
        edges: Sequence[tuple[int, int]] = (),
        truth: Sequence[Row] = (),
        jobs_present: int | None = None,
        time_s: float = 0.0,
    ) -> dict[str, NDArray[Any]]:
        legal = [row.get("free_slots", 1) > 0 for row in candidates]
        system = {
            "time_s": time_s,
            "jobs": len(jobs) if jobs_present is None else jobs_present,
            "candidates": len(candidates),
            "job_rows": len(jobs),
            "nodes": len(nodes),
            "edges": len(edges),
        }
        edge_rows = np.zeros((max(len(edges), 1), 2), np.int32)
        edge_rows[: len(edges)] = np.array(edges, np.int32).reshape(-1, 2)
        return {
            "candidates": table(Candidate, candidates, ROWS),
            "jobs": table(Job, jobs, JOB_ROWS),
            "executors": table(Executor, executors, max(len(executors), 1)),
            "system": table(System, [system], 1)[0],
            "action_mask": np.array([*legal, *([False] * (ROWS - len(legal))), True], np.int8),
            "nodes": table(Node, nodes, len(nodes) + 3),
            "edges": edge_rows,
            "truth": table(Truth, truth, ROWS),
        }

    return build
