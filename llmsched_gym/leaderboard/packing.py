"""Actions as text: a number per decision that does not depend on how large the observation was.

0 waits, *i* + 1 is the dispatch *i*, and `illegal` stands for every number that is no action at all. The numbers are
written with as few bytes as the largest needs, least significant first, in hexadecimal: two characters of sixteen per
byte, out of which ``xz`` gets everything again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain

_WIDTHS: Final = (1, 2, 4)
_MARKS: Final = {1: "b", 2: "h", 4: "w"}
"""First character of the text, by bytes per decision: byte, half a word, word."""

_ALLOWED: Final = "b, h or w, then 2, 4 or 8 hexadecimal digits (0 to 9, a to f) per decision"


def pack(actions: NDArray[np.int64], n_actions: int) -> str:
    """Write actions down.

    Args:
        actions: int64 (n,). As the environment was given them.
        n_actions: Number of actions; the last one waits.
    """
    dispatches = (actions >= 0) & (actions < n_actions - 1)
    codes = np.where(actions == n_actions - 1, 0, np.where(dispatches, actions + 1, n_actions))
    most = int(codes.max(initial=0))
    width = next(width for width in _WIDTHS if most < 1 << 8 * width)
    return _MARKS[width] + codes.astype(f"<u{width}").tobytes().hex()


def unpack(text: str, n_actions: int) -> NDArray[np.int64]:
    """Return actions as the environment takes them: int64 (n,); -1 where it was no action.

    Args:
        text: What `pack` returned.
        n_actions: Number of actions; the last one waits.

    Raises:
        InputError: It is no such text.
    """
    width = next((width for width, mark in _MARKS.items() if text.startswith(mark)), None)
    digits = text[1:]
    if width is None or len(digits) % (2 * width):
        raise InputError("actions", "", Plain(f"{len(text)} characters that begin with {text[:8]!r}"), _ALLOWED)
    if digits.lower() != digits or not digits.isascii() or (not digits.isalnum() and digits):
        raise InputError("actions", "", Plain("other characters"), _ALLOWED)
    try:
        codes = np.frombuffer(bytes.fromhex(digits), f"<u{width}").astype(np.int64)
    except ValueError:
        raise InputError("actions", "", Plain("other characters"), _ALLOWED) from None
    waits, legal = codes == 0, codes < n_actions
    return np.where(waits, n_actions - 1, np.where(legal, codes - 1, -1))
