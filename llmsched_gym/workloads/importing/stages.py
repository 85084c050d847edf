"""Stages of one run: steps that wait for, and are waited for by, the very same steps are tasks of one stage.

A stage is known by where it stands: after how many LLM stages in a row, how many tools in a row after these, and what
it is called. Whatever runs of one application did, stages that stand alike are one stage of its template, and an order
by these positions fits all runs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from llmsched_gym.workloads.importing.recorded import Run, Step

ANY_TOOL: Final = "tools"
"""Name of tools where these are not told apart."""

_LONGEST_NAME: Final = 150


class Position(NamedTuple):
    """Where a stage stands; what a stage follows has a lesser one.

    Attributes:
        round: LLM stages on the longest way to it, itself included.
        tools: Tools on the way since the last of these, itself included; 0 for an LLM stage.
        name: What it is called.
        llm: Whether an LLM serves it.
        number: From 0, of those that stand alike in one run, side by side.
    """

    round: int
    tools: int
    name: str
    llm: bool
    number: int

    @property
    def label(self) -> str:
        """The name of such stages in a template."""
        further = f".{self.tools}" if self.tools > 1 else ""
        return f"{self.name[:_LONGEST_NAME]}-{self.round}{further}" + (f"#{self.number + 1}" if self.number else "")


@dataclass
class Stage:
    """A stage of a run.

    Attributes:
        position: Where it stands.
        parents: Where the stages stand that it follows.
        steps: Its tasks.
    """

    position: Position
    parents: set[Position] = field(default_factory=set)
    steps: list[int] = field(default_factory=list)


def stages_of(run: Run, *, named: bool = True) -> list[Stage]:
    """Return the stages of a run by position.

    Args:
        run: The run; its steps stand in an order in which they can run.
        named: Whether tools of different names are different stages.
    """
    names = [step.name if named or step.llm else ANY_TOOL for step in run.steps]
    after = _needed(run.steps)
    followed: list[list[int]] = [[] for _ in run.steps]
    for n, listed in enumerate(after):
        for parent in listed:
            followed[parent].append(n)
    groups: dict[tuple[object, ...], list[int]] = {}
    for n, step in enumerate(run.steps):
        alike = (step.llm, names[n], step.model, tuple(after[n]), tuple(followed[n]))
        groups.setdefault(alike, []).append(n)
    stages: dict[Position, Stage] = {}
    place: dict[int, Position] = {}
    taken: Counter[tuple[object, ...]] = Counter()
    for members in sorted(groups.values()):  # by first member: after those that they follow
        step = run.steps[members[0]]
        parents = {place[parent] for parent in after[members[0]]}
        rounds = max((parent.round for parent in parents), default=0)
        if step.llm:
            rounds, tools = rounds + 1, 0
        else:
            tools = 1 + max((parent.tools for parent in parents if parent.round == rounds), default=0)
        kind = (rounds, tools, names[members[0]], step.llm)
        position = Position(*kind, taken[kind])
        taken[kind] += 1
        stages[position] = Stage(position, parents, members)
        place.update(dict.fromkeys(members, position))
    return [stages[position] for position in sorted(stages)]


def _needed(steps: list[Step]) -> list[list[int]]:
    """Return what each step follows, without those that others of these follow already."""
    ancestors: list[int] = []
    needed: list[list[int]] = []
    for step in steps:
        known, kept = 0, []
        for parent in sorted(step.after, reverse=True):
            if not known >> parent & 1:
                kept.append(parent)
                known |= ancestors[parent] | 1 << parent
        ancestors.append(known)
        needed.append(sorted(kept))
    return needed
