"""All profiles of a process as flat arrays, so that compiled inference serves every application.

Variables, cliques, members and table entries are numbered through all applications. Tables are row-major over the
members of their clique; those shared with the parent come first, so that all entries with the same separator state lie
side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.profiler.junction_tree import Clique, build_tree
from llmsched_gym.profiler.profile import MAX_STATES, SLICES, Profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


class ProfileBank(NamedTuple):
    """Networks and junction trees of several applications. ``first_...`` have one more entry.

    Attributes:
        first_variable: (apps + 1,) Where the variables of an application start.
        states: (variables,) Number of states.
        absent: bool (variables,) State 0 is "absent".
        kinds: (variables,) `StageKind`.
        means: (variables, MAX_STATES) Mean seconds in a state.
        lows: (variables, MAX_STATES) Lower end of the seconds in a state: mean of its lowest slice.
        highs: (variables, MAX_STATES) Upper end: mean of its highest slice.
        slices: (variables, MAX_STATES, SLICES) `Variable.slices_s`.
        calls: (variables, SLICES) `Variable.calls_s`.
        first_clique: (apps + 1,) Where the cliques of an application start; its first one is the root.
        parent: (cliques,) Parent clique, -1 for a root. Parents come before children.
        separator: (cliques,) How many members are shared with the parent.
        first_member: (cliques + 1,) Where the members of a clique start.
        members: (members,) Variable.
        strides: (members,) Stride of the member in its clique's table.
        first_link: (cliques + 1,) Where the links of a clique start; one per member of its parent.
        links: (links,) The member of the child that is the same variable as this member of the parent; -1 for none.
        first_entry: (cliques + 1,) Where the table of a clique starts.
        potentials: (entries,) Product of the conditional probability tables that a clique got.
        first_shared: (cliques + 1,) Where the separator table of a clique starts.
        first_map: (cliques + 1,) Where the map from the parent's entries to the separator's starts.
        home: (variables,) The topmost clique with the variable.
        first_holder: (variables + 1,) Where the holders of a variable start.
        holders: (members,) Cliques with the variable, parents first.
    """

    first_variable: Ints
    states: Ints
    absent: NDArray[np.bool_]
    kinds: Ints
    means: Floats
    lows: Floats
    highs: Floats
    slices: Floats
    calls: Floats
    first_clique: Ints
    parent: Ints
    separator: Ints
    first_member: Ints
    members: Ints
    strides: Ints
    first_link: Ints
    links: Ints
    first_entry: Ints
    potentials: Floats
    first_shared: Ints
    first_map: Ints
    home: Ints
    first_holder: Ints
    holders: Ints


class Workspace(NamedTuple):
    """What inference writes, allocated once. Filled for one application at a time.

    Only states that the evidence allows take part: a variable has ``n_allowed`` of them, numbered from 0 in tables and
    samples, so that each finished stage makes every table with it smaller.

    Attributes:
        masks: uint16 (variables,) The evidence that was used.
        n_allowed: (variables,) Number of states that it allows.
        allowed: (variables, MAX_STATES) Those states, ascending.
        strides: (members,) Strides of the small tables.
        sizes: (cliques,) Their sizes.
        blocks: (cliques,) Entries per state of the separator.
        offsets: (entries of the largest table,) Scratch.
        beliefs: (entries,) Probability of each entry of a clique given the evidence, at the start of its part.
        shared: (shared,) Probability of each entry of a separator.
        maps: (maps,) Entry of the separator for each entry of the parent's small table.
        runs: (cliques,) How many successive entries of the parent have the same separator entry.
        marginals: (variables, MAX_STATES) Probability of each state given the evidence; 0 beyond its states.
        log_evidence: (1,) Logarithm of the probability of the evidence.
        cumulated: (entries,) Beliefs, summed up within each block.
        uniforms: (2 * variables of the largest application, samples) Fixed and stratified in every row.
        slots: (like uniforms) The lower one of the two slices of a state that a uniform lies between.
        shares: (like uniforms) How far it lies between their middles.
        samples: (variables of the largest application, samples) Numbers among the allowed states.
        starts: int64 (samples,) Scratch: where in a table each sample's block starts.
        sums: (samples,) Scratch.
        drawn: (1,) Whether the samples belong to the beliefs.
        joint: (shared * MAX_STATES,) Probability of a separator's entry together with a state of one variable.
        given: (entries of the largest separator, MAX_STATES) Scratch: probability of a state given a separator's entry.
        pair: (MAX_STATES ** 2,) Scratch: joint probability of two variables.
        weights: (cliques + 1, MAX_STATES) Scratch of the enumeration of a Markov blanket.
        digits: (variables,) Scratch: which allowed state a variable is in.
        order: (cliques,) Scratch: cliques to visit.
        entered: (cliques,) Scratch: through which separator a clique was reached.
        correlation: (variables,) Mutual information, in nats, with the variable last asked for.
    """

    masks: NDArray[np.uint16]
    n_allowed: Ints
    allowed: Ints
    strides: Ints
    sizes: Ints
    blocks: Ints
    offsets: NDArray[np.uint32]
    beliefs: Floats
    shared: Floats
    maps: NDArray[np.uint32]
    runs: Ints
    marginals: Floats
    log_evidence: Floats
    cumulated: Floats
    uniforms: Floats
    slots: Ints
    shares: Floats
    samples: Ints
    starts: NDArray[np.int64]
    sums: Floats
    drawn: NDArray[np.bool_]
    joint: Floats
    given: Floats
    pair: Floats
    weights: Floats
    digits: Ints
    order: Ints
    entered: Ints
    correlation: Floats


def make_bank(profiles: Sequence[Profile]) -> ProfileBank:
    """Pack profiles; the position in `profiles` is the application's index in the bank."""
    trees = [build_tree(profile) for profile in profiles]
    variables = [variable for profile in profiles for variable in profile.variables]
    first_variable = _starts(len(profile.variables) for profile in profiles)
    first_clique = _starts(len(tree) for tree in trees)
    cliques = [(clique, app) for app, tree in enumerate(trees) for clique in tree]
    members = [first_variable[app] + v for clique, app in cliques for v in clique.members]
    home, holders = _holders(trees, first_variable, first_clique, len(variables))
    links = [_links(tree, clique) for tree in trees for clique in tree]
    first_member = _starts(len(clique.members) for clique, _ in cliques)
    means = np.zeros((len(variables), MAX_STATES))
    slices = np.zeros((len(variables), MAX_STATES, SLICES))
    for v, variable in enumerate(variables):
        means[v, : variable.states] = variable.means_s
        slices[v, : variable.states] = variable.slices_s
    return ProfileBank(
        first_variable=first_variable,
        states=_ints([variable.states for variable in variables]),
        absent=np.array([variable.absent for variable in variables], dtype=np.bool_),
        kinds=_ints([variable.kind for variable in variables]),
        means=means,
        lows=slices[:, :, 0].copy(),
        highs=slices[:, :, -1].copy(),
        slices=slices,
        calls=np.array([variable.calls_s for variable in variables]).reshape(len(variables), SLICES),
        first_clique=first_clique,
        parent=_ints([c.parent + first_clique[app] if c.parent >= 0 else -1 for c, app in cliques]),
        separator=_ints([clique.separator for clique, _ in cliques]),
        first_member=first_member,
        members=_ints(members),
        strides=_ints([s // 8 for clique, _ in cliques for s in np.ascontiguousarray(clique.potential).strides]),
        first_link=_starts(len(link) for link in links),
        links=_ints([first_member[c] + at if at >= 0 else -1 for c, link in enumerate(links) for at in link]),
        first_entry=_starts(clique.potential.size for clique, _ in cliques),
        potentials=np.concatenate([np.zeros(0), *(clique.potential.ravel() for clique, _ in cliques)]),
        first_shared=_starts(prod(clique.potential.shape[: clique.separator]) for clique, _ in cliques),
        first_map=_starts(
            tree[clique.parent].potential.size if clique.parent >= 0 else 0 for tree in trees for clique in tree
        ),
        home=home,
        first_holder=_starts(len(held) for held in holders),
        holders=_ints([clique for held in holders for clique in held]),
    )


def make_workspace(bank: ProfileBank, samples: int = 128) -> Workspace:
    """Allocate the scratch arrays of one thread.

    Args:
        bank: The profiles it will serve.
        samples: How many jobs are drawn for an interval, at least 2.
    """
    variables, cliques = len(bank.states), len(bank.parent)
    widest = _longest(bank.first_variable)
    widest_shared = _longest(bank.first_shared)
    largest = _longest(bank.first_entry)
    uniforms = np.ascontiguousarray(_stratified(samples, 2 * widest).T)
    position = np.clip(uniforms * SLICES - 0.5, 0.0, SLICES - 1.0)
    slots = np.minimum(position.astype(np.int32), SLICES - 2)
    return Workspace(
        masks=np.zeros(variables, dtype=np.uint16),
        n_allowed=np.zeros(variables, dtype=np.int32),
        allowed=np.zeros((variables, MAX_STATES), dtype=np.int32),
        strides=np.zeros(len(bank.members), dtype=np.int32),
        sizes=np.zeros(cliques, dtype=np.int32),
        blocks=np.zeros(cliques, dtype=np.int32),
        offsets=np.zeros(largest, dtype=np.uint32),
        beliefs=np.zeros(len(bank.potentials)),
        shared=np.zeros(bank.first_shared[-1]),
        maps=np.zeros(bank.first_map[-1], dtype=np.uint32),
        runs=np.zeros(cliques, dtype=np.int32),
        marginals=np.zeros((variables, MAX_STATES)),
        log_evidence=np.zeros(1),
        cumulated=np.zeros(len(bank.potentials)),
        uniforms=uniforms,
        slots=slots,
        shares=position - slots,
        samples=np.zeros((widest, samples), dtype=np.int32),
        starts=np.zeros(samples, dtype=np.int64),
        sums=np.zeros(samples),
        drawn=np.zeros(1, dtype=np.bool_),
        joint=np.zeros(int(bank.first_shared[-1]) * MAX_STATES),
        given=np.zeros((max(widest_shared, MAX_STATES), MAX_STATES)),
        pair=np.zeros(MAX_STATES**2),
        weights=np.zeros((cliques + 1, MAX_STATES)),
        digits=np.zeros(variables, dtype=np.int32),
        order=np.zeros(cliques, dtype=np.int32),
        entered=np.zeros(cliques, dtype=np.int32),
        correlation=np.zeros(variables),
    )


def _longest(starts: Ints) -> int:
    return max((end - start for start, end in pairwise(starts.tolist())), default=0)


def _stratified(rows: int, columns: int) -> Floats:
    """Return a Latin hypercube sample of (0, 1): every column has one value in each of `rows` equal parts."""
    rng = np.random.Generator(np.random.PCG64(0))
    ranks = np.argsort(rng.random((rows, columns)), axis=0, kind="stable")
    return (ranks + rng.random((rows, columns))) / rows


def _starts(lengths: Iterable[int]) -> Ints:
    return _ints([0, *accumulate(lengths)])


def _ints(values: Sequence[int] | NDArray[np.int64]) -> Ints:
    return np.array(values, dtype=np.int32)


def _holders(
    trees: Sequence[Sequence[Clique]], first_variable: Ints, first_clique: Ints, variables: int
) -> tuple[Ints, list[list[int]]]:
    """Return the topmost clique of every variable, and all of its cliques."""
    holders: list[list[int]] = [[] for _ in range(variables)]
    for app, tree in enumerate(trees):
        for at, clique in enumerate(tree):
            for v in clique.members:
                holders[first_variable[app] + v].append(int(first_clique[app]) + at)
    return _ints([held[0] for held in holders]), holders


def _links(tree: Sequence[Clique], clique: Clique) -> list[int]:
    """Per member of the parent, which member of `clique` it is; -1 if none."""
    if clique.parent < 0:
        return []
    own = {v: at for at, v in enumerate(clique.members)}
    return [own.get(v, -1) for v in tree[clique.parent].members]
