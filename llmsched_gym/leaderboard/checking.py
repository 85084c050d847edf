"""One episode of a submission: its actions are carried out again, and must give what is claimed."""

from __future__ import annotations

from collections.abc import Iterator

from llmsched_gym.errors import InputError, Plain, RunError, shown
from llmsched_gym.leaderboard.episodes import Episode
from llmsched_gym.leaderboard.limits import CHECKPOINT
from llmsched_gym.leaderboard.packing import unpack
from llmsched_gym.leaderboard.replaying import Replayed, Shape, replay
from llmsched_gym.suites.suite import SuiteScenario


def check_episode(episode: Episode, scenario: SuiteScenario, placement: str) -> Iterator[str]:
    """Yield what is wrong with an episode, a line each.

    Args:
        episode: What is claimed.
        scenario: What was run.
        placement: `Policy.placement`.

    Raises:
        RunError: The jobs are not drawn here as they were when the suite was made.
    """
    where = f"{scenario.name}, run {episode.run}, seed {episode.seed}"
    expected = scenario.digests[episode.seed]
    if episode.workload != expected:
        yield f"{where}: workload: got {shown(episode.workload)}; expected {expected}, that of the suite"
        return
    setting = scenario.setting
    workload = setting.workload(episode.seed)
    if workload.digest != expected:
        raise RunError(f"{where}: jobs with the digest {workload.digest} are drawn here; the suite has {expected}")
    shape = Shape.of(workload, setting.scenario.cluster, placement)
    try:
        actions = unpack(episode.actions, shape.actions)
        found = replay(workload, setting.scenario.cluster, actions, shape)
    except InputError as error:
        yield f"{where}: {error}"
        return
    except RuntimeError as error:
        yield f"{where}: its actions cannot be carried out ({error})"
        return
    yield from (f"{where}: {text}" for text in _differences(episode, len(actions), found, scenario.name))


def _differences(episode: Episode, given: int, found: Replayed, scenario: str) -> Iterator[str]:
    """Yield what was found otherwise than claimed; what follows from a divergence is not told again."""
    if given != episode.decisions:
        yield f"decisions: got {episode.decisions}; expected {given}, the number of its actions"
    pairs = zip(episode.checkpoints, found.checkpoints, strict=False)
    differs = next((number for number, (claimed, mine) in enumerate(pairs, start=1) if claimed != mine), None)
    if differs is not None:
        at, before = differs * CHECKPOINT, (differs - 1) * CHECKPOINT
        yield (
            f"diverged at decision {at:,} of {scenario}, seed {episode.seed} (the same up to decision {before:,}): "
            f"checkpoint: got {episode.checkpoints[differs - 1]}; expected {found.checkpoints[differs - 1]}"
        )
        return
    if not found.over:
        yield f"actions: got {given:,}, after which jobs are unfinished; expected all up to the end"
        return
    if found.decisions < given:
        yield f"actions: got {given:,}; expected {found.decisions:,}, after which all jobs are finished"
        return
    if len(episode.checkpoints) != len(found.checkpoints):
        yield f"checkpoints: got {len(episode.checkpoints)}; expected {len(found.checkpoints)}, one per {CHECKPOINT}"
    if episode.digest != found.digest:
        last = len(found.checkpoints) * CHECKPOINT
        yield (
            f"diverged after decision {last:,} of {scenario}, seed {episode.seed}: "
            f"digest: got {episode.digest}; expected {found.digest}"
        )
        return
    for name in sorted(episode.metrics.keys() | found.metrics.keys()):
        if name not in found.metrics:
            yield f"metrics.{name}: got {shown(episode.metrics[name])}; expected no such metric"
        elif name not in episode.metrics:
            yield f"metrics.{name}: got nothing; expected {found.metrics[name]!r}"
        elif episode.metrics[name] != found.metrics[name]:
            claimed = Plain("nothing") if episode.metrics[name] is None else episode.metrics[name]
            yield f"metrics.{name}: got {shown(claimed)}; expected {found.metrics[name]!r}, as replayed"
