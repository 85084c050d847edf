"""Validation: the same jobs under the same policies on the simulator and on real servers.

Repetitions on the servers are interleaved over the policies, so that a busy hour of the host is shared by all of them,
and every finished run is kept, so that an interrupted validation goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.initial import initial_state
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, ClusterState
from llmsched_gym.evaluation.contestants import find_contestants, never_resumed
from llmsched_gym.evaluation.episode import find_policy, make_env, play, warm_up
from llmsched_gym.evaluation.runner import Progress
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import RunFolder
from llmsched_gym.user_code.containment import contained
from llmsched_gym.workloads.workload import Workload

if TYPE_CHECKING:
    from llmsched_gym.envs.serving import Serving

SIMULATOR: Final = "simulator"
VLLM: Final = "vllm"

_COLUMNS: Final = ("start_ns", "finish_ns", "executor", "cached_tokens")


@dataclass(frozen=True)
class Run:
    """One episode.

    Attributes:
        jct_s: float64 (jobs,).
        start_ns: int64 (tasks,). When each task was dispatched; FAR if never.
        finish_ns: int64 (tasks,).
        executor: int64 (tasks,).
        cached_tokens: int64 (tasks,). Prompt tokens from the prefix cache; -1 where a server does not tell.
        served: What the episode on real servers counted (`ServedRecord.summary`); empty for the simulator.
    """

    jct_s: NDArray[np.float64]
    start_ns: NDArray[np.int64]
    finish_ns: NDArray[np.int64]
    executor: NDArray[np.int64]
    cached_tokens: NDArray[np.int64]
    served: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mean_jct_s(self) -> float:
        """Mean job completion time."""
        return float(self.jct_s.mean())

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """Seconds from dispatch to completion, float64 (tasks,); NaN for tasks that never ran."""
        ran = self.start_ns != FAR
        return np.where(ran, np.where(ran, self.finish_ns - self.start_ns, 0) * 1e-9, np.nan)

    def content(self) -> dict[str, Any]:
        """Return it as JSON-able content."""
        columns = {name: getattr(self, name).tolist() for name in ("jct_s", *_COLUMNS)}
        return {**columns, "served": dict(self.served)}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Run:
        """Return the run that `content` stands for."""
        columns = {name: np.array(content[name], np.int64) for name in _COLUMNS}
        return cls(np.array(content["jct_s"], np.float64), **columns, served=content["served"])


@dataclass
class Validation:
    """Runs of the same jobs.

    Attributes:
        workload: The jobs.
        cluster: Executors, with the calibrated latency profile.
        policies: Specs, in the order asked for.
        simulated: One run per policy: the simulator repeats itself.
        served: Runs on real servers per policy, in order of repetition.
        wall_s: Seconds that the runs on servers took, in this call.
    """

    workload: Workload
    cluster: ClusterSpec
    policies: tuple[str, ...]
    simulated: dict[str, Run] = field(default_factory=dict)
    served: dict[str, list[Run]] = field(default_factory=dict)
    wall_s: float = 0.0

    @property
    def llm_tasks(self) -> NDArray[np.intp]:
        """Rows of the LLM tasks that ran."""
        ran = self.simulated[self.policies[0]].start_ns != FAR
        return np.flatnonzero((self.workload.tasks["model"] >= 0) & ran)


@contained()
def validate(
    setting: Setting,
    policies: Sequence[str],
    seed: int,
    repeats: int,
    serving: Serving,
    folder: Path,
    progress: Progress,
) -> Validation:
    """Run every policy once on the simulator and several times on real servers.

    Args:
        setting: Jobs and load, with the calibrated cluster.
        policies: Specs for `load_policy`.
        seed: Seed of the jobs in the setting's split.
        repeats: Runs per policy on the servers.
        serving: The servers of the setting's cluster.
        folder: Holds the runs.
        progress: Told about every run.

    Raises:
        InputError: The folder holds another validation, or a file cannot be read or written.
        RunError: A policy failed, or no server is left.
    """
    contestants = {one.spec: one for one in find_contestants(policies, served=True)}
    validation = Validation(setting.workload(seed), setting.scenario.cluster, tuple(policies))
    store = RunFolder(folder, {**setting.describe(), "seed": seed, "validated_on": serving.describe()})
    store.claim()
    wanted: list[tuple[str, str, int]] = [(SIMULATOR, policy, 0) for policy in policies]
    for repeat in range(repeats):
        turned = repeat % len(policies)  # no policy always follows the same one
        wanted += [(VLLM, policy, repeat) for policy in (*policies[turned:], *policies[:turned])]
    runs: dict[tuple[str, str, int], Run] = {}
    for one in contestants.values():
        if one.doubt:
            progress.note(never_resumed(one))
    for key in wanted:
        contestant = contestants[key[1]]
        found = None if contestant.doubt else store.find(_file(folder, *key), contestant.source)
        if found is not None:
            runs[key] = Run.of(found)
    progress.begin(len(wanted), len(runs))
    started = time.perf_counter()
    for key in wanted:
        if key not in runs:
            backend, policy, _ = key
            run = _run(setting, policy, seed, serving if backend == VLLM else None)
            store.keep(_file(folder, *key), contestants[policy].source, run.content())
            runs[key] = run
            progress.advance(f"{policy} on {backend}: mean JCT {run.mean_jct_s:.2f} s")
    validation.wall_s = time.perf_counter() - started
    for policy in policies:
        validation.simulated[policy] = runs[SIMULATOR, policy, 0]
        validation.served[policy] = [runs[VLLM, policy, repeat] for repeat in range(repeats)]
    return validation


def _file(folder: Path, backend: str, policy: str, repeat: int) -> Path:
    slug = re.sub(r"[^A-Za-z0-9_]+", "_", policy).strip("_")
    if slug != policy:
        slug = f"{slug[-40:]}_{hashlib.blake2b(policy.encode(), digest_size=4).hexdigest()}"
    return folder / "runs" / f"{backend}-{slug}-{repeat}.json"


def _run(setting: Setting, spec: str, seed: int, serving: Serving | None) -> Run:
    """Run one policy on one backend."""
    warm_up(spec)
    policy = find_policy(spec)
    env = make_env(setting, policy, seed, serving)
    try:
        result, _ = play(env, policy, spec, seed)
        tasks = env.episode.state.tasks
        columns = {name: tasks[name].astype(np.int64) for name in _COLUMNS}
    finally:
        env.close()
    if serving is not None:
        columns["cached_tokens"] = result["requests"]["cached_tokens"].astype(np.int64)
    return Run(np.asarray(result["jct_s"], np.float64), **columns, served=result.get("served", {}))


def final_state(validation: Validation, run: Run) -> ClusterState:
    """Return the cluster's state at the end of a run, as far as pictures need it."""
    state = initial_state(validation.workload, validation.cluster)
    for column in _COLUMNS:
        state.tasks[column] = getattr(run, column)
    state.jobs["finish_ns"] = state.jobs["arrival_ns"] + np.round(run.jct_s * 1e9).astype(np.int64)
    state.clock["now_ns"] = state.jobs["finish_ns"].max()
    state.clock["arrived"] = state.clock["done"] = len(state.jobs)
    return state
