"""Pictures of a comparison. Matplotlib is imported only when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.policy_styles import PolicyStyle, policy_styles
from llmsched_gym.evaluation.runner import Comparison, Contestant
from llmsched_gym.evaluation.statistics import Interval, reduction_pct
from llmsched_gym.pictures import in_picture
from llmsched_gym.workloads.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_LOWEST_SHOWN: Final = -100
"""Reductions below this, in per cent, lie outside the picture: a policy twice as bad as FCFS is bad enough."""

_SPREAD: Final = 0.7
"""Share of the smallest gap between two loads over which the policies' intervals stand side by side."""

_MARKERS_PER_CURVE: Final = 8

_LABELLED_LOADS: Final = 8

_NARROW: Final = 5.0
"""A logarithmic axis whose ends differ by a smaller factor is labelled like a linear one, others at 1, 2, 5, 10, ..."""


def jct_cdf(comparison: Comparison, path: Path) -> None:
    """Write `jct_cdf_figure` as PNG.

    Raises:
        InputError: `path` cannot be written.
    """
    _write(jct_cdf_figure(comparison), path)


def jct_over_load(comparisons: Mapping[float, Comparison], path: Path) -> None:
    """Write `jct_over_load_figure` as PNG.

    Raises:
        InputError: `path` cannot be written.
    """
    _write(jct_over_load_figure(comparisons), path)


def jct_cdf_figure(comparison: Comparison) -> Figure:
    """Draw the distribution of job completion times of every policy, all seeds together.

    The legend begins with the lowest mean.
    """
    figure = _figure(8)
    axes = figure.add_subplot()
    styles = _styles(comparison)
    ranked = _best_first(comparison)
    for position, contestant in enumerate(ranked):
        episodes = [comparison.episodes[contestant.spec, seed]["jct_s"] for seed in comparison.seeds]
        jct = np.sort(np.concatenate(episodes))
        share = np.arange(1, len(jct) + 1) / len(jct)
        gap = max(1, len(jct) // _MARKERS_PER_CURVE)
        own_places = (position * gap // len(ranked), gap)  # the markers of another curve would hide them
        label = _label(contestant)
        axes.step(jct, share, where="post", label=label, markevery=own_places, **_line(styles[contestant.label]))
    axes.set_xscale("log")
    _label_log(axes.xaxis)
    axes.set_xlabel("job completion time [s]")
    axes.set_ylabel("share of jobs")
    axes.set_ylim(0, 1)
    load = "" if comparison.setting.load is None else f", load {comparison.setting.load:g}"
    axes.set_title(_title(comparison) + load)
    _finish(figure, "lowest mean first")
    return figure


def jct_over_load_figure(comparisons: Mapping[float, Comparison]) -> Figure:
    """Draw over the load the mean JCT of every policy, with the lower bound, and its reduction against FCFS.

    The reductions carry 95 % intervals paired by seed. The means carry none: what seeds share moves all of them
    together, so that their intervals overlap even where policies differ. Without FCFS there is only the first panel.
    The legend begins with the lowest mean at the highest load.
    """
    loads = sorted(comparisons)
    by_load = [comparisons[load] for load in loads]
    baseline = by_load[0].baseline
    figure = _figure(8 if baseline is None else 13)
    panels = figure.subplots(1, 1 if baseline is None else 2, squeeze=False)[0]
    _draw_means(panels[0], loads, by_load)
    if baseline is not None:
        _draw_reductions(panels[1], loads, by_load, baseline)
    for axes in panels:
        axes.set_xlabel("load [offered work / capacity of the busiest pool]")
    _finish(figure, f"lowest mean at load {loads[-1]:g} first")
    return figure


def _draw_means(axes: Axes, loads: Sequence[float], by_load: Sequence[Comparison]) -> None:
    styles = _styles(by_load[0])
    baseline = by_load[0].baseline
    for contestant in _best_first(by_load[-1]):
        means = [_mean_jct_s(comparison, contestant) for comparison in by_load]
        zero = " (the zero line on the right)" if contestant == baseline else ""
        axes.plot(loads, means, label=_label(contestant) + zero, **_line(styles[contestant.label]))
    bounds = [mean([bound["lower_bound_mean_jct_s"] for bound in one.bounds.values()]) for one in by_load]
    axes.plot(loads, bounds, color="black", linewidth=1, linestyle=":", label="lower bound")
    axes.set_ylabel("mean job completion time [s]")
    axes.set_yscale("log")
    _label_log(axes.yaxis)
    axes.set_title(_title(by_load[0]))


def _draw_reductions(axes: Axes, loads: Sequence[float], by_load: Sequence[Comparison], baseline: Contestant) -> None:
    from matplotlib.ticker import FixedLocator

    styles = _styles(by_load[0])
    others = [contestant for contestant in _best_first(by_load[-1]) if contestant != baseline]
    step = _SPREAD * float(np.diff(loads).min(initial=1.0)) / max(len(others), 1)
    axes.axhline(0, **_line(styles[baseline.label]) | {"marker": "", "linewidth": 1})
    off_below = []
    for position, contestant in enumerate(others):
        style = styles[contestant.label]
        found = [_reduction(comparison, contestant, baseline) for comparison in by_load]
        middles = np.array([one.mid for one in found])
        ends = [(one.mid if one.low is None else one.low, one.mid if one.high is None else one.high) for one in found]
        x = np.array(loads) + (position - (len(others) - 1) / 2) * step
        axes.errorbar(x, middles, np.abs(np.array(ends).T - middles), capsize=2, elinewidth=1, **_line(style))
        off_below += [
            (at, middle, style.color) for at, middle in zip(x, middles, strict=True) if middle < _LOWEST_SHOWN
        ]
    cut = axes.get_ylim()[0] < _LOWEST_SHOWN
    if cut:
        axes.set_ylim(bottom=_LOWEST_SHOWN)
    for at, middle, color in off_below:
        label = f"← {middle:.0f} % "  # turned with the text, the arrow points down; beside the interval, not on it
        axes.text(at, _LOWEST_SHOWN, label, color=color, fontsize="small", rotation=90, ha="right", va="bottom")
    axes.xaxis.set_major_locator(FixedLocator(loads, nbins=_LABELLED_LOADS))
    axes.set_ylabel("mean JCT below FCFS [%]" + (f", cut at {_LOWEST_SHOWN}" if cut else ""))
    axes.set_title("95 % intervals, paired by seed; side by side at each load")


def _mean_jct_s(comparison: Comparison, contestant: Contestant) -> float:
    return mean(comparison.metric(contestant, "mean_jct_s"))


def _reduction(comparison: Comparison, contestant: Contestant, baseline: Contestant) -> Interval:
    return reduction_pct(comparison.metric(baseline, "mean_jct_s"), comparison.metric(contestant, "mean_jct_s"))


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


def _label_log(axis: Axis) -> None:
    """Label the axis of what is drawn in plain numbers: powers of ten alone are one or two labels."""
    from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_data_interval()
    axis.set_major_locator(AutoLocator() if high < _NARROW * low else LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _figure(width: float) -> Figure:
    # Figure without pyplot: no display, no global state, nothing to close.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, 5), layout="constrained")


def _finish(figure: Figure, legend_title: str) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title=legend_title,
        fontsize="small",
        title_fontsize="small",
        loc="outside right center",
        frameon=False,
        alignment="left",
    )


def _write(figure: Figure, path: Path) -> None:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomic(path, image.getvalue())
