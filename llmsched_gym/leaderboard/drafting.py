"""What a submitter says of a submission, and the two files that it goes into."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import llmsched_gym
from llmsched_gym.leaderboard.parsing import read_model
from llmsched_gym.leaderboard.submission import FORMAT, Submission, Track
from llmsched_gym.leaderboard.submission_folder import EPISODES
from llmsched_gym.leaderboard.texts import TO_FILL
from llmsched_gym.policies.base import Policy
from llmsched_gym.suites.suite import Suite


@dataclass(frozen=True)
class Draft:
    """What is said of a submission; None is filled in by hand later.

    Attributes:
        name: Of the scheduler.
        date: YYYY-MM-DD.
        authors: Names.
        track: None: oracle for policies that read the truth, else online.
        about: How it decides.
        training: What was trained, on which jobs.
        tuning: How parameters were chosen, on which jobs.
        simulations: Most simulated futures that a decision looks at.
        compute: What it was trained and run on.
        code: Where the code is, or "not published".
        license: Of the code and weights.
    """

    name: str
    date: str
    authors: Sequence[str] | None = None
    track: Track | None = None
    about: str | None = None
    training: str | None = None
    tuning: str | None = None
    simulations: int = 0
    compute: str | None = None
    code: str | None = None
    license: str | None = None


def manifest(
    draft: Draft, suite: Suite, policy: Policy, specs: Sequence[str], files: Mapping[str, str]
) -> dict[str, Any]:
    """Return the content of ``submission.json``.

    Args:
        draft: What is said of it.
        suite: What was run.
        policy: The policy of the first run.
        specs: As they are named in the submission, one per run.
        files: Digest by name.
    """
    return {
        "format": FORMAT,
        "name": draft.name,
        "authors": list(draft.authors or [TO_FILL]),
        "date": draft.date,
        "suite": suite.name,
        "suite_digest": suite.digest,
        "package_version": llmsched_gym.__version__,
        "track": draft.track or ("oracle" if policy.privileged else "online"),
        "policy": {
            "specs": list(specs),
            "privileged": bool(policy.privileged),
            "observation": policy.observation,
            "placement": policy.placement,
        },
        "disclosures": {
            "training": draft.training or TO_FILL,
            "tuning": draft.tuning or TO_FILL,
            "tuned_on_suite": False,
            "simulations_per_decision": draft.simulations,
            "compute": draft.compute or TO_FILL,
            "code": draft.code or TO_FILL,
            "license": draft.license or TO_FILL,
        },
        "files": dict(files),
    }


def check_draft(content: Mapping[str, Any]) -> None:
    """Check all that is said already, before hours are spent on episodes.

    Raises:
        InputError: A field is wrong.
    """
    stand_in = json.dumps(content).replace(json.dumps(TO_FILL), '"not published"')
    files = json.loads(stand_in) | {"files": {EPISODES: "0" * 32, **dict.fromkeys(content["files"], "0" * 32)}}
    read_model("submission", json.dumps(files).encode(), Submission)


def write_up(draft: Draft, suite: Suite) -> str:
    """Return the text of ``README.md``: what is said already, and places for the rest."""
    return f"""# {draft.name}

{", ".join(draft.authors or [TO_FILL])}, {draft.date}, on the suite {suite.name}.

## How it decides

{draft.about or f"{TO_FILL}: what it looks at, and why that should help."}

## Training and tuning

{draft.training or f"{TO_FILL}: what was trained, on which jobs, for how long."}

{draft.tuning or f"{TO_FILL}: how parameters were chosen, on which jobs."}
"""
