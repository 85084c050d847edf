"""Probe: the first stage tells the kind, cheaply; parameters do what they say."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.workloads.applications import FURTHER, drawable
from llmsched_gym.workloads.applications.probe import LONG_SHARE, SPREADS, USUAL_SPREAD, probe
from llmsched_gym.workloads.facts import load_facts

N = 4000


def lengths(spread: float = USUAL_SPREAD, share: float = LONG_SHARE) -> tuple[np.ndarray, np.ndarray]:
    """Output tokens of the first and of the second stage."""
    block = probe(spread, share).sample(N, np.random.default_rng(1))
    return block.output_tokens[:, 0, 0], block.output_tokens[:, 1, 0]


def test_the_first_stage_is_cheap_and_tells_the_kind() -> None:
    told, solved = lengths()
    long = told > 33
    assert long.mean() == pytest.approx(LONG_SHARE, abs=0.03)
    assert solved[~long].max() < solved[long].min()
    assert told.mean() == pytest.approx(30.8, abs=0.5)
    assert solved[~long].mean() == pytest.approx(600, rel=0.02)
    assert solved[long].mean() == pytest.approx(600 * USUAL_SPREAD, rel=0.02)


def test_known_jobs_lie_between_a_short_job_and_one_of_unknown_kind() -> None:
    told, solved = lengths()
    block = FURTHER["probe_known"].sample(N, np.random.default_rng(2))
    known = block.output_tokens[:, 0, 0]
    assert (told + solved)[told <= 33].max() < known.min()
    assert known.max() < (told + solved).mean()


def test_spread_and_share_change_the_long_jobs_alone() -> None:
    told, solved = lengths()
    wider_told, wider = lengths(spread=16)
    assert np.array_equal(told, wider_told)
    short = told <= 33
    assert np.array_equal(solved[short], wider[short])
    assert np.abs(wider[~short] / solved[~short] - 2).max() < 1e-3
    fewer = lengths(share=0.1)[0] > 33
    assert fewer.mean() == pytest.approx(0.1, abs=0.02)
    assert not (fewer & short).any(), "long jobs of the smaller share are long jobs of the larger one"


def test_shipped_variants_have_their_spread() -> None:
    for spread in SPREADS:
        block = drawable()[f"probe_{spread}"].sample(N, np.random.default_rng(1))
        long = block.output_tokens[:, 0, 0] > 33
        assert block.output_tokens[long, 1, 0].mean() == pytest.approx(600 * spread, rel=0.02)


@pytest.mark.parametrize(
    ("spread", "share", "field"),
    [(0.5, 0.3, "spread"), (101, 0.3, "spread"), ("8", 0.3, "spread"), (8, 1.1, "long_share")],
)
def test_parameters_out_of_range_are_named(spread: float, share: float, field: str) -> None:
    with pytest.raises(InputError, match=f"application probe: {field}: got"):
        probe(spread, share)


def test_everything_is_marked_as_assumed() -> None:
    assert all(entry["assumed"] and entry["reason"] for entry in load_facts("probe").values())


@pytest.mark.parametrize("name", ["probe", "probe_known"])
def test_shipped_profiles_are_of_the_profile_split(name: str) -> None:
    profile = load_profile(name)
    assert profile.provenance["split"] == "profile"
    assert profile.nodes == tuple(node.name for node in FURTHER[name].template.nodes)


def test_the_profile_knows_that_the_first_stage_tells_the_second() -> None:
    profile = load_profile("probe")
    assert profile.parents[1] == (0,)
    loss = profile.provenance["log_loss_nats_per_job"]
    assert loss["held_out"] < loss["independent"] - 0.4
