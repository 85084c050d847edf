"""Profiles as files: JSON with a version and a digest, one line per variable; see ``docs/profiler.md``."""

from __future__ import annotations

import hashlib
import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.complaints import from_validation
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.profiler.profile import MAX_STATES, SLICES, Profile, Variable
from llmsched_gym.workloads.files import read_json, write_atomic
from llmsched_gym.workloads.schema import STRICT
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind

FORMAT: Final = "llmsched-gym/profile"
VERSION: Final = 2
SHIPPED: Final = Path(__file__).parent / "shipped"
"""Folder of the profiles that come with the package."""

_SUM_TOLERANCE: Final = 1e-9


class _VariableRecord(BaseModel):
    model_config = STRICT

    name: str
    node: int = Field(ge=0)
    kind: Literal["llm", "regular", "dynamic"]
    absent: bool
    edges_s: tuple[float, ...]
    repeats: tuple[int, ...]
    slices_s: tuple[tuple[float, ...], ...]
    calls_s: tuple[float, ...]
    parents: tuple[int, ...]
    table: tuple[float, ...]


class _LatencyRecord(BaseModel):
    model_config = STRICT

    name: str
    ms: tuple[float, ...]


class _ProfileRecord(BaseModel):
    model_config = STRICT

    application: str = Field(min_length=1)
    nodes: tuple[str, ...] = Field(min_length=1)
    latency: _LatencyRecord
    provenance: dict[str, Any]
    variables: tuple[_VariableRecord, ...] = Field(min_length=1)


def save_profile(profile: Profile, path: str | Path) -> None:
    """Write a profile, whole or not at all; equal profiles give equal bytes.

    Raises:
        InputError: The file cannot be written.
    """
    body = _body(profile)
    head = {"format": FORMAT, "version": VERSION, "digest": _digest(body)}
    fields = head | {name: value for name, value in body.items() if name != "variables"}
    lines = [f' "{name}": {_text(value)},' for name, value in fields.items()]
    variables = ",\n".join(f"  {_text(variable)}" for variable in body["variables"])
    write_atomic(path, "\n".join(["{", *lines, f' "variables": [\n{variables}\n ]', "}\n"]).encode())


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a profile that comes with the package, by its application's name, or a file.

    Raises:
        InputError: There is no such profile; or the file is unreadable, cut short, changed, of another version or not
            consistent.
    """
    text = str(name_or_path)
    if text in list_profiles():
        return _shipped(text)
    if text.endswith(".json") or os.sep in text or Path(text).is_file():
        return read_profile(text)
    raise InputError("profile", "name", text, f"the path of a JSON file, or {suggest(text, list_profiles())}")


def list_profiles() -> list[str]:
    """Applications whose profiles come with the package, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


@lru_cache
def _shipped(name: str) -> Profile:
    return read_profile(SHIPPED / f"{name}.json")


def check_template(profile: Profile, template: ApplicationTemplate, source: object) -> None:
    """Check that a profile was fitted to this version of an application.

    Args:
        profile: The profile.
        template: The application as it is.
        source: Where the profile came from, for the message.

    Raises:
        InputError: Another application, or other stages.
    """
    if profile.application != template.name:
        raise InputError(source, "application", profile.application, f"a profile of {template.name}")
    nodes = tuple(node.name for node in template.nodes)
    if profile.nodes != nodes:
        other = sorted(set(profile.nodes) ^ set(nodes)) or ["their order"]
        allowed = f"those of {template.name} as it is; fit the profile again"
        raise InputError(source, "nodes", Plain(f"stages that differ in {', '.join(other)}"), allowed)
    kinds = {one.name: one.kind for one in profile.variables}
    for node in template.nodes:
        if node.name in kinds and kinds[node.name] is not node.kind:
            allowed = f"{node.kind.name.lower()}; fit the profile again"
            raise InputError(source, f"variable {node.name}: kind", kinds[node.name].name.lower(), allowed)


def read_profile(path: str | Path) -> Profile:
    """Read a profile file.

    Raises:
        InputError: As `load_profile`.
    """
    what = "a whole profile: a JSON object, as `llmsched-gym profile fit` writes it"
    content = read_json(path, what)
    if not isinstance(content, dict):
        raise InputError(path, "", content, what)
    for name, expected in (("format", FORMAT), ("version", VERSION)):
        found = content.get(name, Plain("nothing"))
        if found != expected or isinstance(found, bool):
            raise InputError(path, name, found, f"{expected}, which this release reads")
    body = {name: value for name, value in content.items() if name not in ("format", "version", "digest")}
    try:
        record = _ProfileRecord.model_validate_json(json.dumps(body))
    except ValidationError as error:
        raise from_validation(path, error, _ProfileRecord) from error
    if content.get("digest") != _digest(body):
        raise InputError(path, "digest", content.get("digest"), f"{_digest(body)}, the digest of the content")
    return _profile(path, record)


