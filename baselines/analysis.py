"""Why the numbers are what they are. The sentences are ours; every number in them is computed from the frozen results.

Each paragraph says what the numbers of the frozen run show. Where a rerun could turn a statement around, the statement
is chosen by the numbers too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from claims import ABLATION, above, below, per_seed
from grid import FULL, HEURISTICS, ORACLE, WORKLOADS

from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.statistics import Interval

Table = Sequence[Mapping[str, Any]]


def analysis(results: Mapping[str, Table]) -> list[str]:
    """Return the section."""
    workloads = results["workloads"]
    paragraphs = [_best(workloads), _ceiling(workloads)]
    if results.get("ordering"):
        paragraphs.append(_ordering(results["ordering"]))
    if results.get("value"):
        paragraphs.append(_applications(results["value"]))
    if results.get("calibration"):
        paragraphs.append(_plans(results["calibration"]))
    if results.get("parameters"):
        paragraphs.append(_exploring(results["parameters"]))
    if results.get("jobs"):
        paragraphs.append(_crowding(results["jobs"]))
    lines = ["## Why", ""]
    for paragraph in paragraphs:
        lines += [*textwrap.wrap(paragraph, 158, break_long_words=False, break_on_hyphens=False), ""]
    return lines


def _best(rows: Table) -> str:
    text = []
    for name in WORKLOADS:
        others = {one: mean(per_seed(rows, policy=one, scenario=name)) for one in HEURISTICS}
        rival = min(others, key=lambda one: others[one])
        found = below(rows, FULL, rival, scenario=name)
        text.append(f"{name}: {rival}, {_versus(found)}")
    return (
        "**Is LLMSched the best scheduler without the truth?** Its advantage over the schedulers of the paper is "
        "real, but two that the paper does not compare with come close or tie: SRTF by historical means, and the "
        f"Gittins index on the same posterior. The strongest other scheduler on each workload: {'; '.join(text)}."
    )


def _versus(found: Interval) -> str:
    size = f"{abs(found.mid):.1f} %"
    if not found.excludes_zero:
        return f"no difference ({found.mid:+.1f} % [{found.low:.1f}, {found.high:.1f}])"
    return f"{FULL} is {size} {'below' if found.mid > 0 else 'above'} it"


def _ceiling(rows: Table) -> str:
    gaps = "; ".join(
        f"{name} {below(rows, ORACLE, 'srtf', scenario=name).mid:.1f} % of which {FULL} gets "
        f"{below(rows, FULL, 'srtf', scenario=name).mid:.1f}"
        for name in WORKLOADS
    )
    wanted = zip(WORKLOADS, ABLATION["llmsched_no_bn"], strict=True)
    fits = sum(above(rows, "srtf", ORACLE, scenario=name).mid >= paper for name, paper in wanted)
    return (
        "**What is there to gain?** A profile can do no more than tell how long jobs will take. An oracle that knows "
        f"it exactly is below SRTF by historical means by: {gaps}. What the paper's ablation without the network loses "
        f"would fit under that ceiling on {fits} of {len(WORKLOADS)} workloads: the jobs, the cluster or the load "
        "there must have left more to know. Historical means here also count what is revealed to every scheduler "
        "(stages skipped, plans made); those of the paper may be means of whole applications, as SJF has them."
    )


def _ordering(rows: Table) -> str:
    found = {row["scenario"]: row for row in rows}
    variance, history, posterior = (
        ", ".join(f"{name} {found[name][column]:.0%}" for name in WORKLOADS)
        for column in ("between_applications", "history_right", "posterior_right")
    )
    chain = found["chain"]
    return (
        "**Mechanism 1: where applications differ, the application tells the size.** Schedulers use the order of "
        "remaining times, nothing else. Share of the variance of job sizes that lies between applications: "
        f"{variance}. Share of pairs of held-out jobs, at random moments, that historical means put in the right "
        f"order: {history}; the posterior: {posterior}. Where historical means are right about the application or the "
        "plan, the rest of the pairs differ little, and a wrong order costs little. In the chain workload they know "
        f"next to nothing, and a random pair loses {chain['history_lost_s']:.2f} s under historical means and "
        f"{chain['posterior_lost_s']:.2f} s under the posterior: there the profile pays."
    )


def _applications(rows: Table) -> str:
    load = max(row["load"] for row in rows)
    names = list(dict.fromkeys(row["scenario"] for row in rows))
    gains = {name: _gains([r for r in rows if r["scenario"] == name and r["load"] == load]) for name in names}
    told = "; ".join(f"{name} {oracle:.0f} % and {posterior:.0f} %" for name, (oracle, posterior) in gains.items())
    low = min(row["load"] for row in rows)
    calm = max(_gains([r for r in rows if r["scenario"] == name and r["load"] == low])[0] for name in names)
    return (
        "**Mechanism 2: information is worth as much as jobs of one application differ, times the queue.** Each "
        f"application alone at load {load:g}, reduction against SRTF of the oracle and of posterior SRTF: {told}. At "
        f"load {low:g} even the oracle gains at most {calm:.0f} % on any: where nothing waits, no order helps. Code "
        "generation is bimodal (solved at once, or the whole budget burnt), and a first failure tells which: that is "
        "LLMSched's case. Web search differs by its rounds, and early lengths hardly predict those: most of the "
        "oracle's gain is out of reach of a profile of durations."
    )


def _gains(rows: Table) -> tuple[float, float]:
    return below(rows, ORACLE, "srtf").mid, below(rows, "llmsched_no_uncertainty", "srtf").mid


def _plans(rows: Table) -> str:
    ratios = {}
    for app in dict.fromkeys(row["application"] for row in rows):
        here = [r for r in rows if r["application"] == app and r["kind"] == "between stages" and r["finished"] > 0]
        posterior, history = (sum(r[f"{k}_square_s2"] * r["looks"] for r in here) for k in ("posterior", "history"))
        ratios[app] = (posterior / history) ** 0.5
    better = [f"{app} {ratio:.2f}" for app, ratio in ratios.items() if ratio < 1.0]
    worse = [f"{app} {ratio:.2f}" for app, ratio in ratios.items() if ratio >= 1.0]
    text = (
        "**Mechanism 3: where the posterior is better than the mean, and where not.** RMS error of the posterior's "
        f"remaining time over the historical mean's after at least one stage: {', '.join(better)}."
    )
    if worse:
        text += (
            f" Not better: {', '.join(worse)}. Where nothing that has finished tells about the rest, the posterior "
            "mean is the historical mean, up to chance."
        )
    return text


def _exploring(rows: Table) -> str:
    cost = "; ".join(f"{value} {_share(found)}" for value, found in _against(rows, "epsilon", "0.0"))
    partly = "; ".join(f"{value} {_share(found)}" for value, found in _against(rows, "sampling_ratio", "1.0"))
    return (
        f"**Mechanism 4: exploring costs little and tells little.** Mean JCT by epsilon against not exploring (mixed): "
        f"{cost}. By the share of a stage's tasks that exploring may start, against all of them: {partly}; a stage "
        "that is begun and left tells late what it was begun for. In the worked example the informative stage "
        "belongs to a job that is likely to be short. Here the uncertainty reduction grows with the ranges that it "
        "is multiplied with, so it prefers long, uncertain jobs (scoring per second of the stage's own work, "
        "`score=rate`, changes nothing measurable, `docs/policies.md`), and what a stage tells is also told when "
        "its job's turn comes. The sweep on the `train` split chose a small epsilon and whole stages "
        "(`baselines/reference/tuning.csv`), and the ablation without uncertainty differs little from the full "
        "method."
    )


def _against(rows: Table, factor: str, usual: str) -> list[tuple[str, Interval]]:
    """By how much LLMSched's mean JCT with each value of a parameter is above that with one of them."""
    here = [row for row in rows if row["factor"] == factor and row["policy"].startswith(FULL)]
    values = [value for value in dict.fromkeys(row["value"] for row in here) if value != usual]
    renamed = [{**row, "policy": row["value"]} for row in here]
    return [(value, above(renamed, value, usual)) for value in values]


def _share(found: Interval) -> str:
    return f"{found.mid:+.1f} %" + ("" if found.excludes_zero else " (no difference)")


def _crowding(rows: Table) -> str:
    load = max(row["load"] for row in rows)
    sizes = sorted({row["jobs"] for row in rows})
    ends = (sizes[0], sizes[-1])
    fcfs, ablation = (
        [below([r for r in rows if r["load"] == load], FULL, other, jobs=size).mid for size in ends]
        for other in ("fcfs", "llmsched_no_bn")
    )
    return (
        f"**More jobs.** At load {load:g} jobs pile up, and the advantage over FCFS goes from {fcfs[0]:.0f} % with "
        f"{ends[0]:g} jobs to {fcfs[1]:.0f} % with {ends[1]:g}: the growth that the paper reports against Decima. It "
        f"is that of shortest-first, not of the profile: against the ablation without one it is {ablation[0]:.1f} % "
        f"and {ablation[1]:.1f} %."
    )
