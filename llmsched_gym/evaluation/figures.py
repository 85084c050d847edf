"""Pictures of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmsched_gym.evaluation.contestants import Contestant
from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.policy_styles import PolicyStyle, policy_styles
from llmsched_gym.evaluation.runner import BASELINE, Comparison
from llmsched_gym.evaluation.statistics import Interval, reduction_pct
from llmsched_gym.pictures import caption, in_picture, make_logarithmic, new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOWEST_SHOWN: Final = -100
"""Reductions below this, in per cent, lie outside the picture: a policy twice as bad as FCFS is bad enough."""

_MARKERS_PER_CURVE: Final = 8

_LABELLED_LOADS: Final = 8

_PANELS_IN_A_ROW: Final = 4
"""Loads beside each other before they go on in the next row."""

_ROW_INCHES: Final = 0.27
"""Height of a policy in a panel of reductions."""

_EQUAL: Final = 0.003
"""Curves that differ nowhere by more than this share cover each other: they are drawn as one, in stripes."""

_STRIPE: Final = 7.0
"""Length of a stripe, in widths of the line."""

Numbers = NDArray[np.float64]


def jct_cdf(comparison: Comparison, path: Path) -> None:
    """Write `jct_cdf_figure`, as `write_figure` does.

    Raises:
        InputError: `path` cannot be written.
    """
    write_figure(jct_cdf_figure(comparison), path)


def jct_over_load(comparisons: Mapping[float, Comparison], path: Path) -> None:
    """Write `jct_over_load_figure`, as `write_figure` does.

    Raises:
        InputError: `path` cannot be written.
    """
    write_figure(jct_over_load_figure(comparisons), path)


def jct_cdf_figure(comparison: Comparison) -> Figure:
    """Draw the distribution of job completion times of every policy, all seeds together.

    The legend begins with the lowest mean.
    """
    figure = new_figure(8.5, 5)
    axes = figure.add_subplot()
    styles = _styles(comparison)
    ranked = _best_first(comparison)
    curves = {one.label: np.sort(np.concatenate(_jct_s(comparison, one))) for one in ranked}
    stripes = _stripes(curves)
    for position, contestant in enumerate(ranked):
        jct = curves[contestant.label]
        share = np.arange(len(jct) + 1) / len(jct)
        gap = max(1, len(jct) // _MARKERS_PER_CURVE)
        own_places = (position * gap // len(ranked), gap)  # the markers of another curve would hide them
        look = _line(styles[contestant.label]) | stripes.get(contestant.label, {})
        axes.step(np.append(jct[0], jct), share, where="post", label=_label(contestant), markevery=own_places, **look)
    make_logarithmic(axes.xaxis, "job completion time [s]")
    axes.set_ylabel("share of jobs completed within it")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    load = "" if comparison.setting.load is None else f", load {comparison.setting.load:g}"
    axes.set_title(_title(comparison) + load)
    _legend(figure, axes, "lowest mean first")
    n_jobs = len(curves[ranked[0].label])
    caption(figure, f"Each curve: the {n_jobs:,} jobs of all seeds together.{_striped(stripes)}")
    return figure


def jct_over_load_figure(comparisons: Mapping[float, Comparison]) -> Figure:
    """Draw the mean JCT of every policy over the load, with the lower bound, and its reduction against FCFS at each.

    Every policy has a row of its own in the panels of reductions, so that none hides another, and an interval of 95 %,
    paired by seed. The means carry none: what seeds share moves all of them together, so that their intervals overlap
    even where policies differ. Without FCFS there is only the first panel. The lowest mean at the highest load comes
    first.
    """
    loads = sorted(comparisons)
    by_load = [comparisons[load] for load in loads]
    baseline = by_load[0].contestant(BASELINE)
    last = f"lowest mean at load {loads[-1]:g} first"
    if baseline is None:
        figure = new_figure(8.5, 5)
        means = figure.add_subplot()
        stripes = _draw_means(means, loads, by_load)
        _legend(figure, means, last)
    else:
        columns = min(len(loads), _PANELS_IN_A_ROW)
        rows = -(-len(loads) // columns)
        height = max(5.0, 0.8 + rows * (1.0 + _ROW_INCHES * len(by_load[0].contestants)))
        figure = new_figure(7.2 + 2.1 * columns, height)
        parts: Any = figure.subfigures(1, 2, width_ratios=(5.2, 2.0 + 2.1 * columns))
        left, right = parts
        stripes = _draw_means(left.add_subplot(), loads, by_load)
        panels = list(right.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        _draw_reductions(panels, loads, by_load, baseline)
        right.suptitle(f"{last}; colours and markers as on the left", fontsize="small")
    caption(figure, _sample(by_load[0], baseline) + _striped(stripes))
    return figure


def _draw_means(axes: Axes, loads: Sequence[float], by_load: Sequence[Comparison]) -> dict[str, dict[str, Any]]:
    """Draw mean JCTs over the load; return the stripes of curves that cover each other."""
    from matplotlib.ticker import FixedLocator

    styles = _styles(by_load[0])
    curves = {one.label: np.array([_mean_jct_s(at, one) for at in by_load]) for one in _best_first(by_load[-1])}
    stripes = _stripes(curves)
    for contestant in _best_first(by_load[-1]):
        look = _line(styles[contestant.label]) | stripes.get(contestant.label, {})
        axes.plot(loads, curves[contestant.label], label=_label(contestant), **look)
    bounds = [mean([bound["lower_bound_mean_jct_s"] for bound in one.bounds.values()]) for one in by_load]
    axes.plot(loads, bounds, color="black", linewidth=1, linestyle=":")
    axes.annotate("lower bound", (loads[0], bounds[0]), (0, -4), textcoords="offset points", fontsize="small", va="top")
    axes.margins(y=0.08)  # room for these words
    make_logarithmic(axes.yaxis, "mean job completion time [s]")
    axes.xaxis.set_major_locator(FixedLocator(loads, nbins=_LABELLED_LOADS))
    axes.set_xlabel("load: offered work / capacity of the busiest pool")
    axes.grid(alpha=0.3)
    axes.set_title(_title(by_load[0]))
    return stripes


def _draw_reductions(
    panels: Sequence[Axes], loads: Sequence[float], by_load: Sequence[Comparison], baseline: Contestant
) -> None:
    """Draw a panel per load: a row per policy, with what its mean JCT is below FCFS's and the interval."""
    styles = _styles(by_load[0])
    ranked = _best_first(by_load[-1])
    found = [[_reduction(one, contestant, baseline) for contestant in ranked] for one in by_load]
    cut = min(_ends(one)[0] for column in found for one in column) < _LOWEST_SHOWN
    for axes, load, column in zip(panels, loads, found, strict=False):
        axes.axvline(0, color="black", linewidth=1)
        for row, (contestant, reduction) in enumerate(zip(ranked, column, strict=True)):
            look: Any = _line(styles[contestant.label]) | {"linestyle": "none"}
            beside = np.abs(np.array(_ends(reduction))[:, None] - reduction.mid)
            axes.errorbar(reduction.mid, row, xerr=beside, capsize=2, elinewidth=1, **look)
            if reduction.mid < _LOWEST_SHOWN:
                color = styles[contestant.label].color
                axes.text(
                    _LOWEST_SHOWN, row, f" ← {_signed(reduction.mid)} %", color=color, fontsize="small", va="center"
                )
        axes.set_title(f"load {load:g}", fontsize="medium")
        axes.grid(alpha=0.3)
    for axes in panels[len(loads) :]:
        axes.remove()
    panels[0].set_yticks(range(len(ranked)), [_label(contestant) for contestant in ranked])
    panels[0].set_ylim(len(ranked) - 0.5, -0.5)
    if cut:
        panels[0].set_xlim(left=_LOWEST_SHOWN)
    for axes in panels[: len(loads)][-min(len(loads), _PANELS_IN_A_ROW) :]:
        axes.tick_params(labelbottom=True)
    grid: Any = panels[0].get_subplotspec()
    figure = grid.get_gridspec().figure
    figure.supxlabel(
        "mean JCT below FCFS's [%]" + (f", cut at {_signed(_LOWEST_SHOWN)}" if cut else ""), fontsize="medium"
    )


