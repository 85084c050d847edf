"""The figures of a suite: who comes how close to the best how often, and how ratios to the reference are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from llmsched_gym.leaderboard.page.board import Board, Floats
from llmsched_gym.leaderboard.page.chart import Axis, Curve, Look, distribution_chart
from llmsched_gym.leaderboard.page.markup import Markup, element, joined
from llmsched_gym.leaderboard.page.tables import table

_FACTORS: Final = (1.0, 1.05, 1.1, 1.25, 1.5, 2.0)
_QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)

Looks = Mapping[str, Look]


def legend(board: Board, looks: Looks) -> Markup:
    """Return which line is whose, for all figures of a suite."""
    items = (
        element("li", looks[row.entry.id].swatch(), element("bdi", row.entry.submission.name), data_entry=row.entry.id)
        for row in board.rows
    )
    return element("ul", *items, class_="legend", aria_label=f"Lines in the figures of {board.suite.name}")


def profile_figure(board: Board, looks: Looks) -> Markup:
    """Return the performance profile: on which share of scenarios and seeds an entry is close to the best.

    Dolan and Moré, Benchmarking optimization software with performance profiles (2002).
    """
    curves = _curves(board, looks, board.to_best)
    n = len(curves[0].values)
    told = f"Performance profile of {board.suite.name}, {n} pairs of scenario and seed. "
    told += "Within a factor of 1.1 of the best: "
    told += _listed(board, {curve.entry: f"{curve.share(1.1):.0%}" for curve in curves})
    chart = distribution_chart(
        curves, Axis.around(curves, 1.0), "Share of scenarios and seeds", "times the best entry's metric (log)", told
    )
    header = ("Entry", *(f"within {factor:g}×" for factor in _FACTORS))
    by_id = {curve.entry: curve for curve in curves}
    rows = {row.entry.id: [f"{by_id[row.entry.id].share(factor):.0%}" for factor in _FACTORS] for row in board.rows}
    about = (
        f"Performance profile: on which share of the {n} pairs of scenario and seed the metric is at most so many "
        "times that of the best entry on the same jobs (of those that do not see the truth). Higher is better."
    )
    return _figure(chart, about, _numbers(board, header, rows, "Performance profile in numbers"))


def spread_figure(board: Board, looks: Looks) -> Markup:
    """Return the distribution of the ratios to the reference over all scenarios and seeds."""
    pooled = {entry: np.concatenate(list(each.values())) for entry, each in board.to_reference.items()}
    curves = _curves(board, looks, pooled)
    told = (
        f"Ratios to the reference in {board.suite.name}, {len(curves[0].values)} pairs of scenario and seed. Medians: "
    )
    told += _listed(board, {curve.entry: f"{np.median(curve.values):.3f}" for curve in curves})
    chart = distribution_chart(
        curves, Axis.around(curves), "Share of scenarios and seeds", "times the reference's metric (log)", told
    )
    header = ("Entry", *(f"{share:.0%} within" for share in _QUANTILES))
    rows = {row.entry.id: [f"{one:.3f}" for one in np.quantile(pooled[row.entry.id], _QUANTILES)] for row in board.rows}
    about = (
        "Distribution of the ratios: on which share of scenarios and seeds the metric is at most so many times the "
        "reference's on the same jobs. Further to the left is better; at 1 the reference is reached."
    )
    return _figure(chart, about, _numbers(board, header, rows, "Ratios in numbers"))


def scenario_figures(board: Board, looks: Looks) -> Markup:
    """Return the distribution of the ratios to the reference within each scenario."""
    panels = []
    for scenario in board.suite.scenarios:
        curves = _curves(board, looks, {entry: each[scenario.name] for entry, each in board.to_reference.items()})
        told = f"Ratios of {scenario.metric} to {scenario.reference} in {scenario.name}, {len(scenario.seeds)} seeds. "
        told += "Medians: " + _listed(board, {curve.entry: f"{np.median(curve.values):.3f}" for curve in curves})
        label = f"times the {scenario.metric} of {scenario.reference}"
        chart = distribution_chart(curves, Axis.around(curves), "Share of seeds", label, told)
        panels.append(element("figure", chart, element("figcaption", scenario.name)))
    summary = element("summary", f"The same for each of the {len(panels)} scenarios")
    return element("details", summary, element("div", *panels, class_="panels"))


def _curves(board: Board, looks: Looks, values: Mapping[str, Floats]) -> list[Curve]:
    return [Curve(row.entry.id, looks[row.entry.id], np.sort(values[row.entry.id])) for row in board.rows]


def _listed(board: Board, values: Mapping[str, str]) -> str:
    return ", ".join(f"{row.entry.submission.name} {values[row.entry.id]}" for row in board.rows) + "."


def _numbers(board: Board, header: Sequence[str], rows: Mapping[str, Sequence[str]], title: str) -> Markup:
    named = [
        (element("bdi", row.entry.submission.name), *(element("span", one, class_="n") for one in rows[row.entry.id]))
        for row in board.rows
    ]
    return element(
        "details", element("summary", title), table(title, header, named, [row.entry.id for row in board.rows])
    )


def _figure(chart: Markup, about: str, numbers: Markup) -> Markup:
    ends = "At most one in fifty values lies beyond an end of the axis."
    return joined(element("figure", chart, element("figcaption", f"{about} {ends}")), numbers)
