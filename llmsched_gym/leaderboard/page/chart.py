"""Charts of distributions as inline SVG: their letters keep their size on any screen, for only the curves are scaled.

A chart is a grid of three pictures: labels of the ordinate, the plot, labels of the abscissa. Places in them are
shares of their width and height; curves are drawn in 1000 units that stretch with the plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.evaluation.policy_styles import PolicyStyle
from llmsched_gym.leaderboard.page.colours import DARK, LIGHT, visible
from llmsched_gym.leaderboard.page.markers import marker
from llmsched_gym.leaderboard.page.markup import Markup, element, number

_STOPS: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5, 3.0),
    *(5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 1000.0, 10_000.0),
)
"""Ratios at which an axis may begin, end, or have a label."""

_CUT: Final = 0.02
"""Share of all values that may lie beyond an end of the axis."""

_APART: Final = 0.13
"""Least distance of two labels, as a share of the axis."""

_UNITS: Final = 1000.0
_MARKERS: Final = 5
_DASHES: Final = {"-": None, "--": "6 4", ":": "2 3", "-.": "7 3 2 3"}


@dataclass(frozen=True)
class Look:
    """How an entry is drawn.

    Attributes:
        number: Of the class in the style sheet.
        style: Colour, marker and line.
    """

    number: int
    style: PolicyStyle

    @property
    def rule(self) -> str:
        """The line of the style sheet that gives it its colour."""
        light, dark = (visible(self.style.color, background) for background in (LIGHT, DARK))
        return f".k{self.number}{{--k:light-dark({light},{dark})}}\n"

    def mark(self, x: str, y: str) -> Markup:
        """Return the marker at a place."""
        path, how = marker(self.style.marker)
        return element("svg", element("path", d=path, class_=how), x=x, y=y, class_="mark", overflow="visible")

    def swatch(self) -> Markup:
        """Return a piece of the line with its marker, for a legend."""
        line = element("path", d="M0 8H28", class_="curve", stroke_dasharray=_DASHES[self.style.linestyle])
        drawn = (line, self.mark("14", "8"))
        return element("svg", *drawn, class_=f"swatch k{self.number}", width=28, height=16, aria_hidden="true")


@dataclass(frozen=True)
class Curve:
    """A distribution.

    Attributes:
        entry: Whose.
        look: How it is drawn.
        values: Float64 (n,), ascending, > 0.
    """

    entry: str
    look: Look
    values: NDArray[np.float64]

    def share(self, value: float) -> float:
        """Return the share of the values up to one."""
        return float(np.searchsorted(self.values, value * (1.0 + 1e-12), side="right")) / len(self.values)


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis of ratios.

    Attributes:
        low: Where it begins.
        high: Where it ends.
    """

    low: float
    high: float

    @classmethod
    def around(cls, curves: Sequence[Curve], low: float | None = None) -> Axis:
        """Return the axis that shows nearly all values of some curves."""
        values = np.concatenate([curve.values for curve in curves])
        least, most = (float(one) for one in np.quantile(values, [_CUT, 1.0 - _CUT]))
        first = max((stop for stop in _STOPS if stop <= least), default=_STOPS[0]) if low is None else low
        last = min((stop for stop in _STOPS if stop >= most and stop > first), default=_STOPS[-1])
        return cls(first, last)

    def place(self, value: float) -> float:
        """Return where a value is, 0 to 1; what lies outside is at an end."""
        inside = min(max(value, self.low), self.high)
        return log(inside / self.low) / log(self.high / self.low)

    def value(self, place: float) -> float:
        """Return the value at a place."""
        return self.low * (self.high / self.low) ** place

    @property
    def labels(self) -> list[float]:
        """The values that are written below it: the ends, 1, and what has room between."""
        found: list[float] = []
        inside = [stop for stop in _STOPS if self.low <= stop <= self.high]
        for stop in sorted(inside, key=lambda one: (one != 1.0, one not in (self.low, self.high))):
            if all(abs(self.place(stop) - self.place(other)) >= _APART for other in found):
                found.append(stop)
        return sorted(found)


def distribution_chart(curves: Sequence[Curve], axis: Axis, title: str, label: str, told: str) -> Markup:
    """Draw which share of the values of each curve lies at or below a value.

    Args:
        curves: The curves.
        axis: Of the values.
        title: What the ordinate is; stands above it.
        label: What the abscissa is.
        told: The picture in words.
    """
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    down = [_line(f"{number(100 * axis.place(one))}%", one == 1.0) for one in axis.labels]
    across = [_across(f"{number(100 - 100 * share)}%") for share in shares]
    drawn = [_drawn(curve, axis, position / len(curves)) for position, curve in enumerate(curves)]
    plot = element("svg", *down, *across, *drawn, class_="plot", aria_hidden="true")
    beside = element(
        "svg",
        *(element("text", f"{share:.0%}", x="100%", y=f"{number(100 - 100 * share)}%") for share in shares),
        class_="ordinate",
        aria_hidden="true",
    )
    below = element(
        "svg",
        *(
            element("text", f"{value:g}", x=f"{number(100 * axis.place(value))}%", y="14", class_="tick")
            for value in axis.labels
        ),
        element("text", label, x="50%", y="32", class_="name"),
        class_="abscissa",
        aria_hidden="true",
    )
    head = element("div", title, class_="chart-title", aria_hidden="true")
    return element("div", head, element("div", beside, plot, below, class_="chart"), role="img", aria_label=told)


def _drawn(curve: Curve, axis: Axis, shift: float) -> Markup:
    """Return a curve and its markers; those of several curves stand beside each other."""
    dash = _DASHES[curve.look.style.linestyle]
    line = element("path", d=_steps(curve, axis), class_="curve", stroke_dasharray=dash)
    stretched = {"viewBox": f"0 0 {_UNITS:g} {_UNITS:g}", "preserveAspectRatio": "none", "overflow": "visible"}
    marks = []
    for position in range(_MARKERS):
        place = (position + 0.25 + 0.5 * shift) / _MARKERS
        height = 1.0 - curve.share(axis.value(place))
        marks.append(curve.look.mark(f"{number(100 * place)}%", f"{number(100 * height)}%"))
    return element(
        "g", element("svg", line, **stretched), *marks, class_=f"k{curve.look.number}", data_entry=curve.entry
    )


def _steps(curve: Curve, axis: Axis) -> str:
    """Return the path of a curve from the begin of the axis to its end."""
    found = [f"M0 {number(_UNITS * (1.0 - curve.share(axis.low)))}"]
    inside = np.unique(curve.values[(curve.values > axis.low) & (curve.values <= axis.high)])
    found += [
        f"H{number(_UNITS * axis.place(value))}V{number(_UNITS * (1.0 - curve.share(value)))}"
        for value in inside.tolist()
    ]
    return "".join([*found, f"H{_UNITS:g}"])


def _line(x: str, strong: bool) -> Markup:
    return element("line", x1=x, x2=x, y1="0", y2="100%", class_="one" if strong else "grid")


def _across(y: str) -> Markup:
    return element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid")
