"""What pictures of a comparison show; the numbers are made up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from llmsched_gym.evaluation.contestants import Contestant
from llmsched_gym.evaluation.figures import jct_cdf_figure, jct_over_load_figure
from llmsched_gym.evaluation.policy_styles import policy_styles
from llmsched_gym.evaluation.runner import Comparison
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.registry import learned_names, policy_names

MEANS = {"random": 30.0, "fcfs": 20.0, "srtf": 10.0, "critical_path": 70.0, "mine": 15.0}


def made_up(load: float, means: Mapping[str, float] = MEANS) -> Comparison:
    """Policies whose two seeds differ by a tenth, so that intervals have a width."""
    contestants = tuple(Contestant(name, name, False, "") for name in means)
    episodes = {
        (name, seed): {
            "jct_s": np.array([0.5, 1.5]) * seconds * (1 + seed / 10),
            "metrics": {"mean_jct_s": seconds * (1 + seed * (1 + len(name)) / 100)},
        }
        for name, seconds in means.items()
        for seed in (0, 1)
    }
    bounds = {seed: {"lower_bound_mean_jct_s": 5.0} for seed in (0, 1)}
    return Comparison(Setting.make(load=load), (0, 1), contestants, episodes, bounds)


@pytest.fixture(scope="module")
def by_load() -> dict[float, Comparison]:
    return {load: made_up(load) for load in (0.5, 0.9, 1.2)}


def test_every_policy_has_a_look_of_its_own() -> None:
    known = (*policy_names(), *learned_names(), "heft", "cpop", "peft", "plas", "halo")
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


def errorbars(panel: Axes) -> list[ErrorbarContainer]:
    return [one for one in panel.containers if isinstance(one, ErrorbarContainer)]


def names(panel: Axes) -> list[str]:
    return [label.get_text() for label in panel.get_yticklabels()]


def test_means_stand_at_their_loads(by_load: dict[float, Comparison]) -> None:
    means = jct_over_load_figure(by_load).axes[0]
    for line in means.get_lines():
        assert list(np.asarray(line.get_xdata())) == sorted(by_load)
    assert list(means.get_xticks()) == sorted(by_load)


def test_every_policy_has_a_row_of_its_own_in_a_panel_for_each_load(by_load: dict[float, Comparison]) -> None:
    _, *panels = jct_over_load_figure(by_load).axes
    assert [panel.get_title() for panel in panels] == ["load 0.5", "load 0.9", "load 1.2"]
    assert names(panels[0]) == sorted(MEANS, key=MEANS.__getitem__)
    for panel in panels:
        rows = [float(np.asarray(one.lines[0].get_ydata())[0]) for one in errorbars(panel)]
        assert rows == list(range(len(MEANS)))
        middles = [float(np.asarray(one.lines[0].get_xdata())[0]) for one in errorbars(panel)]
        # Means over the seeds: srtf 10 s * 1.025, fcfs 20 s * 1.025.
        assert dict(zip(names(panels[0]), middles, strict=True))["srtf"] == pytest.approx(50.0)


def test_many_loads_go_on_in_further_rows() -> None:
    _, *panels = jct_over_load_figure({load: made_up(load) for load in np.arange(0.1, 0.7, 0.1)}).axes
    assert len(panels) == 6
    assert len({round(panel.get_position().y0, 3) for panel in panels}) == 2


def test_without_fcfs_there_is_one_panel_with_a_legend() -> None:
    means = {name: seconds for name, seconds in MEANS.items() if name != "fcfs"}
    figure = jct_over_load_figure({load: made_up(load, means) for load in (0.5, 0.9)})
    assert len(figure.axes) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == sorted(means, key=means.__getitem__)


def test_what_lies_outside_is_told(by_load: dict[float, Comparison]) -> None:
    figure = jct_over_load_figure(by_load)
    _, *panels = figure.axes
    assert {panel.get_xlim()[0] for panel in panels} == {-100}
    assert figure.subfigs[1].get_supxlabel().endswith("cut at −100")
    # Means over the seeds: critical_path 70 s * 1.07, fcfs 20 s * 1.025.
    assert [text.get_text().strip() for panel in panels for text in panel.texts] == ["← −265 %"] * 3


@pytest.mark.parametrize("kind", ["means", "distributions"])
def test_curves_that_cover_each_other_are_striped_and_named(kind: str) -> None:
    means = {"fcfs": 20.0, "aaaa": 10.0, "bbbb": 10.0, "cccc": 10.5}  # names of one length differ by nothing else
    comparison = made_up(0.9, means)
    figure = jct_over_load_figure({0.9: comparison}) if kind == "means" else jct_cdf_figure(comparison)
    by_name = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    dashed = {name for name, line in by_name.items() if line.is_dashed() and name in means}
    assert dashed == {"aaaa", "bbbb"}
    assert by_name["aaaa"].get_markersize() > by_name["bbbb"].get_markersize()
    assert figure.get_supxlabel().endswith("Striped, since they cover each other: aaaa, bbbb.")


def test_the_sample_and_the_intervals_are_explained(by_load: dict[float, Comparison]) -> None:
    assert "the 4 jobs of all seeds" in jct_cdf_figure(by_load[0.9]).get_supxlabel()
    said = jct_over_load_figure(by_load).get_supxlabel()
    assert "means over 2 seeds" in said
    assert "95 % intervals of the reduction, paired by seed" in said


@pytest.mark.parametrize("slowest_s", [7.0, 70.0, 700.0, 7e6])
def test_a_logarithmic_axis_says_so_and_has_plain_labels(slowest_s: float, by_load: dict[float, Comparison]) -> None:
    comparisons = {load: made_up(load) for load in by_load}
    for comparison in comparisons.values():
        for (name, _), episode in comparison.episodes.items():
            episode["metrics"]["mean_jct_s"] = slowest_s if name == "critical_path" else 6.0
    figure = jct_over_load_figure(comparisons)
    figure.draw_without_rendering()
    means = figure.axes[0]
    low, high = means.get_ylim()
    ticks = zip(means.get_yticks(), means.get_yticklabels(), strict=True)
    shown = {tick: label.get_text() for tick, label in ticks if low <= tick <= high}
    assert len(shown) >= 3
    assert all(float(label) == pytest.approx(tick) for tick, label in shown.items())
    assert not any(set(label) & set("e$^×") for label in shown.values())
    assert means.get_ylabel() == "mean job completion time [s], logarithmic"
