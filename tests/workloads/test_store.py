"""Workload files come back equal, or not at all."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.arrivals import Poisson
from llmsched_gym.workloads.generator import generate
from llmsched_gym.workloads.store import load, save
from llmsched_gym.workloads.toy import TOY_APPLICATIONS
from llmsched_gym.workloads.workload import Workload


@pytest.fixture(scope="module")
def workload(assistant: Application) -> Workload:
    applications = {**TOY_APPLICATIONS, "assistant": assistant}
    return generate("w", dict.fromkeys(applications, 1.0), Poisson(), 1.0, 30, "train", 0, applications=applications)


@pytest.fixture(scope="module")
def content(workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("store") / "w.npz"
    save(workload, path)
    return path.read_bytes()


def test_round_trip(workload: Workload, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "again.npz"
    path.write_bytes(content)
    loaded = load(path)
    assert loaded.digest == workload.digest
    assert loaded.templates == workload.templates
    assert loaded.provenance == workload.provenance
    assert loaded.name == "w"
    for name in ("jobs", "stages", "tasks", "children", "reveals"):
        array = getattr(loaded, name)
        assert array.dtype == getattr(workload, name).dtype
        assert np.array_equal(array, getattr(workload, name))
        assert not array.flags.writeable
    save(loaded, path)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["again.npz"]


def test_numpy_opens_it(workload: Workload, content: bytes) -> None:
    columns = np.load(io.BytesIO(content), allow_pickle=False)
    assert np.array_equal(columns["stages.node"], workload.stages["node"])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_file_cut_short(content: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"w\.npz: got not a whole zip file") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_changed_bytes_never_change_the_workload(workload: Workload, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    refused = 0
    positions = np.random.default_rng(0).integers(0, len(content), 300)
    for position in positions.tolist():
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except InputError:
            refused += 1
        else:  # zip fields that say nothing about content, such as dates
            assert loaded.digest == workload.digest
            assert loaded.provenance == workload.provenance
    assert refused > 200


def rewrite(content: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return buffer.getvalue()


def header(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members["header.json"] = json.dumps(json.loads(members["header.json"]) | changes).encode()

    return change


def array(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, make(np.load(io.BytesIO(members[f"{name}.npy"]))), allow_pickle=True)
        members[f"{name}.npy"] = buffer.getvalue()

    return change


def shorter(column: np.ndarray) -> np.ndarray:
    return column[:-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (header(version=2), "header.json: version: got 2; expected version 1"),
        (header(format="other"), "header.json: format: got 'other'; expected llmsched-gym/workload"),
        (header(digest="00"), "expected 00, which the header names"),
        (header(models=[]), "header.json: models"),
        (header(models="default"), "header.json: models"),
        (header(n_prefixes="3"), "header.json: n_prefixes: got '3'"),
        (header(extra=1), "header.json: extra"),
        (header(templates=[]), "header.json: templates"),
        (lambda members: members.pop("header.json"), "header.json: got nothing"),
        (lambda members: members.update({"header.json": b"{"}), "header.json: got not JSON"),
        (lambda members: members.pop("tasks.stage.npy"), "tasks.stage.npy: got nothing"),
        (lambda members: members.update({"children.npy": b"123"}), "children.npy: got not an .npy array"),
        (array("tasks.stage", lambda a: a.astype("f8")), "tasks.stage.npy: got <f8 of shape"),
        (array("tasks.stage", lambda a: a.astype("O")), "tasks.stage.npy: got |O of shape"),
        (array("tasks.stage", lambda a: a[:, None]), "tasks.stage.npy: got <i4 of shape"),
        (array("tasks.stage", shorter), "tasks: got"),
        (array("tasks.output_tokens", lambda a: a + 1), "tasks["),
        (array("jobs.arrival_ns", lambda a: a + 1), "digest: got"),
        (array("jobs.arrival_ns", lambda a: a[::-1]), "arrivals in ascending order"),
        (array("history0.seconds", lambda a: a - 9.0), "history of certain, row 0, seconds"),
    ],
)
def test_other_versions_and_types(
    content: bytes, tmp_path: Path, change: Callable[[dict[str, bytes]], None], message: str
) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(rewrite(content, change))
    with pytest.raises(InputError) as caught:
        load(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert message in line
    assert "\n" not in line


def test_unreadable_and_unwritable_paths(workload: Workload, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"none/w\.npz: got no such file or directory; expected a path"):
        save(workload, tmp_path / "none" / "w.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="got a folder"):
        save(workload, tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_copies_are_frozen_too(workload: Workload) -> None:
    for copied in (copy.deepcopy(workload), pickle.loads(pickle.dumps(workload))):
        assert copied.digest == workload.digest
        with pytest.raises(ValueError, match="read-only"):
            copied.children[:] = 0
