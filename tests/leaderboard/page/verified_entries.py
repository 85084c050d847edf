"""Entries as they are after a maintainer ran them again."""

from __future__ import annotations

import json
from pathlib import Path

import llmsched_gym
from llmsched_gym.leaderboard import load_submission, read_episodes
from llmsched_gym.leaderboard.submission_folder import VERIFIED
from llmsched_gym.leaderboard.verification import Verified, VerifiedEpisode
from llmsched_gym.suites.suite import Suite


def verify(folder: Path, suite: Suite, **changes: object) -> Verified:
    """Write a `verified.json` whose instances are the suite's own seeds; `changes` are of its fields."""
    submission = load_submission(folder)
    episodes = [
        VerifiedEpisode(
            scenario=one.scenario,
            run=one.run,
            instance=suite.seeds.index(one.seed),
            metrics=one.metrics,
            reference=suite.scenario(one.scenario).reference_values[one.seed],
            late=one.run,
            ended=None,
            decision_us_mean=100.0,
            decision_us_p50=90.0,
            decision_us_p99=200.0,
        )
        for one in read_episodes(folder)
    ]
    found = Verified(
        format=1,
        package_version=llmsched_gym.__version__,
        suite=suite.name,
        suite_digest=suite.digest,
        instances="sealed",
        commitment="c" * 64,
        sandbox="unshare",
        decision_limit_s=1.0,
        memory_bytes=2**30,
        files=submission.files,
        episodes=tuple(episodes),
        tag="7" * 64,
    )
    (folder / VERIFIED).write_text(json.dumps(found.model_dump(mode="json") | changes))
    return found
