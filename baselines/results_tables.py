"""Tables of README.md, docs/results.md and docs/vllm.md, from frozen results, and of which commit the numbers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import decima_ablation
from campaign import commits, thaw
from claims import DECIMA, below, decima, per_seed
from grid import FULL, OFFERED, ORACLE, OURS, POLICIES, WORKLOADS
from page_tables import interval, table
from tune_llmsched import NO_EXPLORING, scores

from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.store import read_json
from llmsched_gym.policies.registry import policy_names

Table = Sequence[Mapping[str, Any]]

SHOWN: Final = ("fcfs", "fair", "sjf", "srtf", "decima", FULL, OURS, ORACLE)
"""Policies of the README's table."""

_REPRODUCE: Final = "python baselines/reproduce_llmsched.py --part"


def makers(frozen: Path) -> dict[str, Callable[[], list[str]]]:
    """Return what makes each table, by its name in the pages.

    Args:
        frozen: Folder of frozen results.
    """

    def made(part: str, maker: Callable[[Table], list[str]], command: str) -> Callable[[], list[str]]:
        name = f"{part}.csv"
        return lambda: [*maker(thaw(frozen / name)), "", _label(frozen, name, command)]

    def made_served() -> list[str]:
        name, command = "vllm_validation.json", "python baselines/validate_vllm.py --seed 2"
        return [*served(read_json(frozen / name)), "", _label(frozen, name, command)]

    return {
        "front": made("workloads", front, f"{_REPRODUCE} workloads"),
        "compare": made("compare", compare, "make compare"),
        "policies": made("workloads", overview, f"{_REPRODUCE} workloads"),
        "decima": made("jobs", decima_claim, f"{_REPRODUCE} jobs"),
        "trained": made("decima", trained, "python baselines/decima_ablation.py"),
        "bounds": made("bounds", bounds, f"{_REPRODUCE} bounds"),
        "tuning": made("tuning", tuning, "python baselines/tune_llmsched.py"),
        "served": made_served,
    }


def _label(frozen: Path, name: str, command: str) -> str:
    return f"*Commit `{commits(frozen)[name]}`: `{command}`.*"


def best_first(rows: Table, policies: Sequence[str] = POLICIES) -> list[str]:
    """Return policies by mean JCT relative to FCFS's, averaged over the workloads."""
    return sorted(policies, key=lambda policy: mean([_relative(rows, policy, name) for name in WORKLOADS]))


def _relative(rows: Table, policy: str, workload: str) -> float:
    """Mean JCT of a policy as a share of FCFS's."""
    mine, first = (mean(per_seed(rows, policy=one, scenario=workload)) for one in (policy, "fcfs"))
    return mine / first


def _marked(policy: str) -> str:
    """A policy's name, with a mark if it sees the truth."""
    return f"{policy} *" if policy == ORACLE else policy


def front(rows: Table) -> list[str]:
    """By how much some policies are below FCFS on all workloads, in whole per cent."""
    body = []
    for policy in best_first(rows, SHOWN):
        if policy == "fcfs":
            cells = [f"{mean(per_seed(rows, policy=policy, scenario=name)):.1f} s" for name in WORKLOADS]
        else:
            cells = [interval(below(rows, policy, "fcfs", scenario=name), 0) for name in WORKLOADS]
        body.append([_marked(policy), *cells])
    return table(["mean JCT below FCFS's by", *WORKLOADS], body)


def overview(rows: Table) -> list[str]:
    """Mean JCT and reduction against FCFS of all policies on all workloads."""
    body = []
    for policy in best_first(rows):
        cells = [_marked(policy)]
        for name in WORKLOADS:
            found = "" if policy == "fcfs" else f", {interval(below(rows, policy, 'fcfs', scenario=name))}"
            cells.append(f"{mean(per_seed(rows, policy=policy, scenario=name)):.1f} s{found}")
        body.append(cells)
    least = [mean(per_seed(rows, "lower_bound_mean_jct_s", policy="fcfs", scenario=name)) for name in WORKLOADS]
    body.append(["*lower bound*", *(f"{bound:.1f} s" for bound in least)])
    return table(["policy", *WORKLOADS], body)


