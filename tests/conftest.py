"""Fixtures shared by all tests, and which tests share a worker."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER: Final = ("tests/backends/real_servers/", "tests/evaluation/test_ray_tasks.py")
"""Where tests start servers: once per run, if one worker runs them all."""


class ServersOnOneWorker(LoadScopeScheduling):
    """Hands out tests one by one, but those that share servers to one worker.

    The mark ``xdist_group`` would say so test by test, but has no effect in xdist 3.8 with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((start for start in TOGETHER if nodeid.startswith(start)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ServersOnOneWorker:
    """Return what spreads tests over workers (``-n``)."""
    return ServersOnOneWorker(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Where the home folder cannot be written, keep compiled code in a temporary one for all processes of the run."""
    from llmsched_gym._code import store

    try:
        store.prepare(store.code_folder())
    except OSError:
        folder = tempfile.mkdtemp(prefix="llmsched-gym-tests-")
        os.environ[store.CACHE_VARIABLE] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the measured data and reference outputs that lie beside a checkout; skips where it is absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("the measured data (../shared) is not beside this checkout")
    return folder
