"""Facts of web search, from ReAct runs on HotpotQA (first attempts, at most 6 steps) and FEVER (at most 7)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.fitting.check import Comparison, samples, statistics
from llmsched_gym.workloads.fitting.tables import (
    Facts,
    Row,
    assumed,
    column,
    ks_distance,
    provenance,
    quantile_table,
    read_table,
    score_correlation,
    significant,
    spearman,
    spread_spearman,
)

STEPS = "websearch/react_steps.csv"
JOBS = "websearch/react_jobs.csv"
PREFIXES = "websearch/prefix_per_job.csv"
WALL = "websearch/fever_wall_time.csv"
MAX_STEPS = 7
RUNS = {"hotpotqa": ("hotpot_base_t1", "hotpot_reflexion_t1"), "fever": ("fever_react",)}
"""Runs of each data set; later Reflexion attempts carry reflections and are left out."""


class Trajectory(NamedTuple):
    """One measured job: actions, tokens of each thought with its action, tokens of each observation."""

    actions: list[str]
    thoughts: NDArray[np.float64]
    observations: NDArray[np.float64]

    @property
    def steps(self) -> int:
        """LLM calls."""
        return len(self.actions)


def trajectories(data_dir: Path, dataset: str) -> list[Trajectory]:
    """Measured jobs of one data set."""
    by_job: dict[tuple[str, str], list[Row]] = {}
    for row in read_table(data_dir, STEPS):
        if row["run"] in RUNS[dataset]:
            by_job.setdefault((row["run"], row["job"]), []).append(row)
    return [
        Trajectory([row["action"] for row in rows], column(rows, "llm_tokens"), column(rows, "observation_tokens"))
        for rows in by_job.values()
    ]


def fit(data_dir: Path) -> Facts:
    """Facts of web search from the tables under `data_dir`."""
    origin = provenance(data_dir, STEPS)
    facts: Facts = {
        "datasets": assumed({"names": list(RUNS), "share": [0.5, 0.5]}, "both data sets ask equally often"),
    }
    prefixes = read_table(data_dir, PREFIXES)
    for dataset, runs in RUNS.items():
        jobs = trajectories(data_dir, dataset)
        shared = next(row["shared_prompt_tokens"] for row in prefixes if row["app"] == runs[0])
        counts = np.bincount([job.steps for job in jobs], minlength=MAX_STEPS + 1)[1:]
        facts[f"prefix_tokens_{dataset}"] = {"value": int(shared), **origin}
        facts[f"steps_{dataset}"] = {"counts": counts.tolist(), **origin}
        asked = [row for row in read_table(data_dir, JOBS) if row["run"] in runs]
        facts[f"question_{dataset}"] = quantile_table(column(asked, "question_tokens"), provenance(data_dir, JOBS))
        facts |= {f"{name}_{dataset}": quantile_table(values, origin) for name, values in _tables(jobs).items()}
        facts[f"lookup_share_{dataset}"] = {"by_step": significant(_lookup_share(jobs)), **origin}
        facts[f"correlations_{dataset}"] = _correlations(jobs) | origin
    facts["search_seconds"] = search_seconds(data_dir)
    facts["lookup_seconds"] = assumed(0.03, "a look-up searches the page already fetched: no network")
    return facts


def _tables(jobs: list[Trajectory]) -> dict[str, list[float]]:
    """Tokens by role: thoughts by place in the job, observations by step and by how soon the job then ends."""
    tables: dict[str, list[float]] = {}
    for job in jobs:
        last = job.steps - 1
        for k, tokens in enumerate(job.thoughts):
            tables.setdefault(f"thought_{'final' if k == last else 'first' if k == 0 else 'middle'}", []).append(tokens)
        for k, tokens in enumerate(job.observations[:last]):
            ending = "last" if k == last - 1 else "soon" if (k, last) == (0, 2) else "more"
            tables.setdefault(f"observation_{min(k + 1, 3)}_{ending}", []).append(tokens)
    return dict(sorted(tables.items()))


def _lookup_share(jobs: list[Trajectory]) -> list[float]:
    """Share of look-ups among the actions of step 1, 2 and later (final actions left out)."""
    actions = [Counter[str](), Counter[str](), Counter[str]()]
    for job in jobs:
        for k, action in enumerate(job.actions[:-1]):
            actions[min(k, 2)][action] += 1
    return [counter["Lookup"] / counter.total() for counter in actions]


def _correlations(jobs: list[Trajectory]) -> Facts:
    """Copula parameters: between consecutive thoughts, thoughts and the observation before, consecutive observations.

    Observations of a job with equal ending are compared (their level depends on the step and on whether the job ends),
    so that the table's own effect is not counted twice.
    """
    thoughts = [(job.thoughts[k], job.thoughts[k + 1]) for job in jobs for k in range(job.steps - 1)]
    read = [(job.observations[k], job.thoughts[k + 1]) for job in jobs for k in range(job.steps - 1)]
    first = [(job.steps, job.thoughts[0]) for job in jobs]
    seen = [job.observations[:2] for job in jobs if job.steps > 3]
    return {
        "thoughts": significant(score_correlation(spearman(*np.array(thoughts).T))),
        "observation_thought": significant(score_correlation(spearman(*np.array(read).T))),
        "observations": significant(max(score_correlation(spearman(*np.array(seen).T)), 0.0)),
        "steps_first_thought": significant(score_correlation(spread_spearman(*np.array(first).T))),
        "fit": {"jobs": len(jobs), "pairs": [len(thoughts), len(read), len(seen)]},
    }


def search_seconds(data_dir: Path) -> Facts:
    """Duration of one Wikipedia search, from the wall times of FEVER jobs.

    Least squares splits the wall time of a job into a constant, a part per search, per LLM call and per LLM token. The
    part per search is the mean; the variance is what jobs with one search leave unexplained, which bounds it from
    above. A log-normal law with these two moments, drawn between its quantiles 0.005 and 0.999.
    """
    jobs = trajectories(data_dir, "fever")
    rows = read_table(data_dir, WALL)
    wall, tokens = column(rows, "wall_s"), column(rows, "sum_llm_tokens")
    steps = np.array([job.steps for job in jobs])
    searches = np.array([job.actions.count("Search") for job in jobs])
    design = np.stack([np.ones_like(wall), searches, steps, tokens], axis=1)
    weights = np.linalg.lstsq(design, wall, rcond=None)[0]
    rest = wall - design @ weights
    mean, variance = weights[1], np.var(rest[searches == 1])
    sigma = np.sqrt(np.log1p(variance / mean**2))
    levels = np.array([*np.round(np.arange(0.0, 0.96, 0.05), 2), 0.975, 0.99, 0.995, 1.0])
    scores = detmath.normal_quantile(np.clip(levels, 0.005, 0.999))
    values = mean * np.exp(sigma * scores - sigma**2 / 2)
    rng = np.random.default_rng(0)
    drawn = [np.interp(rng.random(k), levels, values).sum() for k in searches]
    simulated = design[:, [0, 2, 3]] @ weights[[0, 2, 3]] + drawn
    return {
        "levels": levels.tolist(),
        "values": significant(values),
        **provenance(data_dir, WALL),
        "fit": {
            "n": len(wall),
            "seconds_constant_search_call_token": significant(weights),
            "r2": significant(1 - np.var(rest) / np.var(wall)),
            "log_sigma": significant(sigma),
            "ks_of_job_wall_time": significant(ks_distance(wall, simulated)),
        },
    }


def compare(data_dir: Path, block: JobBlock) -> list[Comparison]:
    """Measured beside generated jobs, per data set."""
    result: list[Comparison] = []
    source = "ReAct runs (Reflexion and ReAct repositories)"
    for number, dataset in enumerate(RUNS):
        jobs = trajectories(data_dir, dataset)
        real, drawn = _quantities(jobs), _quantities(_generated(block, block.app_prefix[:, 0] == number))
        for name, unit in (
            ("steps", "steps"),
            ("thought", "tokens"),
            ("observation", "tokens"),
            ("whole job", "tokens"),
        ):
            what = f"{dataset}: {name}"
            result.append(samples(what, unit, real[name], drawn[name], source, discrete=name == "steps"))
        result.append(
            statistics(
                f"{dataset}: within a job",
                "rank correlation",
                ("thoughts, lag 1", "observation, thought", "observation 1, steps", "thought 1, steps"),
                real["correlations"],
                drawn["correlations"],
                source,
                len(jobs),
            )
        )
    return result


def _generated(block: JobBlock, chosen: NDArray[np.bool_]) -> list[Trajectory]:
    steps = block.present[chosen, ::2].sum(axis=1)
    prompt, output = (
        tokens[chosen, ::2, 0].astype(np.float64) for tokens in (block.prompt_tokens, block.output_tokens)
    )
    observed = prompt[:, 1:] - prompt[:, :-1] - output[:, :-1]
    return [
        Trajectory([""] * k, out[:k], np.append(seen[: k - 1], 0.0))
        for k, out, seen in zip(steps, output, observed, strict=True)
    ]


def _quantities(jobs: list[Trajectory]) -> dict[str, NDArray[np.float64]]:
    steps = np.array([job.steps for job in jobs])
    thoughts = [(job.thoughts[k], job.thoughts[k + 1]) for job in jobs for k in range(job.steps - 1)]
    read = [(job.observations[k], job.thoughts[k + 1]) for job in jobs for k in range(job.steps - 1)]
    correlations = [
        spearman(*np.array(thoughts).T),
        spearman(*np.array(read).T),
        spearman([job.observations[0] for job in jobs], steps),
        spearman([job.thoughts[0] for job in jobs], steps),
    ]
    return {
        "steps": steps,
        "thought": np.concatenate([job.thoughts for job in jobs]),
        "observation": np.concatenate([job.observations[:-1] for job in jobs]),
        "whole job": np.array([job.thoughts.sum() + job.observations[:-1].sum() for job in jobs]),
        "correlations": np.array(correlations),
    }
