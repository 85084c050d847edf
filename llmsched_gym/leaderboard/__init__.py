"""What can be submitted to the leaderboard, and how it is checked."""

from __future__ import annotations

from llmsched_gym.leaderboard.episodes import Episode, read_episodes
from llmsched_gym.leaderboard.submission import Submission, load_submission
from llmsched_gym.leaderboard.validating import validate
from llmsched_gym.leaderboard.validation import Validation, load_validation

__all__ = [
    "Episode",
    "Submission",
    "Validation",
    "load_submission",
    "load_validation",
    "read_episodes",
    "validate",
]
