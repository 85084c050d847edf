"""How policies look in pictures: a colour and a marker for each name, the same wherever that policy is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple


class PolicyStyle(NamedTuple):
    """Look of a policy.

    Attributes:
        color: Of its lines and markers.
        marker: Shape at its points, as Matplotlib names it.
        linestyle: Solid, but for policies beyond those that have a look of their own.
    """

    color: str
    marker: str
    linestyle: str = "-"

    @property
    def keywords(self) -> dict[str, Any]:
        """What Matplotlib's ``plot``, ``step`` and ``errorbar`` take."""
        return self._asdict()


_NAMED: Final = {
    "fcfs": PolicyStyle("#000000", "+"),
    "random": PolicyStyle("#909090", "x"),
    "sjf": PolicyStyle("#56b4e9", "P"),
    "fair": PolicyStyle("#e1004b", "X"),
    "las": PolicyStyle("#cc79a7", "<"),
    "srtf": PolicyStyle("#0072b2", "^"),
    "critical_path": PolicyStyle("#692d0f", "d"),
    "argus": PolicyStyle("#c8b75a", "p"),
    "carbyne": PolicyStyle("#7cc9a4", ">"),
    "gittins": PolicyStyle("#8a6cff", "v"),
    "justitia": PolicyStyle("#5f8700", "$j$"),
    "llmsched": PolicyStyle("#d55e00", "o"),
    "llmsched_no_bn": PolicyStyle("#e69f00", "s"),
    "llmsched_no_uncertainty": PolicyStyle("#87003c", "D"),
    "oracle_srtf": PolicyStyle("#009e73", "*"),
    "decima": PolicyStyle("#690f69", "h"),
    "maskable_ppo": PolicyStyle("#00b8c4", "1"),
    "uncertainty_gnn": PolicyStyle("#0000ff", "8"),
    "heft": PolicyStyle("#3c7f3c", "4"),
    "cpop": PolicyStyle("#a0a000", "_"),
    "peft": PolicyStyle("#00665c", "."),
    "plas": PolicyStyle("#ff8fa3", "$o$"),
    "halo": PolicyStyle("#4b3ab8", "$*$"),
}
"""Seven of the colours are those of Okabe and Ito, told apart by colour-blind readers too; the markers tell the others
apart."""

_SPARE: Final = (
    PolicyStyle("#7f7f00", "3"),
    PolicyStyle("#00c83c", "2"),
    PolicyStyle("#ff5cff", "H"),
    PolicyStyle("#002d60", "|"),
)
"""For policies of users."""

_FURTHER_LINES: Final = ("--", ":", "-.")


def policy_styles(names: Iterable[str]) -> dict[str, PolicyStyle]:
    """Return the look of each policy of a picture.

    Args:
        names: Names of the policies, all different. Those that come with the package have a look of their own; others
            get, in this order, the next that no other policy of the picture has.
    """
    asked = list(names)
    free = _free_styles(set(asked))
    return {name: _NAMED[name] if name in _NAMED else next(free) for name in asked}


def _free_styles(shown: set[str]) -> Iterator[PolicyStyle]:
    """Yield spare looks, then those of policies that are not shown, then all again with other lines."""
    yield from _SPARE
    yield from (style for name, style in _NAMED.items() if name not in shown)
    for line in itertools.cycle(_FURTHER_LINES):
        yield from (style._replace(linestyle=line) for style in (*_SPARE, *_NAMED.values()))
