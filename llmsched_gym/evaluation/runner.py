"""Comparisons: policies × seeds of one setting, in worker processes, resumable."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmsched_gym.errors import EpisodeLost, InputError
from llmsched_gym.evaluation.bounds import lower_bound_mean_jct
from llmsched_gym.evaluation.contestants import Contestant, find_contestants, never_resumed
from llmsched_gym.evaluation.episode import announce_episodes, run_episode, warm_up
from llmsched_gym.evaluation.ray_tasks import run_on_ray
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import RunFolder
from llmsched_gym.evaluation.workers import run_tasks
from llmsched_gym.user_code.containment import contained

if TYPE_CHECKING:
    from llmsched_gym.envs.serving import Serving

BASELINE: Final = "fcfs"
"""Policy that reductions are relative to."""

NORMALISER: Final = "round_robin"
"""Policy that placements are relative to, as in the literature on placing."""


class Progress(Protocol):
    """Told how far a comparison is."""

    def note(self, text: str) -> None:
        """Say something once."""
        ...

    def begin(self, total: int, done: int) -> None:
        """Begin with `done` of `total` results present."""
        ...

    def advance(self, text: str) -> None:
        """One more result, described by `text`."""
        ...


class Silent:
    """Progress that nobody watches."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def begin(self, total: int, done: int) -> None:
        """Say nothing."""

    def advance(self, text: str) -> None:
        """Say nothing."""


@dataclass
class Comparison:
    """Results of one setting.

    Attributes:
        setting: What all policies met.
        seeds: Seeds, in the order asked for.
        contestants: Policies, in the order asked for.
        episodes: Result of `run_episode` per (spec, seed); of several repetitions that of the median mean JCT.
        bounds: Per seed: ``workload_digest`` and ``lower_bound_mean_jct_s``.
        warm_up_s: Seconds that compiling, or loading compiled code, took.
        wall_s: Seconds that the whole comparison took.
        resumed: How many results were there already.
        repetitions: All results per (spec, seed), by repetition.
        servers: What results on real servers depend on besides the setting; None for the simulator.
    """

    setting: Setting
    seeds: tuple[int, ...]
    contestants: tuple[Contestant, ...]
    episodes: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    bounds: dict[int, dict[str, Any]] = field(default_factory=dict)
    warm_up_s: float = 0.0
    wall_s: float = 0.0
    resumed: int = 0
    repetitions: dict[tuple[str, int], dict[int, dict[str, Any]]] = field(default_factory=dict)
    servers: dict[str, Any] | None = None

    def contestant(self, label: str) -> Contestant | None:
        """Return the policy of that name, if it is compared."""
        return next((contestant for contestant in self.contestants if contestant.label == label), None)

    def metric(self, contestant: Contestant, name: str) -> list[float]:
        """Return a metric of a policy, one value per seed."""
        return [self.episodes[contestant.spec, seed]["metrics"][name] for seed in self.seeds]


@contained()
def compare(
    setting: Setting,
    policies: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    workers: int | None = None,
    progress: Progress | None = None,
    ray: bool = False,
) -> Comparison:
    """Run every policy on the jobs of every seed; results that `folder` holds already are not computed again.

    Args:
        setting: Scenario, number of jobs, load and cluster.
        policies: Specs for `load_policy`.
        seeds: Seeds of the evaluation split.
        folder: Where results are kept (`RunFolder`).
        workers: Processes; default: one per core.
        progress: Told how far the comparison is.
        ray: Whether the episodes run on a Ray cluster (`run_on_ray`) instead of processes of this machine.

    On real servers episodes run one after another in this process, repetitions of all policies in turn.

    Raises:
        InputError: A policy cannot be loaded, the folder belongs to another comparison, or the setting is not possible.
        RunError: A policy raised an exception or ended its process, or a server does not start.
        EpisodeLost: No server is left; what had come of the episode is kept beside the finished ones.
    """
    progress = progress or Silent()
    processes = 1 if setting.serving is not None else workers or os.cpu_count() or 1
    started = time.perf_counter()
    contestants = find_contestants(policies, served=setting.serving is not None)
    comparison = Comparison(setting, tuple(seeds), contestants)
    with _serving(setting) as serving:
        comparison.servers = None if serving is None else serving.describe() | {"tool_sources": setting.tool_sources()}
        run = RunFolder(folder, setting.describe() | {"served_by": comparison.servers})
        missing = _gather(comparison, run, progress)
        present = len(seeds) * (len(contestants) * setting.repeats + 1) - len(missing)
        comparison.resumed = present
        if missing:
            before = time.perf_counter()
            setting.scenario.cluster.check_serves(setting.workload(missing[0][2]))
            run.claim()
            announce_episodes(setting, policies, workers)
            for spec in policies:
                warm_up(spec)
            comparison.warm_up_s = time.perf_counter() - before
            progress.note(f"compiled code and historical means ready after {comparison.warm_up_s:.1f} s")
        progress.begin(present + len(missing), present)
        work = _work if serving is None else partial(_work, serving=serving)
        spread = run_on_ray(_work, missing, _name) if ray else run_tasks(work, missing, processes, _name)
        # Closing ends the workers at once if anything here is interrupted.
        with closing(spread) as finished, _kept_if_lost(run):
            for task, result in finished:
                _take(comparison, run, task, result, progress)
    _check_same_jobs(comparison, folder)
    _settle(comparison)
    comparison.wall_s = time.perf_counter() - started
    return comparison


