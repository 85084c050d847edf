"""Facts of LLMCompiler: its questions and example plans.

What LLMCompiler does not log (lengths of results and conclusions, planning again) is taken from ReAct runs on questions
of the same kind, and marked as assumed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.applications.llm_compiler import DATASETS, MAX_REPLANNED, MAX_TASKS, TEMPLATE
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.fitting import task_automation, web_search
from llmsched_gym.workloads.fitting.check import Comparison, samples, statistics
from llmsched_gym.workloads.fitting.tables import (
    LEVELS,
    Facts,
    assumed,
    column,
    provenance,
    quantile_table,
    read_summary,
    read_table,
    significant,
)

QUESTIONS = "llmcompiler/questions.csv"
PLANS = "llmcompiler/in_context_plans.csv"
SUMMARY = "llmcompiler/summary.json"
QUESTION_SETS = {"hotpotqa": "hotpotqa_comparison", "movie": "movie", "parallelqa": "parallelqa"}
EXAMPLE_SHARE = {"hotpotqa": 0.23, "movie": 0.10, "parallelqa": 0.27}
"""Share of a prompt file's characters that are the planner's examples; the joiner has the rest."""
TOOL_DESCRIPTIONS = {"hotpotqa": 500, "movie": 500, "parallelqa": 1100}


def fit(data_dir: Path) -> Facts:
    """Facts of LLMCompiler from the tables under `data_dir`."""
    origin = provenance(data_dir, QUESTIONS)
    totals = read_summary(data_dir, SUMMARY)["prompt_tokens"]
    prefixes = {
        "plan": [round(EXAMPLE_SHARE[name] * totals[f"{name}_llama"]) + TOOL_DESCRIPTIONS[name] for name in DATASETS],
        "join": [round((1 - EXAMPLE_SHARE[name]) * totals[f"{name}_llama"]) for name in DATASETS],
        "math": 850,
    }
    fever = web_search.trajectories(data_dir, "fever")
    extra = np.array([job.steps - 2 for job in fever if job.steps > 2])
    replanned = np.bincount(np.minimum(extra, MAX_REPLANNED), minlength=MAX_REPLANNED + 1)[1:]
    probability = significant(len(extra) / len(fever))
    react = provenance(data_dir, web_search.STEPS)
    plan_origin = provenance(data_dir, PLANS)
    calls = [(plan["tokens"], len(plan["functions"])) for plan in _examples(data_dir) if plan["dataset"] == "hotpotqa"]
    _, factor = task_automation.plan_line(task_automation.plans(data_dir))
    facts: Facts = {
        "plan_shapes": _plan_shapes(data_dir) | plan_origin,
        **{
            f"question_{name}": quantile_table(_questions(data_dir, name, "question_tokens"), origin)
            for name in DATASETS
        },
        "plan_factor": quantile_table(factor, provenance(data_dir, task_automation.PLANS))
        | {
            "assumed": True,
            "reason": "spread of plan lengths of equal size, as LLM planners of task automation show it",
        },
        "prefix_tokens": {
            "value": prefixes,
            **provenance(data_dir, SUMMARY),
            "assumed": True,
            "reason": "the measured length of the Llama prompt files, split between planner and joiner by characters; "
            "tool descriptions in the planner's prompt and the calculation's guidelines estimated",
        },
        "observation": quantile_table(_search_results(data_dir), react)
        | {"assumed": True, "reason": "the same Wikipedia tool as in ReAct on HotpotQA"},
        "join_tokens": quantile_table(_conclusions(data_dir), react)
        | {"assumed": True, "reason": "the joiner writes a thought and an action, as ReAct's last step does"},
        "math_tokens": _math_tokens(),
        "math_result_tokens": assumed(5, "a number"),
        "call_tokens": assumed(12, "a call's text beside its result in the joiner's or calculation's prompt"),
        "replan_tokens_per_search": {
            "value": significant(np.mean([tokens / tasks for tokens, tasks in calls])),
            **plan_origin,
            "fit": {"n": len(calls)},
        },
        "replan_probability": {
            "value": [probability, 0, probability],
            **react,
            "assumed": True,
            "reason": "share of FEVER ReAct jobs that go on after two steps; the joiner for movies must answer",
        },
        "replanned_searches": {
            "counts": replanned.tolist(),
            **react,
            "assumed": True,
            "reason": "further actions of those jobs, planned at once; more than 4 counted as 4",
        },
        "search_seconds": web_search.search_seconds(data_dir),
    }
    return facts


def _examples(data_dir: Path) -> list[Facts]:
    """Distinct example plans of the repository's prompts, the joiner left out."""
    plans: dict[tuple[str, str, str], Facts] = {}
    for row in read_table(data_dir, PLANS):
        functions = row["functions"].split(";")
        join = functions.index("join")
        links = [[int(end) for end in link.split("-")] for link in row["edges_by_position"].split(";")]
        key = (row["dataset"], row["functions"], row["edges_by_position"])
        plan = plans.setdefault(
            key,
            {
                "dataset": row["dataset"],
                "functions": functions[:join],
                "edges": [link for link in links if join not in link],
                "tokens": [],
            },
        )
        plan["tokens"].append(row.number("plan_tokens"))
    return [plan | {"tokens": round(np.mean(plan["tokens"]))} for plan in plans.values()]


