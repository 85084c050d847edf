"""Facts of task automation, from LLM-made plans of TaskBench requests and from measured durations of model tools."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.applications.task_automation import MAX_TOOLS, TOOLS
from llmsched_gym.workloads.block import JobBlock
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
    score_correlation,
    significant,
    spearman,
    spread_spearman,
)
from llmsched_gym.workloads.fitting.tool_seconds import REPLIES, TAIL_LEVELS, tool_seconds

PLANS = "taskauto/plans.csv"
SUMMARY = "taskauto/summary.json"
TOOL_NAMES = "taskauto/huggingface_tools.csv"
PAIRS = (
    ("other", "other"),
    ("image_recognition", "image_recognition"),
    ("speech_recognition", "speech_synthesis"),
    ("speech_synthesis", "other"),
    ("text_generation", "text_generation"),
    ("image_generation", "image_generation"),
)
"""Tool pairs that the comparison shows."""

Edges = tuple[tuple[int, int], ...]


class Plan(NamedTuple):
    """One measured plan, its tools in a topological order."""

    tools: list[int]
    """Candidate number of each tool."""
    edges: Edges
    """(parent, child) positions."""
    request: float
    """Tokens of the request."""
    tokens: float
    """Tokens of the plan."""

    @property
    def shape(self) -> str:
        """Single, chain or dag."""
        size = len(self.tools)
        return "single" if size == 1 else "chain" if self.edges == tuple((k, k + 1) for k in range(size - 1)) else "dag"


def plans(data_dir: Path) -> list[Plan]:
    """LLM-made plans of 2 to 7 Hugging Face tools without cycles."""
    class_of = {tool: number for number, names in enumerate(TOOLS.values()) for tool in names}
    names = {row["tool_id"]: row["tool_name"] for row in read_table(data_dir, TOOL_NAMES)}
    found = []
    for row in read_table(data_dir, PLANS):
        size = int(row.number("nodes"))
        if row["domain"] != "huggingface" or not 2 <= size <= MAX_TOOLS:
            continue
        graph = nx.DiGraph()
        graph.add_nodes_from(range(size))
        links = [link.split("-") for link in row["edges_by_position"].split(";") if link]
        graph.add_edges_from((int(parent), int(child)) for parent, child in links if parent != child)
        if not nx.is_directed_acyclic_graph(graph):
            continue
        order = list(nx.lexicographical_topological_sort(graph))
        place = {old: new for new, old in enumerate(order)}
        ids = row["tool_ids"].split(";")
        tools = [class_of[names[ids[old]]] if ids[old] in names else len(TOOLS) - 1 for old in order]
        edges = tuple(sorted((place[parent], place[child]) for parent, child in graph.edges))
        found.append(Plan(tools, edges, row.number("request_tokens"), row.number("plan_output_tokens")))
    return found


def fit(data_dir: Path) -> Facts:
    """Facts of task automation from the tables under `data_dir`."""
    origin = provenance(data_dir, PLANS)
    made = plans(data_dir)
    size = np.array([len(plan.tools) for plan in made], dtype=np.float64)
    tokens = np.array([plan.tokens for plan in made])
    request = np.array([plan.request for plan in made])
    line, factor = plan_line(made)
    facts: Facts = {
        "plan_shapes": _plan_shapes(data_dir, made) | origin,
        "plan_line": {
            "constant": significant(line[0]),
            "per_tool": significant(line[1]),
            **origin,
            "fit": {"n": len(made), "pearson": significant(np.corrcoef(size, tokens)[0, 1])},
        },
        "plan_factor": quantile_table(factor, origin),
        "request_tokens_several": quantile_table(request, origin),
        "request_tokens_single": _single_requests(data_dir, request),
        "correlations": {
            "request_size": significant(score_correlation(spread_spearman(size, request))),
            "request_plan_given_size": significant(score_correlation(_within_size(size, request, factor))),
            **origin,
            "fit": {"n": len(made)},
        },
        "tool_order": _tool_order(made) | origin,
        "answer_tokens": quantile_table(_replies(data_dir), provenance(data_dir, REPLIES), TAIL_LEVELS)
        | {"assumed": True, "reason": "replies of a tool-using agent to its user stand in for HuggingGPT's answers"},
        "plan_instructions_tokens": assumed(1800, "tool list of 23 tools, format and examples; text not in the data"),
        "answer_instructions_tokens": assumed(250, "instructions and one example; text not in the data"),
        "result_tokens": assumed(60, "what a tool returns to the answering prompt: a file name, a label or a sentence"),
    }
    return facts | {f"seconds_{name}": entry for name, entry in tool_seconds(data_dir, _replies(data_dir)).items()}


def plan_line(made: list[Plan]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Constant and slope of the plan's tokens over its tools, and each plan's length over what the line says."""
    size, tokens = np.array([len(plan.tools) for plan in made]), np.array([plan.tokens for plan in made])
    design = np.stack([np.ones(len(made)), size], axis=1)
    line = np.asarray(np.linalg.lstsq(design, tokens, rcond=None)[0], dtype=np.float64)
    return line, tokens / (design @ line)


