"""The reproduction as a Markdown page, written from the frozen results: every number and every verdict is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from analysis import analysis
from calibration import NOMINAL
from claims import DECIMA, OVERHEAD_MS, REDUCTION, RIVALS, TWO_JOBS_S, Claim, ablations, below, count, decima, per_seed
from claims import reductions as reduction_claims
from grid import COMPARED, FULL, LEARNED, ORACLE, POLICIES, WORKLOADS
from page_tables import interval, table

from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.statistics import ranks
from llmsched_gym.workloads.applications import APPLICATIONS

Table = Sequence[Mapping[str, Any]]

_COVERAGE_POINTS: Final = 3.0
"""How far coverage may be from nominal."""

_THROUGHPUT: Final = 0.5
"""Share of the speed without profiler that should be left with it."""


def report(results: Mapping[str, Table], facts: Mapping[str, Any], pictures: Iterable[str]) -> str:
    """Return the page.

    Args:
        results: Frozen tables by part.
        facts: ``manifest`` of the run, ``commits`` of the frozen tables and, if measured, ``decisions`` (output of
            ``benchmarks/decisions.py --json``).
        pictures: Names of the files in ``docs/figures``.
    """
    drawn = set(pictures)

    def picture(part: str, text: str) -> list[str]:
        name = f"reproduction_{part}.png"
        return [f"![{text}](figures/{name})", ""] if name in drawn else []

    lines = [_HEAD.format(**_run(facts["manifest"]))]
    lines += _verdicts(results, facts.get("decisions"))
    lines += analysis(results)
    lines += _workload_tables(results["workloads"])
    lines += picture("workloads", "reduction of every policy against FCFS")
    lines += _learned(results["workloads"])
    if results.get("jobs"):
        lines += _jobs(results["jobs"]) + picture("jobs", "reduction by number of jobs")
    if results.get("parameters"):
        lines += ["## Parameters, load and executors", "", _SWEEPS, "", *picture("parameters", "sweeps")]
        lines += _soft(results["parameters"])
    if results.get("calibration"):
        lines += _calibration(results["calibration"]) + picture("calibration", "reliability and error")
    if results.get("value"):
        lines += _value(results["value"]) + picture("value", "value of information")
    if facts.get("decisions"):
        lines += _decisions(facts["decisions"])
    return "\n".join([*lines, *_budget(facts["manifest"], facts["commits"])]) + "\n"


_HEAD: Final = """# Reproduction of LLMSched's claims

Written by `python baselines/reproduce_llmsched.py` from the frozen results in `baselines/reference/`; no number or
verdict on this page is typed by hand. The paper: LLMSched (ICDCS 2025, arXiv 2504.03444). Its code, cluster, arrival
process, load, ε, r and number of bins are not public, so the settings here are ours (`docs/policies.md`,
`llmsched_gym/scenarios/`): equal numbers cannot be expected, equal signs and orders can.

All policies meet the same jobs under a seed, and per cents are geometric means over the seeds, with 95 %
intervals (`docs/evaluation.md`). Main comparison: {jobs} jobs, load 0.9, {seeds} seeds of the `eval` split. LLMSched's
parameters were chosen on the `train` split (`baselines/tune_llmsched.py`, `baselines/reference/tuning.csv`), profiles
fitted on the `profile` split.
"""

_SWEEPS: Final = """One thing changed at a time from the default, mixed workload; reduction against SRTF by
historical means. With bands of 95 %: where a line stays inside its neighbours' band, the parameter does not matter."""


