"""Application templates: the fixed topology that all jobs of an application share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final, Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain

ApplicationType = Literal["predefined", "chain", "planning"]

ANY_MODEL: Final = "default"
"""Model of tasks that any LLM executor may serve."""


class StageKind(IntEnum):
    """What a stage needs in order to run."""

    LLM = 0
    """Served by an LLM executor."""
    REGULAR = 1
    """A tool, API or code run: each task occupies one regular executor."""
    DYNAMIC = 2
    """Placeholder of the sub-DAG that a planner stage will produce; holds no task of its own."""


@dataclass(frozen=True)
class TemplateNode:
    """One stage of a template.

    Attributes:
        name: Unique within the template.
        kind: What the stage needs.
        parents: Names of the nodes that must be done or skipped first. Candidates list none: their edges are planned.
        revealed_by: Node whose completion tells whether this optional stage is present; None if it always is. For a
            dynamic node: the planner whose completion reveals the sub-DAG.
        candidate_of: For a stage that a plan may contain (any number of times): the dynamic node it belongs to.
        model: For an LLM stage: the model that all its tasks ask for, in every job. None says nothing of it: the tasks
            ask for `ANY_MODEL`, unless they were recorded with models of their own.
    """

    name: str
    kind: StageKind
    parents: tuple[str, ...] = ()
    revealed_by: str | None = None
    candidate_of: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class ApplicationTemplate:
    """The stages that jobs of one application can have, in a topological order.

    Attributes:
        name: Application name.
        type: Which of the three application types of LLMSched it is.
        nodes: The stages; the position of a node is its index in observations and profiles.
    """

    name: str
    type: ApplicationType
    nodes: tuple[TemplateNode, ...]

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each node by name."""
        return {node.name: i for i, node in enumerate(self.nodes)}

    @cached_property
    def kinds(self) -> NDArray[np.int64]:
        """int64 (nodes,) `StageKind` of each node."""
        return np.array([int(node.kind) for node in self.nodes], dtype=np.int64)

    @cached_property
    def planned(self) -> NDArray[np.bool_]:
        """Bool (nodes,) Whether a node is a candidate of a plan."""
        return np.array([node.candidate_of is not None for node in self.nodes])

    @cached_property
    def edges(self) -> NDArray[np.bool_]:
        """Bool (nodes, nodes): ``edges[c, p]`` where p is a parent of c."""
        edges = np.zeros((len(self.nodes), len(self.nodes)), dtype=np.bool_)
        for child, node in enumerate(self.nodes):
            edges[child, [self.index[parent] for parent in node.parents]] = True
        return edges

    @cached_property
    def revealers(self) -> NDArray[np.int64]:
        """int64 (nodes,) Node whose completion reveals each one, -1: visible on arrival."""
        gates = [-1 if node.revealed_by is None else self.index[node.revealed_by] for node in self.nodes]
        return np.array(gates, dtype=np.int64)

    def graph(self) -> nx.DiGraph:
        """Return the template as a directed graph over node names; candidates hang below their dynamic node."""
        graph = nx.DiGraph(name=self.name)
        for node in self.nodes:
            graph.add_node(node.name, kind=node.kind.name.lower())
        for node in self.nodes:
            graph.add_edges_from((parent, node.name) for parent in node.parents)
            if node.candidate_of:
                graph.add_edge(node.candidate_of, node.name)
        return graph

    def validate(self, source: object) -> None:
        """Check names, order, reveals and reachability.

        Args:
            source: Where the template came from, for the message.

        Raises:
            InputError: The first thing that is wrong.
        """
        names = [node.name for node in self.nodes]
        if not names:
            raise InputError(source, f"application {self.name}", Plain("no stage"), "at least one stage")
        for name in names:
            if names.count(name) > 1:
                raise InputError(source, f"application {self.name}", name, "stage names that differ")
        for position, node in enumerate(self.nodes):
            field = f"application {self.name}, stage {node.name}"
            before = set(names[:position])
            references = [*node.parents, *([node.revealed_by] if node.revealed_by else [])]
            references += [node.candidate_of] if node.candidate_of else []
            for reference in references:
                if reference not in names:
                    raise InputError(source, field, reference, "the name of a stage of this application")
                if reference not in before:
                    raise InputError(source, field, reference, "a stage listed earlier (no cycles)")
            if node.candidate_of and self.nodes[self.index[node.candidate_of]].kind is not StageKind.DYNAMIC:
                raise InputError(source, field, node.candidate_of, "candidate_of naming a dynamic stage")
            if node.model is not None and (node.kind is not StageKind.LLM or not node.model):
                allowed = "a model's name" if node.kind is StageKind.LLM else "no model in a stage without an LLM"
                raise InputError(source, f"{field}, model", node.model, allowed)
            if node.kind is StageKind.DYNAMIC and node.revealed_by is None:
                raise InputError(source, field, Plain("no revealed_by"), "the planner stage that reveals this sub-DAG")
