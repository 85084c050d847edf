"""Random workloads on random clusters, on the simulator and on its model in plain Python: how many agree.

    python benchmarks/random_clusters.py [--clusters 5000] [--models] [--seed 0] [--json]

Compared to the nanosecond: when every task starts and finishes, first come first served. Compared exactly: the KV
blocks in use and the tokens generated so far on every LLM executor at every decision, as the observation tells them.
Clusters run short of KV blocks, batch synchronously and asynchronously, with and without prefix caching; jobs reveal,
skip and plan stages, arrive together, and have tasks that take no time; engines of some clusters fetch KV from each
other. With ``--models``, executors serve several models each, load and evict them, and fetch outputs that lie
elsewhere; dispatches go to one executor after the other. Exits with 1 if anything differs, and says which clusters.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from plain_simulator import PlainSimulator
from random_workloads import Case, random_model_cluster, with_models

from llmsched_gym.envs.columns import Executor
from llmsched_gym.envs.scheduling_env import SchedulingEnv


class Verdict(NamedTuple):
    """What became of one cluster.

    Attributes:
        equal: Whether all times are.
        readings: Rows of `executors` whose KV blocks in use and generated tokens were compared.
        wrong: How many of them differ.
        preemptions: Sequences that were preempted.
        loads: Dispatches that began to load a model, or to activate it.
        transfers: Dispatches that fetched KV.
    """

    equal: bool
    readings: int
    wrong: int
    preemptions: int
    loads: int
    transfers: int


def random_case(seed: int) -> Case:
    """Draw a case as the tests do, with larger ones among them."""
    rng = np.random.default_rng([seed, 1])
    return Case(
        seed=seed,
        n_apps=int(rng.integers(1, 3)),
        n_jobs=int(rng.integers(1, 9)),
        n_stages=int(rng.integers(1, 7)),
        spread_ns=int(rng.choice([0, 10**7, 10**10])),
        short_of_kv=bool(rng.random() < 0.5),
    )


def check(case: Case, *, models: bool = False) -> Verdict:
    """Run one case both ways; with `models`, on a cluster whose executors serve several."""
    draft, cluster, rng = case.draw()
    workload = draft.assemble()
    if models:
        workload, cluster = with_models(rng, workload), random_model_cluster(rng)
    plain = PlainSimulator(workload, cluster, rotate=models)
    start_ns, finish_ns = plain.run()
    env = SchedulingEnv(
        "toy",
        workload=workload,
        cluster=cluster,
        profiler=False,
        max_candidates=None,
        max_jobs=None,
        placement="agent" if models else "least_loaded",
    )
    observation, _ = env.reset(seed=0)
    rows = [e for e, one in enumerate(plain.executors) if one.models]
    readings = wrong = dispatches = 0
    done, info = False, {}
    while not done:
        expected = plain.used_at[env.episode.now_ns]
        for e, (used, blocks, tokens) in zip(rows, expected, strict=True):
            row = observation["executors"][e]
            readings += 1
            share = np.float32(used / blocks)
            wrong += bool(row[Executor.KV_USED] != share or row[Executor.DECODED_TOKENS] != tokens)
        action = (
            oldest(observation["action_mask"], len(plain.executors), dispatches)
            if models
            else int(observation["action_mask"].argmax())
        )
        dispatches += action < len(observation["action_mask"]) - 1
        observation, _, done, _, info = env.step(action)
    tasks = env.episode.state.tasks
    equal = tasks["start_ns"].tolist() == start_ns and tasks["finish_ns"].tolist() == finish_ns
    loads = int((tasks["load_ns"] > 0).sum())
    return Verdict(equal, readings, wrong, info["result"]["preemptions"], loads, plain.transfers)


def oldest(mask: NDArray[np.int8], executors: int, dispatches: int) -> int:
    """Return the action that dispatches the oldest stage that can be, to one executor after the other."""
    first = int(mask.argmax())
    if first == len(mask) - 1:
        return first
    row = first - first % executors
    able = np.flatnonzero(mask[row : row + executors])
    return row + int(able[dispatches % len(able)])


def main() -> None:
    """Check, and print how many agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=5000)
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.clusters)
    watched = Console(stderr=True)
    verdicts = {
        seed: check(random_case(seed), models=arguments.models)
        for seed in track(seeds, "random clusters", console=watched)
    }
    differ = [seed for seed, one in verdicts.items() if not one.equal or one.wrong]
    found: dict[str, Any] = {
        "clusters": len(verdicts),
        "equal": sum(one.equal for one in verdicts.values()),
        "readings": sum(one.readings for one in verdicts.values()),
        "wrong_readings": sum(one.wrong for one in verdicts.values()),
        "preemptions": sum(one.preemptions for one in verdicts.values()),
        "loads": sum(one.loads for one in verdicts.values()),
        "transfers": sum(one.transfers for one in verdicts.values()),
        "differ": differ,
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['equal']} of {found['clusters']} clusters equal ({found['preemptions']} preemptions, "
            f"{found['loads']} loads, {found['transfers']} transfers of KV), "
            f"{found['wrong_readings']} of {found['readings']} readings of KV blocks and tokens wrong"
        )
        if differ:
            print("different with --clusters 1 and --seed", *differ[:20])
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
