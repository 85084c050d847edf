"""Which variables of an application depend on which: presence from the template, everything else from a score search.

Presence first. A gate tells whether the stages it reveals are there, and a plan's size tells which candidates can be.
These edges are forced. Stages that one gate reveals and that all profiling jobs had or lacked together form a chain:
the gate is a parent of the first one, each of the others has its predecessor as a parent. So every stage has at most
one forced parent, and a search has room left for durations.

Forced edges come with rules that no probability may break, unless some profiling job did: without the gate there is no
stage, without a plan no candidate, and what came together stays together. Where jobs of a trace break a rule, the rule
is dropped and counts speak.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from llmsched_gym.profiler.variables import candidates
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_PARENTS: Final = 3
"""Most parents of a variable, forced ones included."""

MAX_CLIQUE_STATES: Final = 20_000
"""Most entries of all cliques together, after min-fill triangulation: exact inference touches each of them. The six
applications need 180 to 6,000; the search is repeated with fewer parents where a user's application needs more."""

SCORE_SAMPLE_SIZE: Final = 50
"""Equivalent sample size of the BDeu score: of 1 to 200 the best, or nearly so, on held-out jobs of every application
(``benchmarks/profile_prior.py``)."""


@dataclass(frozen=True)
class PresenceEdge:
    """A forced edge between variables with what it says about presence.

    Attributes:
        parent: Index of the gate, of the stage that is revealed with the child, or of the size of the plan.
        child: Index of the stage that depends on it.
        needs_parent: Without the parent the child is absent.
        follows_parent: With the parent the child is present.
    """

    parent: int
    child: int
    needs_parent: bool
    follows_parent: bool


def presence_edges(template: ApplicationTemplate, present: NDArray[np.bool_]) -> tuple[PresenceEdge, ...]:
    """Return the forced edges, at most one per child, ordered by child.

    Args:
        template: The application.
        present: bool (jobs, nodes). What the profiling jobs had; a plan is present if it holds a stage.
    """
    edges = []
    for child, node in enumerate(template.nodes):
        follows = False
        if node.candidate_of is not None:
            parent = template.index[node.candidate_of]
            follows = candidates(template, template.nodes[parent]) == [child]
        elif node.revealed_by is None:
            continue
        elif node.kind is StageKind.DYNAMIC:
            parent, follows = template.index[node.revealed_by], True
        else:
            together = [
                other
                for other, sibling in enumerate(template.nodes[:child])
                if sibling.revealed_by == node.revealed_by
                and sibling.kind is not StageKind.DYNAMIC
                and np.array_equal(present[:, other], present[:, child])
            ]
            parent, follows = (together[-1], True) if together else (template.index[node.revealed_by], False)
        with_parent, with_child = present[:, parent], present[:, child]
        edges.append(
            PresenceEdge(
                parent,
                child,
                needs_parent=not bool((with_child & ~with_parent).any()),
                follows_parent=follows and not bool((with_parent & ~with_child).any()),
            )
        )
    return tuple(edges)


def search_parents(
    states: NDArray[np.int64],
    cards: Sequence[int],
    forced: Sequence[PresenceEdge],
    sample_size: int = SCORE_SAMPLE_SIZE,
) -> tuple[tuple[int, ...], ...]:
    """Find parents for each variable by pgmpy's hill climbing with the BDeu score, from earlier variables only.

    Args:
        states: int64 (jobs, variables), in an order that edges may not run against.
        cards: Number of states of each variable.
        forced: Edges that must be there.
        sample_size: Equivalent sample size of the score.

    Returns:
        Per variable its parents, ascending.
    """
    from pgmpy.causal_discovery import ExpertKnowledge, HillClimbSearch
    from pgmpy.structure_score import BDeu

    data = data_frame(states)
    names = list(data.columns)
    score = BDeu(
        data,
        equivalent_sample_size=sample_size,
        state_names={name: list(range(card)) for name, card in zip(names, cards, strict=True)},
    )
    knowledge = ExpertKnowledge(
        required_edges=[(names[edge.parent], names[edge.child]) for edge in forced],
        temporal_order=[[name] for name in names],
    )
    parents: tuple[tuple[int, ...], ...] = ()
    for most in range(MAX_PARENTS, 0, -1):
        search = HillClimbSearch(
            score, expert_knowledge=knowledge, max_indegree=most, return_type="dag", show_progress=False
        )
        graph = search.fit(data).causal_graph_
        parents = tuple(tuple(sorted(names.index(parent) for parent in graph.get_parents(name))) for name in names)
        if clique_states(parents, cards) <= MAX_CLIQUE_STATES:
            break
    return parents


def data_frame(states: NDArray[np.int64]) -> DataFrame:
    """Return states as pgmpy reads them; names of columns sort like their positions."""
    from pandas import DataFrame

    return DataFrame(states, columns=[f"v{column:04d}" for column in range(states.shape[1])])  # pyright: ignore


def clique_states(parents: Sequence[Sequence[int]], cards: Sequence[int]) -> int:
    """Return the entries of all cliques of the moral graph together, triangulated by min-fill."""
    moral = nx.Graph()
    moral.add_nodes_from(range(len(parents)))
    for child, family in enumerate(parents):
        moral.add_edges_from(itertools.combinations([*family, child], 2))
    _, tree = nx.algorithms.approximation.treewidth_min_fill_in(moral)
    return sum(math.prod(cards[variable] for variable in bag) for bag in tree.nodes)
