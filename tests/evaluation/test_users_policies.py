"""Policies of users, whatever they do, cannot end a comparison as if it were done, and speak on standard error only.

Results of theirs are taken over only while everything that their decisions depend on is unchanged.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmsched_gym.cli import main
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.contestants import find_contestants
from llmsched_gym.evaluation.episode import find_policy
from llmsched_gym.evaluation.runner import Silent, compare
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.learned import WEIGHTS, card_file

LEAVING = """
import ctypes, os, signal, sys
import numpy as np
from llmsched_gym.policies.fcfs import FCFS
from llmsched_gym.policies.base import PriorityPolicy

class End(BaseException):
    pass

class Index:
    def __index__(self):
        raise SystemExit(0)

HOW = {
    "sys": lambda: sys.exit(0),
    "os": lambda: os._exit(0),
    "own": lambda: (_ for _ in ()).throw(End("enough")),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda: ctypes.string_at(0),
    "c": lambda: ctypes.CDLL(None)._exit(0),
}

class Leaving(PriorityPolicy):
    name = "leaving"

    def __init__(self, when, how="sys"):
        self.when, self.how = when, how
        self.leave("init")

    def leave(self, when):
        if when == self.when:
            HOW[self.how]()

    def reset(self, info):
        self.leave("reset")

    def key(self, obs, rows):
        self.leave("key")
        return rows

    def act(self, obs):
        self.leave("act")
        return Index() if self.when == "index" else super().act(obs)
"""

SPEAKING = """
import os, warnings
from llmsched_gym.policies.base import PriorityPolicy

print("loaded")

class Speaking(PriorityPolicy):
    name = "speaking"

    def __init__(self):
        print("made")

    def __del__(self):
        print("gone")

    def reset(self, info):
        os.write(1, b"descriptor\\n")
        warnings.warn("careful")

    def key(self, obs, rows):
        print("key")
        return [0.0] * len(rows)
