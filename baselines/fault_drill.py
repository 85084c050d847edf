"""Rehearses faults of real vLLM servers in the middle of episodes, and checks that nothing is lost.

    python baselines/fault_drill.py [--fault NAME ...] [--jobs N] [--policy NAME] [--model dummy:tiny]

Launches two servers (vLLM must be installed, ``make vllm``) and plays one episode per fault on them, through proxies
that can spoil replies (`fault_proxy`):

- ``kill``: the first server is killed while it generates, and started again; it must serve again in the same episode;
- ``hang``: it stops in its tracks for longer than the requests' time-out, then goes on;
- ``burst``: it answers a burst of requests with HTTP 503;
- ``spoilt``: one reply each is cut, ended too early, garbled, miscounted, and never given.

A fault strikes when a quarter of the jobs is done, and the last quarter is held back until it is over, so that the
server that failed has work to come back to. After each episode, all jobs must be finished, every LLM task must have
exactly one accepted reply with exactly its token counts, and every failed attempt must have been counted. Prints a
table; the exit code is 1 if anything is missing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from fault_proxy import Fault, FaultProxy

from llmsched_gym.backends.vllm.launch import Server, launch_all
from llmsched_gym.cli.console import note, print_table
from llmsched_gym.cluster.state import JobStatus, TaskStatus
from llmsched_gym.envs.columns import Executor
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.policies.base import Policy
from llmsched_gym.policies.registry import load_policy

TIMEOUT_S: Final = 3.0
"""Silence after which a request is given up; a tiny model prefills the longest prompt in much less."""

HANG_S: Final = 6.0
DOWN_S: Final = 2.0
"""Time before a killed server is started again."""

JOBS_PER_S: Final = 2.0

COUNTERS: Final = ("retries", "quarantines", "refused", "timeouts", "http_errors", "malformed", "duplicate_outputs")


@dataclass
class Scene:
    """What a fault works on.

    Attributes:
        server: The server that fails.
        proxy: The proxy before it.
        running: False when the episode has ended.
    """

    server: Server
    proxy: FaultProxy
    running: Callable[[], bool]

    def busy(self) -> None:
        """Wait until the server works on a request."""
        while self.running() and not self.proxy.active:
            time.sleep(0.001)

    def strike(self, fault: Fault) -> None:
        """Let requests fail until the fault has done its work."""
        self.proxy.fault = fault
        while self.proxy.fault is not None and self.running():
            time.sleep(0.01)


def kill(scene: Scene) -> None:
    """Kill the server, and start it again a little later."""
    scene.busy()
    scene.server.kill()
    time.sleep(DOWN_S)
    scene.server.restart()


def hang(scene: Scene) -> None:
    """Stop the server for a while."""
    scene.busy()
    group = scene.server.pid
    if group is not None:
        os.killpg(group, signal.SIGSTOP)
        time.sleep(HANG_S)
        os.killpg(group, signal.SIGCONT)


def burst(scene: Scene) -> None:
    """Refuse the next requests with HTTP 503."""
    scene.strike(Fault("status", times=6))


def spoilt(scene: Scene) -> None:
    """Spoil one reply after the other."""
    for kind in ("cut", "end", "garble", "miscount", "hold"):
        scene.strike(Fault(kind))


@dataclass(frozen=True)
class Drill:
    """One fault and what it must leave in the counters.

    Attributes:
        strike: Makes the fault happen, and ends when it is over.
        counted: The least that counters must say afterwards.
    """

    strike: Callable[[Scene], None]
    counted: Mapping[str, int]


DRILLS: Final = {
    "kill": Drill(kill, {"refused": 1}),
    "hang": Drill(hang, {"timeouts": 1}),
    "burst": Drill(burst, {"http_errors": 6}),
    "spoilt": Drill(spoilt, {"refused": 1, "malformed": 3, "timeouts": 1}),
}


@dataclass(frozen=True)
class Report:
    """How one drill went.

    Attributes:
        fault: Its name.
        jobs: Finished jobs, and all.
        tasks: Accepted replies, and LLM tasks.
        served: What the episode counted.
        after: Replies of the failed server after the fault was over.
        seconds: Time that the episode took.
        problems: What is wrong; empty if nothing is.
    """

    fault: str
    jobs: tuple[int, int]
    tasks: tuple[int, int]
    served: dict[str, Any]
    after: int
    seconds: float
    problems: tuple[str, ...]


def rehearse(name: str, servers: Sequence[Server], jobs: int, policy: str) -> Report:
    """Play an episode in which the first server fails.

    Raises:
        RunError: The episode ended early.
    """
    begin, end = threading.Event(), threading.Event()
    passed_before = 0

    def strike() -> None:
        nonlocal passed_before
        begin.wait()
        DRILLS[name].strike(Scene(servers[0], failing, lambda: not end.is_set()))
        passed_before = failing.passed
        end.set()

    with FaultProxy(servers[0].url) as failing, FaultProxy(servers[1].url) as sound:
        env = SchedulingEnv(
            "chain",
            jobs=jobs,
            rate=JOBS_PER_S,
            served={"servers": [failing.url, sound.url], "request_timeout_s": TIMEOUT_S},
        )
        thread = threading.Thread(target=strike, name="fault-drill")
        thread.start()
        try:
            result, seconds = _play(env, load_policy(policy), begin, end)
        finally:
            end.set()
            begin.set()
            thread.join()
            env.close()
    return _judge(name, env, result, failing.passed - passed_before, seconds)


def _play(
    env: SchedulingEnv, policy: Policy, begin: threading.Event, end: threading.Event
) -> tuple[dict[str, Any], float]:
    """Play an episode: set `begin` after a quarter of the jobs, and hold the last quarter back until `end` is set."""
    observation, info = env.reset(seed=0)
    policy.reset(info)
    started, terminated, jobs = time.perf_counter(), False, env.workload.n_jobs
    while not terminated:
        done = env.episode.state.clock[0]["done"]
        if done >= jobs // 4:
            begin.set()
        action, mask = policy.act(observation), observation["action_mask"]
        away = not end.is_set() or not observation["executors"][:, Executor.SLOTS].all()
        if away and done >= jobs * 3 // 4 and mask[-1]:
            action = len(mask) - 1  # wait
        observation, _, terminated, _, info = env.step(action)
    return info["result"], time.perf_counter() - started


def _judge(name: str, env: SchedulingEnv, result: dict[str, Any], after: int, seconds: float) -> Report:
    state, truth, llm = env.episode.state, env.workload.tasks, env.workload.tasks["model"] >= 0
    served, requests = result["served"], result["requests"]
    n_llm, accepted = int(np.count_nonzero(llm)), int(served["accepted_requests"])
    finished = int(np.count_nonzero(state.jobs["status"] == JobStatus.DONE))
    exact = all((requests[column][llm] == truth[column][llm]).all() for column in ("prompt_tokens", "output_tokens"))
    problems = [
        text
        for wrong, text in (
            (finished != env.workload.n_jobs, "jobs are lost"),
            ((state.tasks["status"] != TaskStatus.DONE).any(), "tasks are not done"),
            (accepted != n_llm, "accepted replies are not one per task"),
            (not exact, "token counts differ from the workload's"),
            (requests["attempts"][llm].sum() != n_llm + served["retries"], "attempts do not add up"),
            (state.executors["running"].any(), "slots are still taken"),
            (after == 0, "the server that failed did not serve again"),
            *((served[counter] < least, f"{counter} below {least}") for counter, least in DRILLS[name].counted.items()),
        )
        if wrong
    ]
    jobs, tasks = (finished, env.workload.n_jobs), (accepted, n_llm)
    return Report(name, jobs, tasks, served, after, seconds, tuple(problems))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drills; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", action="append", choices=tuple(DRILLS), help="default: all of them")
    parser.add_argument("--jobs", type=int, default=24, help="jobs per episode; default: 24")
    parser.add_argument("--policy", default="srtf", help="default: srtf")
    parser.add_argument("--model", default="dummy:tiny", help="what both servers serve; default: dummy:tiny")
    arguments = parser.parse_args(argv)
    servers: Sequence[Server] = ()
    try:
        note("starting two servers")
        servers = launch_all([arguments.model] * 2)
        reports = []
        for name in arguments.fault or DRILLS:
            note(f"drill: {name}")
            reports.append(rehearse(name, servers, arguments.jobs, arguments.policy))
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    finally:
        for server in servers:
            server.stop()
    show(reports)
    return 1 if any(report.problems for report in reports) else 0


def show(reports: Sequence[Report]) -> None:
    """Print the table of reports."""
    rows = [
        [
            report.fault,
            f"{report.jobs[0]}/{report.jobs[1]}",
            f"{report.tasks[0]}/{report.tasks[1]}",
            *(report.served[counter] for counter in COUNTERS),
            report.after,
            report.seconds,
            "; ".join(report.problems) or "ok",
        ]
        for report in reports
    ]
    columns = ["fault", "jobs", "LLM tasks", *(counter.replace("_", " ") for counter in COUNTERS)]
    print_table("Fault drill", [*columns, "served after", "seconds", "verdict"], rows)


if __name__ == "__main__":
    sys.exit(main())
