"""What the reproduction runs: settings × policies × seeds, by part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from llmsched_gym.cluster.executors import LLMExecutors
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.llmsched import SCORES
from llmsched_gym.policies.registry import learned_names, policy_names
from llmsched_gym.profiler.fit import BINS
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.workloads.applications import APPLICATIONS

WORKLOADS: Final = ("mixed", "predefined", "chain", "planning")
FULL: Final = "llmsched"
ABLATIONS: Final = ("llmsched_no_bn", "llmsched_no_uncertainty")
HEURISTICS: Final = ("random", "fcfs", "sjf", "fair", "las", "srtf", "critical_path", "argus", "carbyne", "gittins")
"""Schedulers that are neither LLMSched nor privileged."""
LEARNED: Final = learned_names()
"""Trained schedulers (extra ``learn``)."""
OURS: Final = "uncertainty_gnn"
ORACLE: Final = "oracle_srtf"
POLICIES: Final = (*HEURISTICS, FULL, *ABLATIONS, *LEARNED, ORACLE)
COMPARED: Final = ("fcfs", "sjf", "fair", "srtf", "argus", "carbyne", "decima", FULL, *ABLATIONS, OURS, ORACLE)
"""Policies of the part that varies the number of jobs: those of the paper, SRTF, ours and the oracle."""
FEW: Final = ("fcfs", "srtf", FULL, *ABLATIONS, OURS, ORACLE)
"""Policies of the parts that vary load, cluster and applications."""

JOBS: Final = (100, 200, 300, 400)
LOADS: Final = (0.5, 0.7, 0.9, 1.1, 1.5)
OFFERED: Final = (0.5, 0.9, 1.2)
"""Loads of ``make compare``."""
BOUNDED: Final = (0.1, 0.5, 0.9, 1.2)
"""Loads at which the lower bound is shown."""
OVERLOAD: Final = 1.5
EXECUTORS: Final = ((2, 1), (2, 2), (4, 1), (4, 4), (8, 4))
"""LLM and regular executors; the rate follows, so that the load stays."""
EPSILONS: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RATIOS: Final = (0.1, 0.3, 0.5, 1.0)
INTERVALS: Final = (0.1, 0.3, 0.6, 0.9)
BIN_COUNTS: Final = (2, 4, 6, 10, 15)
PARTS: Final = ("workloads", "compare", "bounds", "jobs", "load", "executors", "parameters", "bins", "value")


@dataclass(frozen=True)
class Cell:
    """One comparison.

    Attributes:
        part: Part of the reproduction.
        factor: What the part varies here; empty for nothing.
        value: Its value.
        setting: What all policies meet.
        policies: Specs.
        seeds: Seeds of the setting's split.
    """

    part: str
    factor: str
    value: str
    setting: Setting
    policies: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def folder(self) -> str:
        """Name of the folder of results; cells of one setting share it."""
        return f"{self.setting.name}-{self.setting.digest}"


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes:
        seeds: Seeds of the main comparison.
        sweep_seeds: Seeds of the sweeps.
        parameter_seeds: Seeds of the sweeps in which only LLMSched plays, which is cheap.
        jobs: Jobs per episode of the main comparison.
        sweep_jobs: Jobs per episode of the sweeps.
    """

    seeds: int = 10
    sweep_seeds: int = 5
    parameter_seeds: int = 20
    jobs: int = 300
    sweep_jobs: int = 200


QUICK: Final = Scale(seeds=2, sweep_seeds=2, parameter_seeds=2, jobs=60, sweep_jobs=40)


def cells(parts: tuple[str, ...], scale: Scale, profiles: Path) -> list[Cell]:
    """Return the comparisons of some parts.

    Args:
        parts: Names out of `PARTS`.
        scale: How much.
        profiles: Folder with a folder of profiles per number of bins (``bins_4``, ...).
    """
    makers = {
        "workloads": _workloads,
        "compare": _compare,
        "bounds": _bounds,
        "jobs": _jobs,
        "load": _load,
        "executors": _executors,
        "parameters": _parameters,
        "value": _value,
    }
    found: list[Cell] = []
    for part in parts:
        found += _bins(scale, profiles) if part == "bins" else makers[part](scale)
    return found


def _workloads(scale: Scale) -> list[Cell]:
    seeds = tuple(range(scale.seeds))
    return [Cell("workloads", "", "", Setting.make(name, jobs=scale.jobs), POLICIES, seeds) for name in WORKLOADS]


