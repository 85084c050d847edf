"""The page of the leaderboard: static files without anything from elsewhere."""

from __future__ import annotations

from llmsched_gym.leaderboard.page.building import build, read_commitment

__all__ = ["build", "read_commitment"]
