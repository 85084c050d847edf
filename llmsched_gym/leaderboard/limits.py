"""How large anything in a submission may be. What is larger is refused before it is read."""

from __future__ import annotations

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20

TOTAL_BYTES: Final = 5 * MIB
"""All files of a submission together; so it is the most that any of them can have."""

MANIFEST_BYTES: Final = 64 * KIB
PROSE_BYTES: Final = 64 * KIB
CODE_BYTES: Final = 256 * KIB
LOCK_BYTES: Final = 64 * KIB
RESULT_BYTES: Final = MIB

FILES: Final = 40
"""Files of a submission."""

LINE_BYTES: Final = 2 * MIB
"""One episode, unpacked: a million decisions."""

UNPACKED_BYTES: Final = 256 * MIB
"""All episodes, unpacked; they are read one at a time."""

MEMORY_BYTES: Final = 96 * MIB
"""What unpacking may take for itself: the dictionary of ``xz -9`` has 64 MiB."""

RUNS: Final = 10
"""Training runs of one policy."""

FAULTS: Final = 200
"""Lines of one validation; of more it is said how many there are."""

CHECKPOINT: Final = 256
"""Decisions from one checkpoint of an episode to the next."""
