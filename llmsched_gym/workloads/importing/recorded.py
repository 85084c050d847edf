"""Recorded runs: what every reader makes of its files, and what a workload is built from."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from llmsched_gym.errors import InputError, Plain

LLM_NAME: Final = "llm"
"""Name of LLM calls that have none of their own."""


@dataclass(slots=True)
class Step:
    """One LLM call or tool call of a run.

    Attributes:
        name: What the call is, the same in all runs: the tool, or the agent whose call it is.
        llm: Whether an LLM serves it.
        start_ns: When it started, on the clock of the recording.
        after: Positions, in the run, of the steps that had to end first; all are smaller than its own.
        model: Model that was asked for; empty if that was not recorded.
        input_tokens: Tokens of the whole prompt; None if not recorded.
        output_tokens: Tokens generated; None if not recorded.
        cached_tokens: Prompt tokens that the server had cached, as recorded.
        conversation: Calls of a run with the same text share one growing context.
        duration_ns: How long a tool ran; None if not recorded.
        output_bytes: Size of the output; None if not recorded.
    """

    name: str
    llm: bool
    start_ns: int
    after: tuple[int, ...] = ()
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    conversation: str = ""
    duration_ns: int | None = None
    output_bytes: int | None = None


@dataclass(slots=True)
class Run:
    """One run of an application.

    Attributes:
        application: Its name.
        place: Where the run stands in its file, for messages.
        start_ns: When it began; None if that was not recorded.
        steps: In an order in which they can run.
    """

    application: str
    place: str
    start_ns: int | None
    steps: list[Step]


@dataclass
class Assumptions:
    """What the file does not say, and what was taken instead, counted."""

    counts: Counter[str] = field(default_factory=Counter)

    def count(self, what: str, times: int = 1) -> None:
        """Count an assumption, worded as what follows its number ("calls without tokens: …")."""
        if times:
            self.counts[what] += times

    def lines(self) -> list[str]:
        """Return one line per assumption, in the order in which they were first met."""
        return [f"{number} {what}" for what, number in self.counts.items()]


def whole(value: Any, source: object, field: str) -> int:
    """Return a whole number from 0 to 2^63 - 1 that stands in a file as a number or as text.

    Raises:
        InputError: It is none.
    """
    number = value
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 25:
        number = int(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**63:
        raise InputError(source, field, value, "a whole number >= 0")
    return number


def median(values: Iterable[int]) -> int:
    """Return the lower median of whole numbers; there is at least one."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def in_order(steps: Sequence[Step], after: Sequence[Iterable[int]], source: object, place: str) -> list[Step]:
    """Return steps in an order in which they can run, those that started earlier first, and write what each follows.

    Args:
        steps: The steps of a run.
        after: Per step, the numbers of those that it follows.
        source: Where they came from, for messages.
        place: Where in there.

    Raises:
        InputError: They wait for each other in a circle.
    """
    before = [sorted(set(one)) for one in after]
    waits = [len(one) for one in before]
    children: list[list[int]] = [[] for _ in steps]
    for step, listed in enumerate(before):
        for parent in listed:
            children[parent].append(step)
    ready = [(step.start_ns, n) for n, step in enumerate(steps) if not waits[n]]
    heapq.heapify(ready)
    position: dict[int, int] = {}
    while ready:
        _, n = heapq.heappop(ready)
        position[n] = len(position)
        for child in children[n]:
            waits[child] -= 1
            if not waits[child]:
                heapq.heappush(ready, (steps[child].start_ns, child))
    if len(position) < len(steps):
        stuck = next(n for n in range(len(steps)) if n not in position)
        found = Plain(f"a circle of steps that wait for each other, {steps[stuck].name} among them")
        raise InputError(source, place, found, "steps that follow earlier ones alone")
    for n, step in enumerate(steps):
        step.after = tuple(sorted(position[parent] for parent in before[n]))
    return [steps[n] for n in position]