def _plan_shapes(data_dir: Path, made: list[Plan]) -> Facts:
    """Plan shapes and counts; one-tool jobs get TaskBench's share, because the planners' requests leave them out."""
    counts = Counter((len(plan.tools), plan.edges) for plan in made)
    single = _single_share(data_dir)
    shapes = [{"tasks": 1, "edges": [], "count": significant(len(made) * single / (1 - single))}]
    for (tasks, edges), count in sorted(counts.items()):
        shapes.append({"tasks": tasks, "edges": [list(edge) for edge in edges], "count": count})
    return {
        "shapes": shapes,
        "fit": {
            "n": len(made),
            "single_share": significant(single),
            "single_share_source": "human-verified TaskBench Hugging Face jobs (node, chain, dag)",
            "left_out": f"plans of more than {MAX_TOOLS} tools, with cyclic links, or of one tool",
        },
    }


def _single_share(data_dir: Path) -> float:
    verified = read_summary(data_dir, SUMMARY)["huggingface"]["readme_table"]
    return verified["node"] / (verified["node"] + verified["chain"] + verified["dag"])


def _single_requests(data_dir: Path, several: NDArray[np.float64]) -> Facts:
    """Request lengths of one-tool jobs: those of all TaskBench jobs, less those of jobs with several tools."""
    measured = read_summary(data_dir, SUMMARY)["huggingface"]["request_tokens"]
    share = _single_share(data_dir)
    levels = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
    known = [*(measured[f"p{round(100 * level):02d}"] for level in levels), measured["p100"]]
    tokens = np.arange(known[0], known[-1] + 1.0)
    of_all = np.interp(tokens, known, [*levels, 1.0])
    of_several = np.searchsorted(np.sort(several), tokens, side="right") / len(several)
    rest = np.maximum.accumulate(np.clip((of_all - (1.0 - share) * of_several) / share, 0.0, 1.0))
    keep = np.append(True, np.diff(rest) > 0.0)
    return {
        "levels": list(LEVELS),
        "values": significant(np.interp(LEVELS, rest[keep], tokens[keep])),
        **provenance(data_dir, SUMMARY),
        "fit": {"n": measured["n"], "derived": "quantiles of all requests minus the requests of several tools"},
    }


def _tool_order(made: list[Plan]) -> Facts:
    """Counts of candidates: alone, without a parent, and after each candidate; a child follows its first parent."""
    kinds = len(TOOLS)
    alone, first, after = np.zeros(kinds), np.zeros(kinds), np.full((kinds, kinds), 0.5)
    for plan in made:
        parent = {child: place for place, child in reversed(plan.edges)}
        for place, tool in enumerate(plan.tools):
            alone[tool] += 1
            if place in parent:
                after[plan.tools[parent[place]], tool] += 1
            else:
                first[tool] += 1
    return {
        "candidates": list(TOOLS),
        "first": first.tolist(),
        "after": after.tolist(),
        "alone": alone.tolist(),
        "note": "0.5 added to every count of `after`; a lone tool follows the overall frequency (assumed)",
    }


