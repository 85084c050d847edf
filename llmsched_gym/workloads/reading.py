"""Reading the jobs of a file, whichever kind it is."""

from __future__ import annotations

from pathlib import Path

from llmsched_gym.errors import InputError
from llmsched_gym.workloads import store
from llmsched_gym.workloads.jobtrace import read_job_trace
from llmsched_gym.workloads.workload import Workload


def read_workload(path: str | Path) -> Workload:
    """Read a workload file, or a job trace if the name ends in ``.json``.

    Raises:
        InputError: `path` is no path, or the file cannot be read or is not valid.
    """
    if not isinstance(path, str | Path):
        raise InputError("workload", "", path, "the path of a workload file or of a job trace (.json)")
    return read_job_trace(path) if Path(path).suffix == ".json" else store.load(path)