def _sample(comparison: Comparison, baseline: Contestant | None) -> str:
    """Say how many values stand behind a point, and what an interval means."""
    n = len(comparison.seeds)
    points = "Points: one seed." if n == 1 else f"Points: means over {n} seeds, of reductions geometric ones."
    if baseline is None:
        return points
    if n == 1:
        return f"{points} No intervals: nothing can be told apart."
    return f"{points} Bars: 95 % intervals of the reduction, paired by seed; where one holds 0, no difference is shown."


def _stripes(curves: Mapping[str, Numbers]) -> dict[str, dict[str, Any]]:
    """Return, for curves that cover each other, how their lines alternate and their markers fit into each other."""
    groups: list[list[str]] = []
    for name, curve in curves.items():
        same = next((group for group in groups if _cover(curves[group[0]], curve)), None)
        if same is None:
            groups.append([name])
        else:
            same.append(name)
    return {
        name: {
            "linestyle": ((len(group) - place) * _STRIPE, (_STRIPE, _STRIPE * (len(group) - 1))),
            "markersize": 6 + 3 * (len(group) - 1 - place),
        }
        for group in groups
        if len(group) > 1
        for place, name in enumerate(group)
    }


def _cover(one: Numbers, other: Numbers) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, rtol=_EQUAL, atol=0.0))