def _within_size(size: NDArray[np.float64], request: NDArray[np.float64], factor: NDArray[np.float64]) -> float:
    """Mean rank correlation of request length and plan factor among plans of equal size, by their number."""
    groups = [size == k for k in range(2, MAX_TOOLS + 1)]
    weights = [group.sum() for group in groups]
    return float(np.average([spearman(request[group], factor[group]) for group in groups], weights=weights))


def _replies(data_dir: Path) -> NDArray[np.float64]:
    return column((row for row in read_table(data_dir, REPLIES) if row["kind"] == "reply"), "output_tokens")


def compare(data_dir: Path, block: JobBlock) -> list[Comparison]:
    """Measured beside generated plans; generated jobs of one tool are left out where the measured plans have none."""
    source = "GNN4TaskPlan plans of TaskBench requests"
    made = plans(data_dir)
    drawn = _generated(block)
    several = [plan for plan in drawn if len(plan.tools) > 1]
    chains = np.mean([plan.shape == "chain" for plan in made])
    single = _single_share(data_dir)
    real, generated = _quantities(made), _quantities(several)
    answers = block.output_tokens[:, -1, 0]
    return [
        samples("tools per plan (2 or more)", "tools", real["tools"], generated["tools"], source, discrete=True),
        samples("plan (2 or more tools)", "tokens", real["plan"], generated["plan"], source),
        samples("request (2 or more tools)", "tokens", real["request"], generated["request"], source),
        statistics(
            "shape of plans",
            "fraction",
            ("single", "chain", "dag"),
            np.array([single, (1 - single) * chains, (1 - single) * (1 - chains)]),
            np.array([np.mean([plan.shape == kind for plan in drawn]) for kind in ("single", "chain", "dag")]),
            source,
            len(made),
        ),
        statistics(
            "plan length, plan size, request",
            "correlation",
            ("plan, tools (r)", "request, tools", "request, plan"),
            real["correlations"],
            generated["correlations"],
            source,
            len(made),
        ),
        statistics("calls by candidate", "fraction", list(TOOLS), real["calls"], generated["calls"], source, len(made)),
        statistics(
            "pairs along edges",
            "fraction",
            [f"{first} > {second}" for first, second in PAIRS],
            real["pairs"],
            generated["pairs"],
            source,
            sum(len(plan.edges) for plan in made),
        ),
        samples("answer", "tokens", _replies(data_dir), answers, "tau-bench replies"),
    ]


def _generated(block: JobBlock) -> list[Plan]:
    slots = slice(2, 2 + MAX_TOOLS)
    return [
        Plan(
            (node[exists] - 2).tolist(),
            tuple(sorted(zip(*(index.tolist() for index in np.nonzero(edges.T)), strict=True))),
            float(request),
            float(plan),
        )
        for exists, node, edges, request, plan in zip(
            block.exists[:, slots],
            block.node[:, slots],
            block.parents[:, slots, slots],
            block.prompt_tokens[:, 0, 0] - block.app_prefix_tokens[:, 0],
            block.output_tokens[:, 0, 0],
            strict=True,
        )
    ]


def _quantities(made: list[Plan]) -> Facts:
    tools = np.array([len(plan.tools) for plan in made], dtype=np.float64)
    plan_tokens, request = np.array([plan.tokens for plan in made]), np.array([plan.request for plan in made])
    calls = np.bincount([tool for plan in made for tool in plan.tools], minlength=len(TOOLS))
    pairs = np.zeros((len(TOOLS), len(TOOLS)))
    for plan in made:
        for parent, child in plan.edges:
            pairs[plan.tools[parent], plan.tools[child]] += 1
    return {
        "tools": tools,
        "plan": plan_tokens,
        "request": request,
        "correlations": [
            np.corrcoef(plan_tokens, tools)[0, 1],
            spearman(request, tools),
            spearman(request, plan_tokens),
        ],
        "calls": calls / calls.sum(),
        "pairs": [pairs[list(TOOLS).index(first), list(TOOLS).index(second)] / pairs.sum() for first, second in PAIRS],
    }
