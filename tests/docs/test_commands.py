"""What pages show runs: every command and every piece of Python, in the order of the page, in one folder.

Commands are those of the pages, made small (`SMALL`). What does not run here stands in `NOT_RUN` with its reason;
a command that no rule knows fails.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from pages import FOLDERS, PAGES, ROOT, Block, blocks, name_of, prose

from llmsched_gym.cli import _VERBS, PROGRAM, main
from llmsched_gym.cli.parsing import parse
from llmsched_gym.errors import InputError
from llmsched_gym.workloads.applications import APPLICATIONS

SMALL: Final[Mapping[str, Mapping[str, str]]] = {
    "compare": {"--jobs": "4", "--seeds": "0:2", "--workers": "1"},
    "run": {"--jobs": "4"},
    "dataset": {"--jobs": "4", "--seeds": "0"},
    "leaderboard prepare": {"--suite": "tests/leaderboard/tiny", "--workers": "1"},
    "leaderboard validate": {"--suite": "tests/leaderboard/tiny"},
    "profile fit": {"--jobs": "60", "--application": "document_merging"},
}
"""Options of verbs that make them small."""

OPTIONAL: Final = ("torchrl", "ray.rllib", "minari")
"""What a piece of Python may need that is not there."""

NOT_RUN: Final = {
    r"\. \.venv/bin/activate": "changes the shell that it is typed in",
    r"pip install -e '\.\[\w+\]'": "installs: the extra is looked up",
    r"make (vllm|bench|lint|\.venv/dev)": "installs, measures, or checks style: the target is looked up",
    r"cp .*": "changes the checkout",
    r"llmsched-gym leaderboard (rerun|key) .*": "keys and sandboxes, tests/leaderboard runs them: options are read",
    r"llmsched-gym leaderboard build .*": "reads all submissions, tests/leaderboard/page runs it: options are read",
    r"tensorboard .*": "serves until it is stopped",
    r"python -m (vllm|pytest)\b.*": "a server, these tests",
    r"python (agents|baselines|benchmarks)/.*": "minutes to hours, tests of its own run it: options are looked up",
    r"llmsched-gym suite run .*": "a minute, and tests/suites runs one of seconds: options are read",
    r"llmsched-gym compile": "minutes, and tests/compiled runs its parts: options are read",
    r"llmsched-gym (calibrate|validate) .*": "needs servers: options are read",
    r"llmsched-gym compare .*--(backend vllm|ray).*": "needs servers: options are read",
    r"llmsched-gym compare .*weights=runs/.*": "needs what the training before it gives: options are read",
    r"llmsched-gym latency fit llama31_8b.*": "needs measurements, tests/cli runs it where they are: options are read",
    r"llmsched-gym latency show my-server": "needs what calibrate writes: options are read",
}
"""Commands that only are looked up, and why."""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with what a checkout has; what examples add to this process is taken away again."""
    for folder in FOLDERS:
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LLMSCHED_GYM_PROFILES", str(tmp_path / "own"))
    modules, applications = set(sys.modules), dict(APPLICATIONS)
    yield tmp_path
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[module]
    APPLICATIONS.clear()
    APPLICATIONS.update(applications)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_what_a_page_shows_runs(page: Path, checkout: Path) -> None:
    if any("sb3" in block.text for block in blocks(page) if block.language == "python"):
        pytest.importorskip("sb3_contrib")
    for block in blocks(page):
        if block.language == "python":
            if library := next((name for name in OPTIONAL if missing(name, block)), None):
                warnings.warn(f"{page.name}: a piece is not run, {library} is not installed", stacklevel=1)
                continue
            run_python(block, checkout)
        elif block.language == "bash":
            for command in block.commands:
                run(command)


def missing(library: str, block: Block) -> bool:
    """Tell whether a piece of Python imports a library that cannot be imported here."""
    if re.search(rf"^(from|import) {re.escape(library)}\b", block.text, re.MULTILINE) is None:
        return False
    try:
        importlib.import_module("ray.rllib.algorithms.ppo" if library == "ray.rllib" else library)
    except ImportError:
        return True
    return False


