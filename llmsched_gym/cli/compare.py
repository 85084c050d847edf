"""The verb ``compare``: policies × seeds, at one load or several."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from llmsched_gym.cli.console import EpisodeProgress, print_json, print_table, say
from llmsched_gym.cli.flags import parse_loads, parse_names, parse_seeds
from llmsched_gym.cli.options import (
    File,
    Jobs,
    Json,
    Output,
    Rate,
    Repeats,
    Seconds,
    Text,
    TimeScale,
    Workers,
)
from llmsched_gym.cli.serving import served_options
from llmsched_gym.errors import InputError

if TYPE_CHECKING:
    from llmsched_gym.evaluation.runner import Comparison
    from llmsched_gym.evaluation.setting import Setting

_METRICS: Final = {
    "P50 JCT s": "p50_jct_s",
    "P95 JCT s": "p95_jct_s",
    "P99 JCT s": "p99_jct_s",
    "mean slowdown": "mean_slowdown",
    "makespan s": "makespan_s",
    "P50 decision µs": "decision_us_p50",
    "P99 decision µs": "decision_us_p99",
}
"""Columns of the table, after the mean JCT and what it is below FCFS's, and their metrics."""


@dataclass(frozen=True)
class Compare:
    """Run policies on the same jobs, in parallel, and compare them.

    Every finished episode is kept in the output folder: a comparison that was interrupted goes on where it stopped when
    the same command is given again. The folder then holds results.csv, pairs.csv, summary.json, manifest.json and the
    picture jct_cdf, and with several loads one sub-folder per load and the picture jct_over_load; every picture is
    there as .png and as .pdf.

    Attributes:
        scenario: Scenario name or YAML file.
        policies: Policies separated by commas: short names, module:factory or path.py:factory; default: all short
            names.
        jobs: Jobs per episode; default: the scenario's.
        load: Offered work over capacity of the busiest pool of executors, or several as 0.5,0.9,1.2; default: the
            scenario's.
        rate: Jobs per second, instead of a load.
        seeds: Seeds of the eval split, as 0:10 (0 to 9), 0,3,7 or 5; default: 0:10, or 0 if the jobs are fixed.
        cluster: YAML file of a cluster instead of the scenario's.
        workload: Workload file or job trace (.json) instead of drawn jobs.
        output: Folder for the results; default: results/, named after the setting.
        workers: Worker processes; default: one per core.
        ray: Run the episodes on the Ray cluster that RAY_ADDRESS names, else on a local one.
        backend: Where completions come from: simulator, or vllm for real servers, in real time.
        servers: With vllm: one server per LLM executor, separated by commas: URLs, or what to launch (dummy:tiny).
        time_scale: Arrivals and tool calls are that many times as fast; LLM time is never scaled.
        repeats: With vllm: how often every episode is run; the repetition of the median mean JCT counts.
        no_stream: With vllm: ask for whole replies; no tokens of running tasks are observed, and less time is spent.
        request_timeout_s: With vllm: longest silence of a server before a request is sent to another one; default: 120.
        give_up_s: With vllm: the run ends when no server has been usable for that long; default: 120.
        tools: With vllm: YAML file that maps stage names to async functions, which run instead of timed waits.
        as_json: Print one JSON object.
    """

    writes: ClassVar = (
        "setting.json",
        "results.csv",
        "pairs.csv",
        "summary.json",
        "manifest.json",
        "jct_cdf.png",
        "jct_over_load.png",
    )

    scenario: str = "mixed"
    policies: Text = None
    jobs: Jobs = None
    load: Text = None
    rate: Rate = None
    seeds: Text = None
    cluster: File = None
    workload: File = None
    output: Output = None
    workers: Workers = None
    ray: bool = False
    backend: str = "simulator"
    servers: Text = None
    time_scale: TimeScale = 1.0
    repeats: Repeats = 1
    no_stream: bool = False
    request_timeout_s: Seconds = None
    give_up_s: Seconds = None
    tools: File = None
    as_json: Json = False

    def run(self) -> int:
        """Compare, write the results, and print the table."""
        loads = parse_loads(self.load)
        asked = None if self.seeds is None else parse_seeds(self.seeds)
        from llmsched_gym.evaluation.ray_tasks import check_ray
        from llmsched_gym.evaluation.runner import find_contestants
        from llmsched_gym.evaluation.setting import Setting
        from llmsched_gym.evaluation.store import check_loads
        from llmsched_gym.policies.registry import policy_names
        from llmsched_gym.user_code.ending import contain_exit

        if self.ray:
            check_ray()
            if self.backend != "simulator":
                raise InputError("--ray", "", self.backend, "the simulator: real servers serve one episode at a time")
        specs = policy_names() if self.policies is None else parse_names("--policies", self.policies)
        find_contestants(specs, served=self.backend != "simulator")
        serving = served_options(
            self.backend, self.servers, self.no_stream, self.request_timeout_s, self.give_up_s, self.tools
        )
        given = self.rate, self.cluster, self.workload, self.time_scale, serving, self.repeats
        settings = [Setting.make(self.scenario, self.jobs, load, *given) for load in loads]
        seeds = asked or parse_seeds("0" if settings[0].fixed else "0:10")
        folder = self.output or _default_folder(settings)
        check_loads(folder, [setting.describe() for setting in settings])
        comparisons = [self._compare(setting, specs, seeds, folder, len(settings) > 1) for setting in settings]
        contain_exit()
        self._report(comparisons, folder)
        return 0

    def _compare(
        self, setting: Setting, specs: tuple[str, ...], seeds: tuple[int, ...], folder: Path, several: bool
    ) -> Comparison:
        from llmsched_gym.evaluation.report import write_report
        from llmsched_gym.evaluation.runner import compare
        from llmsched_gym.evaluation.store import load_folder

        load = setting.load if several else None
        place = folder if load is None else load_folder(folder, load)
        try:
            with EpisodeProgress(within="" if load is None else f"load {load:g}") as progress:
                comparison = compare(setting, specs, seeds, place, self.workers, progress, self.ray)
        except KeyboardInterrupt:
            kept = f"finished episodes are kept in {place}; the same command goes on from there"
            raise KeyboardInterrupt(kept) from None
        write_report(comparison, place, sys.argv)
        return comparison

    def _report(self, comparisons: list[Comparison], folder: Path) -> None:
        from llmsched_gym.evaluation.figures import jct_over_load
        from llmsched_gym.evaluation.report import spread, summary

        several = len(comparisons) > 1
        summaries = [summary(comparison) for comparison in comparisons]
        by_load = {comparison.setting.load: comparison for comparison in comparisons}
        if several:
            jct_over_load(
                {load: one for load, one in by_load.items() if load is not None}, folder / "jct_over_load.png"
            )
        if self.as_json:
            print_json({"comparisons": summaries} if several else summaries[0])
            return
        for comparison, content in zip(comparisons, summaries, strict=True):
            _print_comparison(comparison, content)
        if several:
            for comparison in comparisons:
                say(spread(comparison))
        say(f"results and pictures: {folder}")