Task = tuple[Setting, str | None, int, int]
"""An episode of a policy, or (without one) the lower bound, of one seed; which repetition it is."""


def _serving(setting: Setting) -> AbstractContextManager[Serving | None]:
    """Return the servers of a setting, closed at the end of the ``with``."""
    if setting.serving is None:
        return nullcontext()
    from llmsched_gym.envs.serving import Serving

    return closing(Serving(setting.serving, setting.scenario.cluster))


def _name(task: tuple[Any, ...]) -> str:
    """Say what a task is."""
    _, spec, seed, _ = task
    return f"lower bound, seed {seed}" if spec is None else f"policy {spec}, seed {seed}"


def _gather(comparison: Comparison, run: RunFolder, progress: Progress) -> list[Task]:
    """Take over the results that are there; return what is missing, seeds together so that workers draw each once."""
    missing: list[Task] = []
    for contestant in comparison.contestants:
        if contestant.doubt:
            progress.note(never_resumed(contestant))
    for seed in comparison.seeds:
        bound = run.find(run.bound_file(seed), "")
        if bound is None:
            missing.append((comparison.setting, None, seed, 0))
        else:
            comparison.bounds[seed] = bound
        for repetition in range(comparison.setting.repeats):
            for contestant in comparison.contestants:
                file = run.episode_file(contestant.spec, seed, repetition)
                episode = None if contestant.doubt else run.find(file, contestant.source)
                if episode is None:
                    missing.append((comparison.setting, contestant.spec, seed, repetition))
                else:
                    comparison.repetitions.setdefault((contestant.spec, seed), {})[repetition] = episode
    return missing


def _take(comparison: Comparison, run: RunFolder, task: Task, result: dict[str, Any], progress: Progress) -> None:
    """Keep one result."""
    _, spec, seed, repetition = task
    if spec is None:
        run.keep(run.bound_file(seed), "", result)
        comparison.bounds[seed] = result
        progress.advance(f"lower bound, seed {seed}: {result['lower_bound_mean_jct_s']:.2f} s")
        return
    source = next(contestant.source for contestant in comparison.contestants if contestant.spec == spec)
    run.keep(run.episode_file(spec, seed, repetition), source, result)
    comparison.repetitions.setdefault((spec, seed), {})[repetition] = result
    again = f", repetition {repetition}" if comparison.setting.repeats > 1 else ""
    progress.advance(f"{spec}, seed {seed}{again}: mean JCT {result['metrics']['mean_jct_s']:.2f} s")


def _settle(comparison: Comparison) -> None:
    """Let the repetition of the median mean JCT (of an even number: the better one of the middle) stand for all."""
    for key, results in comparison.repetitions.items():
        ordered = sorted(results.values(), key=lambda result: result["metrics"]["mean_jct_s"])
        comparison.episodes[key] = ordered[(len(ordered) - 1) // 2]


@contextmanager
def _kept_if_lost(run: RunFolder) -> Generator[None]:
    """Write down what has come of an episode whose servers are gone."""
    try:
        yield
    except EpisodeLost as lost:
        file = run.partial_file(str(lost.partial["policy"]), int(lost.partial["seed"]))
        run.keep(file, "", lost.partial)
        error = EpisodeLost(f"{lost}; what had come of the episode is in {file}")
        error.partial = lost.partial
        raise error from None


def _work(
    setting: Setting, spec: str | None, seed: int, repetition: int, serving: Serving | None = None
) -> dict[str, Any]:
    if spec is not None:
        return run_episode(setting, spec, seed, serving)
    workload = setting.workload(seed)
    bound = lower_bound_mean_jct(workload, setting.scenario.cluster)
    return {"seed": seed, "workload_digest": workload.digest, "lower_bound_mean_jct_s": bound}


def _check_same_jobs(comparison: Comparison, folder: Path) -> None:
    for (spec, seed), repetitions in comparison.repetitions.items():
        expected = comparison.bounds[seed]["workload_digest"]
        episode = next((one for one in repetitions.values() if one["workload_digest"] != expected), None)
        if episode is not None:
            allowed = f"{expected}, the jobs that the other policies met: delete the older results in {folder}"
            raise InputError(f"policy {spec}, seed {seed}", "workload", episode["workload_digest"], allowed)
