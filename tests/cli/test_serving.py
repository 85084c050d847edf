"""Options of real servers, as far as no server is needed to read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmsched_gym.cli.serving import served_options
from llmsched_gym.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
URL = "http://127.0.0.1:8000"


def tools_of(file: Path) -> dict[str, str]:
    """Return the tools that a file names."""
    options = served_options("vllm", URL, False, None, None, file)
    assert options is not None
    return dict(options.tools)


def test_tools_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "mine.py").write_text("")
    file = folder / "tools.yaml"
    file.write_text("test: mine.py:run\nsearch: package.module:run\n")
    monkeypatch.chdir(tmp_path)
    assert tools_of(Path("there/tools.yaml")) == {"test": "there/mine.py:run", "search": "package.module:run"}
    (tmp_path / "here.py").write_text("")
    file.write_text("test: here.py:run\n")
    with pytest.raises(InputError, match="the one in the working directory is not meant"):
        tools_of(file)
    file.write_text("test: 3\n")
    with pytest.raises(InputError, match="test: got 3; expected module:function"):
        tools_of(file)


def test_the_tools_to_copy_are_there() -> None:
    file = ROOT / "configs" / "tools" / "example_tools.yaml"
    assert tools_of(file) == {"code_generation.test": f"{file.with_suffix('.py')}:run_tests"}