def _default_folder(settings: list[Setting]) -> Path:
    first = settings[0]
    loads = "-".join(f"{setting.load:g}" for setting in settings if setting.load is not None)
    parts = [first.name, str(first.n_jobs), loads, first.digest]
    return Path("results") / "-".join(part for part in parts if part)


def _print_comparison(comparison: Comparison, content: dict[str, Any]) -> None:
    from llmsched_gym.evaluation.report import best_first, caveat, hindsight, realised

    taken = [row["rank"] for row in content["policies"].values() if row["rank"] is not None]
    table = []
    for label in best_first(comparison):
        row = content["policies"][label]
        rank = row["rank"]
        place = "-" if rank is None else f"{rank}=" if taken.count(rank) > 1 else str(rank)
        name = f"{label} *" if row["privileged"] else label
        reduction = _interval(row["reduction_vs_fcfs_pct"])
        table.append((name, place, row["mean_jct_s"], reduction, *(row[metric] for metric in _METRICS.values())))
    load = "" if content["load"] is None else f" at load {content['load']:g}"
    n = len(content["seeds"])
    title = f"{content['scenario']}: {content['jobs']} jobs × {n} {'seed' if n == 1 else 'seeds'}{load}"
    say("")
    print_table(title, ("policy", "rank", "mean JCT s", "below FCFS % [95\N{NO-BREAK SPACE}%]", *_METRICS), table)
    say(f"lower bound of the mean JCT: {content['lower_bound_mean_jct_s']:.2f} s")
    _print_service(content, best_first(comparison))
    if all(row["relative_to_round_robin"] for row in content["policies"].values()):
        _print_placed(content)
    for contestant in comparison.contestants:
        for what in ("illegal_actions", "hidden_candidates"):
            count = sum(comparison.metric(contestant, what))
            if count:
                say(f"{contestant.label}: {count:.0f} {what.replace('_', ' ')}")
    if comparison.setting.serving is not None:
        _print_served(comparison, content)
    for legend in _legends(comparison, taken):
        say(legend)
    arrivals = realised(comparison.setting, comparison.seeds)
    for caution in (hindsight(content["history"]), arrivals, caveat(comparison)):
        if caution:
            say(caution)