"""

TOY = ("--scenario", "toy", "--seeds", "0:2")


@pytest.fixture(autouse=True)
def modules_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test's folder is on the path, and its modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def policy_file(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


class Counting(Silent):
    """Counts what is computed, and remembers what is said."""

    def __init__(self) -> None:
        self.computed = 0
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)

    def advance(self, text: str) -> None:
        self.computed += 1


def computed(folder: Path, *specs: str) -> int:
    """Run policies on one toy episode, without the bound, into a folder that is kept; return how many ran."""
    counting = Counting()
    compare(Setting.make("toy"), specs, [0], folder, workers=1, progress=counting)
    return counting.computed


@pytest.mark.parametrize("how", ["sys", "os", "own"])
@pytest.mark.parametrize("when", ["init", "reset", "act", "key"])
def test_a_policy_that_ends_the_process_fails(
    tmp_path: Path, when: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = f"{policy_file(tmp_path, LEAVING)}:Leaving?when={when}&how={how}"
    what = {"sys": "SystemExit: 0", "os": "SystemExit: os._exit(0)", "own": "End: enough"}[how]
    for words in (["compare", *TOY, "--policies", spec, "--workers", "1"], ["run", *TOY[:2], "--policy", spec]):
        assert main([*words, "--json", "-o", str(tmp_path / words[0])]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        last = told.err.splitlines()[-1]
        assert last.startswith(f"failed: policy {spec}, {'loading' if when == 'init' else 'seed 0, '}")
        assert f"{what} (mine.py, line " in last


def test_leaving_at_import_and_in_an_action(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = policy_file(tmp_path, "import sys\nsys.exit(0)\n", "leaves.py")
    options = ("--workers", "1", "-o", str(tmp_path / "out"))
    assert main(["compare", *TOY, "--policies", f"{file}:X", *options]) == 1
    assert "loading: SystemExit: 0 (leaves.py, line 2)" in capsys.readouterr().err
    file = policy_file(tmp_path, LEAVING)
    assert main(["compare", *TOY, "--policies", f"{file}:Leaving?when=index", *options]) == 1
    assert "decision 0: got <" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("sys", "decision 0: SystemExit: 0"),
        ("os", "decision 0: SystemExit: os"),
        ("own", "decision 0: End: enough"),
        ("kill", "killed by SIGKILL"),
        ("crash", "killed by SIGSEGV"),
        ("c", "ended by itself, with exit code 0"),
    ],
)
def test_an_end_in_a_worker_process_fails_and_keeps_what_was_finished(tmp_path: Path, how: str, what: str) -> None:
    setting, out = Setting.make("toy"), tmp_path / "out"
    compare(setting, ["fcfs"], [0, 1], out, workers=1)
    spec = f"{policy_file(tmp_path, LEAVING)}:Leaving?when=act&how={how}"
    with pytest.raises(RunError, match=r"policy .*mine\.py:Leaving\?when=act&how=\w+, seed \d[:,] .*" + what):
        compare(setting, ["fcfs", spec], [0, 1], out, workers=2)
    assert computed(out, "fcfs") == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.filterwarnings("ignore:careful")
def test_what_policies_say_is_not_in_the_results(
    tmp_path: Path, workers: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = f"{policy_file(tmp_path, SPEAKING)}:Speaking"
    words = ["compare", *TOY, "--policies", spec, "--workers", workers, "--json", "-o", str(tmp_path / "out")]
    assert main(words) == 0
    told = capfd.readouterr()
    assert list(json.loads(told.out)["policies"]) == ["speaking"]
    assert {"loaded", "made", "key", "descriptor", "gone"} <= set(told.err.split())


@pytest.mark.filterwarnings("ignore:careful")
def test_what_a_policy_says_in_a_run_is_not_in_the_result(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--scenario", "toy", "--policy", f"{policy_file(tmp_path, SPEAKING)}:Speaking", "--json"]) == 0
    told = capfd.readouterr()
    assert json.loads(told.out)["scenario"] == "toy"
    assert {"loaded", "made", "key", "descriptor", "gone"} <= set(told.err.split())


@pytest.mark.parametrize("action", ["0.9", "'0'", "True", "None", "np.array([0])", "np.True_"])
def test_what_is_no_whole_number_is_no_action(tmp_path: Path, action: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "import numpy as np\nfrom llmsched_gym.policies.fcfs import FCFS\n"
        f"class Mine(FCFS):\n    name = 'mine'\n    def act(self, obs):\n        return {action}\n"
    )
    assert main(["run", "--scenario", "toy", "--policy", f"{policy_file(tmp_path, text)}:Mine"]) == 1
    assert "decision 0: got" in capsys.readouterr().err


BASE = "from llmsched_gym.policies.fcfs import FCFS\nimport helper\nclass Base(FCFS):\n    shift = helper.SHIFT\n"
MINE = "from base import Base\nclass Mine(Base):\n    name = 'mine'\n"
HELPER = "SHIFT = 0\n"


@pytest.mark.parametrize("edited", ["mine.py", "base.py", "helper.py"])
def test_results_are_taken_over_only_while_no_file_of_the_policy_has_changed(tmp_path: Path, edited: str) -> None:
    texts = {"mine.py": MINE, "base.py": BASE, "helper.py": HELPER, "other.py": "A = 1\n"}
    for name, text in texts.items():
        policy_file(tmp_path, text, name)
    spec, out = f"{tmp_path / 'mine.py'}:Mine", tmp_path / "out"
    assert computed(out, spec) == 2
    assert computed(out, spec) == 0
    policy_file(tmp_path, "A = 2\n", "other.py")
    assert computed(out, spec) == 0
    policy_file(tmp_path, texts[edited] + "# edited\n", edited)
    assert computed(out, spec) == 1
    assert computed(out, spec, "fcfs") == 1


def test_the_files_of_a_policy_are_in_the_manifest(tmp_path: Path) -> None:
    for name, text in {"mine.py": MINE, "base.py": BASE, "helper.py": HELPER}.items():
        policy_file(tmp_path, text, name)
    spec, out = f"{tmp_path / 'mine.py'}:Mine", tmp_path / "out"
    assert main(["compare", *TOY, "--policies", f"{spec},fcfs", "--workers", "1", "--json", "-o", str(out)]) == 0
    policies = json.loads((out / "manifest.json").read_text())["policies"]
    assert set(policies["mine"]["files"]) == {"mine.py", "base", "helper"}
    assert set(policies["fcfs"]) == {"spec", "source"}


def test_a_policy_in_a_module_and_one_made_by_a_factory_elsewhere(tmp_path: Path) -> None:
    texts = {"mine.py": MINE, "base.py": BASE, "helper.py": HELPER}
    texts |= {"factory.py": "def make():\n    from mine import Mine\n    return Mine()\n"}
    for name, text in texts.items():
        policy_file(tmp_path, text, name)
    out = tmp_path / "out"
    assert computed(out, "mine:Mine", "factory:make") == 3
    policy_file(tmp_path, HELPER + "# edited\n", "helper.py")
    assert computed(out, "mine:Mine", "factory:make") == 2


def test_a_policy_that_wraps_another_depends_on_it(tmp_path: Path) -> None:
    wrapper = (
        "from llmsched_gym.policies.base import Policy\nfrom llmsched_gym.policies.registry import load_policy\n"
        "class Wrapper(Policy):\n    name = 'wrapper'\n    def __init__(self, inner):\n"
        "        self.inner = load_policy(inner)\n    def act(self, obs):\n        return self.inner.act(obs)\n"
    )
    policy_file(tmp_path, wrapper, "wrapper.py")
    policy_file(tmp_path, MINE, "mine.py")
    policy_file(tmp_path, BASE, "base.py")
    policy_file(tmp_path, HELPER, "helper.py")
    spec, out = f"{tmp_path / 'wrapper.py'}:Wrapper?inner={tmp_path / 'mine.py'}:Mine", tmp_path / "out"
    assert computed(out, spec) == 2
    assert computed(out, spec) == 0
    policy_file(tmp_path, HELPER + "# edited\n", "helper.py")
    assert computed(out, spec) == 1


READING = """
from pathlib import Path
from llmsched_gym.policies.fcfs import FCFS

