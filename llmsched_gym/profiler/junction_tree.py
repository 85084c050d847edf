"""From a Bayesian network to a junction tree, once per profile.

The network is moralised and triangulated by eliminating its variables, each time the one that adds the fewest edges
(min-fill); the cliques of that order form a tree by the largest separators (Lauritzen and Spiegelhalter, "Local
computations with probabilities on graphical structures", 1988). Parts of a network that are not connected hang
together by empty separators, so that there is always one tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.profiler.profile import Profile


@dataclass(frozen=True)
class Clique:
    """One clique of a junction tree.

    Attributes:
        members: Variables: first those shared with the parent clique, then the others, each part ascending.
        separator: How many of them are shared with the parent.
        parent: Position of the parent clique in the tree; -1 for the root.
        potential: float64 (states of member 1, states of member 2, ...). Product of the tables assigned to this clique.
    """

    members: tuple[int, ...]
    separator: int
    parent: int
    potential: NDArray[np.float64]


def build_tree(profile: Profile) -> list[Clique]:
    """Return the junction tree of a network: its cliques, parents before children, the root first."""
    families = [frozenset((child, *parents)) for child, parents in enumerate(profile.parents)]
    states = [variable.states for variable in profile.variables]
    tree = _connect(_elimination_cliques(families, states))
    potentials = [np.ones([states[v] for v in members]) for members, _, _ in tree]
    for child, family in enumerate(families):
        holder = min(
            (at for at, (members, _, _) in enumerate(tree) if family <= set(members)),
            key=lambda at: (potentials[at].size, at),
        )
        axes = (*profile.parents[child], child)
        potentials[holder] *= _aligned(profile.tables[child], axes, tree[holder][0])
    return [Clique(*place, potential) for place, potential in zip(tree, potentials, strict=True)]


def _elimination_cliques(families: Sequence[frozenset[int]], states: Sequence[int]) -> list[frozenset[int]]:
    """Return the maximal cliques of the moral graph, triangulated by min-fill (ties: smaller table, lower index)."""
    near: list[set[int]] = [set() for _ in states]
    for family in families:
        for v in family:
            near[v] |= family - {v}
    left = set(range(len(states)))
    cliques: list[frozenset[int]] = []
    while left:
        chosen = min(left, key=lambda v: (_fill(near, v), prod(states[u] for u in near[v]), v))
        clique = frozenset(near[chosen] | {chosen})
        for v in near[chosen]:
            near[v] |= near[chosen] - {v}
            near[v].discard(chosen)
        left.remove(chosen)
        if not any(clique <= other for other in cliques):
            cliques.append(clique)
    return cliques


def _fill(near: Sequence[set[int]], v: int) -> int:
    """Edges, counted twice, that eliminating `v` adds."""
    return sum(len(near[v] - near[u]) - 1 for u in near[v])


def _connect(cliques: Sequence[frozenset[int]]) -> list[tuple[tuple[int, ...], int, int]]:
    """Join cliques by largest separators (Prim), which gives the running intersection property.

    Returns:
        Per clique its members, the size of its separator and its parent, parents first.
    """
    ordered = sorted(cliques, key=sorted)
    tree: list[tuple[tuple[int, ...], int, int]] = [(tuple(sorted(ordered[0])), 0, -1)]
    placed, left = [ordered[0]], ordered[1:]
    while left:
        clique, parent = max(
            ((clique, parent) for clique in left for parent in range(len(placed))),
            key=lambda pair: len(pair[0] & placed[pair[1]]),
        )
        shared = clique & placed[parent]
        tree.append(((*sorted(shared), *sorted(clique - shared)), len(shared), parent))
        placed.append(clique)
        left.remove(clique)
    return tree


def _aligned(table: NDArray[np.float64], axes: Sequence[int], members: Sequence[int]) -> NDArray[np.float64]:
    """View a table over the variables `axes` as one over `members`, with length 1 where it does not depend on them."""
    order = sorted(range(len(axes)), key=lambda axis: members.index(axes[axis]))
    sizes = dict(zip(axes, table.shape, strict=True))
    return table.transpose(order).reshape([sizes.get(v, 1) for v in members])
