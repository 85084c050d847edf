"""Where it pays to plan ahead: what is varied on clusters of several models, and the picture of it.

Sweeps play the greedy twin of `fate`, which takes less time and could not be told apart from it on `hetero4`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from grid import Cell

from llmsched_gym.cluster.executors import LLMExecutors, Rate
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.evaluation.runner import NORMALISER
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import Interval, relative
from llmsched_gym.pictures import new_figure
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.workloads.files import write_atomic

PLANNED: Final = "fate?planner=greedy"
NEAR: Final = "fate?planner=greedy&horizon=0"
PLAYERS: Final = (NORMALISER, "mct", "peft", PLANNED, NEAR)
ROUTERS: Final = (NORMALISER, "least_loaded", "prefix_aware", "mct", PLANNED)

LOADS: Final = (0.15, 0.3, 0.6)
LOADING: Final = (4.5, 50.0)
"""GB/s: models loaded again from disk, and from the host's memory."""
ROOM: Final = (1.0, 2.0)
"""Memory of each executor over that of the scenario."""
TRANSFER: Final = (0.1, 1.0, 10.0)
KV: Final = (None, 2.5, 23.0, 450.0)
"""GB/s of all links, by which KV is fetched; None: it is not."""
HORIZONS: Final = (0, 1, 4)
SHARDS: Final = (1, 4)
TERMS: Final = ("residency", "locality", "prefix", "reachability")

AXES: Final = {
    "load": "nominal load\n(hetero4)",
    "loading": "GB/s at which models load\n(hetero4)",
    "rho": "weights over memory\n(hetero4)",
    "transfer_ratio": "transfer ratio\n(real_dag)",
    "kv": "GB/s at which KV is fetched\n(prefix_reuse)",
}
"""What is varied, with its scenario."""


def cells(jobs: int, seeds: Sequence[int]) -> list[Cell]:
    """Return all comparisons of the sweeps."""
    hetero, dag, prefix = (load_scenario(name).replaced(jobs) for name in ("hetero4", "real_dag", "prefix_reuse"))
    found: list[tuple[str, float | str, Scenario, tuple[str, ...]]] = []
    found += [("load", load, hetero.replaced(load=load), PLAYERS) for load in LOADS]
    found += [("loading", rate, _on(hetero, partial(_loading, rate)), PLAYERS) for rate in LOADING]
    found += [("rho", _rho(hetero, room), _on(hetero, partial(_roomy, room)), PLAYERS) for room in ROOM]
    found += [
        ("transfer_ratio", ratio, dag.model_copy(update={"transfer_ratio": ratio}), PLAYERS) for ratio in TRANSFER
    ]
    found += [("kv", rate or 0.0, _on(prefix, partial(_fetching, rate)), ROUTERS) for rate in KV]
    variants = tuple(f"{PLANNED}&horizon={hops}" for hops in HORIZONS)
    variants += tuple(f"{PLANNED}&shards={most}" for most in SHARDS)
    variants += tuple(f"{PLANNED}&without={term}" for term in TERMS)
    found += [("variant", hetero.name, hetero, (NORMALISER, PLANNED, *variants))]
    return [
        Cell("sweeps", factor, str(value), Setting(scenario), policies, tuple(seeds))
        for factor, value, scenario, policies in found
    ]


def _on(scenario: Scenario, change: Callable[[ClusterSpec], ClusterSpec]) -> Scenario:
    """Return a scenario with its cluster changed; jobs come as often as before."""
    return scenario.model_copy(update={"cluster": change(scenario.cluster)}).replaced(rate=scenario.arrival_rate())


def _each(cluster: ClusterSpec, update: Callable[[LLMExecutors], Mapping[str, Any]]) -> ClusterSpec:
    groups = tuple(
        group.model_copy(update=update(group)) if isinstance(group, LLMExecutors) else group
        for group in cluster.executors
    )
    return cluster.model_copy(update={"executors": groups})


def _loading(gb_per_s: float, cluster: ClusterSpec) -> ClusterSpec:
    return _each(cluster, lambda group: {"load": group.load and group.load.model_copy(update={"gb_per_s": gb_per_s})})


def _roomy(room: float, cluster: ClusterSpec) -> ClusterSpec:
    return _each(cluster, lambda group: {"memory_gb": room * (group.memory_gb or 0.0)})


def _fetching(gb_per_s: float | None, cluster: ClusterSpec) -> ClusterSpec:
    if gb_per_s is None:
        return cluster
    links = tuple(link.model_copy(update={"gb_per_s": gb_per_s}) for link in cluster.links)
    return cluster.model_copy(update={"links": links, "kv_transfer": Rate(gb_per_s=gb_per_s)})


def _rho(scenario: Scenario, room: float) -> float:
    cluster = scenario.cluster
    memory = sum(group.count * group.memory_bytes for group in cluster.llm) * room / 1e9
    return round(sum(facts.weights_gb for facts in cluster.models.values()) / memory, 2)


Rows = Sequence[Mapping[str, Any]]


def beside(rows: Rows, factor: str, value: str, policy: str, other: str, metric: str) -> Interval:
    """Return a metric of a policy relative to another one's, on the same jobs."""
    here = [row for row in rows if row["factor"] == factor and row["value"] == value]
    by_seed = [
        np.array([v for _, v in sorted((row["seed"], row[metric]) for row in here if row["policy"] == name)])
        for name in (policy, other)
    ]
    return relative(*by_seed)


def draw(rows: Rows, path: Path) -> None:
    """Draw the makespan of each policy relative to round robin along each axis.

    Raises:
        InputError: The file cannot be written.
    """
    figure = new_figure(15, 4.6)
    panels = figure.subplots(1, len(AXES), sharey=True)
    looks = dict(zip(dict.fromkeys((*PLAYERS, *ROUTERS)), "k^sovPD", strict=False))
    for axes, (factor, name) in zip(panels, AXES.items(), strict=True):
        here = [row for row in rows if row["factor"] == factor]
        values = sorted({row["value"] for row in here}, key=float)
        for k, policy in enumerate(looks):
            if policy == NORMALISER or policy not in {row["policy"] for row in here}:
                continue
            found = [beside(here, factor, value, policy, NORMALISER, "makespan_s") for value in values]
            at = np.arange(len(values)) + 0.05 * (k - 2.5)
            low = [one.mid - (one.low if one.low is not None else one.mid) for one in found]
            high = [(one.high if one.high is not None else one.mid) - one.mid for one in found]
            mids = [one.mid for one in found]
            axes.errorbar(at, mids, (low, high), color=f"C{k}", marker=looks[policy], label=policy, capsize=2)
        axes.axhline(1.0, color="black", linewidth=1)
        axes.set_xticks(range(len(values)), [_tick(factor, value) for value in values])
        axes.set_xlabel(name)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("makespan over that of round_robin")
    seeds = len({row["seed"] for row in rows})
    figure.suptitle(f"{rows[0]['jobs']:.0f} jobs, {seeds} seeds, geometric means with 95 % intervals paired by seed")
    labels = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=len(labels), frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, image.getvalue())


def _tick(factor: str, value: str) -> str:
    return "not" if factor == "kv" and float(value) == 0.0 else f"{float(value):g}"
