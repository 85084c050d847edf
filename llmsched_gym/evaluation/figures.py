"""Pictures of a comparison. Matplotlib is imported only when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.runner import Comparison
from llmsched_gym.evaluation.statistics import reduction_pct
from llmsched_gym.workloads.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES: Final = ("-", "--", ":", "-.")
"""Colours repeat after ten policies; the line style tells them apart then."""


_LOWEST_SHOWN: Final = -100
"""Reductions below this, in per cent, lie outside the picture: a policy twice as bad as FCFS is bad enough."""


def jct_cdf(comparison: Comparison, path: Path) -> None:
    """Draw the distribution of job completion times of every policy, all seeds together.

    Raises:
        InputError: `path` cannot be written.
    """
    figure = _figure()
    axes = figure.add_subplot()
    for index, contestant in enumerate(comparison.contestants):
        episodes = [comparison.episodes[contestant.spec, seed]["jct_s"] for seed in comparison.seeds]
        jct = np.sort(np.concatenate(episodes))
        share = np.arange(1, len(jct) + 1) / len(jct)
        axes.step(jct, share, where="post", label=_label(contestant.label, contestant.privileged), **_style(index))
    axes.set_xscale("log")
    axes.set_xlabel("job completion time [s]")
    axes.set_ylabel("share of jobs")
    axes.set_ylim(0, 1)
    setting = comparison.setting
    load = "" if setting.load is None else f", load {setting.load:g}"
    axes.set_title(f"{setting.name}: {setting.n_jobs} jobs × {len(comparison.seeds)} seeds{load}")
    _finish(figure, path)


def jct_over_load(comparisons: Mapping[float, Comparison], path: Path) -> None:
    """Draw over the load the mean JCT of every policy, with the lower bound, and its reduction against FCFS.

    The reductions carry 95 % intervals paired by seed. The means carry none: what seeds share moves all of them
    together, so that their intervals overlap even where policies differ. Without FCFS there is only the first panel.

    Raises:
        InputError: `path` cannot be written.
    """
    loads = sorted(comparisons)
    first = comparisons[loads[0]]
    baseline = first.baseline
    figure = _figure(8 if baseline is None else 13)
    panels = figure.subplots(1, 1 if baseline is None else 2, squeeze=False)[0]
    means, reductions = panels[0], panels[-1]
    for index, contestant in enumerate(first.contestants):
        style = _style(index)
        per_load = [comparisons[load].metric(contestant, "mean_jct_s") for load in loads]
        label = _label(contestant.label, contestant.privileged)
        means.plot(loads, [mean(values) for values in per_load], marker="o", label=label, **style)
        if baseline is not None and contestant is not baseline:
            of_baseline = [comparisons[load].metric(baseline, "mean_jct_s") for load in loads]
            intervals = [reduction_pct(b, values) for b, values in zip(of_baseline, per_load, strict=True)]
            ends = [(i.mid if i.low is None else i.low, i.mid if i.high is None else i.high) for i in intervals]
            middles = np.array([interval.mid for interval in intervals])
            bars = np.abs(np.array(ends).T - middles)
            shift = (index - len(first.contestants) / 2) * 0.006 * (loads[-1] - loads[0])  # so that bars do not overlap
            x = np.array(loads) + shift
            reductions.errorbar(x, middles, bars, marker="o", markersize=4, capsize=2, label=label, **style)
    bounds = [mean([bound["lower_bound_mean_jct_s"] for bound in comparisons[load].bounds.values()]) for load in loads]
    means.plot(loads, bounds, color="black", linewidth=1, linestyle=":", label="lower bound")
    means.set_ylabel("mean job completion time [s]")
    means.set_yscale("log")
    means.set_title(f"{first.setting.name}: {first.setting.n_jobs} jobs × {len(first.seeds)} seeds")
    if baseline is not None:
        reductions.axhline(0, color="black", linewidth=1)
        reductions.set_ylabel("mean JCT below FCFS [%]")
        reductions.set_ylim(bottom=max(reductions.get_ylim()[0], _LOWEST_SHOWN), top=100)
        reductions.set_title("95 % intervals, paired by seed")
    for axes in panels:
        axes.set_xlabel("load [offered work / capacity of the busiest pool]")
    _finish(figure, path)


def _label(name: str, privileged: bool) -> str:
    return f"{name} (sees the truth)" if privileged else name


def _style(index: int) -> dict[str, Any]:
    return {"color": f"C{index % 10}", "linestyle": _DASHES[index // 10 % len(_DASHES)], "linewidth": 1.5}


def _figure(width: float = 8) -> Figure:
    # Figure without pyplot: no display, no global state, nothing to close.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, 5), layout="constrained")


def _finish(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside right center", frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomic(path, image.getvalue())
