"""Observations brought to the range that networks learn from, by fixed scales: the same for training and for use.

Nothing is estimated from data while training, so that weights mean the same wherever they are loaded. `SCALES` has a
rule for each column of the observation; a policy's weights ship with the rules that they were trained under, as JSON
(`scales_to_json`), so that later changes of `SCALES` do not touch them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Executor, Job, Node, System
from llmsched_gym.errors import InputError, Plain, suggest

Method: TypeAlias = Literal["linear", "log1p"]


class Scale(NamedTuple):
    """What becomes of a column's value x. Both methods map 0, and so padding, to 0.

    Attributes:
        method: "linear": gain * x / unit; "log1p": gain * log(1 + max(x, 0) / unit).
        unit: In the unit of the column, above 0.
        gain: Brings usual values below about 3; above 0.
    """

    method: Method
    unit: float = 1.0
    gain: float = 1.0


Scales: TypeAlias = Mapping[str, tuple[Scale, ...]]
"""For each table of the observation, a rule per column."""

TABLES: Final[dict[str, type[IntEnum]]] = {
    "candidates": Candidate,
    "jobs": Job,
    "executors": Executor,
    "system": System,
    "nodes": Node,
}
"""The tables that are normalised, with their columns; masks, edges and the truth are not."""

_AS_IT_IS = Scale("linear")
_LOGARITHM = Scale("log1p", 1.0, 0.5)
_EXCEPTIONS: Final[dict[str, Scale]] = {
    **dict.fromkeys(("JOB", "APP", "NODE", "KIND", "STATUS", "CANDIDATE", "NODES", "EDGES", "KV_USED"), _AS_IT_IS),
    **dict.fromkeys(("JOBS", "CANDIDATES", "HIDDEN_CANDIDATES", "JOB_ROWS"), Scale("linear", 64.0)),
    **dict.fromkeys(("FREE_SLOTS", "SLOTS", "RUNNING"), Scale("linear", 16.0)),
    **dict.fromkeys(("PROMPT_TOKENS", "DECODED_TOKENS"), Scale("log1p", 100.0, 0.5)),
    **dict.fromkeys(("TIME_S", "BUSY_S"), Scale("log1p", 100.0, 0.5)),
    "ENTROPY": Scale("linear", 4.0),
    "REDUCTION_PRODUCT": Scale("log1p", 1.0, 0.1),  # a power of seconds
}


def _rule(column: str) -> Scale:
    return _EXCEPTIONS.get(column, _LOGARITHM)


SCALES: Final[Scales] = {table: tuple(_rule(column.name) for column in columns) for table, columns in TABLES.items()}
"""The rules in use. Times, numbers of tasks and uncertainty reductions are logarithms: a short job's second counts for
more than a long one's. Row numbers and categories stay as they are."""


class _Rules(NamedTuple):
    """The rules of one table as arrays.

    Attributes:
        factors: float32 (columns,) What the values are multiplied with first.
        logarithmic: intp (k,) Columns with the logarithm.
        gains: float32 (k,) What their logarithms are multiplied with.
    """

    factors: NDArray[np.float32]
    logarithmic: NDArray[np.intp]
    gains: NDArray[np.float32]


@lru_cache(maxsize=64)
def _rules(scales: tuple[Scale, ...]) -> _Rules:
    logarithmic = np.flatnonzero([scale.method == "log1p" for scale in scales])
    factors = np.array([(scale.gain if scale.method == "linear" else 1.0) / scale.unit for scale in scales], np.float32)
    return _Rules(factors, logarithmic, np.array([scales[column].gain for column in logarithmic], np.float32))


def normalise(observation: Mapping[str, NDArray[Any]], scales: Scales = SCALES) -> dict[str, NDArray[Any]]:
    """Scale the tables of an observation.

    Args:
        observation: Of one environment, or of many with any leading axes; "table" or "graph". Not changed.
        scales: Rules per table.

    Returns:
        A new mapping with new float32 arrays for the tables in `TABLES`; others (mask, edges, truth) are passed on.
    """
    result = dict(observation)
    for table in TABLES:
        if table in observation:
            factors, logarithmic, gains = _rules(scales[table])
            scaled = np.multiply(observation[table], factors, dtype=np.float32)
            if len(logarithmic):
                # The largest finite number stands in where a product of many ranges has overflowed.
                bounded = np.clip(scaled[..., logarithmic], 0.0, np.finfo(np.float32).max)
                scaled[..., logarithmic] = np.log1p(bounded, out=bounded) * gains
            result[table] = scaled
    return result


_LATER: Final = {"jobs": ("HISTORY_TOOL_S", "POSTERIOR_TOOL_S", "GITTINS_S")}
"""Columns that weights from before them have no rule for. `candidate_network` reads none of them."""


def scales_to_json(scales: Scales = SCALES) -> dict[str, dict[str, list[str | float]]]:
    """Return rules by table and column name, for the JSON file beside a policy's weights."""
    return {
        table: {column.name: [*scale] for column, scale in zip(TABLES[table], rules, strict=True)}
        for table, rules in scales.items()
    }


def scales_from_json(given: Mapping[str, Mapping[str, Any]], source: str) -> Scales:
    """Read rules back.

    Args:
        given: As `scales_to_json` makes it.
        source: File that they come from, for messages.

    Raises:
        InputError: A table or column is missing or not known, or a rule is not one.
    """
    _check_names(given, TABLES, source, "scales")
    present = scales_to_json()
    result: dict[str, tuple[Scale, ...]] = {}
    for table, columns in TABLES.items():
        rules = given[table]
        if isinstance(rules, Mapping):
            rules = {name: present[table][name] for name in _LATER.get(table, ())} | dict(rules)
        _check_names(rules, columns.__members__, source, f"scales.{table}")
        result[table] = tuple(_scale(rules[name], source, f"scales.{table}.{name}") for name in columns.__members__)
    return result


def _check_names(given: object, known: Mapping[str, object], source: str, field: str) -> None:
    if not isinstance(given, Mapping):
        raise InputError(source, field, given, "a mapping")
    for name in given:
        if name not in known:
            raise InputError(source, field, name, suggest(str(name), known))
    for name in known:
        if name not in given:
            raise InputError(source, field, Plain(f"without {name}"), "a rule for each column")


def _scale(given: Any, source: str, field: str) -> Scale:
    match given:
        case ["linear" | "log1p" as method, int(unit) | float(unit), int(gain) | float(gain)] if (
            0.0 < unit < np.inf and 0.0 < gain < np.inf
        ):
            return Scale(method, float(unit), float(gain))
        case _:
            allowed = "[method, unit, gain]: linear or log1p, and two numbers above 0"
            raise InputError(source, field, str(given), allowed)


class NormalisedObservation(gym.ObservationWrapper[Any, Any, Any]):
    """An environment whose observations are normalised: for training one environment at a time.

    Args:
        env: A scheduling environment.
        scales: Rules per table.
    """

    def __init__(self, env: gym.Env[Any, Any], scales: Scales = SCALES) -> None:
        super().__init__(env)
        self._scales = scales

    def observation(self, observation: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the normalised observation."""
        return normalise(observation, self._scales)
