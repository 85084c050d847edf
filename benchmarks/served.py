"""How much time we add on real servers: from a slot that becomes free to the next request on the wire.

    python benchmarks/served.py [--servers URL,URL] [--policies fcfs,srtf,llmsched] [--jobs 200]

Without ``--servers``, two tiny dummy models are launched (``make vllm``). All jobs of the planning workload arrive
within a fraction of a second; what counts are the requests sent while at least ``--jobs`` jobs are in the system. For
each it is known when it could have been sent (its stage was ready and a slot was free), when the policy had decided,
and when its last byte had been written to its connection. Needs a machine that does little else.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing

import numpy as np

from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.cli.console import note, print_table
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.serving import Serving
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.scenario import load_scenario

FINISHED = 60
"""Jobs that finish before an episode is broken off: as many arrive beyond those that are to be present."""

GOAL_MS = 5.0


def measure(serving: Serving, name: str, present: int) -> list[object]:
    """Run one policy until fewer than `present` jobs are left, and return a row of the table."""
    scenario = load_scenario("planning").replaced(jobs=present + FINISHED, rate=2000.0)
    workload = scenario.build("eval", 0)
    env = SchedulingEnv(scenario, workload=workload, max_candidates=None, max_jobs=None, served=serving)
    with closing(env):
        policy = load_policy(name)
        observation, info = env.reset(seed=0)
        policy.reset(info)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        clock = env.episode.state.clock
        first_ns = None
        while clock["done"][0] < FINISHED:
            if first_ns is None and clock["active"][0] >= present:
                first_ns = int(clock["now_ns"][0])
            observation, *_ = env.step(policy.act(observation))
        share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
        requests = serving.requests()
    sent = requests[(requests["sent_ns"] < clock["now_ns"][0]) & (requests["start_ns"] >= (first_ns or 0))]
    parts = [
        (sent["sent_ns"] - sent["enabled_ns"]) * 1e-6,
        (sent["start_ns"] - sent["enabled_ns"]) * 1e-6,
        (sent["sent_ns"] - sent["start_ns"]) * 1e-6,
    ]
    percentiles = [float(np.percentile(part, q)) for part in parts for q in (50, 99)]
    return [name, len(sent), *percentiles, share]


def main() -> int:
    """Measure and print; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="dummy:tiny,dummy:tiny")
    parser.add_argument("--policies", default="fcfs,srtf,llmsched")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--stream", action="store_true", help="stream replies, as environments do by default")
    arguments = parser.parse_args()
    cluster = ClusterSpec.model_validate(
        {
            "executors": [
                {"kind": "llm", "latency": "llama-2-7b-h100", "max_num_seqs": 8},
                {"kind": "regular", "count": 16},
            ]
        }
    )
    rows = []
    try:
        with closing(Serving(ServedOptions.make(arguments.servers, stream=arguments.stream), cluster)) as serving:
            serving.open()
            for name in arguments.policies.split(","):
                measure(serving, name, 20)  # compiles what the policy runs
                rows.append(measure(serving, name, arguments.jobs))
    except (InputError, RunError) as error:
        note(f"error: {error}")
        return 2
    title = f"at least {arguments.jobs} jobs present; milliseconds"
    columns = ["policy", "requests", "P50 in all", "P99", "P50 to the decision", "P99", "P50 to the wire", "P99", "CPU"]
    print_table(title, columns, rows)
    return 0 if all(float(str(row[2])) <= GOAL_MS for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
