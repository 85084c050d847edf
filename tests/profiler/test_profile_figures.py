"""What is shown of a profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

from llmsched_gym.errors import InputError
from llmsched_gym.profiler.ancestral import correlations, draw_states, mutual_information
from llmsched_gym.profiler.figures import _places, draw_profile, profile_figure
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.template import StageKind


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


@pytest.mark.parametrize("name", ["code_generation", "llm_compiler"])
def test_no_edge_lies_over_a_name(name: str):
    network = profile_figure(load_profile(name)).axes[0]
    names = [text for text in network.texts if "\n" in text.get_text()]
    nodes = [patch for patch in network.patches if isinstance(patch, FancyBboxPatch)]
    edges = [patch for patch in network.patches if isinstance(patch, FancyArrowPatch)]
    assert len(names) == len(nodes) == len(load_profile(name).variables)
    assert edges
    behind = max(edge.get_zorder() for edge in edges)
    assert behind < min(node.get_zorder() for node in nodes) < min(text.get_zorder() for text in names)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_texts_fit(name: str):
    figure = profile_figure(load_profile(name))
    figure.draw_without_rendering()
    network, times = figure.axes[:2]
    node = next(patch for patch in network.patches if isinstance(patch, FancyBboxPatch)).get_window_extent()
    column = times.get_window_extent().width / len(times.get_xticks())
    for axes, room in ((network, node.width), (times, column)):
        assert max(text.get_window_extent().width for text in axes.texts) <= room
    assert times.get_window_extent().height == pytest.approx(figure.axes[2].get_window_extent().height, rel=0.01)


def test_stages_that_take_nothing_do_not_stretch_the_colours():
    profile = load_profile("llm_compiler")
    shortest, _ = profile_figure(profile).axes[1].images[0].get_clim()
    times = np.concatenate([v.means_s for v in profile.variables if v.kind is not StageKind.DYNAMIC])
    assert shortest == times[times > 0].min()
    nothing = [replace(variable, slices_s=np.zeros_like(variable.slices_s)) for variable in profile.variables]
    profile_figure(replace(profile, variables=tuple(nothing))).draw_without_rendering()


def test_unwritable_picture(tmp_path: Path):
    with pytest.raises(InputError, match="a path that can be written"):
        draw_profile(load_profile("document_merging"), tmp_path / "none" / "x.png")
