"""What makes a tree of cliques a junction tree of its network."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import joint, random_profile
from numpy.testing import assert_allclose

from llmsched_gym.profiler.junction_tree import build_tree


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_cliques_hold_families_and_run_without_gaps(seed: int, variables: int) -> None:
    profile = random_profile(np.random.default_rng(seed), variables, 3)
    tree = build_tree(profile)
    for child, parents in enumerate(profile.parents):
        assert any({child, *parents} <= set(clique.members) for clique in tree)
    for at, clique in enumerate(tree):
        before = {v for other in tree[:at] for v in other.members}
        shared, own = set(clique.members[: clique.separator]), set(clique.members[clique.separator :])
        assert own
        assert before & set(clique.members) == shared
        assert shared <= (set(tree[clique.parent].members) if clique.parent >= 0 else set())
        assert clique.parent < at


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_potentials_multiply_to_the_joint_distribution(seed: int) -> None:
    profile = random_profile(np.random.default_rng(seed), 6, 3)
    product = np.ones(profile.states)
    for clique in build_tree(profile):
        order = np.argsort(clique.members)
        shape = [int(s) if v in clique.members else 1 for v, s in enumerate(profile.states)]
        product = product * clique.potential.transpose(order).reshape(shape)
    assert_allclose(product, joint(profile, np.full(6, 0xFFFF, dtype=np.uint16)), atol=1e-14)


def test_a_chain_gives_pairs() -> None:
    rng = np.random.default_rng(0)
    profile = random_profile(rng, 5, 3, in_degree=0)
    tables = [np.full((int(profile.states[max(v - 1, 0)]), int(s)), 1 / s) for v, s in enumerate(profile.states)]
    chain = type(profile)(
        profile.application,
        profile.nodes,
        profile.variables,
        ((), *((v,) for v in range(4))),
        (tables[0][0], *tables[1:]),
        profile.latency,
    )
    assert sorted(sorted(clique.members) for clique in build_tree(chain)) == [[0, 1], [1, 2], [2, 3], [3, 4]]