def _plan_shapes(data_dir: Path) -> Facts:
    """Shapes per data set; in ParallelQA by the question's branches, which equal the searches of an example plan."""
    found = [*_examples(data_dir), _FIVE_BRANCHES]
    shapes = []
    for name in DATASETS:
        branches = _questions(data_dir, name, "parallel_branches")
        kinds = sorted(set(branches)) if name == "parallelqa" else [None]
        for kind in kinds:
            fitting = [
                plan
                for plan in found
                if plan["dataset"] == name and kind in (None, float(plan["functions"].count("search")))
            ]
            share = 1.0 if kind is None else float(np.mean(branches == kind))
            count = significant(share / len(fitting) / len(DATASETS))
            shapes += [
                {
                    "dataset": name,
                    "tasks": len(plan["functions"]),
                    "functions": plan["functions"],
                    "edges": plan["edges"],
                    "plan_tokens": plan["tokens"],
                    "count": count,
                }
                for plan in fitting
            ]
    return {
        "shapes": shapes,
        "assumed": True,
        "reason": "measured: branches of ParallelQA questions, shapes and lengths of example plans; assumed: the three "
        "data sets ask equally often, example plans with the same branches are equally frequent, five branches are "
        "combined in pairs (no example)",
        "fit": {"n": [len(_questions(data_dir, name, "question_tokens")) for name in DATASETS]},
    }


_FIVE_BRANCHES: Facts = {
    "dataset": "parallelqa",
    "functions": ["search"] * 5 + ["math"] * 3,
    "edges": [[0, 5], [1, 5], [2, 6], [3, 6], [4, 6], [5, 7], [6, 7]],
    "tokens": 132,
}
"""Assumed plan of five searches; its length is that of the four-search example, at the same tokens per call."""


def _questions(data_dir: Path, name: str, field: str) -> NDArray[np.float64]:
    return column((row for row in read_table(data_dir, QUESTIONS) if row["dataset"] == QUESTION_SETS[name]), field)


def _search_results(data_dir: Path) -> NDArray[np.float64]:
    jobs = web_search.trajectories(data_dir, "hotpotqa")
    return np.array(
        [
            tokens
            for job in jobs
            for action, tokens in zip(job.actions, job.observations, strict=True)
            if action == "Search"
        ]
    )


def _conclusions(data_dir: Path) -> NDArray[np.float64]:
    jobs = web_search.trajectories(data_dir, "hotpotqa")
    return np.array([job.thoughts[-1] for job in jobs if job.actions[-1] == "Finish"])


def _math_tokens() -> Facts:
    scores = detmath.normal_quantile(np.clip(LEVELS, 0.005, 0.995))
    reason = "an expression, written twice, and its framing: log-normal, median 45, sigma 0.25; no data"
    return {
        "levels": list(LEVELS),
        "values": significant(45.0 * np.exp(0.25 * scores)),
        "assumed": True,
        "reason": reason,
    }


def compare(data_dir: Path, block: JobBlock) -> list[Comparison]:
    """Measured beside generated jobs."""
    source = "LLMCompiler questions and example plans"
    first, second = slice(2, 2 + MAX_TASKS), slice(5 + MAX_TASKS, 5 + MAX_TASKS + MAX_REPLANNED)
    dataset = block.app_prefix[:, 0]
    question = block.prompt_tokens[:, 0, 0] - block.app_prefix_tokens[:, 0]
    plan, tasks = block.output_tokens[:, 0, 0], block.exists[:, first].sum(axis=1)
    searching = block.exists[:, first] & (block.node[:, first] == TEMPLATE.index["search"])
    branches = searching.sum(axis=1)
    results = [
        samples(
            f"{name}: question",
            "tokens",
            _questions(data_dir, name, "question_tokens"),
            question[dataset == number],
            source,
        )
        for number, name in enumerate(DATASETS)
    ]
    parallel = dataset == DATASETS.index("parallelqa")
    labelled = _questions(data_dir, "parallelqa", "parallel_branches")
    results.append(samples("parallelqa: branches", "searches", labelled, branches[parallel], source, discrete=True))
    shown = ~parallel | (branches < 5)  # no example plan has five branches
    examples = _examples(data_dir)
    sizes = sorted({len(example["functions"]) for example in examples})
    results.append(
        statistics(
            "mean plan length by plan size",
            "tokens",
            [f"{size} tasks" for size in sizes],
            [np.mean([plan["tokens"] for plan in examples if len(plan["functions"]) == size]) for size in sizes],
            [np.mean(plan[shown & (tasks == size)]) for size in sizes],
            source,
            len(examples),
        )
    )
    lengths = np.array([[plan["tokens"], len(plan["functions"])] for plan in examples])
    fever = web_search.trajectories(data_dir, "fever")
    more = block.exists[:, second].sum(axis=1)
    seen = block.output_bytes[:, first, 0] / 4 if block.output_bytes is not None else np.zeros_like(searching)
    results += [
        statistics(
            "plan length with plan size",
            "correlation",
            ("plan, tasks (r)",),
            np.corrcoef(lengths.T)[:1, 1],
            np.corrcoef(plan, tasks)[:1, 1],
            source,
            len(examples),
        ),
        samples(
            "searches planned again (no movies)",
            "searches",
            [min(job.steps - 2, MAX_REPLANNED) for job in fever],
            more[dataset != DATASETS.index("movie")],
            "FEVER ReAct",
            discrete=True,
        ),
        samples("search result", "tokens", _search_results(data_dir), seen[searching], "HotpotQA ReAct"),
        samples(
            "joiner's output",
            "tokens",
            _conclusions(data_dir),
            block.output_tokens[:, 2 + MAX_TASKS, 0],
            "HotpotQA ReAct",
        ),
    ]
    return results
