"""Running the policy of a submission again, shut in, on instances that it cannot know."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import llmsched_gym
from llmsched_gym.envs.tables import Observation
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.episode import make_env, play, run_episode
from llmsched_gym.evaluation.runner import Progress, Silent
from llmsched_gym.leaderboard.contents import check_contents
from llmsched_gym.leaderboard.replaying import schedule_metrics
from llmsched_gym.leaderboard.sandbox.launching import Kind, Limits, PolicyGone, PolicyLate, Sandboxed, find_sandbox
from llmsched_gym.leaderboard.sealing import commitment, tag
from llmsched_gym.leaderboard.submission import Submission, load_submission
from llmsched_gym.leaderboard.submission_folder import (
    UNLISTED,
    VERIFIED,
    check_folder,
    file_digest,
    most_bytes,
    read_file,
)
from llmsched_gym.leaderboard.verification import FORMAT, Verified, VerifiedEpisode
from llmsched_gym.policies.base import Policy
from llmsched_gym.suites.suite import Suite, SuiteScenario
from llmsched_gym.workloads.files import write_atomic

Seeds = Mapping[str, Sequence[int]]
"""Scenario name → seeds."""

_LONGEST: Final = 500


@dataclass(frozen=True)
class _Task:
    scenario: SuiteScenario
    run: int
    instance: int
    seed: int


class _Remote(Policy):
    """A policy in a sandbox, as the evaluation sees it: it never fails, and always decides.

    A decision that is late, or that nobody makes any more, is the first legal action: the oldest legal dispatch.
    """

    name = "remote"

    def __init__(self, submission: Submission, run: int, folder: Path, kind: Kind, limits: Limits) -> None:
        self.observation, self.placement = submission.policy.observation, submission.policy.placement
        self._start = (kind, folder, submission.policy.specs[run], limits)
        self._process: Sandboxed | None = None
        self._info: Mapping[str, Any] = {}
        self._begun = False
        self.late = 0
        self.ended: str | None = None

    def reset(self, info: Mapping[str, Any]) -> None:
        self._info = info
        try:
            self._process = Sandboxed(*self._start)
        except PolicyLate:
            self.ended = "it took too long to load"
        except PolicyGone as gone:
            self.ended = str(gone)

    def act(self, obs: Observation) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._process is not None:
            try:
                if not self._begun:
                    self._process.begin(self._info, obs)
                    self._begun = True
                return self._process.act(obs)
            except PolicyLate:
                pass
            except PolicyGone as gone:
                self.ended = str(gone)
                self.close()
        self.late += 1
        return int(np.flatnonzero(obs["action_mask"])[0])

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def rerun(
    folder: Path,
    suite: Suite,
    seeds: Seeds,
    key: bytes | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Run the policy of a submission again; nothing is written.

    Every episode has a process of its own, and they come in an order that no policy can tell.

    Args:
        folder: The submission; `validate` has found nothing wrong with it.
        suite: Its suite.
        seeds: Of the instances, per scenario.
        key: What the seeds were drawn from; None if they are open.
        limits: What the policy may take.
        progress: Told how far it is.

    Raises:
        InputError: There is no sandbox here, or the submission is not fit to be run.
        RunError: The sandbox cannot be made.
    """
    limits, progress = limits or Limits(), progress or Silent()
    kind = find_sandbox()
    submission, files = _fit_to_run(folder, suite)
    tasks = [
        _Task(scenario, run, instance, seed)
        for scenario in suite.scenarios
        for run in range(submission.runs)
        for instance, seed in enumerate(seeds[scenario.name])
    ]
    secrets.SystemRandom().shuffle(tasks)
    progress.begin(len(tasks), 0)
    references: dict[tuple[str, int], float] = {}
    found: list[VerifiedEpisode] = []
    for task in tasks:
        where = task.scenario.name, task.instance
        if where not in references:
            told = run_episode(task.scenario.setting, task.scenario.reference, task.seed)
            references[where] = float(told["metrics"][task.scenario.metric])
        policy = _Remote(submission, task.run, folder, kind, limits)
        found.append(_episode(task, policy, references[where]))
        one = found[-1]
        end = f"; it ended: {one.ended}" if one.ended else ""
        progress.advance(f"{task.scenario.name}, run {task.run}, instance {task.instance}: {one.late} late{end}")
    found.sort(key=lambda one: ([s.name for s in suite.scenarios].index(one.scenario), one.run, one.instance))
    verified = Verified(
        format=FORMAT,
        package_version=llmsched_gym.__version__,
        suite=suite.name,
        suite_digest=suite.digest,
        instances="open" if key is None else "sealed",
        commitment=None if key is None else commitment(key),
        sandbox=kind,
        decision_limit_s=limits.decision_s,
        memory_bytes=limits.memory_bytes,
        files=files,
        episodes=tuple(found),
        tag=None,
    )
    return verified if key is None else verified.model_copy(update={"tag": tag(key, verified.signed())})


def write_verified(folder: Path, verified: Verified) -> None:
    """Write ``verified.json``.

    Raises:
        InputError: It cannot be written.
    """
    content = json.dumps(verified.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(folder / VERIFIED, content.encode() + b"\n")


def _episode(task: _Task, policy: _Remote, reference: float) -> VerifiedEpisode:
    setting = task.scenario.setting
    workload = setting.workload(task.seed)
    try:
        result, latencies_ns = play(make_env(setting, policy, task.seed), policy, "submission", task.seed)
    finally:
        policy.close()
    p50_us, p99_us = (float(value) for value in np.percentile(latencies_ns, [50, 99]) * 1e-3)
    return VerifiedEpisode(
        scenario=task.scenario.name,
        run=task.run,
        instance=task.instance,
        metrics=schedule_metrics(result, workload),
        reference=reference,
        late=policy.late,
        ended=None if policy.ended is None else policy.ended[:_LONGEST],
        decision_us_mean=float(latencies_ns.mean()) * 1e-3,
        decision_us_p50=p50_us,
        decision_us_p99=p99_us,
    )


def _fit_to_run(folder: Path, suite: Suite) -> tuple[Submission, dict[str, str]]:
    """Return a submission, and the digests of what is run.

    Raises:
        InputError: It is no valid submission to this suite, or sees the truth.
    """
    for error in check_folder(folder):
        raise error
    submission = load_submission(folder)
    if submission.suite_digest != suite.digest:
        raise InputError(folder, "suite_digest", submission.suite_digest, f"{suite.digest}, that of {suite.name}")
    if submission.policy.privileged:
        raise InputError(folder, "track", submission.track, Plain("a policy that does not see the truth"))
    files: dict[str, str] = {}
    for name, digest in submission.files.items():
        content = read_file(folder / name, most_bytes(name) or 0)
        for error in check_contents(folder / name, name, content):
            raise error
        files[name] = file_digest(content)
        if name in UNLISTED or files[name] != digest:
            raise InputError(folder / name, "digest", files[name], f"{digest}, as submission.json says")
    return submission, files
