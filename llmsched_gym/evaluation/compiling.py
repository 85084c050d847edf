"""Compiled code made ready before a comparison, so that no episode waits for it.

From nothing, compiling takes longer than the episodes of a small comparison. Applications share hardly any code, and
neither do simulator and inference, which both need the applications: two processes compile first these, then those,
side by side into the cache on disk; every other process only loads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

from llmsched_gym._jit import cache_dir
from llmsched_gym.cluster.initial import initial_state
from llmsched_gym.evaluation.bounds import lower_bound_mean_jct
from llmsched_gym.evaluation.episode import example_setting, make_env, play, warm_up
from llmsched_gym.evaluation.workers import run_tasks
from llmsched_gym.policies.registry import load_policy, policy_names
from llmsched_gym.profiler.beliefs import refresh
from llmsched_gym.profiler.profiler import EpisodeBeliefs, shipped_profiler
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.history import application_history

COMPILING: Final = "compiling, this first time only: one to two minutes"
"""What to say before the first use of compiled code that is not `is_compiled`."""


def make_ready(specs: Sequence[str], workers: int, note: Callable[[str], None]) -> None:
    """Compile, or load from the cache, what episodes and bounds need.

    Args:
        specs: Policies of the comparison.
        workers: Processes that it may use; with one, this process compiles everything.
        note: Told, before it begins, that compiling takes its time.

    Raises:
        RunError: A process that compiled was killed.
    """
    missing = not is_compiled()
    if missing:
        note(COMPILING)
    if missing and workers > 1:
        for parts in (tuple(APPLICATIONS), ("simulator", "inference")):
            with closing(run_tasks(_compile, [(part,) for part in parts], 2, _name)) as compiled:
                for _ in compiled:
                    pass
    for spec in specs:
        warm_up(spec)


def is_compiled() -> bool:
    """Tell whether the cache holds the function that takes longest; Numba names its index after module and function."""
    return any(cache_dir().rglob(f"beliefs.{refresh.__name__}-*.nbi"))


def _name(task: tuple[str, ...]) -> str:
    return f"compiling {task[0]}"


def _compile(part: str) -> None:
    if part == "simulator":
        _compile_simulator()
    elif part == "inference":
        _compile_inference()
    else:
        application_history(part)


def _compile_simulator() -> None:
    """Compile what episodes without profiles run, in every observation mode, and the bounds."""
    setting = example_setting(profiler=False)
    lower_bound_mean_jct(setting.workload(0), setting.scenario.cluster)
    for name in policy_names():
        policy = load_policy(name)
        play(make_env(setting, policy, 0), policy, name, 0)


def _compile_inference() -> None:
    """Compile what keeps beliefs up to date; nothing of it need run, so that no simulator is needed."""
    setting = example_setting()
    workload = setting.workload(0)
    state = initial_state(workload, setting.scenario.cluster)
    beliefs = EpisodeBeliefs(shipped_profiler(), workload, soft_evidence=True)
    beliefs.refresh(state)


if __name__ == "__main__":  # before the tests, whose workers would compile the same at the same time
    make_ready((), 2, print)
