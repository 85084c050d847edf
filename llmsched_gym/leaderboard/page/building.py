"""Building the page: all submissions are read and scored before the first file is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.evaluation.runner import Progress, Silent
from llmsched_gym.leaderboard.page.board import Board, make_board
from llmsched_gym.leaderboard.page.chart import Look
from llmsched_gym.leaderboard.page.colours import styles_of
from llmsched_gym.leaderboard.page.entries import Entry, entry_folders, read_entry
from llmsched_gym.leaderboard.page.entry_page import entry_page
from llmsched_gym.leaderboard.page.index_page import index_page
from llmsched_gym.leaderboard.page.results import results_json
from llmsched_gym.suites.suite import SUITES, Suite, load_suite
from llmsched_gym.workloads.files import make_folder, read_json, reason, write_atomic

INDEX: Final = "index.html"
RESULTS: Final = "results.json"
ENTRIES: Final = "entries"

_ORDER: Final = ("standard-v1", "hetero-v1", "light-v1", "small-v1")
"""Suites that come first on the page: the one that policies are ranked by before all."""


def build(
    submissions: Path,
    output: Path,
    suites: Sequence[Suite] = (),
    commitment: str | None = None,
    progress: Progress | None = None,
) -> list[Board]:
    """Make the page of all submissions.

    Equal submissions give equal files. Each is replaced in one step, the first page last; pages of entries that are
    gone are then removed.

    Args:
        submissions: A folder per suite, in it one per submission.
        output: Folder of the page; made, if need be.
        suites: Suites that do not come with the package.
        commitment: To the key that sealed instances are drawn by, if there is one.
        progress: Told how far it is.

    Returns:
        What is on the page, suite by suite.

    Raises:
        InputError: A submission cannot be shown, or `output` is something else than such a page.
    """
    told = progress or Silent()
    check_output(submissions, output)
    known = {suite.name: suite for suite in suites}
    found: dict[str, list[Entry]] = {}
    listed = list(entry_folders(submissions))
    told.begin(len(listed), 0)
    for name, folder in listed:
        if name not in known:
            known[name] = _suite(submissions, name)
        entry = read_entry(folder, known[name])
        found.setdefault(name, []).append(entry)
        told.advance(f"{name}: {entry.id}: {entry.badge}")
    boards = [make_board(known[name], found[name]) for name in sorted(found, key=_position)]
    _write(output, pages(boards, commitment))
    return boards


def pages(boards: Sequence[Board], commitment: str | None = None) -> dict[str, bytes]:
    """Return all files of the page by their path, those that name others last.

    Raises:
        InputError: The actions of an episode that is drawn do not give what is claimed.
    """
    addresses = {
        (board.suite.name, row.entry.id): f"{ENTRIES}/{board.suite.name}/{row.entry.id}.html"
        for board in boards
        for row in board.rows
    }
    files = {
        addresses[board.suite.name, row.entry.id]: entry_page(board, row) for board in boards for row in board.rows
    }
    files[RESULTS] = results_json(boards, addresses, commitment)
    files[INDEX] = index_page(boards, _looks(boards), addresses, commitment)
    return files


def read_commitment(path: Path) -> str:
    """Return the commitment in a file that ``leaderboard key publish`` wrote.

    Raises:
        InputError: It cannot be read, or holds something else.
    """
    what = "a commitment, as `llmsched-gym leaderboard key publish` writes it"
    found = read_json(path, what)
    text = found.get("commitment") if isinstance(found, dict) else None
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", text):
        raise InputError(path, "commitment", text, what)
    return text


def check_output(submissions: Path, output: Path) -> None:
    """Refuse a folder that holds something else, whose files would be lost among those of the page.

    Raises:
        InputError: It does, or is the folder of the submissions or inside it.
    """
    if output.resolve().is_relative_to(submissions.resolve()):
        raise InputError("--output", "", output, f"a folder outside {submissions}")
    try:
        held = {one.name for one in output.iterdir()} if output.exists() else set[str]()
    except OSError as error:
        raise InputError(output, "", reason(error), "a folder for the page") from None
    if held and RESULTS not in held:
        raise InputError(
            output, "", Plain(f"a folder with {len(held)} other files"), "an empty folder, or an older page"
        )


def _suite(submissions: Path, name: str) -> Suite:
    if name not in SUITES:
        raise InputError(submissions, "folder", name, f"a suite: {suggest(name, SUITES)}")
    return load_suite(name)


def _position(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _looks(boards: Sequence[Board]) -> list[dict[str, Look]]:
    """Return how the entries of each suite are drawn; equal looks share a class in the style sheet."""
    numbers: dict[str, int] = {}
    found = []
    for board in boards:
        styles = styles_of([row.entry for row in board.rows])
        found.append(
            {entry: Look(numbers.setdefault(style.color, len(numbers)), style) for entry, style in styles.items()}
        )
    return found


def _write(output: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = output / name
        make_folder(path.parent)
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)
    for path in sorted(output.glob(f"{ENTRIES}/*/*.html")):
        if path.relative_to(output).as_posix() not in files:
            path.unlink()
