"""Workload files: one zip of a JSON header and one ``.npy`` per column (docs/workloads.md)."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from llmsched_gym.complaints import from_validation
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.files import read_bytes, write_atomic
from llmsched_gym.workloads.schema import STRICT, TemplateRecord
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import HISTORY, JOB, SCHEMA_VERSION, STAGE, TASK, Workload

FORMAT: Final = "llmsched-gym/workload"

_HEADER: Final = "header.json"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MAX_UNPACKED: Final = 4 * 2**30
_TABLES: Final = {"jobs": JOB, "stages": STAGE, "tasks": TASK}
_LISTS: Final = ("children", "reveals")
_ALLOWED: Final = "a workload file as `llmsched-gym workload generate` writes it"


class _Header(BaseModel):
    model_config = STRICT

    format: str
    version: int
    digest: str
    name: str
    models: tuple[str, ...] = Field(min_length=1)
    n_app_prefixes: int = Field(ge=0)
    n_prefixes: int = Field(ge=0)
    templates: tuple[TemplateRecord, ...] = Field(min_length=1)
    provenance: dict[str, Any]


def save(workload: Workload, path: str | Path) -> None:
    """Write a workload, atomically; equal workloads give equal bytes.

    Raises:
        InputError: `path` cannot be written.
    """
    header = _Header(
        format=FORMAT,
        version=SCHEMA_VERSION,
        digest=workload.digest,
        name=workload.name,
        models=workload.models,
        n_app_prefixes=workload.n_app_prefixes,
        n_prefixes=workload.n_prefixes,
        templates=tuple(TemplateRecord.from_template(template) for template in workload.templates),
        provenance=workload.provenance,
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        text = json.dumps(header.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
        _add(archive, _HEADER, text.encode())
        for name, column in _columns(workload):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(column), version=(1, 0), allow_pickle=False)
            _add(archive, f"{name}.npy", member.getvalue())
    write_atomic(path, content.getvalue())


def load(path: str | Path) -> Workload:
    """Read a workload, and check its digest and its invariants.

    Raises:
        InputError: Unreadable, cut short, changed, of another version or kind, or not a consistent workload.
    """
    content = read_bytes(path, _ALLOWED)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_UNPACKED:
                raise InputError(path, "", Plain("more than 4 GiB unpacked"), _ALLOWED)
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, "", Plain("not a whole zip file (cut short or changed)"), _ALLOWED) from error
    header = _read_header(path, members)
    workload = _read_arrays(path, header, members)
    validate_workload(workload, path)
    if workload.digest != header.digest:
        raise InputError(path, "digest", workload.digest, f"{header.digest}, which the header names")
    return workload


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)


def _columns(workload: Workload) -> Iterator[tuple[str, NDArray[Any]]]:
    for table, dtype in _TABLES.items():
        for column in dtype.names or ():
            yield f"{table}.{column}", getattr(workload, table)[column]
    for name in _LISTS:
        yield name, getattr(workload, name)
    for app, history in enumerate(workload.history):
        for column in HISTORY.names or ():
            yield f"history{app}.{column}", history[column]


def _read_header(path: str | Path, members: dict[str, bytes]) -> _Header:
    if _HEADER not in members:
        raise InputError(path, _HEADER, Plain("nothing"), _ALLOWED)
    try:
        raw = json.loads(members[_HEADER])
    except ValueError as error:
        raise InputError(path, _HEADER, Plain("not JSON"), _ALLOWED) from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise InputError(path, f"{_HEADER}: format", raw.get("format") if isinstance(raw, dict) else raw, FORMAT)
    if raw.get("version") != SCHEMA_VERSION:
        allowed = f"version {SCHEMA_VERSION}, the one this release reads"
        raise InputError(path, f"{_HEADER}: version", raw.get("version"), allowed)
    try:
        return _Header.model_validate_json(members[_HEADER])
    except ValidationError as error:
        raise from_validation(f"{path}: {_HEADER}", error, _Header) from error


def _read_arrays(path: str | Path, header: _Header, members: dict[str, bytes]) -> Workload:
    templates = tuple(record.template(path) for record in header.templates)
    tables = {name: _read_table(path, members, name, dtype) for name, dtype in _TABLES.items()}
    lists = {name: _read_column(path, members, name, np.dtype("i4")) for name in _LISTS}
    history = tuple(_read_table(path, members, f"history{app}", HISTORY) for app in range(len(templates)))
    return Workload(
        name=header.name,
        templates=templates,
        history=history,
        models=header.models,
        **tables,
        **lists,
        n_app_prefixes=header.n_app_prefixes,
        n_prefixes=header.n_prefixes,
        provenance=header.provenance,
    )


def _read_table(path: str | Path, members: dict[str, bytes], name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    columns = {column: _read_column(path, members, f"{name}.{column}", dtype[column]) for column in dtype.names or ()}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1:
        raise InputError(path, name, Plain(f"columns of {sorted(lengths)} rows"), "columns of one length")
    table = np.zeros(lengths.pop(), dtype=dtype)
    for column, values in columns.items():
        table[column] = values
    return table


def _read_column(path: str | Path, members: dict[str, bytes], name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    member = f"{name}.npy"
    if member not in members:
        raise InputError(path, member, Plain("nothing"), f"an array of {dtype.str}")
    buffer = io.BytesIO(members[member])
    try:
        if np.lib.format.read_magic(buffer) != (1, 0):
            raise InputError(path, member, Plain("another .npy version"), "version 1.0")
        shape, _, found = np.lib.format.read_array_header_1_0(buffer)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, member, Plain("not an .npy array"), f"an array of {dtype.str}") from error
    body = len(members[member]) - buffer.tell()
    if found != dtype or shape != (body // dtype.itemsize,) or body % dtype.itemsize:
        raise InputError(
            path, member, Plain(f"{found.str} of shape {shape}"), f"one row of {dtype.str} that fills the member"
        )
    return np.frombuffer(members[member], dtype=dtype, offset=buffer.tell())