class Reading(FCFS):
    name = "reading"

    def __init__(self, table=None, named=False):
        path = Path(__file__).with_name("table.txt") if table is None else Path(table)
        self.table = path.read_text()
        if named:
            self.sources = (path,)
"""


def test_files_that_a_policy_reads_count_if_they_are_named(tmp_path: Path) -> None:
    table = policy_file(tmp_path, "1", "table.txt")
    file = policy_file(tmp_path, READING)
    for spec in (f"{file}:Reading?table={table}", f"{file}:Reading?named=true"):
        out = tmp_path / spec[-4:]
        assert computed(out, spec) == 2
        assert computed(out, spec) == 0
        table.write_text(table.read_text() + "1")
        assert computed(out, spec) == 1


def test_results_are_not_taken_over_if_it_cannot_be_told_what_they_depend_on(tmp_path: Path) -> None:
    policy_file(tmp_path, "1", "table.txt")
    spec, out = f"{policy_file(tmp_path, READING)}:Reading", tmp_path / "out"
    for expected in (2, 1, 1):
        counting = Counting()
        compare(Setting.make("toy"), [spec], [0], out, workers=1, progress=counting)
        assert counting.computed == expected
        (said,) = [text for text in counting.said if "not resumed" in text]
        assert "policy reading: its results are not resumed" in said
        assert "mine.py, line 10 (read_text) reads a file" in said


def test_built_in_policies_depend_on_their_weights_and_cards(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="the extra learn is not installed")
    copy = tmp_path / "uncertainty_gnn.safetensors"
    copy.write_bytes((WEIGHTS / copy.name).read_bytes())
    card_file(copy).write_text(card_file(WEIGHTS / copy.name).read_text())
    spec = f"uncertainty_gnn?weights={copy}"
    (before,) = find_contestants([spec])
    assert before.doubt == ""
    assert set(before.files) == {copy.name, card_file(copy).name}
    assert "torch" in before.packages
    card_file(copy).write_text(card_file(copy).read_text() + "\n")
    assert find_contestants([spec])[0].source != before.source
    assert find_contestants(["srtf"])[0].files == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sources = ('no/such/file',)", "attribute sources"),
        ("sources = 'mine.py'", "attribute sources"),
        ("privileged = 'yes'", "attribute privileged"),
        ("name = 'two\\nlines'", "attribute name"),
        ("name = '\\x1b[31mred'", "attribute name"),
    ],
)
def test_wrong_attributes_are_refused(tmp_path: Path, line: str, words: str) -> None:
    text = f"from llmsched_gym.policies.fcfs import FCFS\nclass Mine(FCFS):\n    name = 'mine'\n    {line}\n"
    with pytest.raises(InputError, match=words):
        find_policy(f"{policy_file(tmp_path, text)}:Mine")


@pytest.mark.parametrize("attribute", ["name", "privileged", "sources", "observation"])
def test_attributes_that_raise_are_blamed_on_the_policy(tmp_path: Path, attribute: str) -> None:
    text = (
        "from llmsched_gym.policies.fcfs import FCFS\nclass Mine(FCFS):\n    name = 'mine'\n"
        f"    @property\n    def {attribute}(self):\n        raise SystemExit(0)\n"
    )
    with pytest.raises(RunError, match=r"loading: SystemExit: 0 \(mine\.py, line 6\)"):
        find_contestants([f"{policy_file(tmp_path, text)}:Mine"])
