"""Hand-made observations: what a policy sees, written down row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Executor, Job, Node, Placement, Residency, System, Truth

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


@pytest.fixture
def place() -> Callable[..., dict[str, NDArray[Any]]]:
    """Builder of observations of an environment with ``placement="agent"``.

    ``cells`` has a row per candidate and a cell per executor: None where it never serves the candidate, else columns of
    `Placement`; such a cell is legal and of model 0 unless it says otherwise, and illegal if it has a ``wait_s``.
    ``models`` has a row per executor and a cell per model: "" absent, "r" resident, "a" active.
    """

    def build(
        candidates: Sequence[Row],
        cells: Sequence[Sequence[Row | None]],
        *,
        jobs: Sequence[Row] = (),
        executors: Sequence[Row] = (),
        models: Sequence[Sequence[str]] = (),
        can_wait: bool = True,
    ) -> dict[str, NDArray[Any]]:
        width = len(cells[0])
        placements = np.zeros((ROWS, width, len(Placement)), np.float32)
        placements[: len(cells), :, Placement.MODEL] = -1
        for row, one in zip(placements, cells, strict=False):
            filled = [{} if c is None else {"legal": "wait_s" not in c, "serves": 1, "model": 0, **c} for c in one]
            served = [cell is not None for cell in one]
            row[served] = table(Placement, filled, width)[served]
        held = models or [[""]] * width
        residency = np.zeros((width, len(held[0]), len(Residency)), np.float32)
        residency[..., Residency.RESIDENT] = [[cell in ("r", "a") for cell in row] for row in held]
        residency[..., Residency.ACTIVE] = [[cell == "a" for cell in row] for row in held]
        system = {"jobs": len(jobs), "job_rows": len(jobs), "candidates": len(candidates)}
        return {
            "candidates": table(Candidate, candidates, ROWS),
            "jobs": table(Job, jobs, JOB_ROWS),
            "executors": table(Executor, executors, width),
            "system": table(System, [system], 1)[0],
            "action_mask": np.append(placements[..., Placement.LEGAL].ravel() != 0, can_wait).astype(np.int8),
            "placements": placements,
            "models": residency,
        }

    return build
