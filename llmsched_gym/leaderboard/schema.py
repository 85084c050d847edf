"""The JSON schema of the files of a submission, made from the models that check them."""

from __future__ import annotations

import json
from typing import Final

from pydantic.json_schema import models_json_schema

from llmsched_gym.leaderboard.episodes import Episode
from llmsched_gym.leaderboard.submission import Submission
from llmsched_gym.leaderboard.validation import Validation

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """Return ``leaderboard/schema.json``: of ``submission.json``; lines of episodes and results are in ``$defs``."""
    _, content = models_json_schema(
        [(Submission, "validation"), (Episode, "validation"), (Validation, "validation")],
        title="Submission",
        description="submission.json; $defs/Episode is a line of episodes.jsonl.xz, $defs/Validation validation.json",
    )
    whole = {"$schema": DIALECT, **content, "$ref": "#/$defs/Submission"}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"
