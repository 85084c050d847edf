"""What is shown of a profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmsched_gym.errors import InputError
from llmsched_gym.profiler.ancestral import correlations, draw_states, mutual_information
from llmsched_gym.profiler.figures import _places, draw_profile
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.workloads.applications import APPLICATIONS


def test_drawn_jobs_have_the_networks_shares():
    profile = load_profile("llm_compiler")
    jobs = 40_000
    states = draw_states(profile, jobs, np.random.default_rng(3))
    for column, (parents, table) in enumerate(zip(profile.parents, profile.tables, strict=True)):
        counts = np.zeros(table.shape)
        np.add.at(counts, tuple(states[:, variable] for variable in (*parents, column)), 1)
        rows = counts.sum(axis=-1, keepdims=True)
        noise = 5 * np.sqrt(rows * table * (1 - table)) + 4  # a rare state may well be drawn a few times
        assert (np.abs(counts - rows * table) <= noise).all()
        assert not counts[table == 0].any()


def test_mutual_information():
    one = np.array([0, 0, 1, 1])
    assert mutual_information(one, one) == pytest.approx(np.log(2))
    assert mutual_information(one, np.array([0, 1, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert mutual_information(one, np.array([0, 0, 1, 2])) == pytest.approx(np.log(2))


def test_correlations():
    values = np.random.default_rng(0).random((50, 3))
    assert np.allclose(correlations(values), np.corrcoef(values.T))
    values[:, 1] = 4.0
    assert not correlations(values)[1].any()


@pytest.mark.parametrize("name", APPLICATIONS)
def test_no_two_variables_share_a_place(name: str):
    profile = load_profile(name)
    places = _places(profile)
    assert len(set(places)) == len(profile.variables)


def test_picture(tmp_path: Path):
    path = tmp_path / "profile.png"
    draw_profile(load_profile("task_automation"), path)
    first = path.read_bytes()
    with Image.open(path) as image:
        assert image.size[0] > 1000
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 100
    draw_profile(load_profile("task_automation"), path)
    assert path.read_bytes() == first
    draw_profile(load_profile("web_search"), path)
    assert path.read_bytes() != first


def test_unwritable_picture(tmp_path: Path):
    with pytest.raises(InputError, match="a path that can be written"):
        draw_profile(load_profile("document_merging"), tmp_path / "none" / "x.png")