def _legends(comparison: Comparison, ranks: list[int]) -> Iterator[str]:
    """Explain the marks and columns of a table that do not explain themselves."""
    if any(contestant.privileged for contestant in comparison.contestants):
        yield "* sees the truth, not ranked"
    if len(set(ranks)) < len(ranks):
        yield "n= cannot be told apart from the best one of this rank, paired by seed, with Holm's correction"
    yield "below FCFS, rank: by the geometric mean over the seeds of mean JCTs, each against that on the same jobs"
    yield "JCT: job completion time; P50, P95, P99: over the jobs of an episode; all times in s: means over the seeds"
    yield "decision µs: time inside the policy, also where it has no choice; P50, P99: of an episode, median over seeds"


def _print_service(content: dict[str, Any], labels: list[str]) -> None:
    """Print what is asked of a cluster beside how long jobs take."""
    from llmsched_gym.evaluation.metrics import DEADLINE_FACTOR

    table = []
    for label in labels:
        row = content["policies"][label]
        in_time = f"{100 * row['deadline_attainment']:.1f}"
        table.append((label, in_time, row["goodput_per_h"], row["longest_wait_s"], row["gpu_s"]))
    say("")
    columns = ("policy", "in time %", "in time per hour", "longest wait s", "GPU-seconds")
    print_table("deadlines, waits and cost, means over seeds", columns, table)
    say(f"in time: within {DEADLINE_FACTOR:g} times the job's own critical path on an idle cluster (assumed)")
    say("longest wait: of a stage, ready to started; GPU-seconds: while an executor held tasks, times its GPUs")


def _print_placed(content: dict[str, Any]) -> None:
    """Print what a comparison of placements is about: each beside round robin, and what became of the executors."""
    table = []
    policies: dict[str, Any] = content["policies"]
    for label in sorted(policies, key=lambda label: policies[label]["relative_to_round_robin"]["makespan_s"][1]):
        row = policies[label]
        ratios = [_interval(found, digits=3) for found in row["relative_to_round_robin"].values()]
        moved_gb = row["moved_bytes"] / 1e9
        placed = (row["loads"], row["load_s"], moved_gb, row["recomputed_tokens"], row["skew"])
        table.append((label, *ratios, *placed))
    ratios = ("makespan [95\N{NO-BREAK SPACE}%]", "P95 JCT", "mean JCT")
    placed = ("loads", "loading s", "moved GB", "recomputed tokens", "skew")
    say("")
    print_table("relative to round_robin on the same jobs, and means over seeds", ("policy", *ratios, *placed), table)
    say("recomputed tokens: of prompts, shared but not found cached; skew: busiest LLM executor over the mean one")


def _print_served(comparison: Comparison, content: dict[str, Any]) -> None:
    from llmsched_gym.evaluation.report import SERVED_COUNTS

    setting = comparison.setting
    say(f"real servers; arrivals and tools {setting.time_scale:g} times as fast, LLM time as it is")
    for label, row in content["policies"].items():
        counts = ", ".join(f"{row[name]} {name.replace('_', ' ')}" for name in SERVED_COUNTS if row[name])
        overhead = f"overhead {row['dispatch_overhead_ms_p50']:.1f} ms, P99 {row['dispatch_overhead_ms_p99']:.1f} ms"
        say(f"{label}: {counts}; {overhead}; {row['process_cpu_share']:.0%} of a core for this process")


def _interval(values: list[float | None] | None, digits: int = 1) -> str:
    if values is None:
        return "-"
    low, mid, high = values
    middle = f"{mid:.{digits}f}"
    return middle if low is None or high is None else f"{middle} [{low:.{digits}f}, {high:.{digits}f}]"
