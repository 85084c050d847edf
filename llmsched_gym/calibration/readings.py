"""Readings of probes: taken in rounds over all servers at once, kept in a file, and summed up as a table."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from llmsched_gym.calibration.latency_table import IterationTable, design
from llmsched_gym.calibration.probes import Interference, Probe, Prober, Reading
from llmsched_gym.errors import InputError, Plain, RunError
from llmsched_gym.workloads.files import make_folder, read_json, write_atomic

FORMAT: Final = 1
"""Version of the files of readings."""

_ROW: Final = ("round", "probe", *(field.name for field in fields(Reading)))
"""Numbers of a row of a file of readings."""


class Progress(Protocol):
    """Told how far a calibration is."""

    def note(self, text: str) -> None:
        """Say something once."""
        ...

    def begin(self, total: int, done: int) -> None:
        """Begin with `done` of `total` readings present."""
        ...

    def advance(self, text: str) -> None:
        """One more reading, described by `text`."""
        ...


class Readings:
    """The readings of a calibration, in a file from which it goes on after an interrupt.

    Args:
        path: The file.
        setting: What readings depend on: servers, limits, probes. JSON-able.

    Raises:
        InputError: The file cannot be read, or holds readings of another setting.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any]) -> None:
        self._path = path
        self._setting = json.loads(json.dumps(setting))
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            content = _read(path)
            if content["setting"] != self._setting:
                keys = [key for key, value in self._setting.items() if content["setting"].get(key) != value]
                allowed = "the same as asked for now; delete the file, or choose another output"
                raise InputError(path, "setting", Plain(f"other {', '.join(keys) or 'fields'}"), allowed)
            self.rows = content["rows"]

    def has(self, turn: int, probe: int) -> bool:
        """Whether a probe was read in a round."""
        return any(row["round"] == turn and row["probe"] == probe for row in self.rows)

    def keep(self, turn: int, probe: int, readings: Sequence[Reading]) -> None:
        """Write down what the servers took.

        Raises:
            InputError: The file cannot be written.
        """
        self.rows += [{"round": turn, "probe": probe, **asdict(reading)} for reading in readings]
        content = {"format": FORMAT, "setting": self._setting, "rows": self.rows}
        make_folder(self._path.parent)
        write_atomic(self._path, json.dumps(content, indent=1).encode())


def _read(path: Path) -> dict[str, Any]:
    what = "readings of a calibration; delete the file to measure anew"
    content = read_json(path, what)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(path, "", Plain("something else"), what)
    if not isinstance(content.get("setting"), dict) or not isinstance(content.get("rows"), list):
        raise InputError(path, "", Plain("no setting or no rows"), what)
    for number, row in enumerate(content["rows"]):
        if not isinstance(row, dict) or not all(isinstance(row.get(name), int | float) for name in _ROW):
            raise InputError(path, f"rows.{number}", row, f"a mapping of {', '.join(_ROW)} to numbers")
    return content


def summarise(probes: Sequence[Probe], rows: Sequence[Mapping[str, Any]]) -> tuple[IterationTable, dict[str, float]]:
    """Turn readings into a table of iteration times.

    Args:
        probes: What was measured.
        rows: The readings: probe, iteration_ms, overhead_ms.

    Returns:
        The table, with the median of each probe; ``noise_pct``: mean spread between the quartiles of a probe's
        readings, relative to their median; ``host_overhead_ms``: median time outside the engine of requests alone.

    Raises:
        RunError: The probes measured so far cannot tell the coefficients apart.
    """
    points: list[tuple[float, ...]] = []
    times: list[float] = []
    spreads: list[float] = []
    for index, probe in enumerate(probes):
        readings = [row["iteration_ms"] for row in rows if row["probe"] == index]
        if readings:
            low, middle, high = np.quantile(readings, (0.25, 0.5, 0.75))
            points.append(probe.point)
            times.append(float(middle))
            if len(readings) > 1:
                spreads.append(float((high - low) / middle))
    scaled = design(np.array(points, float).reshape(-1, 4))
    if np.linalg.matrix_rank(scaled / np.maximum(scaled.max(axis=0, initial=0.0), 1.0)) < 4:
        raise RunError(f"{len(points)} points measured: too few to tell four coefficients apart; give it more time")
    alone = [row["overhead_ms"] for row in rows if probes[row["probe"]].n_decode in (0, 1)]
    noise = {
        "noise_pct": round(100.0 * float(np.mean(spreads)), 1) if spreads else 0.0,
        "host_overhead_ms": round(float(np.median(alone)), 2) if alone else 0.0,
    }
    return IterationTable(np.array(points), np.array(times), noisy=True), noise


async def take_readings(
    probers: Sequence[Prober],
    probes: Sequence[Probe],
    readings: Readings,
    *,
    rounds: int,
    budget_s: float,
    progress: Progress,
) -> None:
    """Run all probes once per round, on all servers at the same time, until the rounds or the time are over.

    What servers share (cores, memory bandwidth) then slows them down as it does when all of them serve.

    Args:
        probers: One per server.
        probes: What to measure, in the order of the first round; later rounds have orders of their own.
        readings: Receives what comes of it. Present readings are not taken again.
        rounds: Number of rounds.
        budget_s: No probe starts later than this.
        progress: Told about every probe.

    Raises:
        RunError: A server failed.
    """
    end_s = time.monotonic() + budget_s
    wanted = [(turn, int(index)) for turn in range(rounds) for index in _order(len(probes), turn)]
    missing = [(turn, index) for turn, index in wanted if not readings.has(turn, index)]
    progress.begin(len(wanted), len(wanted) - len(missing))
    for turn, index in missing:
        if time.monotonic() > end_s:
            progress.note(f"the time is over: {len(missing)} readings were wanted, some are left out")
            return
        # All come to their end, whatever happens to one: what still ran would disturb the next probe.
        found = await asyncio.gather(*(prober.measure(probes[index]) for prober in probers), return_exceptions=True)
        errors = [result for result in found if isinstance(result, BaseException)]
        for error in errors:
            if not isinstance(error, Interference):
                raise error
            progress.note(str(error))
        if errors:
            continue
        taken = [result for result in found if isinstance(result, Reading)]
        readings.keep(turn, index, taken)
        times = ", ".join(f"{reading.iteration_ms:.2f}" for reading in taken)
        progress.advance(f"{_describe(probes[index])}: {times} ms")


def _order(n: int, turn: int) -> Sequence[int]:
    return range(n) if turn == 0 else [int(index) for index in np.random.default_rng(turn).permutation(n)]


def _describe(probe: Probe) -> str:
    """Say what a probe measures."""
    parts: list[str] = []
    if probe.prefill_tokens:
        parts.append(f"{probe.prefill_tokens} prompt tokens after {probe.prefill_context}")
    if probe.n_decode:
        parts.append(f"{probe.n_decode} decoding at {probe.decode_context}")
    return " beside ".join(parts)
