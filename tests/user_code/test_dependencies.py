"""Every file of a user that decides what code does changes the digest; what cannot be followed is a doubt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.user_code.dependencies import Dependencies, dependencies
from llmsched_gym.user_code.faults import told
from llmsched_gym.user_code.loading import load_module

FILES = {
    "entry.py": "import numpy as np\nfrom pack.base import Base\nimport pack.deep.below\nimport side, json\n"
    "def late():\n    from pack import lazy\n    import missing_for_now\n",
    "side.py": "X = 1\n",
    "pack/__init__.py": "Y = 2\n",
    "pack/base.py": "from . import near\nfrom .deep import *\nclass Base: ...\n",
    "pack/near.py": "Z = 3\n",
    "pack/lazy.py": "L = 4\n",
    "pack/unused.py": "U = 5\n",
    "pack/deep/__init__.py": "__all__ = ['starred']\n",
    "pack/deep/starred.py": "S = 6\n",
    "pack/deep/below.py": "B = 7\n",
}
USED = [name for name in FILES if name != "pack/unused.py"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's modules on the path; forgotten afterwards."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def found(name: str) -> Dependencies:
    return dependencies([name])


def test_imports_are_followed_through_the_users_files(folder: Path) -> None:
    import_module("entry")
    needs = found("entry")
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in USED}
    assert set(needs.files) == modules | {"missing_for_now"}
    assert needs.packages == {"numpy": np.__version__}
    assert needs.doubt == ""


def test_nothing_is_run_to_find_a_module(folder: Path) -> None:
    (folder / "side.py").write_text("raise SystemExit(0)\n")
    (folder / "pack" / "__init__.py").write_text("raise SystemExit(0)\n")
    assert {"side", "pack.base", "pack.lazy"} <= set(dependencies([str(folder / "entry.py")]).files)
    assert "pack" not in sys.modules


@pytest.mark.parametrize("edited", USED)
def test_an_edit_of_any_of_them_changes_the_digest(folder: Path, edited: str) -> None:
    import_module("entry")
    before = found("entry").digest
    assert found("entry").digest == before
    (folder / edited).write_text(FILES[edited] + "# edited\n")
    assert found("entry").digest != before


def test_an_edit_of_another_file_does_not(folder: Path) -> None:
    import_module("entry")
    before = found("entry").digest
    (folder / "pack" / "unused.py").write_text("U = 6\n")
    (folder / "new.py").write_text("N = 1\n")
    assert found("entry").digest == before
    (folder / "missing_for_now.py").write_text("M = 1\n")
    assert found("entry").digest != before


def test_a_file_counts_by_what_it_holds_not_by_where_it_lies(tmp_path: Path) -> None:
    digests = set()
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        file = tmp_path / place / "mine.py"
        file.write_text("A = 1\n")
        digests |= {dependencies([str(file)]).digest, dependencies([load_module(str(file)).__name__]).digest}
    assert len(digests) == 1


def test_files_that_are_read_count_and_so_do_all_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import json\ndata = json.load(open('x'))\n")
    weights = tmp_path / "weights"
    (weights / "deep").mkdir(parents=True)
    (weights / "deep" / "a.bin").write_bytes(b"1")
    (tmp_path / "a.bin").write_bytes(b"2")
    mine = str(tmp_path / "mine.py")
    assert "mine.py, line 2 (open) reads a file" in dependencies([mine]).doubt
    needs = dependencies([mine], [weights, tmp_path / "a.bin"])
    assert needs.doubt == ""
    assert set(needs.files) == {"mine.py", "weights/deep/a.bin", "a.bin"}
    (weights / "deep" / "a.bin").write_bytes(b"3")
    assert dependencies([mine], [weights, tmp_path / "a.bin"]).digest != needs.digest


@pytest.mark.parametrize(
    ("line", "doubt"),
    [
        ("import importlib; m = importlib.import_module(name)", "line 1 (import_module) runs code"),
        ("from importlib import import_module; m = import_module('.x', package='pack')", "(import_module) runs code"),
        ("m = __import__(name)", "(__import__) runs code"),
        ("exec(text)", "(exec) runs code"),
        ("x = eval(text)", "(eval) runs code"),
        ("spec = importlib.util.spec_from_file_location('x', path)", "(spec_from_file_location) runs code"),
        ("import runpy; runpy.run_path(path)", "(run_path) runs code"),
        ("import ctypes; ctypes.CDLL('./fast.so')", "(CDLL) runs code"),
        ("text = open(path).read()", "(open) reads a file"),
        ("text = open(path, mode)", "(open) reads a file"),
        ("text = open(path, 'r+')", "(open) reads a file"),
        ("text = path.open()", "(open) reads a file"),
        ("text = gzip.open(path, 'rb')", "(open) reads a file"),
        ("text = path.read_text()", "(read_text) reads a file"),
        ("table = np.load('table.npy')", "(load) reads a file"),
        ("net.load_state_dict(torch.load('net.pt'))", "(load) reads a file"),
        ("policy = load_policy(inner)", "(load_policy) loads a policy"),
        ("from . import sibling", "cannot be read"),
    ],
)
def test_what_the_text_does_not_tell_is_a_doubt(tmp_path: Path, line: str, doubt: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{line}\n")
    assert doubt in dependencies([str(file)]).doubt


@pytest.mark.parametrize(
    "line",
    [
        "import importlib; m = importlib.import_module('json')",
        "net.eval()",
        "log = open('log.txt', 'w')",
        "log = path.open('a')",
        "log = gzip.open('log.gz', mode='wb')",
        "config = json.load(file)",
        "self.load(1)",
        "policy = load_policy('srtf')",
        "data = text.split()",
    ],
)
def test_what_it_does_tell_is_none(tmp_path: Path, line: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{line}\n")
    assert dependencies([str(file)]).doubt == ""


def test_policies_that_are_loaded_by_name_are_followed(folder: Path) -> None:
    (folder / "other.py").write_text("import side\n")
    (folder / "mine.py").write_text(
        f"p = load_policy('{folder / 'other.py'}:Other?x=1')\nq = load_policy('pack.lazy:L')\n"
    )
    assert {"mine.py", "other.py", "side", "pack.lazy"} <= set(dependencies([str(folder / "mine.py")]).files)


def test_code_without_a_file_is_a_doubt() -> None:
    assert dependencies(["no_such_module_anywhere"]).doubt == "no_such_module_anywhere has no file"


def test_a_fault_is_told_with_the_place_in_the_users_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import json\ndef wrong():\n    json.loads('{')\nclass Silent(Exception):\n    __str__ = None\n")
    module = load_module(str(file))
    with pytest.raises(ValueError, match="Expecting") as caught:
        module.wrong()
    assert told(caught.value).endswith("(mine.py, line 3)")
    assert told(caught.value).startswith("JSONDecodeError: Expecting property name")
    assert told(module.Silent()) == "Silent: no message"
    assert len(told(ValueError("word " * 1000))) < 600


def test_a_file_whose_code_fails_leaves_no_module(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit(0)\n")
    before = set(sys.modules)
    with pytest.raises(SystemExit):
        load_module(str(file))
    assert set(sys.modules) == before
    with pytest.raises(ImportError, match="no file"):
        load_module(str(tmp_path / "none.py"))
    with pytest.raises(ImportError, match="no dotted name"):
        load_module("not a name")
