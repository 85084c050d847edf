"""``results.json``: what the page shows, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import llmsched_gym
from llmsched_gym.leaderboard.page.board import Board, Row
from llmsched_gym.leaderboard.page.entries import Entry
from llmsched_gym.leaderboard.page.sealed import sealed_results
from llmsched_gym.suites.suite import Suite, SuiteScenario

FORMAT: Final = 1
"""Version of ``results.json``; new fields may come without a new one."""


def results_json(boards: Sequence[Board], addresses: Mapping[tuple[str, str], str], commitment: str | None) -> bytes:
    """Return the content of ``results.json``.

    Args:
        boards: Suites that anything was handed in for.
        addresses: Suite and entry → page of the entry.
        commitment: To the key that sealed instances are drawn by, if there is one.
    """
    content = {
        "format": FORMAT,
        "package_version": llmsched_gym.__version__,
        "commitment": commitment,
        "suites": [_suite(board, addresses) for board in boards],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _suite(board: Board, addresses: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    suite = board.suite
    return {
        "name": suite.name,
        "about": suite.about,
        "digest": suite.digest,
        "split": suite.split,
        "seeds": list(suite.seeds),
        "ranked": board.ranked,
        "scenarios": [_scenario(board, one) for one in suite.scenarios],
        "entries": [_entry(suite, row, addresses[suite.name, row.entry.id]) for row in board.rows],
    }


def _scenario(board: Board, scenario: SuiteScenario) -> dict[str, Any]:
    bounds = board.bounds.get(scenario.name)
    return {
        "name": scenario.name,
        "metric": scenario.metric,
        "reference": scenario.reference,
        "reference_values": [scenario.reference_values[seed] for seed in scenario.seeds],
        "lower_bounds": None if bounds is None else [bounds[seed] for seed in scenario.seeds],
    }


def _entry(suite: Suite, row: Row, address: str) -> dict[str, Any]:
    said, entry = row.entry.submission, row.entry
    return {
        "id": entry.id,
        "page": address,
        "name": said.name,
        "authors": list(said.authors),
        "date": said.date,
        "track": said.track,
        "badge": entry.badge,
        "rank": row.score.rank,
        "score": row.score.overall.as_list(),
        "scenarios": {
            name: {"score": found.as_list(), "runs": [list(run) for run in entry.runs[name]]}
            for name, found in row.score.scenarios.items()
        },
        "sealed": None if entry.verified is None else _sealed(suite, entry),
        "decision_us": entry.times.model_dump(),
        "package_version": said.package_version,
        "policy": said.policy.model_dump(mode="json"),
        "disclosures": said.disclosures.model_dump(mode="json"),
        "files": dict(sorted(said.files.items())),
    }


def _sealed(suite: Suite, entry: Entry) -> dict[str, Any]:
    return {
        one.scenario: {
            "instances": one.instances,
            "score": one.score.as_list(),
            "late": one.late,
            "ended": one.ended,
            "decision_us_mean": one.mean_us,
        }
        for one in sealed_results(suite, entry)
    }
