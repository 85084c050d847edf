"""The parts of the code that processes need (`ahead`). Each is compiled by using it, as little as will do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from llmsched_gym._code.ahead import Part

BOUND: Final = (f"{__name__}:bound_jobs",)
VECTOR: Final = (f"{__name__}:step_several",)
REPLAY: Final = (f"{__name__}:replay_requests",)
SCHEDULERS: Final = ("heft", "cpop", "peft")
"""Policies that choose executors, and have compiled code of their own."""


def episode_parts(applications: Iterable[str], *, profiler: bool, graph: bool = False) -> Iterator[Part]:
    """Yield what the first steps of an environment need, the longest first.

    Args:
        applications: Names of the applications whose jobs are drawn.
        profiler: Whether there are profiles behind its observations.
        graph: Whether it shows graphs.
    """
    yield f"{__name__}:step_one", "graph" if graph else "table", "profiler" if profiler else "no profiler"
    if profiler:
        yield (f"{__name__}:infer",)
    yield from job_parts(applications)


def job_parts(applications: Iterable[str]) -> Iterator[Part]:
    """Yield what draws the jobs of applications."""
    for application in applications:
        yield f"{__name__}:draw_jobs", application


def policy_part(name: str) -> Part:
    """Return what a policy of this package needs besides an episode."""
    return f"{__name__}:play", name


def all_parts() -> tuple[Part, ...]:
    """Return everything that there is, but what only real servers need."""
    from llmsched_gym.policies.registry import policy_names
    from llmsched_gym.workloads.applications import APPLICATIONS

    policies = map(policy_part, (*policy_names(), *SCHEDULERS))
    return (*episode_parts(APPLICATIONS, profiler=True), VECTOR, BOUND, REPLAY, *policies)


def draw_jobs(application: str) -> None:
    """Draw the jobs of an application, and count its historical means."""
    from llmsched_gym.workloads.applications import without_groups
    from llmsched_gym.workloads.history import application_history

    application_history(next(iter(without_groups({application: 1.0}))))  # the members of a group share their code


def infer() -> None:
    """Make the shipped profiles ready, and bring beliefs up to date."""
    from llmsched_gym.cluster.initial import initial_state
    from llmsched_gym.profiler.beliefs import refresh_beliefs
    from llmsched_gym.profiler.profiler import shipped_profiler
    from llmsched_gym.scenario import load_scenario

    scenario = load_scenario("toy")
    workload = scenario.build("train", 0)
    profiler, state = shipped_profiler(), initial_state(workload, scenario.cluster)
    refresh_beliefs(state, profiler.inference, profiler.beliefs(workload), True)


def step_one(observation: str, profiler: str) -> None:
    """Play an episode without looking, in an environment."""
    from llmsched_gym.envs.scheduling_env import SchedulingEnv

    graph, knows = observation == "graph", profiler == "profiler"
    env = SchedulingEnv("toy", observation="graph" if graph else "table", profiler=knows, privileged=graph)
    _, info = env.reset(seed=0)
    over = False
    while not over:
        _, _, over, _, info = env.step(int(info["action_mask"].argmax()))


def step_several() -> None:
    """Step a vector environment."""
    from llmsched_gym.envs.vector_env import SchedulingVectorEnv

    for profiler in (True, False):
        envs = SchedulingVectorEnv("toy", num_envs=2, profiler=profiler)
        envs.reset(seed=0)
        for _ in range(20):
            envs.step(envs.action_masks().argmax(1))


def play(policy: str) -> None:
    """Let a policy of this package decide."""
    from llmsched_gym.evaluation.episode import warm_up

    warm_up(policy)


def bound_jobs() -> None:
    """Work out the lower bound of a workload."""
    from llmsched_gym.evaluation.bounds import lower_bound_mean_jct
    from llmsched_gym.scenario import load_scenario

    scenario = load_scenario("toy")
    lower_bound_mean_jct(scenario.build("train", 0), scenario.cluster)


def replay_requests() -> None:
    """Serve a request with one engine."""
    import numpy as np

    from llmsched_gym.backends.replay import RequestLog, serve
    from llmsched_gym.backends.simulator.state import EngineConfig
    from llmsched_gym.cluster.latency import list_profiles, load_profile

    one = np.ones(1, np.int64)
    serve(RequestLog(["0"], one, one, one), EngineConfig(load_profile(list_profiles()[0])))
