"""The page of an entry: results, what its submitter says, one episode, and how to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.leaderboard.page.board import Board, Row, mean_reference, run_scores
from llmsched_gym.leaderboard.page.cells import badge, interval, microseconds, plural
from llmsched_gym.leaderboard.page.document import document, header, main_part
from llmsched_gym.leaderboard.page.entries import BADGES, Entry
from llmsched_gym.leaderboard.page.gantt import gantt_chart
from llmsched_gym.leaderboard.page.markup import Content, Markup, element, joined
from llmsched_gym.leaderboard.page.schedule import replay_shown
from llmsched_gym.leaderboard.page.sealed import sealed_results
from llmsched_gym.leaderboard.page.tables import table
from llmsched_gym.leaderboard.page.write_up import link, write_up
from llmsched_gym.suites.scores import PolicyScore
from llmsched_gym.suites.suite import SuiteScenario

HOME: Final = "../../index.html"


def entry_page(board: Board, row: Row) -> bytes:
    """Return the page of an entry.

    Raises:
        InputError: The actions of the episode that is drawn do not give what is claimed.
    """
    said, suite = row.entry.submission, board.suite
    above = (
        element("a", "Leaderboard", href=HOME),
        element("a", suite.name, href=f"{HOME}#{suite.name}"),
        element("span", element("bdi", said.name), aria_current="page"),
    )
    content = main_part(
        element("h1", element("bdi", said.name)),
        _facts(row),
        element("h2", "Results"),
        _results(board, row),
        *_runs(board, row),
        *_sealed(board, row.entry),
        element("h2", "Write-up"),
        element("div", write_up(row.entry.write_up), class_="prose"),
        element("h2", "One episode"),
        _episode(board, row.entry),
        element("h2", "Disclosures"),
        _disclosures(row.entry),
        element("h2", "Make it again"),
        _commands(board, row.entry),
        element("h2", "Digests"),
        _digests(row.entry),
    )
    foot = element("footer", element("p", "The write-up and the disclosures are the submitter's words."))
    return document(f"{said.name} on {suite.name}", [header(*above), content, foot], ["gantt.js"])


def _facts(row: Row) -> Markup:
    said, entry = row.entry.submission, row.entry
    rank = row.place or ("none: it sees the truth" if said.track == "oracle" else "none: it is not verified")
    pairs: list[tuple[str, Content]] = [
        ("By", element("bdi", ", ".join(said.authors))),
        ("Score", joined(interval(row.score.overall))),
        ("Rank", rank),
        ("Badge", joined(badge(entry.badge), f" {BADGES[entry.badge]}")),
        ("Track", said.track),
        ("Handed in", said.date),
        ("Training runs", said.runs),
        (
            "Time per decision",
            joined(
                f"mean {microseconds(entry.times.mean)}, median {microseconds(entry.times.p50)}, ",
                f"99 % within {microseconds(entry.times.p99)} (as the submitter measured it)",
            ),
        ),
    ]
    return _pairs(pairs)


def _results(board: Board, row: Row) -> Markup:
    head = ("Scenario", "Metric", "Entry", "Reference", "Lower bound", "Score", "Seeds below 1")
    rows = [_result(board, row, scenario) for scenario in board.suite.scenarios]
    note = (
        f"Means over {plural(len(board.suite.seeds), 'seed', 'seeds')} in seconds, and the score: times the "
        "reference's metric on the same jobs, geometric mean and 95 % interval. "
        "No schedule at all is below the lower bound."
    )
    caption = f"{row.entry.submission.name} on {board.suite.name}"
    return joined(table(caption, head, rows), element("p", note, class_="note"))


def _result(board: Board, row: Row, scenario: SuiteScenario) -> list[Content]:
    bounds = board.bounds.get(scenario.name)
    ratios = board.to_reference[row.entry.id][scenario.name]
    return [
        scenario.name,
        scenario.metric,
        f"{mean(row.entry.values[scenario.name]):.2f}",
        joined(f"{mean_reference(scenario):.2f}", element("span", scenario.reference, class_="range")),
        "none known" if bounds is None else f"{mean(list(bounds.values())):.2f}",
        interval(row.score.scenarios[scenario.name]),
        f"{int((ratios < 1.0).sum())} of {len(ratios)}",
    ]


def _runs(board: Board, row: Row) -> list[Markup]:
    """Return what each training run reached, if there are several."""
    entry = row.entry
    if entry.submission.runs == 1:
        return []
    names = [one.name for one in board.suite.scenarios]
    found: list[PolicyScore] = run_scores(board, entry)
    rows = [
        [f"run {run}", interval(one.overall), *(interval(one.scenarios[name]) for name in names)]
        for run, one in enumerate(found)
    ]
    words = "An entry's metric on a seed is the geometric mean of its training runs."
    return [
        element("h3", "Training runs"),
        element("p", words),
        table(f"Training runs of {entry.submission.name}: scores", ("Run", "Score", *names), rows),
    ]


def _sealed(board: Board, entry: Entry) -> list[Markup]:
    """Return what came of running it again, if that was done."""
    if entry.verified is None:
        return []
    rows = [
        [one.scenario, one.instances, interval(one.score), f"{one.late:,}", one.ended, microseconds(one.mean_us)]
        for one in sealed_results(board.suite, entry)
    ]
    words = (
        "A maintainer ran it again in a sandbox, on jobs that nobody had seen. The score is times the reference's "
        "metric on these jobs. A decision that came too late was the oldest legal dispatch instead; the time per "
        "decision has the way into the sandbox and back in it."
    )
    head = ("Scenario", "Instances", "Score", "Late decisions", "Ended early", "Time per decision")
    key = joined("Commitment to the key that the jobs were drawn by: ", element("code", entry.verified.commitment))
    return [
        element("h3", "Sealed instances"),
        element("p", words),
        table(f"{entry.submission.name} on sealed instances of {board.suite.name}", head, rows),
        element("p", key, class_="note"),
    ]


def _episode(board: Board, entry: Entry) -> Markup:
    state, workload = replay_shown(entry, board.suite)
    title = f"{entry.shown.scenario}, seed {entry.shown.seed}, {entry.submission.name}"
    return gantt_chart(state, workload, title)


def _disclosures(entry: Entry) -> Markup:
    said = entry.submission.disclosures
    policy = entry.submission.policy
    most = said.simulations_per_decision
    place: Content = link(said.code, said.code) if said.code.startswith("https://") else said.code
    return _pairs(
        [
            ("Training", said.training),
            ("Tuning", said.tuning),
            ("Tuned on the suite's own seeds", "yes" if said.tuned_on_suite else "no"),
            ("Simulations per decision", f"at most {most:,}" if most else "none"),
            ("Compute", said.compute),
            ("Code", place),
            ("License", said.license),
            ("Sees", "the truth" if policy.privileged else "what is revealed"),
            ("Observation", policy.observation),
            ("Placement", "chosen by it" if policy.placement == "agent" else "the least loaded executor"),
        ]
    )


def _commands(board: Board, entry: Entry) -> Markup:
    said, suite = entry.submission, board.suite
    folder = f"leaderboard/submissions/{suite.name}/{entry.id}"
    lines = [
        f"pip install llmsched-gym=={said.package_version}",
        f"llmsched-gym leaderboard validate {folder}   # replays every action",
    ]
    if not said.policy.ships:
        lines.append(f"cd {folder}   # this one runs the code of the submission")
    specs = shlex.quote(",".join(said.policy.specs))
    lines.append(f"llmsched-gym suite run {suite.name} --policies {specs} -o results/{entry.id}")
    return element("pre", element("code", "\n".join(lines)), tabindex=0)


def _digests(entry: Entry) -> Markup:
    said = entry.submission
    rows: list[Sequence[Content]] = [
        (f"suite {said.suite}", element("code", said.suite_digest)),
        *((name, element("code", digest)) for name, digest in sorted(said.files.items())),
        (f"episode above ({entry.shown.scenario}, seed {entry.shown.seed})", element("code", entry.shown.digest)),
    ]
    return table(
        f"Digests (blake2b, 16 bytes), made with llmsched_gym {said.package_version}", ("Of", "Digest"), rows, left=True
    )


def _pairs(pairs: Sequence[tuple[str, Content]]) -> Markup:
    return element("dl", *(joined(element("dt", name), element("dd", value)) for name, value in pairs))
