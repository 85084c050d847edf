"""Random workloads on random clusters, on the simulator and on its model in plain Python: how many agree.

    python benchmarks/random_clusters.py [--clusters 5000] [--seed 0] [--json]

Compared to the nanosecond: when every task starts and finishes, first come first served. Compared exactly: the KV
blocks in use and the tokens generated so far on every LLM executor at every decision, as the observation tells them.
Clusters run short of KV blocks, batch synchronously and asynchronously, with and without prefix caching; jobs reveal,
skip and plan stages, arrive together, and have tasks that take no time. Exits with 1 if anything differs, and says
which clusters.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from plain_simulator import PlainSimulator
from random_workloads import Case

from llmsched_gym.envs.columns import Executor
from llmsched_gym.envs.scheduling_env import SchedulingEnv


class Verdict(NamedTuple):
    """What became of one cluster.

    Attributes:
        equal: Whether all times are.
        readings: Rows of `executors` whose KV blocks in use and generated tokens were compared.
        wrong: How many of them differ.
        preemptions: Sequences that were preempted.
    """

    equal: bool
    readings: int
    wrong: int
    preemptions: int


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


def check(case: Case) -> Verdict:
    """Run one case both ways."""
    draft, cluster, _ = case.draw()
    workload = draft.assemble()
    plain = PlainSimulator(workload, cluster)
    start_ns, finish_ns = plain.run()
    env = SchedulingEnv("toy", workload=workload, cluster=cluster, profiler=False, max_candidates=None, max_jobs=None)
    observation, _ = env.reset(seed=0)
    rows = [e for e, one in enumerate(plain.executors) if one.engine is not None]
    total = env.episode.state.executors["engine"][rows]
    assert (total >= 0).all()
    readings = wrong = 0
    done, info = False, {}
    while not done:
        expected = plain.used_at[env.episode.now_ns]
        for e, (used, tokens) in zip(rows, expected, strict=True):
            row = observation["executors"][e]
            readings += 1
            share = np.float32(used / plain.blocks_of(e))
            wrong += bool(row[Executor.KV_USED] != share or row[Executor.DECODED_TOKENS] != tokens)
        observation, _, done, _, info = env.step(int(observation["action_mask"].argmax()))
    tasks = env.episode.state.tasks
    equal = tasks["start_ns"].tolist() == start_ns and tasks["finish_ns"].tolist() == finish_ns
    return Verdict(equal, readings, wrong, info["result"]["preemptions"])


def main() -> None:
    """Check, and print how many agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.clusters)
    watched = Console(stderr=True)
    verdicts = {seed: check(random_case(seed)) for seed in track(seeds, "random clusters", console=watched)}
    differ = [seed for seed, one in verdicts.items() if not one.equal or one.wrong]
    found: dict[str, Any] = {
        "clusters": len(verdicts),
        "equal": sum(one.equal for one in verdicts.values()),
        "readings": sum(one.readings for one in verdicts.values()),
        "wrong_readings": sum(one.wrong for one in verdicts.values()),
        "preemptions": sum(one.preemptions for one in verdicts.values()),
        "differ": differ,
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['equal']} of {found['clusters']} clusters equal ({found['preemptions']} preemptions), "
            f"{found['wrong_readings']} of {found['readings']} readings of KV blocks and tokens wrong"
        )
        if differ:
            print("different with --clusters 1 and --seed", *differ[:20])
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
