"""A suite that takes seconds, a policy in a file with weights, and the submission that `prepare` makes of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from submissions import FACTOR, POLICY, WORDS

from llmsched_gym.cli import main
from llmsched_gym.suites import load_suite
from llmsched_gym.suites.suite import Suite


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the suite (``tiny``) and the policy lie."""
    folder = tmp_path_factory.mktemp("leaderboard")
    shutil.copytree(Path(__file__).parent / "tiny", folder / "tiny")
    (folder / "mine.py").write_text(POLICY)
    (folder / "My Factor.safetensors").write_bytes(FACTOR)
    return folder


@pytest.fixture(scope="session")
def suite(place: Path) -> Suite:
    """The suite."""
    return load_suite(place / "tiny")


@pytest.fixture(scope="session")
def prepared(place: Path) -> Path:
    """The submission; not to be changed."""
    policy = f"{place / 'mine.py'}:Mine?weights={str(place / 'My Factor.safetensors').replace(' ', '%20')}"
    words = ["leaderboard", "prepare", "--suite", str(place / "tiny"), "--policy", policy, "--name", "My scheduler"]
    assert main([*words, *WORDS, "-o", str(place / "mine"), "--workers", "1"]) == 0
    return place / "mine"


@pytest.fixture
def mine(prepared: Path, tmp_path: Path) -> Path:
    """The submission, to be changed."""
    return shutil.copytree(prepared, tmp_path / "mine")