def compare(rows: Table) -> list[str]:
    """What ``make compare`` finds: mean JCT at three loads; more at the middle one."""
    loads = [f"{load:g}" for load in OFFERED]
    middle = loads[1]
    seconds = {policy: [mean(per_seed(rows, policy=policy, value=load)) for load in loads] for policy in policy_names()}
    body = []
    for policy in sorted(seconds, key=lambda one: seconds[one][1]):
        reduction = "" if policy == "fcfs" else interval(below(rows, policy, "fcfs", value=middle))
        slowdown = mean(per_seed(rows, "mean_slowdown", policy=policy, value=middle))
        body.append([_marked(policy), *(f"{each:.1f} s" for each in seconds[policy]), reduction, f"{slowdown:.1f}"])
    least = [mean(per_seed(rows, "lower_bound_mean_jct_s", policy="fcfs", value=load)) for load in loads]
    body.append(["*lower bound*", *(f"{bound:.1f} s" for bound in least), "", ""])
    head = ["policy", *(f"mean JCT, load {load}" for load in loads), f"below FCFS at {middle}", f"slowdown at {middle}"]
    return table(head, body)


def decima_claim(rows: Table) -> list[str]:
    """LLMSched's lead over Decima by number of jobs: the paper's and ours."""
    body = [
        ["paper", *(f"{percent:g} %" for percent in DECIMA.values())],
        ["here", *(interval(claim.ours) for claim in decima(rows))],
    ]
    return table([f"mixed: {FULL} below decima", *(f"{size} jobs" for size in DECIMA)], body)


def trained(rows: Table) -> list[str]:
    """Decima, its untrained weights, FCFS and random relative to the oracle, and how far Decima is below them."""
    found = {name: decima_ablation.compare(rows, name, decima_ablation.TRAINED) for name in WORKLOADS}
    lines = {(name, line.policy): line for name, each in found.items() for line in each}
    policies = (decima_ablation.TRAINED, *decima_ablation.RIVALS)
    body = []
    for policy in sorted(policies, key=lambda one: mean([lines[name, one].to_oracle.mid for name in WORKLOADS])):
        cells = []
        for name in WORKLOADS:
            line = lines[name, policy]
            ratio = line.to_oracle
            less = "" if policy == decima_ablation.TRAINED else f"; {interval(line.above_trained)}"
            cells.append(f"{ratio.mid:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]{less}")
        body.append([f"`{policy}`", *cells])
    seeds = {name: len(per_seed(rows, policy="fcfs", scenario=name)) for name in WORKLOADS}
    return table(["policy", *(f"{name}, {seeds[name]} seeds" for name in WORKLOADS)], body)


def bounds(rows: Table) -> list[str]:
    """The lower bound beside the oracle and FCFS, by load."""
    body = []
    for load in sorted({row["load"] for row in rows}):
        cells = []
        for name in WORKLOADS:
            where = {"scenario": name, "load": load}
            least = mean(per_seed(rows, "lower_bound_mean_jct_s", policy="fcfs", **where))
            reached = [mean(per_seed(rows, policy=policy, **where)) for policy in (ORACLE, "fcfs")]
            cells.append(" / ".join(f"{seconds:.1f}" for seconds in (least, *reached)))
        body.append([f"{load:g}", *cells])
    return table(["load", *(f"{name}, s" for name in WORKLOADS)], body)


def tuning(rows: Table) -> list[str]:
    """By how much LLMSched's mean JCT is below what it is without exploring, by its parameters."""
    body = []
    for spec, _, _ in scores(rows):
        if spec != NO_EXPLORING:
            cells = [interval(below(rows, spec, NO_EXPLORING, scenario=name)) for name in WORKLOADS]
            body.append([f"`{spec.partition('?')[2]}`", *cells])
    seeds = len(per_seed(rows, policy=NO_EXPLORING, scenario=WORKLOADS[0]))
    return table([f"below `epsilon=0`, {seeds} seeds", *WORKLOADS], body)


def served(found: Mapping[str, Any]) -> list[str]:
    """The simulator beside real servers: errors of means and of single jobs, and the noise of equal runs."""
    head = ["policy", "mean JCT on vLLM, median (range)", "simulated", "error", "two equal vLLM runs differ by"]
    body = []
    for policy, one in found["policies"].items():
        real = one["served_mean_jct_s"]
        body.append(
            [
                _marked(policy),
                f"{median(real):.1f} s ({min(real):.1f} to {max(real):.1f})",
                f"{one['simulated_mean_jct_s']:.1f} s",
                *(
                    f"{one[name]:.1f} %"
                    for name in ("mean_jct_error_pct", "noise_pct", "job_mape_pct", "job_noise_pct")
                ),
            ]
        )
    return table([*head, "error per job (MAPE)", "of it between vLLM runs"], body)