def _run(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {"jobs": manifest["scale"]["jobs"], "seeds": manifest["scale"]["seeds"]}


def _verdicts(results: Mapping[str, Table], decisions: Mapping[str, Any] | None) -> list[str]:
    against, without = reduction_claims(results["workloads"]), ablations(results["workloads"])
    rows = [
        [
            f"mean JCT below {', '.join(RIVALS)}, every setting",
            f"{REDUCTION[0]:g} to {REDUCTION[1]:g} %",
            f"{min(c.ours.mid for c in against):.1f} to {max(c.ours.mid for c in against):.1f} %",
            _counted(against),
        ]
    ]
    rows += [_row_of(claim) for claim in without]
    if results.get("jobs"):
        rows += [_row_of(claim) for claim in decima(results["jobs"])]
        rows.append(_growth(results["jobs"]))
    if decisions:
        took = decisions["policies"][FULL]
        verdict = "holds" if took["p99_us"] / 1e3 < OVERHEAD_MS else "does not hold"
        ours = f"mean {took['mean_us']:.0f} µs, p99 {took['p99_us']:.0f} µs"
        rows.append(["decision overhead, 300 jobs present", f"< {OVERHEAD_MS:g} ms", ours, verdict])
    if results.get("two_jobs"):
        rows.append(_two_jobs(results["two_jobs"]))
    text = ["## The published numbers beside ours", "", *table(["claim", "paper", "here", "verdict"], rows), "", _RULE]
    text += ["", "Against each scheduler of the paper:", ""]
    found = {claim.what: claim for claim in against}
    body = []
    for name in WORKLOADS:
        cells = [found[f"{name}: below {rival}"] for rival in RIVALS]
        body.append([name, *(f"{interval(claim.ours)}: {claim.verdict}" for claim in cells)])
    return [*text, *table(["workload", *(f"below {rival}" for rival in RIVALS)], body), ""]


_RULE: Final = """*Same size*: within the published range, give or take 5 points. *Same order*: within a factor of 3
of it. *Same sign*: the whole interval is on the paper's side of zero. *No difference*: the interval holds zero. The
paper does not say which ablation number belongs to which workload; the order taken is mixed, predefined, chain,
planning."""


def _row_of(claim: Claim) -> list[str]:
    return [claim.what, f"{claim.paper[0]:g} %", interval(claim.ours), claim.verdict]


def _counted(claims: Sequence[Claim]) -> str:
    return ", ".join(f"{verdict}: {n}" for verdict, n in count(claims).items()) + f" (of {len(claims)})"


def _growth(jobs: Table) -> list[str]:
    """Whether the advantage over FCFS grows with the number of jobs, where they pile up."""
    load = max(row["load"] for row in jobs)
    here = [row for row in jobs if row["load"] == load]
    sizes = sorted({row["jobs"] for row in here})
    found = [below(here, FULL, "fcfs", jobs=size).mid for size in sizes]
    grows = all(a < b for a, b in pairwise(found))
    paper = " / ".join(f"{value:g}" for value in DECIMA.values()) + " % (below Decima)"
    ours = " / ".join(f"{value:.0f}" for value in found) + f" % (below FCFS, load {load:g})"
    what = f"the advantage grows with the jobs: {' / '.join(f'{size:g}' for size in sizes)}"
    return [what, paper, ours, "same sign" if grows else "does not grow"]


def _two_jobs(rows: Table) -> list[str]:
    paper = f"{TWO_JOBS_S[0]:g} → {TWO_JOBS_S[1]:g} s"
    sjf = mean(per_seed(rows, policy="sjf"))
    own = {row["policy"] for row in rows} - {"sjf"}
    best = min((mean(per_seed(rows, policy=name)), name) for name in own)
    holds = abs(sjf - TWO_JOBS_S[0]) < 1e-6 and abs(best[0] - TWO_JOBS_S[1]) < 1e-6
    verdict = "does not hold" if not holds else "holds" if best[1] == FULL else f"holds only with {best[1]}"
    here = "; ".join(f"{name} {mean(per_seed(rows, policy=name)):.2f} s" for name in ("sjf", *sorted(own)))
    return ["worked example: SJF → informative stage first", paper, here, verdict]


def _workload_tables(rows: Table) -> list[str]:
    lines = ["## Four workloads, all policies", ""]
    for name in WORKLOADS:
        here = [row for row in rows if row["scenario"] == name]
        values = {policy: per_seed(here, policy=policy) for policy in POLICIES}
        rank = ranks({policy: seen for policy, seen in values.items() if policy != ORACLE})
        bound = mean(per_seed(here, "lower_bound_mean_jct_s", policy="fcfs"))
        body = []
        for policy in sorted(POLICIES, key=lambda one: mean(values[one])):
            mine = mean(values[policy])
            body.append(
                [
                    str(rank.get(policy, "-")),
                    policy,
                    f"{mine:.2f}",
                    "-" if policy == "fcfs" else interval(below(here, policy, "fcfs")),
                    "-" if policy == FULL else interval(below(here, FULL, policy)),
                    f"{mine / mean(values[ORACLE]):.3f}",
                    f"{mine / bound:.2f}",
                ]
            )
        used = [f"{mean(per_seed(here, column, policy=FULL)):.0%}" for column in _UTILISATION]
        head = ["rank", "policy", "mean JCT, s", "below FCFS", f"{FULL} is below it by", "/ oracle", "/ lower bound"]
        lines += [f"### {name}", "", f"LLM slots busy {used[0]}, regular executors {used[1]} (under {FULL}).", ""]
        lines += [*table(head, body), ""]
    return lines


_UTILISATION: Final = ("llm_utilisation", "regular_utilisation")


def _learned(rows: Table) -> list[str]:
    body = []
    for name in WORKLOADS:
        here = [row for row in rows if row["scenario"] == name]
        full, oracle = (mean(per_seed(here, policy=policy)) for policy in (FULL, ORACLE))
        for policy in LEARNED:
            share = (full - mean(per_seed(here, policy=policy))) / (full - oracle)
            found = [below(here, policy, other) for other in ("random", "fcfs", FULL)]
            body.append([name, policy, *map(interval, found), f"{share:.0%}"])
    head = [
        "workload",
        "policy",
        "below random",
        "below fcfs",
        f"below {FULL}",
        f"of the way from {FULL} to the oracle",
    ]
    return ["## Learned policies", "", _LEARNED, "", *table(head, body), ""]


_LEARNED: Final = """Trained on the `train` split (`docs/training.md`), with one set of weights for all workloads, and
run on the same jobs as all others."""


def _jobs(rows: Table) -> list[str]:
    lines = ["## More jobs", ""]
    for load in sorted({row["load"] for row in rows}):
        here = [row for row in rows if row["load"] == load]
        sizes = sorted({row["jobs"] for row in here})
        others = [name for name in COMPARED if name != FULL]
        body = [[name, *(interval(below(here, FULL, name, jobs=size)) for size in sizes)] for name in others]
        head = [f"load {load:g}: {FULL} below", *(f"{size:g} jobs" for size in sizes)]
        lines += [*table(head, body), ""]
    return lines


def _soft(rows: Table) -> list[str]:
    here = [row for row in rows if row["factor"] == "soft_evidence"]
    body = []
    for name in (FULL, "llmsched_no_uncertainty"):
        off, on = (per_seed(here, policy=name, value=value) for value in ("False", "True"))
        body.append([name, f"{mean(off):.2f}", f"{mean(on):.2f}"])
    head = ["mixed, mean JCT in s", "finished stages only", "running stages too"]
    return ["What evidence of running stages is worth to the schedule:", "", *table(head, body), ""]


def _calibration(rows: Table) -> list[str]:
    body = []
    for app in APPLICATIONS:
        here = [row for row in rows if row["application"] == app and row["kind"] == "between stages"]
        looks = sum(row["looks"] for row in here)
        shares = [100.0 * sum(row[f"covered_{nominal:g}"] for row in here) / looks for nominal in NOMINAL]
        off = max(abs(share - 100.0 * nominal) for share, nominal in zip(shares, NOMINAL, strict=True))
        told = [row for row in here if row["finished"] > 0]
        cells = [app, f"{looks:.0f}", *(f"{share:.1f}" for share in shares)]
        cells += [f"{off:.1f}{'' if off <= _COVERAGE_POINTS else ' (missed)'}"]
        cells += [f"{error_ratio(told, 'square_s2') ** 0.5:.3f}", f"{error_ratio(told, 'abs_s'):.2f}"]
        body.append([*cells, _halves(rows, app)])
    head = ["application", "predictions", *(f"{nominal:.0%}" for nominal in NOMINAL), "worst, points"]
    head += ["RMS error / history", "absolute error / history", "half-way, running stages as evidence"]
    lines = ["## Calibration on held-out jobs", "", _CALIBRATION, "", *table(head, body), ""]
    counts = sorted({int(row["finished"]) for row in rows if row["looks"] >= 50})
    body = []
    for app in APPLICATIONS:
        here = {
            int(row["finished"]): row for row in rows if row["application"] == app and row["kind"] == "between stages"
        }
        seen = [here.get(k) for k in counts]
        body.append([app, *("" if row is None or row["looks"] < 50 else f"{_rms(row):.2f}" for row in seen)])
    lines += ["RMS error over the historical mean's, by number of finished stages:", ""]
    return [*lines, *table(["application", *map(str, counts)], body), ""]


_CALIBRATION: Final = """Jobs of the `eval` split, walked through stage by stage. The columns by per cent say how many
of the jobs' true remaining times lie in the posterior interval that claims this share (goal: within 3 points). The
error ratios compare the posterior's mean (RMS) and median (absolute) with the historical mean after at least one
finished stage (goal: below 1); the latter knows what has been revealed, such as the plan, but not how long it took. The
last column is the RMS error when a stage has run for half of what is expected of it, with that as evidence over
without it."""


def _rms(row: Mapping[str, Any]) -> float:
    return (row["posterior_square_s2"] / row["history_square_s2"]) ** 0.5 if row["history_square_s2"] else 1.0


def error_ratio(rows: Table, kind: str) -> float:
    """Error of the posterior mean over that of the historical mean, over all predictions of these rows."""
    posterior, history = (
        sum(row[f"{name}_{kind}"] * row["looks"] for row in rows) for name in ("posterior", "history")
    )
    return posterior / history


def _halves(rows: Table, app: str) -> str:
    total = {}
    for kind in ("half, hard", "half, soft"):
        here = [row for row in rows if row["application"] == app and row["kind"] == kind]
        total[kind] = sum(row["posterior_square_s2"] * row["looks"] for row in here)
    return f"{(total['half, soft'] / total['half, hard']) ** 0.5:.2f}"


def _value(rows: Table) -> list[str]:
    body = []
    for app in APPLICATIONS:
        here = [row for row in rows if row["scenario"] == app]
        for load in sorted({row["load"] for row in here}):
            found = [below(here, name, "srtf", load=load) for name in (ORACLE, "llmsched_no_uncertainty", FULL)]
            body.append([app, f"{load:g}", interval(below(here, "srtf", "fcfs", load=load)), *map(interval, found)])
    head = ["application, alone", "load", "srtf below fcfs", "oracle below srtf", "posterior srtf below srtf"]
    return ["## What information is worth", "", _VALUE, "", *table([*head, f"{FULL} below srtf"], body), ""]


_VALUE: Final = """One application alone on the cluster of the mixed workload. SRTF knows historical means; the oracle
knows everything; posterior SRTF (LLMSched without uncertainty) is what the profile makes of what has been seen. The
oracle's column is what any profile could gain at most by ordering jobs."""


def _decisions(decisions: Mapping[str, Any]) -> list[str]:
    body = [
        [name, *(f"{row[column]:.0f}" for column in ("act_us", "beliefs_us", "mean_us", "p99_us"))]
        for name, row in decisions["policies"].items()
    ]
    head = ["policy", "policy, µs", "profiler, µs", "together, µs", "p99, µs"]
    lines = [
        f"## Decision overhead with {decisions['jobs']} jobs present",
        "",
        "CPU time inside the policy and inside the profiler per decision, one core (`python benchmarks/decisions.py`).",
        "",
        *table(head, body),
        "",
    ]
    steps = decisions["steps_per_s"]
    share, shares = steps["share"], [row["share"] for row in steps["episodes"]]
    verdict = "above" if share > _THROUGHPUT else "below"
    text = f"`env.step` runs {steps['on']:,.0f} times per second with the profiler's columns and {steps['off']:,.0f} "
    text += f"without: {share:.0%}, {verdict} the goal of half; {min(shares):.0%} to {max(shares):.0%} in each of "
    text += f"{len(shares)} episodes, which begin with an empty cache."
    if decisions["inference"]:
        faster = [row["times_faster"] for row in decisions["inference"]]
        alone = [row["times_faster_alone"] for row in decisions["inference"]]
        differs = max(row["largest_difference"] for row in decisions["inference"])
        text += f" A posterior comes {min(faster):.0f} to {max(faster):.0f} times faster than from pgmpy's variable "
        text += f"elimination on the same evidence, and differs from it by at most {differs:.0e}. That is for all of a "
        text += "job's, which one calibration gives together, as a scheduler needs them; for a lone one it is "
        text += f"{min(alone):.0f} to {max(alone):.0f} times."
    return [*lines, text, ""]


def _budget(manifest: Mapping[str, Any], commits: Mapping[str, str]) -> list[str]:
    body = [
        [part, f"{run['seconds']:.0f}", f"{run['workers']}", f"`{commits[f'{part}.csv']}`"]
        for part, run in manifest["parts"].items()
    ]
    note = "Wall-clock seconds, some on a busy machine, and the commit that the numbers are from."
    return ["## What it takes to run", "", note, "", *table(["part", "s", "worker processes", "commit"], body)]
