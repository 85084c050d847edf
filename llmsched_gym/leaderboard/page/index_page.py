"""The first page: each suite with its table and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, get_args

import llmsched_gym
from llmsched_gym.leaderboard.page.board import Board, Row
from llmsched_gym.leaderboard.page.cells import badge, breakable, interval, microseconds, plural
from llmsched_gym.leaderboard.page.document import document, header, main_part
from llmsched_gym.leaderboard.page.entries import BADGES
from llmsched_gym.leaderboard.page.figures import Looks, legend, profile_figure, scenario_figures, spread_figure
from llmsched_gym.leaderboard.page.markup import Content, Markup, element, joined
from llmsched_gym.leaderboard.page.tables import scrolled
from llmsched_gym.leaderboard.submission import Track

TITLE: Final = "llmsched_gym leaderboard"

TRACKS: Final[Mapping[Track, str]] = {
    "online": "decides by what is revealed",
    "search": "may simulate futures; ranked among itself",
    "oracle": "sees the truth, and is not ranked",
}


def index_page(
    boards: Sequence[Board], looks: Sequence[Looks], addresses: Mapping[tuple[str, str], str], commitment: str | None
) -> bytes:
    """Return the first page.

    Args:
        boards: Suites that anything was handed in for.
        looks: Of each suite, how its entries are drawn.
        addresses: Suite and entry → page of the entry.
        commitment: To the key that sealed instances are drawn by, if there is one.
    """
    rules = "".join({look.number: look.rule for each in looks for look in each.values()}.values())
    links = (element("a", board.suite.name, href=f"#{board.suite.name}") for board in boards)
    above = (element("a", "Leaderboard", href="#content", aria_current="page"), *links)
    sections = [_section(board, look, addresses) for board, look in zip(boards, looks, strict=True)]
    body = _intro(boards) if boards else [element("p", "Nothing has been handed in yet.", class_="notice")]
    foot = element(
        "footer",
        element("p", f"Made by llmsched_gym {llmsched_gym.__version__} from the submissions alone. ", _data()),
        commitment and element("p", "Commitment to the key of the sealed instances: ", element("code", commitment)),
    )
    content = main_part(element("h1", TITLE), *body, *sections)
    return document(TITLE, [header(*above), content, foot], ["board.js"], rules)


def _data() -> Markup:
    return joined("The same as data: ", element("a", "results.json", href="results.json"), ".")


def _intro(boards: Sequence[Board]) -> list[Markup]:
    count = sum(len(board.rows) for board in boards)
    suites = plural(len(boards), "suite", "suites")
    about = (
        f"Schedulers of compound LLM jobs on fixed suites of jobs: {plural(count, 'entry', 'entries')} on {suites}. "
        "The score is how many times the reference's metric an entry has on the same jobs, as the geometric mean over "
        "seeds and scenarios; less is better. Brackets hold 95 % intervals."
    )
    meanings = [
        *(joined(badge(name), f" {text}") for name, text in BADGES.items()),
        *(joined(element("strong", name), f": {text}") for name, text in TRACKS.items()),
    ]
    more = element(
        "details",
        element("summary", "What badges, tracks and ranks mean"),
        element("ul", *(element("li", one) for one in meanings)),
        element(
            "p",
            "Only verified entries of the tracks online and search have ranks, each track among itself. Entries that "
            "cannot be told from the best of a rank share it (n=): tests paired by seed, with Holm's correction. What "
            "an entry did can be replayed without running its code, but that does not show what it looked at; running "
            "it again on jobs that it has not seen does.",
        ),
    )
    return [element("p", about), more, _filters(boards)]


def _filters(boards: Sequence[Board]) -> Markup:
    given = [row.entry for board in boards for row in board.rows]
    tracks = [one for one in get_args(Track) if any(entry.submission.track == one for entry in given)]
    badges = [one for one in BADGES if any(entry.badge == one for entry in given)]
    fields = [_boxes("Track", "track", tracks), _boxes("Badge", "badge", badges)]
    return element(
        "form", *fields, element("output", aria_live="polite", class_="note"), id="filters", hidden=True,
        aria_label="Entries that are shown",
    )  # fmt: skip


def _boxes(title: str, name: str, values: Sequence[str]) -> Markup:
    boxes = [
        element("label", element("input", type="checkbox", name_=name, value=value, checked=True), value)
        for value in values
    ]
    return element("fieldset", element("legend", title), *boxes)


def _section(board: Board, looks: Looks, addresses: Mapping[tuple[str, str], str]) -> Markup:
    suite = board.suite
    first, last = suite.seeds[0], suite.seeds[-1]
    sizes = f"{plural(len(suite.scenarios), 'scenario', 'scenarios')} × {plural(len(suite.seeds), 'seed', 'seeds')}"
    about = f"{suite.about} {sizes} ({first} to {last} of the {suite.split} split)."
    parts = [element("h2", suite.name, id=suite.name), element("p", about)]
    if not board.ranked:
        words = (
            "No entry of this suite is verified yet, so there are no ranks: entries stand in the order of their scores."
        )
        parts.append(element("p", words, class_="notice"))
    figures = (element("div", one) for one in (profile_figure(board, looks), spread_figure(board, looks)))
    parts += [
        _table(board, addresses),
        element("h3", f"Figures of {suite.name}"),
        legend(board, looks),
        element("div", *figures, class_="pair"),
        scenario_figures(board, looks),
    ]
    return element("section", *parts, data_suite=suite.name, aria_labelledby=suite.name)


def _table(board: Board, addresses: Mapping[tuple[str, str], str]) -> Markup:
    names = [one.name for one in board.suite.scenarios]
    head = ["Entry", *(["Rank"] if board.ranked else []), "Score", "Badge", "Track", *names, "Decision", "p99", "Date"]
    by = "Rank" if board.ranked else "Score"
    columns = [
        element(
            "th",
            breakable(name),
            scope="col",
            class_="words" if name in ("Badge", "Track") else None,
            aria_sort="ascending" if name == by else None,
        )
        for name in head
    ]
    body = [_row(board, row, names, addresses) for row in board.rows]
    note = (
        "Scores: times the reference's metric, less is better. Decision: time inside the policy per decision, "
        "mean and 99 % quantile, as each submitter measured it on a machine of their own."
    )
    whole = element(
        "table",
        element("caption", f"Entries of {board.suite.name}"),
        element("thead", element("tr", *columns)),
        element("tbody", *body),
        class_="sortable",
    )
    return joined(scrolled(whole, f"Entries of {board.suite.name}"), element("p", note, class_="note"))


def _row(board: Board, row: Row, names: Sequence[str], addresses: Mapping[tuple[str, str], str]) -> Markup:
    said, entry, score = row.entry.submission, row.entry, row.score
    link = element("a", element("bdi", said.name), href=addresses[board.suite.name, entry.id])
    authors = element("span", element("bdi", ", ".join(said.authors)), class_="note")
    strongest = list(BADGES).index(entry.badge)
    cells = [element("th", link, element("br"), authors, scope="row")]
    if board.ranked:
        cells.append(_cell(row.place or "not ranked", "" if score.rank is None else score.rank))
    cells += [
        _cell(interval(score.overall), score.overall.mid),
        _cell(badge(entry.badge), strongest, "words"),
        _cell(said.track, None, "words"),
        *(_cell(interval(score.scenarios[name]), score.scenarios[name].mid) for name in names),
        _cell(microseconds(entry.times.mean), entry.times.mean),
        _cell(microseconds(entry.times.p99), entry.times.p99),
        _cell(said.date, None),
    ]
    return element("tr", *cells, data_entry=entry.id, data_track=said.track, data_badge=entry.badge)


def _cell(shown: Content, value: float | str | None, kind: str | None = None) -> Markup:
    """Return a cell; `value` is what it is sorted by: None: its text, empty: last."""
    by = repr(value) if isinstance(value, float) else value
    return element("td", shown, data_v=by, class_=kind)
