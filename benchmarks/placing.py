"""What it costs to choose a stage and an executor, for every policy that does.

    python benchmarks/placing.py [--stages 100] [--executors 8] [--plans] [--json]

Observations are drawn at random: so many ready stages, two thirds of them of one of seven models, every executor serves
each model, and half of the pairs may start now. Times are CPU time of the one thread inside ``act``; with ``--plans``,
those of a whole plan of each planner, where every ready stage is followed by one that asks for a model.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from llmsched_gym.envs.columns import Ahead, Candidate, Executor, Job, Node, Placement, Residency, System
from llmsched_gym.policies.plan_follower import PlanFollower
from llmsched_gym.policies.registry import joint_names, load_policy, placement_names, policy_class

MODELS: Final = 7
GOAL_US: Final = 200.0
PLAN_GOAL_US: Final = 30_000.0
PLANNERS: Final = ("fate", "fate?horizon=0", "fate?planner=greedy", "foresight", "halo")


def draw(stages: int, executors: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Return an observation with so many ready stages."""
    kinds = (np.arange(stages) % 3 == 2).astype(np.float32)  # LLM, LLM, regular
    llm = np.arange(executors) % 4 < 3
    serves = (kinds[:, None] == 0) == llm
    candidates = rng.random((stages, len(Candidate)), np.float32)
    candidates[:, Candidate.JOB] = np.arange(stages)
    candidates[:, Candidate.KIND] = kinds
    candidates[:, Candidate.TASKS_WAITING] = rng.integers(1, 9, stages)
    candidates[:, Candidate.PROMPT_TOKENS] = np.where(kinds == 0, 1000, 0)
    placements = rng.random((stages, executors, len(Placement)), np.float32)
    legal = serves & (rng.random((stages, executors)) < 0.5)
    placements[..., Placement.LEGAL] = legal
    placements[..., Placement.SERVES] = serves
    placements[..., Placement.WAIT_S] *= ~legal
    model = np.where(kinds == 0, rng.integers(0, MODELS, stages), -1)[:, None]
    placements[..., Placement.MODEL] = np.where(serves, model, -1)
    placements *= serves[..., None] | (np.arange(len(Placement)) == Placement.MODEL)
    nodes = np.zeros((2 * stages, len(Node)), np.float32)
    nodes[:, Node.JOB] = np.repeat(np.arange(stages), 2)
    nodes[:, Node.CANDIDATE] = np.where(np.arange(2 * stages) % 2 == 0, nodes[:, Node.JOB], -1)
    nodes[:, [Node.WORK_S, Node.DURATION_S, Node.POSTERIOR_WORK_S]] = rng.random((2 * stages, 1), np.float32)
    ahead = np.full((2 * stages, len(Ahead)), 100.0, np.float32)
    ahead[:, Ahead.MODEL] = rng.integers(0, MODELS, 2 * stages)
    ahead[::2, Ahead.MODEL] = model[:, 0]
    system = {System.CANDIDATES: stages, System.JOBS: stages, System.JOB_ROWS: stages}
    system |= {System.NODES: 2 * stages, System.EDGES: stages}
    executor_rows = rng.integers(0, 9, (executors, len(Executor))).astype(np.float32)
    executor_rows[:, Executor.KV_USED] /= 9
    executor_rows[:, Executor.SLOTS] = 16
    executor_rows[:, Executor.KIND] = ~llm
    models = (rng.random((executors, MODELS, len(Residency))) < 0.4).astype(np.float32)
    models[..., Residency.SERVES] = llm[:, None]
    models[..., Residency.STEP_S] = rng.uniform(0.005, 0.02, (executors, MODELS))
    jobs = rng.random((stages, len(Job)), np.float32)
    jobs[:, Job.AGE_S] = np.sort(jobs[:, Job.AGE_S])[::-1]
    return {
        "candidates": candidates,
        "jobs": jobs,
        "executors": executor_rows,
        "system": np.array([system.get(one, 0) for one in System], np.float32),
        "nodes": nodes,
        "edges": np.arange(2 * stages, dtype=np.int32).reshape(-1, 2),
        "ahead": ahead,
        "action_mask": np.append(legal.ravel(), True).astype(np.int8),
        "placements": placements,
        "models": models,
    }


def measure(name: str, observations: list[dict[str, NDArray[Any]]], repeats: int) -> NDArray[np.int64]:
    """Return int64 (n,) ns per decision or, of a planner, per plan; of each observation the least of the repeats."""
    policy, clock = load_policy(name), time.thread_time_ns
    policy.reset({"policy_seed": 0})
    decide = policy.plan if isinstance(policy, PlanFollower) else policy.act
    spent = np.zeros((repeats, len(observations)), np.int64)
    for repeat in range(repeats):
        for i, seen in enumerate(observations):
            begin = clock()
            decide(seen)
            spent[repeat, i] = clock() - begin
    return spent.min(axis=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=100)
    parser.add_argument("--executors", type=int, default=8)
    parser.add_argument("--plans", action="store_true", help="planners, not policies that decide at once")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    at_once = [name for name in joint_names() if not issubclass(policy_class(name), PlanFollower)]
    names = (*placement_names(), "mct?wait=true", "srtf+mct", *at_once)
    names = (*names, "min_min?state=blind", "heft?state=blind", "plas?short_tokens=500")
    if arguments.plans:
        names = PLANNERS
    observations = [draw(arguments.stages, arguments.executors, rng) for _ in range(20 if arguments.plans else 200)]
    report = {name: measure(name, observations, 3 if arguments.plans else 5) / 1e3 for name in names}
    rows = {
        name: {"mean_us": float(us.mean()), "p50_us": float(np.median(us)), "p99_us": float(np.percentile(us, 99))}
        for name, us in report.items()
    }
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    goal = f"{PLAN_GOAL_US:g} µs in the mean" if arguments.plans else f"{GOAL_US:g} µs"
    table = Table(
        *("policy", "mean µs", "p50 µs", "p99 µs"),
        title=f"{arguments.stages} ready stages, {arguments.executors} executors; goal: {goal}",
    )
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.1f}" for value in row.values()))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
