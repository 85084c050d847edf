"""Running one policy through one episode, with its decisions timed."""

from __future__ import annotations

import reprlib
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._code.ahead import announce
from llmsched_gym._code.parts import BOUND, episode_parts, policy_part
from llmsched_gym.envs.arguments import read_action
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import EpisodeLost, InputError, Plain, RunError
from llmsched_gym.evaluation.growing import Playable, small_tables
from llmsched_gym.evaluation.metrics import episode_metrics
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.base import PlacementMode, Policy
from llmsched_gym.policies.registry import is_built_in, load_policy, shows_graph
from llmsched_gym.user_code.containment import contained
from llmsched_gym.user_code.faults import told

if TYPE_CHECKING:
    from llmsched_gym.envs.serving import Serving


@contained()
def find_policy(spec: str) -> Policy:
    """Make a policy, whatever its author's code may do.

    Raises:
        InputError: There is no such policy.
        RunError: Its module or factory raised an exception, or tried to end the process.
    """
    try:
        return load_policy(spec)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's code is reported with the place where it failed, or gave up
        raise _blame(error, spec, "loading") from error


def make_env(setting: Setting, policy: Policy, seed: int, serving: Serving | None = None) -> SchedulingEnv:
    """Return the environment in which a policy is evaluated: its observation and placement, nothing hidden by a window.

    Args:
        setting: Jobs, cluster and load.
        policy: What it is built for.
        seed: Seed of the jobs.
        serving: The open servers of a setting that has real ones.

    Raises:
        InputError: The policy chooses executors, and there are real servers.
    """
    if serving is not None:
        check_served(policy.name, policy.placement)
    return SchedulingEnv(
        setting.scenario,
        workload=setting.workload(seed),
        observation=policy.observation,
        privileged=policy.privileged,
        placement=policy.placement,
        max_candidates=None,
        max_jobs=None,
        profiler=setting.profiler,
        soft_evidence=setting.soft_evidence,
        served=serving,
    )


def check_served(policy: str, placement: PlacementMode) -> None:
    """Check that a policy can run on real servers.

    Raises:
        InputError: It chooses executors by what a placement would cost, which only the simulator tells.
    """
    if placement == "agent":
        raise InputError("policy", policy, Plain("a policy that chooses executors"), "the simulator, no real servers")


@contained()
def play(env: Playable, policy: Policy, spec: str, seed: int) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Let a policy decide until the last job is finished.

    Returns:
        ``info["result"]``, and int64 (n_decisions,) nanoseconds spent inside ``policy.act``.

    Raises:
        RunError: The policy raised an exception or tried to end the process, or what it returned is no action.
    """
    observation, info = env.reset(seed=seed)
    latencies: list[int] = []
    clock = time.perf_counter_ns
    terminated = False
    try:
        policy.reset(info)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's policy may raise is reported with the place where it did
        raise _blame(error, spec, f"seed {seed}, reset") from error
    while not terminated:
        try:
            before = clock()
            action = policy.act(observation)
            latencies.append(clock() - before)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as above
            raise _blame(error, spec, f"seed {seed}, decision {len(latencies)}") from error
        try:
            chosen = read_action(action)
        except (Exception, SystemExit):  # the action may be an object of a user's class
            allowed = f"a whole number from 0 to {len(observation['action_mask']) - 1}"
            when = f"seed {seed}, decision {len(latencies) - 1}"
            told_action = " ".join(reprlib.repr(action).split())
            raise RunError(f"policy {spec}, {when}: got {told_action}; expected {allowed}") from None
        observation, _, terminated, _, info = env.step(chosen)
    return info["result"], np.asarray(latencies, dtype=np.int64)


def run_episode(setting: Setting, spec: str, seed: int, serving: Serving | None = None) -> dict[str, Any]:
    """Run one policy on the jobs of one seed.

    Args:
        setting: Jobs, cluster and load.
        spec: Policy.
        seed: Seed of the jobs.
        serving: The open servers of a setting that has real ones.

    Returns:
        JSON-able: ``policy``, ``seed``, ``workload_digest``, ``metrics`` (see `episode_metrics`), ``jct_s`` per job. On
        real servers the metrics have what `ServedRecord.summary` tells, and ``requests`` holds one list per column of
        `REQUEST`, one entry per task.

    Raises:
        RunError: The policy raised an exception.
        EpisodeLost: No server is left; ``partial`` says which policy and seed it was.
    """
    warm_up(spec)
    policy = find_policy(spec)
    env = make_env(setting, policy, seed, serving)
    workload = setting.workload(seed)
    begun = {"policy": spec, "seed": seed, "workload_digest": workload.digest}
    try:
        result, latencies_ns = play(small_tables(env) if serving is None else env, policy, spec, seed)
    except EpisodeLost as lost:
        lost.partial = {**begun, **lost.partial}
        raise
    finally:
        env.close()
    metrics = episode_metrics(result, [template.name for template in workload.templates], latencies_ns)
    content = {**begun, "metrics": metrics, "jct_s": [float(value) for value in result["jct_s"]]}
    if serving is not None:
        metrics |= result["served"]
        content["requests"] = {name: result["requests"][name].tolist() for name in result["requests"].dtype.names}
    return content


def announce_episodes(setting: Setting, specs: Iterable[str], workers: int | None = None) -> None:
    """Have what episodes of policies and the lower bounds need compiled together, once something of it is missing.

    Args:
        setting: What the policies meet.
        specs: Policies.
        workers: Most processes that may compile; default: one per core.
    """
    ours = [spec.partition("?")[0] for spec in specs if is_built_in(spec)]
    graph = any(map(shows_graph, ours))
    applications = dict.fromkeys((*example_setting().scenario.applications, *setting.scenario.applications))
    announce(*episode_parts(applications, profiler=True, graph=graph), BOUND, *map(policy_part, ours), helpers=workers)


@lru_cache
def warm_up(spec: str) -> None:
    """Compile, or load from the cache, what an episode of a built-in policy needs, so that none of it is timed."""
    if is_built_in(spec):
        policy = load_policy(spec)
        play(make_env(example_setting(), policy, 0), policy, spec, 0)


def example_setting(*, profiler: bool = True) -> Setting:
    """Return a setting that takes an instant to play; its applications have profiles, so that inference runs too."""
    return replace(Setting.make("mixed", jobs=3), profiler=profiler)


def _blame(error: BaseException, spec: str, when: str) -> RunError:
    return RunError(f"policy {spec}, {when}: {told(error)}")
