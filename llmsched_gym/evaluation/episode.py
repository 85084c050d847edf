"""Running one policy through one episode, with its decisions timed."""

from __future__ import annotations

import reprlib
import time
from dataclasses import replace
from functools import lru_cache
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import EpisodeLost, InputError, RunError
from llmsched_gym.evaluation.metrics import episode_metrics
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.base import Policy
from llmsched_gym.policies.registry import learned_names, load_policy, policy_names
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
    """Return the environment in which a policy is evaluated: its observation mode, and nothing hidden by a window.

    Args:
        setting: Jobs, cluster and load.
        policy: What it is built for.
        seed: Seed of the jobs.
        serving: The open servers of a setting that has real ones.
    """
    return SchedulingEnv(
        setting.scenario,
        workload=setting.workload(seed),
        observation=policy.observation,
        privileged=policy.privileged,
        max_candidates=None,
        max_jobs=None,
        profiler=setting.profiler,
        soft_evidence=setting.soft_evidence,
        backend="simulator" if serving is None else "vllm",
        servers=serving,
    )


@contained()
def play(env: SchedulingEnv, policy: Policy, spec: str, seed: int) -> tuple[dict[str, Any], NDArray[np.int64]]:
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
        chosen = _as_index(action)
        if chosen is None:
            allowed = f"an integer from 0 to {len(observation['action_mask']) - 1}"
            when = f"seed {seed}, decision {len(latencies) - 1}"
            told_action = " ".join(reprlib.repr(action).split())
            raise RunError(f"policy {spec}, {when}: got {told_action}; expected {allowed}")
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
        result, latencies_ns = play(env, policy, spec, seed)
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


@lru_cache
def warm_up(spec: str) -> None:
    """Compile, or load from the cache, what an episode of a built-in policy needs, so that none of it is timed."""
    name = spec.partition("?")[0]
    if name in policy_names() or name in learned_names():
        policy = load_policy(spec)
        play(make_env(example_setting(), policy, 0), policy, spec, 0)


def example_setting(*, profiler: bool = True) -> Setting:
    """Return a setting that takes an instant to play; its applications have profiles, so that inference runs too."""
    return replace(Setting.make("mixed", jobs=3), profiler=profiler)


def _as_index(action: Any) -> int | None:
    """Return an action as an integer; None if it is none: numbers with a fraction and booleans are mistakes."""
    try:
        return None if isinstance(action, bool) else index(action)
    except (Exception, SystemExit):  # the action may be an object of a user's class
        return None


def _blame(error: BaseException, spec: str, when: str) -> RunError:
    return RunError(f"policy {spec}, {when}: {told(error)}")
