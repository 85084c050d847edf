"""Profiles in the Bayesian interchange format (BIF), for other tools of Bayesian networks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.profiler.profile import Profile, Variable
from llmsched_gym.workloads.files import write_atomic


def export_bif(profile: Profile, path: str | Path) -> None:
    """Write a profile as BIF.

    Variables are named after stages, other characters than letters, digits and ``_`` replaced; their states are
    ``absent``, ``bin_0``, ``bin_1``, … and, for candidates of plans, ``times_2``, … after the least number of their
    occurrences. Bin edges have no place in the format.

    Raises:
        InputError: The file cannot be written.
    """
    write_atomic(path, to_bif(profile).encode())


def to_bif(profile: Profile) -> str:
    """Return the text of a profile in BIF."""
    names = variable_names(profile)
    blocks = [f"network {_identifier(profile.application)} {{\n}}"]
    for name, variable in zip(names, profile.variables, strict=True):
        states = ", ".join(state_names(variable))
        blocks.append(f"variable {name} {{\n  type discrete [ {variable.states} ] {{ {states} }};\n}}")
    for child, parents in enumerate(profile.parents):
        given = f" | {', '.join(names[parent] for parent in parents)}" if parents else ""
        rows = _rows([profile.variables[parent] for parent in parents], profile.tables[child])
        blocks.append("\n".join([f"probability ( {names[child]}{given} ) {{", *rows, "}"]))
    return "\n".join(blocks) + "\n"


def variable_names(profile: Profile) -> list[str]:
    """Names of the variables in BIF; of stages whose names become equal the later ones get their index."""
    names: list[str] = []
    for variable in profile.variables:
        name = _identifier(variable.name)
        names.append(f"{name}_{variable.node}" if name in names else name)
    return names


def state_names(variable: Variable) -> list[str]:
    """Names of the states of a variable in BIF."""
    bins = [f"bin_{k}" for k in range(len(variable.edges_s) - 1)]
    return ["absent"] * variable.absent + bins + [f"times_{least}" for least in variable.repeats.tolist()]


def _rows(parents: Sequence[Variable], table: NDArray[np.float64]) -> Iterator[str]:
    if not parents:
        yield f"  table {_numbers(table)};"
        return
    for states in itertools.product(*(range(parent.states) for parent in parents)):
        given = ", ".join(state_names(parent)[state] for parent, state in zip(parents, states, strict=True))
        yield f"  ({given}) {_numbers(table[states])};"


def _numbers(values: NDArray[np.float64]) -> str:
    return ", ".join(repr(value) for value in values.tolist())


def _identifier(name: str) -> str:
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    return text if text[:1].isalpha() else f"v_{text}"
