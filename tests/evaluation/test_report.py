"""Reports of a comparison whose numbers are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llmsched_gym.evaluation.figures import jct_over_load
from llmsched_gym.evaluation.report import caveat, policy_ranks, spread, summary, write_report
from llmsched_gym.evaluation.runner import Comparison, Contestant, compare
from llmsched_gym.evaluation.setting import Setting


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("run")
    return compare(Setting.make("toy"), ["fcfs", "sjf", "oracle_srtf", "random"], [0, 1, 2], folder, workers=1)


def test_summary_has_the_documented_shape(comparison: Comparison):
    content = summary(comparison)
    assert set(content) == {"scenario", "jobs", "load", "seeds", "policies", "lower_bound_mean_jct_s"}
    assert content["scenario"] == "toy"
    assert content["seeds"] == [0, 1, 2]
    assert content["jobs"] == 5
    assert set(content["policies"]["sjf"]) == {
        "mean_jct_s",
        "p50_jct_s",
        "p95_jct_s",
        "p99_jct_s",
        "mean_slowdown",
        "makespan_s",
        "decision_us_p50",
        "decision_us_p99",
        "reduction_vs_fcfs_pct",
        "per_seed_mean_jct_s",
        "privileged",
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
    assert "sjf, the best" in spread(comparison)


def test_ties_are_called_no_difference(comparison: Comparison):
    twins = (Contestant("random", "fcfs", False, ""), Contestant("random", "twin", False, ""))
    tied = Comparison(comparison.setting, comparison.seeds, twins, comparison.episodes, comparison.bounds)
    assert spread(tied).endswith("no difference")
    assert policy_ranks(tied) == {"fcfs": 1, "twin": 1}


@pytest.mark.parametrize(
    ("scenario", "seeds", "words"),
    [("toy", 3, "seeds repeat them"), ("mixed", 1, "one seed"), ("mixed", 3, "few seeds"), ("mixed", 4, "")],
)
def test_few_seeds_are_told(scenario: str, seeds: int, words: str):
    told = caveat(Comparison(Setting.make(scenario), tuple(range(seeds)), ()))
    assert words in told
    assert bool(words) == bool(told)


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
    for name in ("jct_cdf.png", "load.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["results.csv", "pairs.csv", "summary.json", "manifest.json", "jct_cdf.png", "load.png"]
    )
