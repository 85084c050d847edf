"""Facts of code generation, from Reflexion runs of up to ten rounds (HumanEval and MBPP)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.fitting.check import Comparison, samples, statistics
from llmsched_gym.workloads.fitting.tables import (
    Facts,
    Row,
    assumed,
    column,
    lagged_pairs,
    provenance,
    quantile_table,
    read_summary,
    read_table,
    score_correlation,
    significant,
    spearman,
)

ITERATIONS = "codegen/reflexion10_iterations.csv"
TOOLS = "tools/summary.json"
DATASETS = ("humaneval", "mbpp")
MAX_ROUNDS = 10
LAGS = (1, 2, 3, 5, 7)

Jobs = list[dict[str, NDArray[np.float64]]]


def measured_jobs(data_dir: Path, dataset: str | None = None) -> Jobs:
    """One record per job: columns ``task_prompt``, ``implementation``, ``test_feedback``, ``reflection`` by round."""
    by_job: dict[tuple[str, str], list[Row]] = {}
    for row in read_table(data_dir, ITERATIONS):
        if dataset in (None, row["dataset"]):
            by_job.setdefault((row["dataset"], row["job"]), []).append(row)
    names = ("task_prompt", "implementation", "test_feedback", "reflection")
    return [{name: column(rows, f"{name}_tokens") for name in names} for rows in by_job.values()]


def fit(data_dir: Path) -> Facts:
    """Facts of code generation from the tables under `data_dir`."""
    origin = provenance(data_dir, ITERATIONS)
    jobs = measured_jobs(data_dir)
    by_dataset = [measured_jobs(data_dir, dataset) for dataset in DATASETS]
    facts: Facts = {
        "datasets": {"names": list(DATASETS), "jobs": [len(part) for part in by_dataset], **origin},
    }
    for dataset, part in zip(DATASETS, by_dataset, strict=True):
        rounds = np.bincount([len(job["implementation"]) for job in part], minlength=MAX_ROUNDS + 1)
        facts[f"rounds_{dataset}"] = {"counts": rounds[1:].tolist(), **origin}
        tables = {
            "task_prompt": [job["task_prompt"][0] for job in part],
            "first_code": [job["implementation"][0] for job in part],
            "later_code": np.concatenate([job["implementation"][1:] for job in part]),
            "failed_tests": np.concatenate([job["test_feedback"][:-1] for job in part]),
        }
        facts |= {f"{name}_{dataset}": quantile_table(values, origin) for name, values in tables.items()}
    facts["reflection"] = quantile_table(np.concatenate([job["reflection"][:-1] for job in jobs]), origin)
    facts["correlations"] = _correlations(jobs, by_dataset) | origin
    facts["test_seconds"] = _test_seconds(data_dir)
    facts["test_seconds_correlation"] = assumed(0.5, "rounds of one job run the same tests; no data")
    facts["instruction_tokens"] = assumed(
        {"write": 50, "reflect": 1200, "rewrite": 315},
        "system prompt and few-shot examples of the public Reflexion prompts, estimated at 3.3 characters per token",
    )
    facts["separator_tokens"] = assumed(45, "section headings between the parts of a Reflexion prompt, estimated")
    return facts


def _correlations(jobs: Jobs, by_dataset: list[Jobs]) -> Facts:
    """Parameters of the copula of code and reflection lengths.

    Later rounds' scores correlate by ``share + (1 - share) * decay**lag``: a job effect and a fading one. The first
    round and the task prompt correlate with the job effect.
    """
    later = [job["implementation"][1:].tolist() for job in jobs]
    target = np.array([score_correlation(spearman(*lagged_pairs(later, lag).T)) for lag in LAGS])
    grid = np.arange(0.0, 0.96, 0.01)
    errors = [
        (float(np.sum((share + (1 - share) * decay ** np.array(LAGS) - target) ** 2)), share, decay)
        for share in grid
        for decay in grid
    ]
    _, share, decay = min(errors)
    several = [job["implementation"] for job in jobs if len(job["implementation"]) > 1]
    first = [(code[0], value) for code in several for value in code[1:]]
    first_later = score_correlation(spearman(*np.array(first).T))
    prompt_first = np.mean(
        [
            score_correlation(
                spearman([job["task_prompt"][0] for job in part], [job["implementation"][0] for job in part])
            )
            for part in by_dataset
        ]
    )
    first_share = min(first_later / np.sqrt(share), 0.99)
    reflections = [job["reflection"][:-1].tolist() for job in jobs]
    reflection = np.mean([score_correlation(spearman(*lagged_pairs(reflections, lag).T)) for lag in (1, 2, 3)])
    failed = [job["test_feedback"][:-1].tolist() for job in jobs]
    return {
        "later_share": significant(share),
        "later_decay": significant(decay),
        "first_with_job": significant(first_share),
        "prompt_with_job": significant(prompt_first / first_share),
        "reflections": significant(reflection),
        "failed_tests": significant(score_correlation(spearman(*lagged_pairs(failed, 1).T))),
        "fit": {
            "lags": list(LAGS),
            "measured": significant(target),
            "fitted": significant(share + (1 - share) * decay ** np.array(LAGS)),
            "not modelled": _not_modelled(jobs),
        },
    }


def _not_modelled(jobs: Jobs) -> Facts:
    """Rank correlations and shares that the sampler leaves out, being weak or without effect on lengths."""
    about = [pair for job in jobs for pair in zip(job["implementation"][:-1], job["reflection"][:-1], strict=True)]
    repeats = lagged_pairs([job["implementation"].tolist() for job in jobs], 1)
    first = [job["implementation"][0] for job in jobs]
    return {
        "first code against rounds": significant(spearman(first, [len(job["implementation"]) for job in jobs])),
        "code against its reflection": significant(spearman(*np.array(about).T)),
        "share of rounds whose code is as long as the code before": significant(
            np.mean(repeats[:, 0] == repeats[:, 1])
        ),
    }


def _test_seconds(data_dir: Path) -> Facts:
    measured = read_summary(data_dir, TOOLS)["swe_agent_demo_execution_s"]
    levels = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
    values = [measured[f"p{round(100 * level):02d}"] for level in levels]
    return {
        "levels": [*levels, 0.97, 0.985, 1.0],
        "values": [*values, measured["p99"], 10.0, 30.0],
        "source": "SWE-agent demonstration trajectories, execution time of an action",
        "fit": {"n": measured["n"]},
        "assumed": True,
        "reason": "durations of small commands stand in for test runs; above level 0.97 assumed: endless programs meet"
        " the 5 s time limit of the Reflexion executor, twice per failed test, up to three tests",
    }


def compare(data_dir: Path, block: JobBlock) -> list[Comparison]:
    """Measured beside generated jobs."""
    source = "Reflexion, 10 rounds (MapCoder results)"
    jobs = measured_jobs(data_dir)
    code, tests, reflections = (slice(start, None, 3) for start in (0, 1, 2))
    present = np.asarray(block.present[:, code])
    rounds = present.sum(axis=1)
    output = block.output_tokens[:, :, 0].astype(np.float64)
    codes = [row[:k].tolist() for row, k in zip(output[:, code], rounds, strict=True)]
    reflected = [row[: k - 1].tolist() for row, k in zip(output[:, reflections], rounds, strict=True)]
    real = {name: [job[name].tolist() for job in jobs] for name in ("implementation", "reflection")}
    real_reflected = [values[:-1] for values in real["reflection"]]
    seconds = block.duration_ns[:, tests, 0][present] / 1e9
    measured_seconds = read_summary(data_dir, TOOLS)["swe_agent_demo_execution_s"]
    levels = (5, 25, 50, 75, 90)
    return [
        samples("rounds per job", "rounds", [len(v) for v in real["implementation"]], rounds, source, discrete=True),
        samples("code, first round", "tokens", [v[0] for v in real["implementation"]], [v[0] for v in codes], source),
        samples("code, later rounds", "tokens", _joined(real["implementation"], 1), _joined(codes, 1), source),
        samples("reflection", "tokens", _joined(real_reflected), _joined(reflected), source),
        statistics(
            "lengths within a job",
            "rank correlation",
            (
                *(f"code, lag {lag}" for lag in LAGS),
                "first, second code",
                "reflection, lag 1",
                "first code, rounds",
            ),
            _within(real["implementation"], real_reflected),
            _within(codes, reflected),
            source,
            len(jobs),
        ),
        statistics(
            "test run time",
            "s",
            [f"p{level:02d}" for level in levels],
            [measured_seconds[f"p{level:02d}"] for level in levels],
            np.quantile(seconds, np.array(levels) / 100),
            "SWE-agent demonstrations (assumed tail above p97)",
            measured_seconds["n"],
        ),
    ]


def _joined(series: list[list[float]], start: int = 0) -> NDArray[np.float64]:
    return np.array([value for values in series for value in values[start:]])


def _within(codes: list[list[float]], reflections: list[list[float]]) -> list[float]:
    later = [values[1:] for values in codes]
    first: Any = np.array([values[:2] for values in codes if len(values) > 1])
    return [
        *(spearman(*lagged_pairs(later, lag).T) for lag in LAGS),
        spearman(*first.T),
        spearman(*lagged_pairs(reflections, 1).T),
        spearman([values[0] for values in codes], [len(values) for values in codes]),
    ]
