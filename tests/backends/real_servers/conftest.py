"""Two real vLLM servers for all tests that ask for them; one worker runs all of this folder, and launches once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmsched_gym.backends.vllm.launch import Server, launch_all
from llmsched_gym.backends.vllm.launch_spec import find_python
from llmsched_gym.errors import InputError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the real engine (``-m "not vllm"`` leaves them out)."""
    for item in items:
        if "vllm_python" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """Interpreter with vLLM; where there is none, the test is skipped and says so."""
    try:
        return find_python()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def launched(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two servers with a tiny model."""
    folder: Path = tmp_path_factory.mktemp("servers")
    servers = list(launch_all(["dummy:tiny", "dummy:tiny"], folder, python=vllm_python))
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def servers(launched: list[Server]) -> list[Server]:
    """The two servers, both of them running whatever an earlier test did to them."""
    for server in launched:
        if not server.alive():
            server.start()
    for server in launched:
        server.wait_ready()
    return launched
