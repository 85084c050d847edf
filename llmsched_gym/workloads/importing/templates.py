"""The template of an application, from the stages of its runs.

A stage that every run has is known on arrival. Any other is optional, and what tells whether it is there is the last
LLM stage that comes before it in all runs that have it: a loop is unrolled to its longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.importing.recorded import Assumptions
from llmsched_gym.workloads.importing.stages import Position, Stage
from llmsched_gym.workloads.schema import HOW_TO_SPLIT, MAX_STAGES, StageRecord

START: Final = Position(0, 0, "start", False, 0)
"""Stands before all others where runs do not begin alike: a tool of no time, whose end tells how the run begins."""


@dataclass(frozen=True)
class Unrolled:
    """An application's stages.

    Attributes:
        nodes: Where they stand, in the template's order.
        names: What they are called.
        parents: What each follows in at least one run, as positions in `nodes`.
        gates: What tells whether each is there, as positions in `nodes`; -1: every run has it.
    """

    nodes: tuple[Position, ...]
    names: dict[Position, str]
    parents: tuple[tuple[int, ...], ...]
    gates: tuple[int, ...]

    def records(self, models: dict[Position, str | None]) -> tuple[StageRecord, ...]:
        """Return the stages as a trace has them; `models` are those that all runs agree on."""
        names = [self.names[node] for node in self.nodes]
        return tuple(
            StageRecord(
                name=names[n],
                kind="llm" if node.llm else "regular",
                parents=tuple(names[parent] for parent in self.parents[n]),
                revealed_by=None if self.gates[n] < 0 else names[self.gates[n]],
                model=models.get(node),
            )
            for n, node in enumerate(self.nodes)
        )

    def stated_parents(self, run: Sequence[Stage]) -> dict[Position, tuple[str, ...] | None]:
        """Return the names of what each stage of a run follows; None where the template's parents come to the same.

        They do if all that they add to the stage's own parents has ended by then anyhow: earlier stages of its way, and
        absent ones that such a stage has told about.
        """
        index = {node: n for n, node in enumerate(self.nodes)}
        by_place = {index[stage.position]: stage for stage in run}
        ways: dict[int, int] = {}
        stated: dict[Position, tuple[str, ...] | None] = {}
        for n in sorted(by_place):
            stage = by_place[n]
            own = {index[parent] for parent in stage.parents}
            way = 0
            for parent in own:
                way |= ways[parent] | 1 << parent
            ways[n] = way
            added = [self._told_by(parent, by_place) for parent in self.parents[n] if parent not in own]
            implied = all(one < 0 or way >> one & 1 for one in added)
            names = tuple(self.names[self.nodes[parent]] for parent in sorted(own))
            stated[stage.position] = None if implied else names
        return stated

    def _told_by(self, node: int, present: dict[int, Stage]) -> int:
        """Return the stage whose end ends a parent: itself, or what tells that it is absent; -1: known on arrival."""
        while node >= 0 and node not in present:
            node = self.gates[node]
        return node


def unroll(runs: Sequence[list[Stage]], source: object, application: str, assumed: Assumptions) -> Unrolled:
    """Make one template of the stages of all runs of an application; `START` is added to the runs where it is needed.

    Raises:
        InputError: The template would have more stages than an application may.
    """
    found = _unroll(runs, source, application)
    if found is None:
        assumed.count("applications whose runs begin differently: a stage of no time that tells how comes first")
        for run in runs:
            for stage in run:
                if not stage.parents:
                    stage.parents.add(START)
            run.insert(0, Stage(START))
        found = _unroll(runs, source, application)
    assert found is not None  # now everything comes after START
    return found


def _unroll(runs: Iterable[list[Stage]], source: object, application: str) -> Unrolled | None:
    """Return the template; None if nothing comes before some optional stage in all runs that have it."""
    runs = list(runs)
    nodes = sorted({stage.position for run in runs for stage in run})
    if len(nodes) > MAX_STAGES:
        found = Plain(f"{len(nodes)} stages")
        raise InputError(source, f"application {application}", found, f"at most {MAX_STAGES}: {HOW_TO_SPLIT}")
    index = {node: n for n, node in enumerate(nodes)}
    parents: list[set[int]] = [set() for _ in nodes]
    always = [-1] * len(nodes)  # bit sets: what comes before a stage in all runs that have it
    times = [0] * len(nodes)
    for run in runs:
        ways: dict[int, int] = {}
        for stage in run:
            n, way = index[stage.position], 0
            for parent in sorted(index[one] for one in stage.parents):
                parents[n].add(parent)
                way |= ways[parent] | 1 << parent
            ways[n] = way
            always[n] &= way
            times[n] += 1
    llm = sum(1 << n for n, node in enumerate(nodes) if node.llm)
    gates: list[int] = []
    for n in range(len(nodes)):
        before = always[n]
        if times[n] == len(runs):
            gates.append(-1)
        elif not before:
            return None
        else:
            gates.append(((before & llm) or before).bit_length() - 1)
    return Unrolled(tuple(nodes), _names(nodes), tuple(tuple(sorted(one)) for one in parents), tuple(gates))


def _names(nodes: Sequence[Position]) -> dict[Position, str]:
    names: dict[Position, str] = {}
    taken: set[str] = set()
    for node in nodes:
        label = name = "start" if node == START else node.label
        more = 1
        while name in taken:
            more += 1
            name = f"{label} ({more})"
        taken.add(name)
        names[node] = name
    return names
