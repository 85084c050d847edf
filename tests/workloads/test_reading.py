"""A workload file and a job trace give the same jobs; what is no path is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads import store
from llmsched_gym.workloads.jobtrace import write_job_trace
from llmsched_gym.workloads.reading import read_workload


def test_both_kinds_of_files_hold_the_same_jobs(tmp_path: Path) -> None:
    workload = load_scenario("toy").build("eval", 0)
    store.save(workload, tmp_path / "toy.workload")
    write_job_trace(workload, tmp_path / "toy.json")
    assert read_workload(tmp_path / "toy.workload").digest == workload.digest
    assert read_workload(str(tmp_path / "toy.json")).digest == workload.digest


@pytest.mark.parametrize("given", [3, None, b"toy.json", ["toy.json"]])
def test_what_is_no_path_is_refused(given: object) -> None:
    with pytest.raises(InputError, match=r"^workload: got .*; expected the path of a workload file"):
        read_workload(given)  # pyright: ignore[reportArgumentType]
