"""Times as logs write them: seconds, since 1970 or since anything, or ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from llmsched_gym.errors import InputError

_ALLOWED: Final = "seconds, or a time such as 2026-03-01T09:30:00.250Z"
_MOST_S: Final = 4 * 10**9


def read_time(value: Any, path: object, field: str) -> int:
    """Return a time in ns: of ISO 8601 since 1970 (UTC unless it names a zone), of seconds as they count.

    Raises:
        InputError: It is neither, or beyond the year 2096.
    """
    text = str(value).strip()
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        if isinstance(value, str) and ("-" in text[1:] and ":" in text):
            moment = datetime.fromisoformat(text)
            seconds = Decimal((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()).quantize(
                Decimal("0.000001")
            )
        else:
            seconds = Decimal(text)
        if not seconds.is_finite() or not 0 <= seconds <= _MOST_S:
            raise ValueError
    except (ValueError, InvalidOperation, OverflowError):
        raise InputError(path, field, value, _ALLOWED) from None
    return int(seconds * 1_000_000_000)
