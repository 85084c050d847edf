"""What is forced and what is a choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from numpy.typing import NDArray

from llmsched_gym.policies.choices import forced

Observe = Callable[..., dict[str, NDArray[Any]]]
CHOICE = -1


def stage(kind: int, waiting: int, free: int) -> dict[str, float]:
    return {"kind": kind, "tasks_waiting": waiting, "free_slots": free}


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([], 8),  # nothing to start: wait
        ([stage(0, 9, 1)], 0),  # a single stage
        ([stage(0, 1, 0), stage(0, 2, 1), stage(0, 1, 0)], 1),  # a single stage that can start
        ([stage(0, 1, 2), stage(0, 1, 2)], 0),  # both fit
        ([stage(0, 1, 1), stage(0, 1, 1)], CHOICE),
        ([stage(0, 2, 2), stage(0, 1, 2)], CHOICE),
        ([stage(0, 1, 1), stage(0, 1, 1), stage(1, 1, 1)], 2),  # the tool fits, the two LLM stages do not
        ([stage(1, 1, 1), stage(1, 1, 1), stage(0, 2, 3), stage(0, 1, 3)], 2),
        ([stage(1, 1, 1), stage(1, 1, 1), stage(0, 2, 2), stage(0, 1, 2)], CHOICE),
    ],
)
def test_forced(observe: Observe, stages: list[dict[str, float]], expected: int) -> None:
    assert forced(observe(stages)) == expected
