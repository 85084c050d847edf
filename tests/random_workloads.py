"""Random small workloads and clusters that use every feature of the model, for property tests.

Jobs have gates with optional stages (also nested), planners whose sub-DAGs differ from job to job, parallel tasks and
shared prefixes; clusters may be short of slots or KV blocks. `Draft` keeps the dense blocks that a workload was
assembled from, so that a test can change the truth and assemble again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.workloads.assemble import Part, assemble
from llmsched_gym.workloads.block import JobBlock, static_block
from llmsched_gym.workloads.history import compute_history
from llmsched_gym.workloads.template import ANY_MODEL, ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import Workload

MAX_TASKS = 3
MAX_PROMPT, MAX_OUTPUT = 60, 25
SUB_SLOTS = 4
APP_PREFIX_TOKENS = 20
LONGEST_NS = 2_000_000_000


@dataclass(frozen=True)
class Draft:
    """The parts of a workload, before assembly.

    Attributes:
        parts: One per application, each with a block.
        planner: Per part, the slot of the planner; -1 without one. Its dynamic stage is the next slot, followed by
            `SUB_SLOTS` slots for planned stages.
    """

    parts: tuple[Part, ...]
    planner: tuple[int, ...]

    def assemble(self, history: tuple[NDArray[np.void], ...] | None = None) -> Workload:
        """Return the workload, with its own history unless another is given."""
        bare = assemble("random", self.parts)
        own = history or tuple(compute_history(bare, app) for app in range(len(self.parts)))
        workload = replace(bare, history=own)
        validate_workload(workload)
        return workload


def random_draft(rng: np.random.Generator, n_apps: int, n_jobs: int, n_stages: int, spread_ns: int) -> Draft:
    """Draw applications of up to `n_stages` static stages and `n_jobs` jobs that arrive within `spread_ns`."""
    parts: list[Part] = []
    planners: list[int] = []
    for app in range(n_apps):
        template, planner = _random_template(rng, f"app{app}", n_stages)
        arrival = np.sort(rng.integers(0, spread_ns + 1, n_jobs))
        parts.append(Part(template, 1, arrival, _random_block(rng, template, planner, n_jobs)))
        planners.append(planner)
    return Draft(tuple(parts), tuple(planners))


def _random_template(rng: np.random.Generator, name: str, n_stages: int) -> tuple[ApplicationTemplate, int]:
    kinds = (StageKind.LLM, StageKind.REGULAR)
    nodes: list[TemplateNode] = []
    for i in range(int(rng.integers(1, n_stages + 1))):
        parents = tuple(node.name for node in nodes if rng.random() < 0.4)
        gate = nodes[int(rng.integers(i))].name if i and rng.random() < 0.5 else None
        nodes.append(TemplateNode(f"s{i}", kinds[int(rng.integers(2))], parents, revealed_by=gate))
    if rng.random() < 0.5:
        return ApplicationTemplate(name, "chain", tuple(nodes)), -1
    planner = len(nodes)
    above = (nodes[-1].name,) if rng.random() < 0.5 else ()
    nodes.append(TemplateNode("plan", StageKind.LLM, above))
    nodes.append(TemplateNode("tools", StageKind.DYNAMIC, ("plan",), revealed_by="plan"))
    nodes.extend(TemplateNode(f"tool{k}", kinds[k % 2], candidate_of="tools") for k in range(3))
    nodes.append(TemplateNode("answer", kinds[int(rng.integers(2))], ("tools",)))
    return ApplicationTemplate(name, "planning", tuple(nodes)), planner


def _random_block(rng: np.random.Generator, template: ApplicationTemplate, planner: int, n: int) -> JobBlock:
    """Draw `n` jobs; slots are the static nodes in order, with `SUB_SLOTS` slots in place of the candidates."""
    static = [node for node in template.nodes if node.candidate_of is None]
    slot_of = {node.name: i + (SUB_SLOTS if planner >= 0 and i > planner + 1 else 0) for i, node in enumerate(static)}
    slots = len(static) + (SUB_SLOTS if planner >= 0 else 0)
    blank = static_block(replace(template, nodes=template.nodes[:1] * slots), n, MAX_TASKS)
    node, revealer = np.zeros((n, slots), np.int64), np.full((n, slots), -1)
    parents = np.zeros((n, slots, slots), np.bool_)
    present = np.ones((n, slots), np.bool_)
    for one in static:
        slot = slot_of[one.name]
        node[:, slot] = template.index[one.name]
        parents[:, slot, [slot_of[parent] for parent in one.parents]] = True
        if one.revealed_by is not None and one.kind is not StageKind.DYNAMIC:
            gate = slot_of[one.revealed_by]
            revealer[:, slot] = gate
            present[:, slot] = present[:, gate] & (rng.random(n) < 0.5)
    block = blank._replace(node=node, revealer=revealer, parents=parents, present=present)
    block = draw_tasks(rng, block, np.ones((n, slots), np.bool_))
    return draw_plans(rng, template, planner, block, np.ones(n, np.bool_)) if planner >= 0 else block


def draw_tasks(rng: np.random.Generator, block: JobBlock, where: NDArray[np.bool_]) -> JobBlock:
    """Draw numbers of tasks, lengths, durations and prefixes anew for the slots `where` (n, S)."""
    shape = (*where.shape, MAX_TASKS)
    prompt = rng.integers(1, MAX_PROMPT + 1, shape)
    shortest = prompt.min(axis=2)
    shared = np.minimum(APP_PREFIX_TOKENS, shortest) * (rng.random(where.shape) < 0.5)
    chain = np.where(rng.random(where.shape) < 0.6, rng.integers(0, 2, where.shape), -1)
    chained = np.where(chain >= 0, np.maximum(shared, rng.integers(0, shortest + 1)), 0)
    duration = np.where(rng.random(shape) < 0.1, 0, rng.integers(0, LONGEST_NS, shape))
    fresh = {
        "n_tasks": rng.integers(1, MAX_TASKS + 1, where.shape),
        "prompt_tokens": prompt,
        "output_tokens": rng.integers(1, MAX_OUTPUT + 1, shape),
        "duration_ns": duration,
        "app_prefix": np.where(shared > 0, 0, -1),
        "app_prefix_tokens": shared,
        "job_prefix": chain,
        "job_prefix_tokens": chained,
    }
    changes = {
        name: np.where(where[:, :, None] if value.ndim == 3 else where, value, getattr(block, name))
        for name, value in fresh.items()
    }
    return block._replace(**changes)


def draw_plans(
    rng: np.random.Generator, template: ApplicationTemplate, planner: int, block: JobBlock, jobs: NDArray[np.bool_]
) -> JobBlock:
    """Draw the sub-DAGs of the jobs in the mask `jobs` (n,) anew: which stages, how often, in which order."""
    exists, node, revealer = block.exists.copy(), block.node.copy(), block.revealer.copy()
    parents = block.parents.copy()
    dynamic, first = planner + 1, planner + 2
    last = first + SUB_SLOTS
    candidates = [i for i, one in enumerate(template.nodes) if one.candidate_of is not None]
    for job in np.flatnonzero(jobs):
        size = int(rng.integers(0, SUB_SLOTS + 1))
        exists[job, first:last] = np.arange(SUB_SLOTS) < size
        node[job, first:last] = rng.choice(candidates, SUB_SLOTS)
        revealer[job, first:last] = planner
        parents[job, first:last, :] = False
        parents[job, last, first:last] = False
        for slot in range(first, first + size):
            earlier = np.flatnonzero(rng.random(slot - first) < 0.5) + first
            parents[job, slot, earlier if len(earlier) else [dynamic]] = True
        is_parent = parents[job, first:last, first:last].any(axis=0)
        parents[job, last, first:last] = exists[job, first:last] & ~is_parent
    return block._replace(exists=exists, node=node, revealer=revealer, parents=parents)


def random_cluster(rng: np.random.Generator, *, short_of_kv: bool) -> ClusterSpec:
    """Draw a cluster of one or two LLM groups and a few regular executors."""
    groups: list[dict[str, object]] = []
    for _ in range(int(rng.integers(1, 3))):
        block_size = int(rng.choice([1, 4, 16]))
        seqs = int(rng.integers(1, 5))
        groups.append(
            {
                "kind": "llm",
                "count": int(rng.integers(1, 3)),
                "latency": str(rng.choice(["llama-2-7b-h100", "one-second-per-token"])),
                "max_num_seqs": seqs,
                "max_num_batched_tokens": int(rng.integers(seqs, 90)),
                "kv_tokens": MAX_PROMPT + MAX_OUTPUT + block_size if short_of_kv else 4096,
                "block_size": block_size,
                "prefix_caching": bool(rng.random() < 0.5),
                "async_scheduling": bool(rng.random() < 0.5),
                "watermark": float(rng.choice([0.0, 0.0, 0.1])),
            }
        )
    groups.insert(int(rng.integers(len(groups) + 1)), {"kind": "regular", "count": int(rng.integers(1, 4))})
    for group in groups:
        if group["kind"] == "llm":
            group["async_scheduling"] = bool(rng.random() < 0.5)
    content: dict[str, object] = {"name": "random", "executors": groups}
    if rng.random() < 0.5:
        content |= {"models": {ANY_MODEL: {"weights_gb": 1.0, "kv_kib_per_token": 10.0}}} | _kv_transfer(rng)
    return ClusterSpec.model_validate(content)


def _kv_transfer(rng: np.random.Generator) -> dict[str, object]:
    rate = {"gb_per_s": float(rng.choice([23.0, 450.0, 1e5])), "latency_s": float(rng.choice([0.0, 1e-5]))}
    return {"kv_transfer": rate}


MODELS = ("small", "middle", "large")


def with_models(rng: np.random.Generator, workload: Workload) -> Workload:
    """Return a workload whose LLM stages ask for one of three models, by template node, and whose outputs vary."""
    tasks = workload.tasks.copy()
    stage = workload.stages[tasks["stage"]]
    app = workload.jobs["app"][stage["job"]]
    model = rng.integers(0, len(MODELS), (len(workload.templates), max(len(t.nodes) for t in workload.templates)))
    tasks["model"] = np.where(stage["kind"] == StageKind.LLM, model[app, stage["node"]], -1)
    tasks["output_bytes"] = rng.choice([0, 1, 10**6, 3 * 10**8], len(tasks))
    return replace(workload, models=MODELS, tasks=tasks)


def random_model_cluster(rng: np.random.Generator) -> ClusterSpec:
    """Draw a cluster whose executors serve several models each, in one to three places."""
    catalogue = {
        name: {"weights_gb": float(rng.integers(1, 5)), "kv_kib_per_token": float(rng.integers(1, 300))}
        for name in MODELS
    }
    places = ["here", 7, "there"][: int(rng.integers(1, 4))]
    groups: list[dict[str, object]] = []
    for _ in range(int(rng.integers(1, 3))):
        seqs = int(rng.integers(1, 5))
        served = [name for name in MODELS if rng.random() < 0.7] or [MODELS[0]]
        groups.append(
            {
                "kind": "llm",
                "count": int(rng.integers(1, 3)),
                "location": places[int(rng.integers(len(places)))],
                "max_num_seqs": seqs,
                "max_num_batched_tokens": int(rng.integers(seqs, 90)),
                "block_size": int(rng.choice([1, 4, 16])),
                "async_scheduling": bool(rng.random() < 0.5),
                "prefix_caching": bool(rng.random() < 0.7),
                "serves": {
                    name: {
                        "latency": str(rng.choice(["llama-2-7b-h100", "llama-3.1-8b-a100", "one-second-per-token"])),
                        "kv_tokens": int(rng.choice([MAX_PROMPT + MAX_OUTPUT + 16, 300, 4096])),
                    }
                    for name in served
                },
                "gpus": int(rng.integers(1, 3)),
                "memory_gb": float(rng.choice([6.0, 8.0, 20.0])),
                "resident": [str(rng.choice(served))] if rng.random() < 0.7 else [],
                "load": {
                    "overhead_s": float(rng.choice([0.0, 0.3])),
                    "gb_per_s": float(rng.choice([1.0, 50.0, 100_000.0])),
                },
                "activate_s": float(rng.choice([0.0, 0.0, 0.05])),
            }
        )
    for name in MODELS:  # somebody serves each
        if not any(name in group["serves"] for group in groups):  # pyright: ignore[reportOperatorIssue]
            groups[0]["serves"][name] = {"latency": "llama-2-7b-h100", "kv_tokens": 200}  # pyright: ignore
    groups.extend({"kind": "regular", "count": 1, "location": place} for place in places)  # all are somebody's
    links = [
        {
            "between": [a, b],
            "gb_per_s": float(rng.choice([0.1, 2.5, 23.0])),
            "latency_s": float(rng.choice([0.0, 0.0006])),
        }
        for k, a in enumerate(places)
        for b in places[k + 1 :]
    ]
    content = {"name": "random", "models": catalogue, "executors": groups, "links": links}
    return ClusterSpec.model_validate(content | (_kv_transfer(rng) if rng.random() < 0.5 else {}))


@dataclass(frozen=True)
class Case:
    """Everything about a random episode, in a few numbers that a failing test can print.

    Attributes:
        seed: Seed of workload, cluster and actions.
        n_apps: Applications.
        n_jobs: Jobs per application.
        n_stages: Most static stages of an application.
        spread_ns: Time within which all jobs arrive.
        short_of_kv: Whether an engine's KV cache holds little more than one request.
    """

    seed: int
    n_apps: int
    n_jobs: int
    n_stages: int
    spread_ns: int
    short_of_kv: bool

    def draw(self) -> tuple[Draft, ClusterSpec, np.random.Generator]:
        """Return a draft of the workload, a cluster that can run it, and a generator for the actions."""
        rng = np.random.default_rng(self.seed)
        draft = random_draft(rng, self.n_apps, self.n_jobs, self.n_stages, self.spread_ns)
        return draft, random_cluster(rng, short_of_kv=self.short_of_kv), rng


def cases() -> st.SearchStrategy[Case]:
    """Random episodes; shrinks towards few small jobs."""
    return st.builds(
        Case,
        seed=st.integers(0, 2**32 - 1),
        n_apps=st.integers(1, 2),
        n_jobs=st.integers(1, 6),
        n_stages=st.integers(1, 6),
        spread_ns=st.sampled_from([0, 10**7, 10**10]),
        short_of_kv=st.booleans(),
    )
