"""What users' code raised, told in one line."""

from __future__ import annotations

import traceback
from pathlib import Path
from textwrap import shorten
from typing import Final

from llmsched_gym.user_code.installed import is_installed

_LONGEST: Final = 500
"""Characters of a message; some libraries put whole arrays into theirs."""


def told(error: BaseException) -> str:
    """Say what was raised, and where in the user's files: "ValueError: too late (mine.py, line 7)".

    Where no file of a user took part, the place is the innermost one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_installed(Path(frame.filename))]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in (own or frames)[-1:])
    try:
        message = str(error)
    except Exception:  # the class of the error is a user's, too
        message = "no message"
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return shorten(what, _LONGEST, placeholder=" …") + place
