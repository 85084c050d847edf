"""Facts of sequence sorting, from the Graph-of-Thoughts sorting example run with a model that never errs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.fitting.check import Comparison, samples, statistics
from llmsched_gym.workloads.fitting.tables import (
    Facts,
    assumed,
    column,
    provenance,
    quantile_table,
    read_summary,
    read_table,
)

CALLS = "got/sorting_got_llm_calls.csv"
RUN = "got/doc_merge_real_run.csv"
TOOLS = "tools/summary.json"
SIZES = (32, 64, 128)
PART = 16
"""Numbers in one part of the split list."""
TOKENS_PER_NUMBER = 3


def fit(data_dir: Path) -> Facts:
    """Facts of sequence sorting from the tables under `data_dir`."""
    origin = provenance(data_dir, CALLS)
    calls = {size: _calls(data_dir, size) for size in SIZES}
    sizes = [str(size) for size in SIZES]
    largest = calls[SIZES[-1]]
    sort = next(call for call in largest if call["part"] == PART and call["kind"] == "generate")
    merges = {call["numbers"]: call for call in largest if call["kind"] == "merge"}
    improvements = {call["numbers"]: call for call in largest if call["kind"] == "improve"}
    last = {size: calls[size][-1]["responses"] for size in SIZES}
    facts: Facts = {
        "sizes": {"numbers": list(SIZES), "jobs": [100] * len(SIZES), **origin},
        "split": _step([calls[size][0] for size in SIZES], sizes) | origin,
        "sort": _step([sort], [str(PART)]) | origin,
        "merge": _step([merges[size] for size in SIZES], sizes) | origin,
        "improve": _step([improvements[size] for size in SIZES], sizes) | {"last_responses": last[SIZES[-1]]} | origin,
        "instruction_tokens": _instructions(calls, sort, merges, improvements),
    }
    run = read_table(data_dir, RUN)
    for name, section in (("copied", "Step 1 - 5 Responses"), ("merged", "Step 2 - 5 Responses")):
        tokens = column([row for row in run if row["section"] == section], "tokens")
        table = quantile_table(tokens / np.mean(tokens), provenance(data_dir, RUN), (0.0, 0.25, 0.5, 0.75, 1.0))
        reason = "response over its stage's mean in the document-merging run; real sorting responses were not published"
        facts[f"response_{name}"] = table | {"assumed": True, "reason": reason}
    facts["response_job_sd_log"] = assumed(0.05, "between jobs; the published counts come from a model that never errs")
    facts["score_seconds"] = _score_seconds(data_dir)
    return facts


def _calls(data_dir: Path, size: int) -> list[Facts]:
    """LLM calls of one job of `size` numbers, in the order of the graph, with what they do."""
    calls: list[Facts] = []
    for row in read_table(data_dir, CALLS):
        if row["task"] != f"sorting_{size:03d}":
            continue
        tokens = int(row.number("tokens_per_response"))
        call: Facts = {
            "prompt": int(row.number("prompt_tokens")),
            "output": tokens,
            "responses": int(row.number("num_responses")),
            "kind": "merge" if row["op_type"] == "aggregate" else "generate",
            "part": tokens // TOKENS_PER_NUMBER,
        }
        if calls and call["kind"] == "generate" and call["part"] != PART:
            call["kind"] = "improve"
        # A merge answers with the list alone; an improvement adds 13 tokens of reasoning to it.
        call["numbers"] = max(s for s in (PART, *SIZES) if s <= call["part"])
        calls.append(call)
    return calls


def _step(calls: list[Facts], labels: list[str]) -> Facts:
    return {
        "of": labels,
        "prompt_tokens": [call["prompt"] for call in calls],
        "output_tokens": [call["output"] for call in calls],
        "responses": min(call["responses"] for call in calls),
    }


def _instructions(
    calls: dict[int, list[Facts]], sort: Facts, merges: dict[int, Facts], improve: dict[int, Facts]
) -> Facts:
    lists = TOKENS_PER_NUMBER
    trailing = {
        "merge": 12,
        "improve": 8,
    }  # tokens between and after the lists of the public templates, counted by hand
    return assumed(
        {
            "split": [calls[size][0]["prompt"] - lists * size for size in SIZES],
            "sort": [sort["prompt"] - lists * PART],
            "merge": [merges[size]["prompt"] - lists * size - trailing["merge"] for size in SIZES],
            "improve": [improve[size]["prompt"] - 2 * lists * size - trailing["improve"] for size in SIZES],
        },
        "prompt without the lists of numbers (3 tokens a number) and what follows them in the public templates",
    )


def _score_seconds(data_dir: Path) -> Facts:
    measured = read_summary(data_dir, TOOLS)["swe_agent_demo_execution_s"]
    levels = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]
    return {
        "levels": levels,
        "values": [measured[f"p{round(100 * level):02d}"] for level in levels],
        "source": "SWE-agent demonstration trajectories, execution time of an action",
        "fit": {"n": measured["n"]},
        "assumed": True,
        "reason": "scoring is a small local program; its time was not published",
    }


def compare(data_dir: Path, block: JobBlock) -> list[Comparison]:
    """Measured beside generated jobs."""
    source = "Graph of Thoughts, 300 sorting jobs with an oracle"
    summary = {size: read_summary(data_dir, "got/summary.json")[f"sorting_{size:03d}"] for size in SIZES}
    tasks = np.arange(block.prompt_tokens.shape[2]) < np.where(
        block.prompt_tokens[:, :, :1] > 0, block.n_tasks[:, :, None], 0
    )
    responses = tasks.sum(axis=(1, 2))
    output = np.where(tasks, block.output_tokens, 0).sum(axis=(1, 2))
    real_responses = [summary[size]["llm_responses_per_job"]["mean"] for size in SIZES]
    size = np.searchsorted(real_responses, responses)
    labels = [f"{s} numbers" for s in SIZES]
    seconds = block.duration_ns[block.duration_ns > 0] / 1e9
    measured_seconds = read_summary(data_dir, TOOLS)["swe_agent_demo_execution_s"]
    levels = (5, 25, 50, 75, 95)
    real_output = [summary[s]["completion_tokens"]["mean"] for s in SIZES]
    return [
        statistics(
            "LLM responses per job",
            "responses",
            labels,
            real_responses,
            [np.mean(responses[size == i]) for i in range(len(SIZES))],
            source,
            300,
        ),
        statistics(
            "output tokens per job",
            "tokens",
            labels,
            real_output,
            [np.mean(output[size == i]) for i in range(len(SIZES))],
            source,
            300,
        ),
        statistics(
            "list sizes", "fraction of jobs", labels, np.full(3, 1 / 3), np.bincount(size) / len(size), source, 300
        ),
        samples(
            "output tokens of a job over the oracle's",
            "ratio",
            np.ones(300),
            output / np.array(real_output)[size],
            source,
        ),
        statistics(
            "scoring time (assumed)",
            "s",
            [f"p{level:02d}" for level in levels],
            [measured_seconds[f"p{level:02d}"] for level in levels],
            np.quantile(seconds, np.array(levels) / 100),
            "SWE-agent demonstrations",
            measured_seconds["n"],
        ),
    ]
