"""What several pages write alike: scores, badges, ranks, times."""

from __future__ import annotations

from llmsched_gym.evaluation.statistics import Interval
from llmsched_gym.leaderboard.page.entries import BADGES, Badge
from llmsched_gym.leaderboard.page.markup import Markup, element, joined


def interval(found: Interval) -> Markup:
    """Return an estimate and, in a line below, its interval, if there is one."""
    if found.low is None or found.high is None:
        return joined(f"{found.mid:.3f}")
    return joined(f"{found.mid:.3f} ", element("span", f"[{found.low:.3f}, {found.high:.3f}]", class_="range"))


def badge(name: Badge) -> Markup:
    """Return a badge with its word: its colour only repeats it."""
    return element("span", name, class_=f"badge {name}", title=BADGES[name])


def microseconds(value: float) -> str:
    """Return a time inside the policy in a unit that fits it."""
    for least, unit in ((1e6, "s"), (1e3, "ms")):
        if value >= least:
            return f"{value / least:.3g} {unit}"
    return f"{value:.3g} µs"


def breakable(name: str) -> Markup:
    """Return a name that may go on in the next line behind an underscore."""
    first, *others = name.split("_")
    return joined(first, *(joined("_", element("wbr"), part) for part in others))


def plural(count: int, word: str, words: str) -> str:
    """Return a number of things."""
    return f"{count:,} {word if count == 1 else words}"
