"""How often the 95 % intervals of comparisons hold the truth, and how often ranks tell equal policies apart.

    python baselines/interval_coverage.py                # frozen episodes of baselines/reference/
    python baselines/interval_coverage.py --trials 50    # faster, coarser
    python baselines/interval_coverage.py --json

The frozen seeds of a pair of policies (20 or more) are taken for all that there are: their geometric mean ratio is the
truth. Small samples of seeds are drawn from them with replacement, each gives an interval, and what counts is how many
hold the truth. For ranks the ratios of every policy are divided by their geometric mean, so that all are equal in
truth: whatever is told apart is told wrongly.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from campaign import thaw
from numpy.typing import NDArray

from llmsched_gym.evaluation.statistics import ranks, relative

FROZEN: Final = Path(__file__).with_name("reference")
FILES: Final = (
    "decima.csv",
    "fate_hetero4.csv",
    "fate_hetero8.csv",
    "fate_prefix_reuse.csv",
    "fate_real_dag.csv",
    "uncertainty_gnn.csv",
)
METRICS: Final = ("mean_jct_s", "p99_jct_s", "mean_slowdown")
SIZES: Final = (6, 10, 20, 30)
REFERENCES: Final = ("oracle_srtf", "round_robin", "fcfs")
"""What the other policies of a setting are compared with: the first of these that was run."""

_LEAST_SEEDS: Final = 20
_FEWER: Final = 20
"""A ranking costs as much as that many intervals."""

_SEED: Final = 2_718_281

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """The frozen episodes of one setting.

    Attributes:
        name: File, scenario and what was varied.
        ratios: Per metric and policy float64 (seeds,): relative to the reference on the same jobs.
    """

    name: str
    ratios: dict[str, dict[str, Floats]]


def settings(folder: Path) -> Iterator[Setting]:
    """Yield the settings with enough seeds; policies that do what the reference does in every seed are left out."""
    for file in FILES:
        found: dict[tuple[Any, ...], dict[str, dict[float, dict[str, Any]]]] = {}
        for row in thaw(folder / file):
            key = tuple(row.get(name) for name in ("part", "scenario", "factor", "value", "jobs", "load", "split"))
            found.setdefault(key, {}).setdefault(row["policy"], {})[row["seed"]] = row
        for key, episodes in found.items():
            reference = next((name for name in REFERENCES if name in episodes), None)
            if reference is None or len(episodes[reference]) < _LEAST_SEEDS:
                continue
            seeds = sorted(episodes[reference])
            complete = {name: one for name, one in episodes.items() if set(seeds) <= set(one) and name != reference}
            ratios = {metric: _ratios(complete, episodes[reference], seeds, metric) for metric in METRICS}
            yield Setting(f"{file}: {key[1]}", ratios)


def _ratios(
    episodes: dict[str, dict[float, dict[str, Any]]],
    reference: dict[float, dict[str, Any]],
    seeds: Sequence[float],
    metric: str,
) -> dict[str, Floats]:
    if any(row[metric] is None for rows in (*episodes.values(), reference) for row in rows.values()):
        return {}
    ratios = {
        name: np.array([one[seed][metric] / reference[seed][metric] for seed in seeds])
        for name, one in episodes.items()
    }
    return {name: ratio for name, ratio in ratios.items() if np.ptp(ratio) > 0.0}


def coverage(ratio: Floats, n: int, trials: int, rng: np.random.Generator) -> float:
    """Return the share of samples of `n` seeds whose interval holds the geometric mean of all."""
    truth = float(np.exp(np.log(ratio).mean()))
    hits = 0
    for _ in range(trials):
        sample = ratio[rng.integers(len(ratio), size=n)]
        found = relative(sample, np.ones(n))
        hits += found.low is not None and found.high is not None and found.low <= truth <= found.high
    return hits / trials


def false_ranks(ratios: dict[str, Floats], n: int, trials: int, rng: np.random.Generator) -> float:
    """Return the share of samples in which policies that are equal in truth do not all share the first rank."""
    equal = {name: ratio / np.exp(np.log(ratio).mean()) for name, ratio in ratios.items()}
    wrong = 0
    for _ in range(trials):
        seeds = rng.integers(len(next(iter(equal.values()))), size=n)
        wrong += any(rank > 1 for rank in ranks({name: list(one[seeds]) for name, one in equal.items()}).values())
    return wrong / trials


def measure(folder: Path, sizes: Sequence[int], pairs: int, trials: int) -> list[dict[str, Any]]:
    """Return one row per number of seeds and metric.

    Args:
        folder: Frozen results.
        sizes: Numbers of seeds.
        pairs: Pairs of policies per row, chosen by a fixed seed among all.
        trials: Samples per pair; for ranks a twentieth of it per setting.

    Returns:
        ``seeds``, ``metric``, ``pairs``; ``coverage_pct``: mean over the pairs; ``tenth_pct``: what a tenth of the
        pairs is below; ``false_ranks_pct``: mean over the settings.
    """
    everything = list(settings(folder))
    rows = []
    for n in sizes:
        for metric in METRICS:
            rng = np.random.default_rng(_SEED)
            ratios = [ratio for setting in everything for ratio in setting.ratios[metric].values()]
            chosen = rng.permutation(len(ratios))[:pairs]
            covered = [100.0 * coverage(ratios[index], n, trials, rng) for index in chosen]
            ranked = [setting.ratios[metric] for setting in everything if len(setting.ratios[metric]) > 1]
            each = max(1, trials // _FEWER)
            wrong = [100.0 * false_ranks(one, n, each, rng) for one in ranked]
            row = {
                "seeds": n,
                "metric": metric,
                "pairs": len(chosen),
                "coverage_pct": round(float(np.mean(covered)), 1),
                "tenth_pct": round(float(np.quantile(covered, 0.1)), 1),
                "false_ranks_pct": round(float(np.mean(wrong)), 1),
            }
            print(" ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
            rows.append(row)
    return rows


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="samples per pair of policies; default: 200")
    parser.add_argument("--pairs", type=int, default=60, help="pairs of policies per metric; default: 60")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of seeds; default: 6 10 20 30"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    arguments = parser.parse_args()
    rows = measure(FROZEN, arguments.sizes, arguments.pairs, arguments.trials)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    print("| seeds | metric | coverage | a tenth of the pairs below | equal policies told apart |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        shares = (f"{row[name]:.1f} %" for name in ("coverage_pct", "tenth_pct", "false_ranks_pct"))
        print(f"| {row['seeds']} | `{row['metric']}` | {' | '.join(shares)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
