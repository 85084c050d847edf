"""What pictures of a comparison show; the numbers are made up."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from llmsched_gym.evaluation.figures import jct_cdf_figure, jct_over_load_figure
from llmsched_gym.evaluation.policy_styles import policy_styles
from llmsched_gym.evaluation.runner import Comparison, Contestant
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.registry import learned_names, policy_names

MEANS = {"random": 30.0, "fcfs": 20.0, "srtf": 10.0, "critical_path": 70.0, "mine": 15.0}


def made_up(load: float) -> Comparison:
    """Policies whose two seeds differ by a tenth, so that intervals have a width."""
    contestants = tuple(Contestant(name, name, False, "") for name in MEANS)
    episodes = {
        (name, seed): {
            "jct_s": np.array([0.5, 1.5]) * seconds * (1 + seed / 10),
            "metrics": {"mean_jct_s": seconds * (1 + seed * (1 + len(name)) / 100)},
        }
        for name, seconds in MEANS.items()
        for seed in (0, 1)
    }
    bounds = {seed: {"lower_bound_mean_jct_s": 5.0} for seed in (0, 1)}
    return Comparison(Setting.make(load=load), (0, 1), contestants, episodes, bounds)


@pytest.fixture(scope="module")
def by_load() -> dict[float, Comparison]:
    return {load: made_up(load) for load in (0.5, 0.9, 1.2)}


def test_every_policy_has_a_look_of_its_own() -> None:
    known = (*policy_names(), *learned_names())
    styles = policy_styles([*known, *(f"mine{k}" for k in range(30))])
    assert len(set(styles.values())) == len(styles)
    looks = [styles[name] for name in (*known, "mine0", "mine1", "mine2", "mine3")]
    assert len({look.color for look in looks}) == len({look.marker for look in looks}) == len(looks)
    assert {look.linestyle for look in looks} == {"-"}


def test_a_look_depends_on_the_name_alone() -> None:
    everything = policy_styles([*policy_names(), "mine"])
    few = policy_styles(["mine", "srtf"])
    assert few["srtf"] == everything["srtf"]
    assert few["mine"] == everything["mine"]


def test_the_legend_of_the_distributions_begins_with_the_lowest_mean(by_load: dict[float, Comparison]) -> None:
    figure = jct_cdf_figure(by_load[0.9])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == sorted(MEANS, key=MEANS.__getitem__)
    assert len({line.get_color() for line in figure.axes[0].get_lines()}) == len(MEANS)


def test_intervals_stand_side_by_side(by_load: dict[float, Comparison]) -> None:
    panel = jct_over_load_figure(by_load).axes[1]
    intervals = [one for one in panel.containers if isinstance(one, ErrorbarContainer)]
    places = np.sort(np.concatenate([one.lines[0].get_xdata() for one in intervals]))
    assert len(places) == 3 * (len(MEANS) - 1)
    assert np.diff(places).min() > 0.03
    nearest = np.abs(places[:, None] - np.array(sorted(by_load))).min(axis=1)
    assert nearest.max() < 0.15  # half the gap between two loads


def test_what_lies_outside_is_told(by_load: dict[float, Comparison]) -> None:
    panel = jct_over_load_figure(by_load).axes[1]
    assert panel.get_ylim()[0] == -100
    assert panel.get_ylabel().endswith("cut at -100")
    # Means over the seeds: critical_path 70 s * 1.07, fcfs 20 s * 1.025.
    assert [text.get_text().strip() for text in panel.texts] == ["← -265 %"] * 3


@pytest.mark.parametrize("slowest_s", [7.0, 70.0, 700.0])
def test_the_scale_of_the_means_has_plain_labels(slowest_s: float, by_load: dict[float, Comparison]) -> None:
    comparisons = {load: made_up(load) for load in by_load}
    for comparison in comparisons.values():
        for (name, _), episode in comparison.episodes.items():
            episode["metrics"]["mean_jct_s"] = slowest_s if name == "critical_path" else 6.0
    figure = jct_over_load_figure(comparisons)
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_ylim()
    ticks = zip(figure.axes[0].get_yticks(), figure.axes[0].get_yticklabels(), strict=True)
    shown = {tick: label.get_text() for tick, label in ticks if low <= tick <= high}
    assert len(shown) >= 3
    assert all(float(label) == pytest.approx(tick) for tick, label in shown.items())


def test_the_legend_says_where_fcfs_is(by_load: dict[float, Comparison]) -> None:
    legend = [text.get_text() for text in jct_over_load_figure(by_load).legends[0].get_texts()]
    assert "fcfs (the zero line on the right)" in legend
