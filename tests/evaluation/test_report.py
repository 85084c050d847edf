"""Reports of a comparison whose numbers are known."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.evaluation.contestants import Contestant
from llmsched_gym.evaluation.figures import jct_over_load
from llmsched_gym.evaluation.report import (
    RELATIVE,
    caveat,
    hindsight,
    policy_ranks,
    realised,
    spread,
    summary,
    write_report,
)
from llmsched_gym.evaluation.runner import Comparison, compare
from llmsched_gym.evaluation.setting import Setting


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("run")
    return compare(Setting.make("toy"), ["fcfs", "sjf", "oracle_srtf", "random"], [0, 1, 2], folder, workers=1)


def test_summary_has_the_documented_shape(comparison: Comparison):
    content = summary(comparison)
    assert set(content) == {
        *("scenario", "jobs", "load", "history", "realised_rates", "seeds", "policies", "lower_bound_mean_jct_s")
    }
    assert content["scenario"] == "toy"
    assert content["seeds"] == [0, 1, 2]
    assert content["jobs"] == 5
    assert set(content["policies"]["sjf"]) == {
        "relative_to_round_robin",
        "loads",
        "load_s",
        "moved_bytes",
        "recomputed_tokens",
        "skew",
        "mean_jct_s",
        "p50_jct_s",
        "p95_jct_s",
        "p99_jct_s",
        "mean_slowdown",
        "makespan_s",
        "longest_wait_s",
        "deadline_attainment",
        "goodput_per_h",
        "gpu_s",
        "decision_us_p50",
        "decision_us_p99",
        "reduction_vs_fcfs_pct",
        "per_seed_mean_jct_s",
        "privileged",
        "rank",
    }
    assert json.loads(json.dumps(content)) == content


def test_reductions_follow_from_the_means(comparison: Comparison):
    policies = summary(comparison)["policies"]
    fcfs, sjf = policies["fcfs"]["mean_jct_s"], policies["sjf"]["mean_jct_s"]
    # The jobs are fixed: two deterministic policies do the same three times, which says nothing of other jobs.
    assert policies["fcfs"]["reduction_vs_fcfs_pct"] == [None, 0.0, None]
    assert policies["sjf"]["reduction_vs_fcfs_pct"][::2] == [None, None]
    assert None not in policies["random"]["reduction_vs_fcfs_pct"]
    assert policies["sjf"]["reduction_vs_fcfs_pct"][1] == pytest.approx(100 * (1 - sjf / fcfs))
    assert policies["oracle_srtf"]["privileged"] is True
    alone = Comparison(comparison.setting, (0,), comparison.contestants[1:2], comparison.episodes, comparison.bounds)
    assert summary(alone)["policies"]["sjf"]["reduction_vs_fcfs_pct"] is None


def test_only_policies_without_the_truth_are_ranked(comparison: Comparison):
    ranks = policy_ranks(comparison)
    assert set(ranks) == {"fcfs", "sjf", "random"}
    assert ranks["sjf"] == 1
    assert spread(comparison).startswith("sjf has the lowest mean JCT, ")


def test_ties_are_called_no_difference(comparison: Comparison):
    twins = (Contestant("random", "fcfs", False, ""), Contestant("random", "twin", False, ""))
    tied = Comparison(comparison.setting, comparison.seeds, twins, comparison.episodes, comparison.bounds)
    assert spread(tied) == "twin and fcfs have the lowest mean JCT alike"
    assert policy_ranks(tied) == {"fcfs": 1, "twin": 1}


@pytest.mark.parametrize(
    ("means", "words"),
    [
        (
            {"fcfs": [10.0, 20.0, 30.0, 40.0], "a": [9.0, 18.0, 27.0, 36.0]},
            "load 0.9: a has the lowest mean JCT, 10.0 % [10.0, 10.0] below fcfs's",
        ),
        (
            {"fcfs": [10.0, 20.0, 30.0, 40.0], "a": [12.0, 24.0, 36.0, 48.0], "b": [11.0, 22.0, 33.0, 44.0]},
            "load 0.9: fcfs has the lowest mean JCT; b, the next, is 10.0 % [10.0, 10.0] above fcfs's",
        ),
        (
            {"a": [10.0, 20.0, 30.0, 41.0], "fcfs": [10.0, 20.0, 30.0, 40.0]},
            "load 0.9: fcfs has the lowest mean JCT; a, the next, is 0.6 % [-1.3, 2.6] above fcfs's: no difference",
        ),
        (
            {"a": [10.0, 20.0], "fcfs": [10.0, 20.0]},
            "load 0.9: a and fcfs have the lowest mean JCT alike",
        ),
        (
            {"fcfs": [10.0], "a": [11.0]},
            "load 0.9: fcfs has the lowest mean JCT; a, the next, is 10.0 % above fcfs's (no interval: nothing",
        ),
    ],
)
def test_the_sentence_says_what_the_ranking_says(means: dict[str, list[float]], words: str):
    seeds = tuple(range(len(means["fcfs"])))
    episodes = {(name, seed): {"metrics": {"mean_jct_s": means[name][seed]}} for name in means for seed in seeds}
    contestants = tuple(Contestant(name, name, False, "") for name in means)
    told = spread(Comparison(Setting.make(load=0.9), seeds, contestants, episodes))
    assert told.startswith(words)
    assert not re.search(r"-\d[\d.]* %", told)  # a sign and "below" together would say the contrary
    ranked = policy_ranks(Comparison(Setting.make(load=0.9), seeds, contestants, episodes))
    assert ranked[words.split()[2]] == 1


def test_means_that_come_from_the_very_jobs_are_told(comparison: Comparison, tmp_path: Path):
    assert summary(comparison)["history"] == Setting.make("toy").history == "self"
    assert "have seen these" in hindsight("self")
    assert hindsight("profile") == hindsight("file") == hindsight("past.json") == ""
    assert Setting.make("mixed").history == "profile"
    assert Setting.make("two_jobs").history == "past"
    write_report(comparison, tmp_path, [])
    assert json.loads((tmp_path / "manifest.json").read_text())["history"] == "self"


@pytest.mark.parametrize(
    ("scenario", "seeds", "words"),
    [("toy", 3, "seeds repeat them"), ("mixed", 1, "one seed"), ("mixed", 9, "few seeds"), ("mixed", 10, "")],
)
def test_few_seeds_are_told(scenario: str, seeds: int, words: str):
    told = caveat(Comparison(Setting.make(scenario), tuple(range(seeds)), ()))
    assert words in told
    assert bool(words) == bool(told)


def test_placements_are_told_relative_to_round_robin(tmp_path: Path):
    folder = tmp_path / "run"
    found = compare(Setting.make("hetero4", jobs=4), ["round_robin", "mct"], [0, 1], folder, workers=1)
    content = summary(found)["policies"]
    assert content["round_robin"]["relative_to_round_robin"] == {name: [1.0, 1.0, 1.0] for name in RELATIVE}
    for name in RELATIVE:
        ratios = [a / b for a, b in zip(*(found.metric(c, name) for c in reversed(found.contestants)), strict=True)]
        assert content["mct"]["relative_to_round_robin"][name][1] == pytest.approx(math.prod(ratios) ** 0.5)
    assert content["mct"]["loads"] < content["round_robin"]["loads"]


def test_files_of_a_report(comparison: Comparison, tmp_path: Path):
    content = write_report(comparison, tmp_path, ["llmsched-gym", "compare"])
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["workload_digest"] for row in rows} == {comparison.setting.workload(0).digest}
    first = rows[0]
    assert (first["policy"], first["seed"], first["privileged"]) == ("fcfs", "0", "False")
    assert float(first["mean_jct_s"]) == content["policies"]["fcfs"]["per_seed_mean_jct_s"][0]
    assert json.loads((tmp_path / "summary.json").read_text()) == content
    with (tmp_path / "pairs.csv").open(newline="") as file:
        pairs = {(row["policy"], row["other"]): row for row in csv.DictReader(file)}
    assert len(pairs) == 12
    assert float(pairs["sjf", "fcfs"]["probability_of_improvement"]) == 1.0
    assert float(pairs["sjf", "oracle_srtf"]["probability_of_improvement"]) == 0.5
    made = json.loads((tmp_path / "manifest.json").read_text())
    assert made["command"] == ["llmsched-gym", "compare"]
    assert made["setting"]["versions"].keys() >= {"llmsched_gym", "numpy", "numba"}
    assert set(made["workload_digests"]) == {"0", "1", "2"}
    jct_over_load({0.5: comparison, 0.9: comparison}, tmp_path / "load.png")
    for name in ("jct_cdf", "load"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    pictures = ["jct_cdf.png", "jct_cdf.pdf", "load.png", "load.pdf"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.csv",
        "pairs.csv",
        "summary.json",
        "manifest.json",
        *pictures,
    }


def test_windows_of_a_trace_say_how_busy_they_are(tmp_path: Path):
    times = np.cumsum(np.repeat([0.05, 5.0], 60))
    rows = "".join(f"{time:.3f},5,5\n" for time in times)
    (tmp_path / "times.csv").write_text(f"t_s,in_tokens,out_tokens\n{rows}")
    text = (
        "name: busy\napplications: {task_automation: 1}\njobs: 20\nload: 0.5\n"
        f"arrivals: {{kind: trace, path: {tmp_path / 'times.csv'}, format: csv}}\ncluster: CLUSTER\n"
    )
    cluster = "{executors: [{kind: llm, latency: llama-2-7b-h100, kv_tokens: 98304}, {kind: regular}]}"
    (tmp_path / "busy.yaml").write_text(text.replace("CLUSTER", cluster))
    setting = Setting.make(tmp_path / "busy.yaml")
    rates = setting.realised_rates(range(8))
    assert rates is not None
    assert max(rates) > 3 * min(rates)
    told = realised(setting, range(8))
    assert told.startswith(f"windows of a trace: {min(rates):.3g} to {max(rates):.3g} jobs/s, nominal ")
    assert f"to {0.5 * max(rates) / setting.scenario.arrival_rate():.3g} where 0.5 was asked for" in told
    assert realised(Setting.make("mixed"), [0]) == ""
