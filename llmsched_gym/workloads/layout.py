"""What a job's stages follow and who reveals them, as far as the template tells."""

from __future__ import annotations

from collections.abc import Sequence

from llmsched_gym.workloads.template import ApplicationTemplate, StageKind


class JobLayout:
    """The stages of one job, added in a topological order; derives each stage's links from those before it.

    - A stage follows its template parents, and with a dynamic parent the sinks of the planned sub-DAG too.
    - A planned stage follows its dynamic stage, unless the plan says what it follows.
    - An optional stage is revealed by its gate. If the gate is absent, whatever revealed the gate's absence reveals the
      stage's too.
    - A dynamic stage is there whenever its planner is, and revealed with it.

    Attributes:
        nodes: Template node of each row.
        present: Whether each row is present.
        parents: Rows that each row follows.
        revealers: Row that reveals each row, -1: visible on arrival.
        row: Row of each stage that is not a candidate, by name.
    """

    def __init__(self, template: ApplicationTemplate) -> None:
        self._template = template
        self.nodes: list[int] = []
        self.present: list[bool] = []
        self.parents: list[list[int]] = []
        self.revealers: list[int] = []
        self.row: dict[str, int] = {}

    def default_parents(self, node: int) -> list[int]:
        """Rows that a stage of `node`, added next, follows."""
        one = self._template.nodes[node]
        if one.candidate_of is not None:
            return [self.row[one.candidate_of]]
        rows = {self.row[parent] for parent in one.parents}
        for parent in one.parents:
            if self._template.nodes[self._template.index[parent]].kind is StageKind.DYNAMIC:
                rows.update(self._sinks(parent))
        return sorted(rows)

    def default_revealer(self, node: int) -> int:
        """Row that reveals a stage of `node`, added next; -1 if it is visible on arrival."""
        one = self._template.nodes[node]
        gate = one.revealed_by
        if gate is None and one.candidate_of is not None:
            gate = self._template.nodes[self._template.index[one.candidate_of]].revealed_by
        if gate is None:
            return -1
        row = self.row[gate]
        if one.kind is StageKind.DYNAMIC or not self.present[row]:
            return self.revealers[row]
        return row

    def add(self, node: int, present: bool, parents: Sequence[int], revealer: int) -> int:
        """Append a stage and return its row."""
        row = len(self.nodes)
        self.nodes.append(node)
        self.present.append(present)
        self.parents.append(list(parents))
        self.revealers.append(revealer)
        if self._template.nodes[node].candidate_of is None:
            self.row[self._template.nodes[node].name] = row
        return row

    def _sinks(self, dynamic: str) -> list[int]:
        """Rows of a sub-DAG that no other row of it follows."""
        members = [r for r, n in enumerate(self.nodes) if self._template.nodes[n].candidate_of == dynamic]
        followed = {parent for member in members for parent in self.parents[member]}
        return [member for member in members if member not in followed]
