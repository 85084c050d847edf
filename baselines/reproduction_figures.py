"""Pictures of the reproduction, drawn from the frozen results."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from calibration import NOMINAL
from claims import below, per_seed
from grid import ABLATIONS, COMPARED, FULL, LEARNED, ORACLE, POLICIES, WORKLOADS
from results_tables import best_first

from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.policy_styles import policy_styles
from llmsched_gym.evaluation.statistics import Interval, reduction_pct
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = Sequence[Mapping[str, Any]]

_WORST_SHOWN: Final = -60
"""Policies that are worse than this are cut off."""

_STYLES: Final = policy_styles(POLICIES)

_FEWEST_LOOKS: Final = 50
"""Points of fewer predictions are not drawn."""


def draw_all(results: Mapping[str, Table], folder: Path) -> list[str]:
    """Draw every picture that there are results for; return the names of the files.

    Raises:
        InputError: A file cannot be written.
    """
    makers = {
        "workloads": workloads,
        "jobs": jobs,
        "parameters": sweeps,
        "calibration": calibration,
        "value": value_of_information,
    }
    drawn = []
    for part, maker in makers.items():
        if results.get(part):
            name = f"reproduction_{part}.png"
            image = io.BytesIO()
            maker(results).savefig(image, format="png", dpi=110)
            write_atomic(folder / name, image.getvalue())
            drawn.append(name)
    return drawn


def workloads(results: Mapping[str, Table]) -> Figure:
    """Reduction of every policy against FCFS on the four workloads, best first."""
    from matplotlib.patches import Patch

    table = results["workloads"]
    figure = _figure(13, 5.2)
    panels = figure.subplots(1, len(WORKLOADS), sharey=True)
    names = [name for name in best_first(table) if name != "fcfs"]
    for axes, scenario in zip(panels, WORKLOADS, strict=True):
        for position, name in enumerate(names):
            found = below(table, name, "fcfs", scenario=scenario)
            axes.barh(position, found.mid, color=_KINDS[_kind(name)], alpha=0.55)
            axes.plot(_ends(found), [position, position], color="black", linewidth=1)
        axes.axvline(0, color="black", linewidth=1)
        axes.grid(axis="x", alpha=0.3)
        cut = axes.get_xlim()[0] < _WORST_SHOWN
        axes.set_xlim(left=_WORST_SHOWN if cut else None)
        axes.set_title(scenario)
        axes.set_xlabel("mean JCT below FCFS [%]" + (f", cut at {_WORST_SHOWN}" if cut else ""))
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    seeds, size = len({row["seed"] for row in table}), {int(row["jobs"]) for row in table}
    figure.suptitle(f"{'/'.join(map(str, sorted(size)))} jobs, {seeds} seeds, 95 % intervals paired by seed")
    patches = [Patch(color=colour, alpha=0.55, label=kind) for kind, colour in _KINDS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    return figure


def _kind(policy: str) -> str:
    if policy == ORACLE:
        return "sees the truth"
    if policy in LEARNED:
        return "learned"
    return "LLMSched and ablations" if policy in (FULL, *ABLATIONS) else "heuristic"


_KINDS: Final = {"heuristic": "C0", "LLMSched and ablations": "C3", "learned": "C2", "sees the truth": "0.6"}
"""Colours of the kinds of policies."""


def jobs(results: Mapping[str, Table]) -> Figure:
    """LLMSched against each other policy by the number of jobs."""
    table = results["jobs"]
    loads = sorted({row["load"] for row in table})
    figure = _figure(11, 4.4)
    for axes, load in zip(figure.subplots(1, len(loads), squeeze=False)[0], loads, strict=True):
        here = [row for row in table if row["load"] == load]
        sizes = sorted({row["jobs"] for row in here})
        for name in COMPARED:
            if name != FULL:
                found = [below(here, FULL, name, jobs=size) for size in sizes]
                _line(axes, sizes, found, name)
        axes.set_title(f"mixed, load {load:g}")
        axes.set_xlabel("jobs")
        axes.set_ylabel("mean JCT of llmsched below the policy [%]")
    figure.suptitle("LLMSched against each policy by the number of jobs, 95 % intervals paired by seed")
    _legend(figure)
    return figure


def sweeps(results: Mapping[str, Table]) -> Figure:
    """Reduction against SRTF over each parameter of LLMSched, over load and over executors."""
    own = [*results["parameters"], *results.get("bins", [])]
    possible = ("epsilon", "sampling_ratio", "score", "interval", "soft_evidence", "bins")
    factors = [name for name in possible if any(row["factor"] == name for row in own)]
    outer = [(part, results[part]) for part in ("load", "executors") if results.get(part)]
    figure = _figure(14, 6.4)
    panels = figure.subplots(2, 4).flat
    for axes, factor in zip(panels, factors, strict=False):
        here = [row for row in own if row["factor"] == factor]
        values = list(dict.fromkeys(row["value"] for row in here))
        found = [_swept(here, factor, value) for value in values]
        _line(axes, values, found, FULL)
        axes.set_xlabel(factor)
    for axes, (part, table) in zip(panels[len(factors) :], outer, strict=False):
        here = [row for row in table if row["scenario"] == "mixed"]
        values = list(dict.fromkeys(row["value"] for row in here))
        for name in (FULL, *ABLATIONS, ORACLE):
            _line(axes, values, [below(here, name, "srtf", value=value) for value in values], name)
        axes.set_xlabel("LLM + regular executors" if part == "executors" else part)
    for axes in figure.axes:
        axes.set_ylabel("mean JCT below SRTF [%]")
        axes.axhline(0, color="black", linewidth=1)
    figure.suptitle("Mixed workload, one thing changed at a time, 95 % intervals paired by seed")
    _legend(figure, len(factors))
    return figure


def _swept(table: Table, factor: str, value: str) -> Interval:
    """Reduction against SRTF of LLMSched with one parameter changed, or with its defaults in a changed setting."""
    names = {row["policy"] for row in table if row["value"] == value}
    spec = f"{FULL}?{factor}={value}"
    return below(table, spec if spec in names else FULL, "srtf", value=value)


def calibration(results: Mapping[str, Table]) -> Figure:
    """Reliability of the intervals, and error of the posterior over that of the historical mean."""
    table = [row for row in results["calibration"] if row["kind"] == "between stages"]
    figure = _figure(12, 4.6)
    cover, error = figure.subplots(1, 2)
    cover.plot([0.45, 1], [0.45, 1], color="black", linewidth=1)
    cover.fill_between([0.45, 1], [0.42, 0.97], [0.48, 1.03], color="0.9")
    for index, app in enumerate(APPLICATIONS):
        here = [row for row in table if row["application"] == app]
        looks = sum(row["looks"] for row in here)
        shares = [sum(row[f"covered_{nominal:g}"] for row in here) / looks for nominal in NOMINAL]
        cover.plot(NOMINAL, shares, marker="o", color=f"C{index}", label=app)
        many = [row for row in here if row["looks"] >= _FEWEST_LOOKS]
        ratios = [(row["posterior_square_s2"] / row["history_square_s2"]) ** 0.5 for row in many]
        error.plot([row["finished"] for row in many], ratios, marker=".", color=f"C{index}")
    cover.set_xlabel("nominal share of the posterior")
    cover.set_ylabel("share of held-out jobs inside")
    cover.set_title("intervals of the remaining time (band: 3 points)")
    error.axhline(1, color="black", linewidth=1)
    error.set_ylim(bottom=0)
    error.set_xlabel("finished stages")
    error.set_ylabel("RMS error: posterior / historical mean")
    error.set_title("remaining time: below 1, the profile knows more")
    _legend(figure)
    return figure


def value_of_information(results: Mapping[str, Table]) -> Figure:
    """What knowing remaining times is worth, per application alone on the cluster: oracle and posterior over SRTF."""
    table = results["value"]
    figure = _figure(13, 6.6)
    for axes, app in zip(figure.subplots(2, 3, sharex=True, sharey=True).flat, APPLICATIONS, strict=True):
        here = [row for row in table if row["scenario"] == app]
        loads = sorted({row["load"] for row in here})
        for name in (ORACLE, "llmsched_no_uncertainty", FULL):
            found = [
                reduction_pct(per_seed(here, policy="srtf", load=load), per_seed(here, policy=name, load=load))
                for load in loads
            ]
            _line(axes, loads, found, name)
        axes.axhline(0, color="black", linewidth=1)
        wait = mean([row["mean_slowdown"] for row in here if row["policy"] == "srtf" and row["load"] == loads[-1]])
        axes.set_title(f"{app} (slowdown {wait:.1f} at load {loads[-1]:g})", fontsize="medium")
        axes.set_xlabel("load")
        axes.set_ylabel("mean JCT below SRTF [%]")
    figure.suptitle("Each application alone on the mixed cluster: what knowing remaining times is worth")
    _legend(figure)
    return figure


def _line(axes: Axes, x: Sequence[Any], found: Sequence[Interval], policy: str) -> None:
    style = _STYLES[policy]
    axes.plot(x, [one.mid for one in found], label=policy, **style.keywords)
    low, high = zip(*(_ends(one) for one in found), strict=True)
    axes.fill_between(x, low, high, alpha=0.12, color=style.color, linewidth=0)


def _ends(found: Interval) -> tuple[float, float]:
    low = found.mid if found.low is None else found.low
    return low, found.mid if found.high is None else found.high


def _legend(figure: Figure, panel: int = 0) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[panel].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside right center", frameon=False)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