def _profile(path: str | Path, record: _ProfileRecord) -> Profile:
    variables: list[Variable] = []
    tables = []
    for position, entry in enumerate(record.variables):
        place = f"variables.{position}"
        variable = _variable(path, place, entry, record.nodes)
        cards = []
        for parent in entry.parents:
            if not 0 <= parent < position:
                raise InputError(path, f"{place}.parents", parent, "indices of earlier variables")
            cards.append(variables[parent].states)
        if list(entry.parents) != sorted(set(entry.parents)):
            raise InputError(path, f"{place}.parents", entry.parents, "ascending indices")
        variables.append(variable)
        shape = (*cards, variable.states)
        if len(entry.table) != math.prod(shape):
            allowed = f"{math.prod(shape)} probabilities, one per combination of states"
            raise InputError(path, f"{place}.table", len(entry.table), allowed)
        table = np.array(entry.table).reshape(shape)
        if (table < 0).any() or (np.abs(table.sum(axis=-1) - 1.0) > _SUM_TOLERANCE).any():
            raise InputError(path, f"{place}.table", Plain("other numbers"), "probabilities whose rows sum to 1")
        tables.append(table)
    return Profile(
        application=record.application,
        nodes=record.nodes,
        variables=tuple(variables),
        parents=tuple(entry.parents for entry in record.variables),
        tables=tuple(tables),
        latency=LatencyProfile.from_ms(record.latency.name, record.latency.ms, source=f"{path}: latency"),
        provenance=record.provenance,
    )


def _variable(path: str | Path, place: str, entry: _VariableRecord, nodes: tuple[str, ...]) -> Variable:
    if entry.node >= len(nodes) or nodes[entry.node] != entry.name:
        raise InputError(path, f"{place}.node", entry.node, f"the index of {entry.name} in nodes")
    states = len(entry.edges_s) + 1 + entry.absent + len(entry.repeats)
    if states > MAX_STATES:
        raise InputError(path, f"{place}.edges_s", Plain(f"{states} states"), f"at most {MAX_STATES}")
    edges = np.array([0.0, *entry.edges_s, np.inf])
    if (np.diff(edges) <= 0.0).any():
        raise InputError(path, f"{place}.edges_s", entry.edges_s, "ascending numbers > 0")
    if entry.repeats and (entry.repeats[0] != 2 or (np.diff(entry.repeats) <= 0).any() or entry.kind == "dynamic"):
        raise InputError(path, f"{place}.repeats", entry.repeats, "ascending numbers from 2, of a stage")
    if len(entry.slices_s) != states:
        raise InputError(path, f"{place}.slices_s", Plain(f"{len(entry.slices_s)} rows"), f"{states}, one per state")
    for name, row in (
        *((f"slices_s.{state}", row) for state, row in enumerate(entry.slices_s)),
        ("calls_s", entry.calls_s),
    ):
        if len(row) != SLICES or row[0] < 0.0 or (np.diff(row) < 0.0).any():
            raise InputError(path, f"{place}.{name}", row, f"{SLICES} ascending numbers >= 0")
    return Variable(
        name=entry.name,
        node=entry.node,
        absent=entry.absent,
        edges_s=edges,
        slices_s=np.array(entry.slices_s),
        kind=StageKind[entry.kind.upper()],
        repeats=np.array(entry.repeats, dtype=np.int64),
        calls_s=np.array(entry.calls_s),
    )


def _body(profile: Profile) -> dict[str, Any]:
    return {
        "application": profile.application,
        "nodes": list(profile.nodes),
        "latency": {"name": profile.latency.name, "ms": list(profile.latency.coefficients_ms)},
        "provenance": profile.provenance,
        "variables": [
            {
                "name": variable.name,
                "node": variable.node,
                "kind": variable.kind.name.lower(),
                "absent": variable.absent,
                "edges_s": variable.edges_s[1:-1].tolist(),
                "repeats": variable.repeats.tolist(),
                "slices_s": variable.slices_s.tolist(),
                "calls_s": variable.calls_s.tolist(),
                "parents": list(parents),
                "table": [int(value) if value in (0.0, 1.0) else value for value in table.ravel().tolist()],
            }
            for variable, parents, table in zip(profile.variables, profile.parents, profile.tables, strict=True)
        ],
    }


def _digest(body: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