def run_python(block: Block, folder: Path) -> None:
    """Save a block that names its file, execute any other."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    else:
        exec(compile(block.text, "example", "exec"), {"__name__": "__main__"})


def run(command: str) -> None:
    """Run a command of a page in small, or look it up if it is one of `NOT_RUN`."""
    if any(re.fullmatch(known, command) for known in NOT_RUN):
        look_up(command)
        return
    words = shlex.split(command)
    if words[0] == PROGRAM:
        assert main(small(words[1:])) == 0, command
    elif words[0] == "make":
        run_target(words[1])
    elif words[0] == "python" and Path(words[1]).is_file():
        runpy.run_path(words[1], run_name="__main__")
    elif words[0] == "printf":
        subprocess.run(["bash", "-c", command], check=True)
    else:
        pytest.fail(f"no rule for the command {command!r}: make it run here, or say in NOT_RUN why it does not")


def small(words: list[str]) -> list[str]:
    """Return the words of a command with the options that make it small; fixed jobs have a number of their own."""
    verb = verb_of(words)
    options = dict(SMALL.get(verb, {}))
    if "--workload" in words or "toy" in words:
        options = {option: options[option] for option in options.keys() - {"--jobs", "--application"}}
    for option, value in options.items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words


def verb_of(words: list[str]) -> str:
    """Return the words that name a command."""
    return next(verb for verb in (" ".join(words[:2]), words[0]) if verb in _VERBS)


def run_target(target: str) -> None:
    """Run what a target of the Makefile runs, but for what installs and for the tests themselves."""
    recipe = subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    ours = [line.removeprefix(".venv/bin/") for line in recipe.splitlines() if line.startswith(".venv/bin/")]
    commands = [line for line in ours if not re.match(r"pip |python -m pip ", line)]
    if target == "test":
        assert commands[-1].startswith("python -m pytest")  # which is what runs this
        return
    assert commands, target
    for command in commands:
        run(command)


def look_up(command: str) -> None:
    """See that what a command names is there: extra, target, script and its options."""
    words = shlex.split(command)
    if words[0] == "pip":
        extra = re.search(r"\[(\w+)\]", command)
        assert extra is not None
        assert f"\n{extra[1]} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8"), command
    elif words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == PROGRAM:
        verb = verb_of(words[1:])
        module, _, attribute = _VERBS[verb][0].partition(":")
        verb_class = getattr(importlib.import_module(f"llmsched_gym.cli.{module}"), attribute)
        parse(verb_class, f"{PROGRAM} {verb}", words[1 + len(verb.split()) :])
    elif words[0] == "python" and words[1] != "-m":
        scripts = [word for word in words if re.fullmatch(r"(agents|baselines|benchmarks)/\w+\.py", word)]
        known = set(re.findall(r"--?[\w-]+", " ".join(map(help_of, scripts))))
        used = {re.split(r"[=.]", word)[0] for word in words if re.match("--?[a-z]", word)}
        assert used <= known, command


@cache
def help_of(script: str) -> str:
    """Return what a script says to ``--help``."""
    said, given = io.StringIO(), sys.argv
    try:
        sys.argv = [script, "--help"]
        with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
            runpy.run_path(script, run_name="__main__")
    finally:
        sys.argv = given
    return said.getvalue()


def test_the_program_is_the_one_that_is_run_here() -> None:
    assert f'{PROGRAM} = "llmsched_gym.cli:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_commands_stand_in_blocks_for_the_shell() -> None:
    """Neither indented nor in blocks of another kind, where nothing would run them."""
    command = re.compile(rf"^(?: {{4}})?(?:{PROGRAM}|python|make|pip) .*", re.MULTILINE)
    for page in PAGES:
        indented = [found for found in command.findall(prose(page)) if found.startswith(" ")]
        elsewhere = [found for block in blocks(page) if not block.language for found in command.findall(block.text)]
        assert not indented + elsewhere, name_of(page)


def test_a_command_that_no_rule_knows_fails() -> None:
    for command in ("curl localhost", "python mine.py", "llmsched-gym-2 list"):
        with pytest.raises(pytest.fail.Exception, match="no rule"):
            run(command)
    with pytest.raises(InputError, match="--job"):
        look_up("llmsched-gym compare --backend vllm --job 3")
    with pytest.raises(AssertionError):
        look_up("python agents/sweep.py --sedes 0:3")


def test_no_reason_is_left_over() -> None:
    commands = [one for page in PAGES for block in blocks(page) if block.language == "bash" for one in block.commands]
    for known in NOT_RUN:
        assert any(re.fullmatch(known, command) for command in commands), known