def _compare(scale: Scale) -> list[Cell]:
    """What ``make compare`` runs: the policies that need no extra, mixed workload, three loads."""
    seeds = tuple(range(min(scale.seeds, 6)))
    return [
        Cell("compare", "load", f"{load:g}", Setting.make("mixed", scale.sweep_jobs, load), policy_names(), seeds)
        for load in OFFERED
    ]


def _bounds(scale: Scale) -> list[Cell]:
    seeds = tuple(range(min(scale.seeds, 3)))
    return [
        Cell("bounds", "load", f"{load:g}", Setting.make(name, scale.sweep_jobs, load), ("fcfs", ORACLE), seeds)
        for name in WORKLOADS
        for load in BOUNDED
    ]


def _jobs(scale: Scale) -> list[Cell]:
    return [
        Cell("jobs", "jobs", str(jobs * scale.jobs // 300), setting, COMPARED, seeds)
        for load, seeds in ((None, tuple(range(scale.seeds))), (OVERLOAD, _few(scale)))
        for jobs in JOBS
        for setting in [Setting.make("mixed", jobs=jobs * scale.jobs // 300, load=load)]
    ]


def _load(scale: Scale) -> list[Cell]:
    return [
        Cell("load", "load", f"{load:g}", Setting.make(name, jobs=scale.sweep_jobs, load=load), FEW, _few(scale))
        for name in ("mixed", "chain")
        for load in LOADS
    ]


def _executors(scale: Scale) -> list[Cell]:
    scenario = load_scenario("mixed").replaced(jobs=scale.sweep_jobs)
    return [
        Cell("executors", "executors", f"{llm}+{tools}", Setting(_sized(scenario, llm, tools)), FEW, _few(scale))
        for llm, tools in EXECUTORS
    ]


def _sized(scenario: Scenario, llm: int, regular: int) -> Scenario:
    """Return the scenario on another number of executors."""
    groups = tuple(
        group.model_copy(update={"count": llm if isinstance(group, LLMExecutors) else regular})
        for group in scenario.cluster.executors
    )
    cluster = scenario.cluster.model_copy(update={"name": f"{llm}+{regular}", "executors": groups})
    return scenario.model_copy(update={"cluster": cluster})


def _parameters(scale: Scale) -> list[Cell]:
    """The parameters of LLMSched, one at a time from its defaults; and evidence of running stages on and off."""
    setting, seeds = Setting.make("mixed", jobs=scale.sweep_jobs), tuple(range(scale.parameter_seeds))
    specs = [("epsilon", value) for value in EPSILONS] + [("sampling_ratio", value) for value in RATIOS]
    specs += [("score", value) for value in SCORES] + [("interval", value) for value in INTERVALS]
    found = [
        Cell("parameters", name, f"{value}", setting, ("srtf", f"{FULL}?{name}={value}"), seeds)
        for name, value in specs
    ]
    for soft in (False, True):
        evidence = replace(setting, soft_evidence=soft)
        policies = ("srtf", FULL, "llmsched_no_uncertainty")
        found.append(Cell("parameters", "soft_evidence", str(soft), evidence, policies, seeds))
    return found


def _bins(scale: Scale, profiles: Path) -> list[Cell]:
    setting, seeds = Setting.make("mixed", jobs=scale.sweep_jobs), tuple(range(scale.parameter_seeds))
    return [
        Cell("bins", "bins", str(bins), given, ("srtf", FULL, "llmsched_no_uncertainty"), seeds)
        for bins in BIN_COUNTS
        for given in [setting if bins == BINS else replace(setting, profiler=str(profiles / f"bins_{bins}"))]
    ]


def _value(scale: Scale) -> list[Cell]:
    """Each application alone on the cluster of the mixed workload."""
    mixed = load_scenario("mixed")
    return [
        Cell("value", "load", f"{load:g}", Setting(scenario), FEW, _few(scale))
        for app in APPLICATIONS
        for load in (0.5, 0.9, 1.5)
        for scenario in [
            mixed.model_copy(update={"name": app, "applications": {app: 1.0}}).replaced(scale.sweep_jobs // 2, load)
        ]
    ]


def _few(scale: Scale) -> tuple[int, ...]:
    return tuple(range(scale.sweep_seeds))