def _striped(stripes: Iterable[str]) -> str:
    """Explain stripes, if there are any."""
    return f" Striped, since they cover each other: {', '.join(stripes)}." if stripes else ""


def _jct_s(comparison: Comparison, contestant: Contestant) -> list[ArrayLike]:
    return [comparison.episodes[contestant.spec, seed]["jct_s"] for seed in comparison.seeds]


def _mean_jct_s(comparison: Comparison, contestant: Contestant) -> float:
    return mean(comparison.metric(contestant, "mean_jct_s"))


def _reduction(comparison: Comparison, contestant: Contestant, baseline: Contestant) -> Interval:
    return reduction_pct(comparison.metric(baseline, "mean_jct_s"), comparison.metric(contestant, "mean_jct_s"))


def _ends(found: Interval) -> tuple[float, float]:
    return found.mid if found.low is None else found.low, found.mid if found.high is None else found.high


def _signed(value: float) -> str:
    """Return a whole number with the minus sign that axes have."""
    return f"{value:.0f}".replace("-", "\N{MINUS SIGN}")


def _best_first(comparison: Comparison) -> list[Contestant]:
    return sorted(comparison.contestants, key=lambda contestant: _mean_jct_s(comparison, contestant))


def _styles(comparison: Comparison) -> dict[str, PolicyStyle]:
    return policy_styles(contestant.label for contestant in comparison.contestants)


def _line(style: PolicyStyle) -> dict[str, Any]:
    return style.keywords | {"linewidth": 1.3, "markersize": 6}


def _label(contestant: Contestant) -> str:
    name = in_picture(contestant.label)
    return f"{name} (sees the truth)" if contestant.privileged else name


def _title(comparison: Comparison) -> str:
    n_seeds = len(comparison.seeds)
    jobs = f"{comparison.setting.n_jobs} jobs × {n_seeds} {'seed' if n_seeds == 1 else 'seeds'}"
    return f"{in_picture(comparison.setting.name)}: {jobs}"


def _legend(figure: Figure, axes: Axes, title: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title=title,
        fontsize="small",
        title_fontsize="small",
        loc="outside right center",
        frameon=False,
        alignment="left",
    )
