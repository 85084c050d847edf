"""Facts of document merging, from the Graph-of-Thoughts NDA-merging example: its inputs and its one printed run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.fitting.check import Comparison, samples, statistics
from llmsched_gym.workloads.fitting.tables import (
    Facts,
    Floats,
    assumed,
    column,
    provenance,
    quantile_table,
    read_summary,
    read_table,
    significant,
    spearman,
)

INPUTS = "got/doc_merge_inputs.csv"
RUN = "got/doc_merge_real_run.csv"
SUMMARY = "got/summary.json"
SECTIONS = {
    "generate": "Step 1 - 5 Responses",
    "aggregate": "Step 2 - 5 Responses",
    "improve": "Step 3 - 10 Responses",
    "score": "Scoring for Best Response",
}
PROMPTS = {"generate": "Step 1 - Prompt", "aggregate": "Step 2 - Prompt", "improve": "Step 3 - Prompt"}
OVERHEAD = {"generate": 130, "score": 330, "aggregate": 225, "improve": 158}
"""Prompt tokens that are neither documents nor drafts: the public templates at about 4.2 characters per token."""
STAGES = ("generate", "score_generated", "aggregate", "score_aggregated", "improve", "score_improved")


def documents(data_dir: Path) -> Floats:
    """(100, 4) tokens of the documents of each merging task."""
    rows = read_table(data_dir, INPUTS)
    return np.stack([column(rows, f"doc{i}_tokens") for i in range(1, 5)], axis=1)


def run_tokens(data_dir: Path, section: str) -> Floats:
    """Tokens of the items whose section's name contains `section`, in the printed run."""
    return column([row for row in read_table(data_dir, RUN) if section in row["section"]], "tokens")


def run_documents(data_dir: Path) -> float:
    """Document tokens of the printed run: its first prompt without the instructions."""
    return float(run_tokens(data_dir, PROMPTS["generate"])[0]) - OVERHEAD["generate"]


def fit(data_dir: Path) -> Facts:
    """Facts of document merging from the tables under `data_dir`."""
    lengths = documents(data_dir)
    origin = provenance(data_dir, RUN)
    drafts = run_tokens(data_dir, SECTIONS["generate"])
    total = run_documents(data_dir)
    pairs = [spearman(lengths[:, i], lengths[:, j]) for i in range(4) for j in range(i)]
    facts: Facts = {
        "document": quantile_table(lengths, provenance(data_dir, INPUTS)),
        "documents": {
            "value": 4,
            **provenance(data_dir, INPUTS),
            "fit": {"mean rank correlation between the documents of a task": significant(np.mean(pairs)), "fitted": 0},
        },
        "draft_per_document_token": {"value": significant(np.mean(drafts) / total), **origin, "fit": {"n": 5}},
        "draft_job_sd_log": assumed(0.1, "between jobs; a single run was published"),
    }
    for name in ("generate", "aggregate", "improve"):
        values = run_tokens(data_dir, SECTIONS[name]) / np.mean(drafts)
        facts[f"{name}_ratio"] = quantile_table(values, origin, np.linspace(0, 1, len(values)).round(6).tolist())
        facts[f"{name}_ratio"]["reason"] = "response over the mean draft of the job, in the single published run"
    scores = run_tokens(data_dir, SECTIONS["score"])
    facts["score"] = quantile_table(scores, origin, np.linspace(0, 1, len(scores)).round(6).tolist())
    facts["overhead_tokens"] = assumed(
        OVERHEAD, "instructions and tags of the public templates, 4.2 characters a token"
    )
    facts["instruction_tokens"] = assumed(
        {"generate": 75, "score": 255, "aggregate": 105, "improve": 85},
        "the part of the overhead before the first document, which all jobs share",
    )
    facts["output_limit"] = assumed(
        1800, "the example's limit of 1536 tokens (chatgpt configuration), at 1.17 LLaMA-2 tokens per GPT-3.5 token"
    )
    return facts


def compare(data_dir: Path, block: JobBlock) -> list[Comparison]:
    """Measured beside generated jobs."""
    slot = {name: i for i, name in enumerate(STAGES)}
    output = block.output_tokens.astype(np.float64)
    total = block.prompt_tokens[:, 0, 0] - OVERHEAD["generate"]
    run_total = run_documents(data_dir)
    inputs, run = "Graph of Thoughts, 100 NDA-merging tasks", "Graph of Thoughts, one printed run"
    draft = output[:, slot["generate"], :5].mean(axis=1)
    near = np.abs(total / run_total - 1.0) < 0.1
    graph = read_summary(data_dir, SUMMARY)["doc_merge_got_llm_calls"]["per_op[op,type,thoughts_in,llm_responses]"]
    calls = [responses for _, _, _, responses in graph if responses]
    result = [
        samples("four documents", "tokens", documents(data_dir).sum(axis=1), total, inputs),
        statistics(
            "LLM calls",
            "calls per job",
            STAGES,
            calls,
            block.n_tasks.mean(axis=0),
            "Graph of Thoughts, graph",
            len(calls),
        ),
        statistics(
            "prompts, size as in the run",
            "tokens",
            list(PROMPTS),
            [run_tokens(data_dir, PROMPTS[name])[0] for name in PROMPTS],
            [np.median(block.prompt_tokens[near, slot[name], 0]) for name in PROMPTS],
            run,
            1,
        ),
    ]
    for name in ("generate", "aggregate", "improve"):
        count = int(block.n_tasks[0, slot[name]])
        result.append(
            samples(
                f"{name}, length over mean draft",
                "ratio",
                run_tokens(data_dir, SECTIONS[name]) / np.mean(run_tokens(data_dir, SECTIONS["generate"])),
                output[near, slot[name], :count] / draft[near, None],
                run,
            )
        )
    scored = output[:, slot["score_generated"], :15]
    result.append(samples("score, response", "tokens", run_tokens(data_dir, SECTIONS["score"]), scored, run))
    return result
