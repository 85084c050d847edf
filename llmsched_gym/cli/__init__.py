"""The command line ``llmsched-gym``: one verb per job.

Exit codes: 0 done, 1 failed or interrupted, 2 bad input. With ``--json`` standard output holds one JSON object and
nothing else; messages and progress go to standard error.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final, TextIO

from llmsched_gym.errors import InputError, Plain, RunError, escaped, suggest
from llmsched_gym.interrupts import PROGRAM, raise_interrupts

if TYPE_CHECKING:
    from llmsched_gym.cli.parsing import Verb

_VERBS: Final = {
    "compare": ("compare:Compare", "run policies on the same jobs, in parallel, and compare them"),
    "suite list": ("suite:List", "list the suites that come with the package"),
    "suite show": ("suite:Show", "show one suite: its scenarios, metrics and references"),
    "suite run": ("suite:Run", "run policies on a suite, and score them beside its references"),
    "suite verify": ("suite:Verify", "draw the jobs of a suite again, and compare them with its digests"),
    "leaderboard prepare": ("leaderboard:Prepare", "run a policy on a suite and write a submission"),
    "leaderboard validate": ("leaderboard:Validate", "check submissions, and replay every action of them"),
    "leaderboard build": ("leaderboard_page:Build", "make the static page of all submissions, and results.json"),
    "leaderboard rerun": ("leaderboard_rerun:Rerun", "run the policy of a submission again in a sandbox"),
    "leaderboard key": ("leaderboard_rerun:Key", "make, publish or reveal the key of sealed instances"),
    "leaderboard schema": ("leaderboard:Schema", "write the JSON schema of submissions"),
    "run": ("run:Run", "run one episode: summary, Gantt chart, Perfetto trace"),
    "dataset": ("dataset:Dataset", "record episodes of a policy as a Minari dataset, for offline learning"),
    "workload generate": ("workload:Generate", "draw the jobs of a scenario and write them to a file"),
    "workload inspect": ("workload:Inspect", "say what a workload file or job trace holds"),
    "workload convert": ("workload:Convert", "turn a job trace (JSON) into a workload file, or back; export"),
    "workload import": ("workload:Import", "make a workload of recorded agents and workflows"),
    "workload fit": ("workload:Fit", "fit the facts behind the applications to measured data"),
    "profile fit": ("profile:Fit", "fit the Bayesian network of an application to finished jobs"),
    "profile show": ("profile:Show", "show one profile: its variables, their states and parents"),
    "profile export": ("profile:Export", "write a profile in the Bayesian interchange format (BIF)"),
    "engine replay": ("engine:Replay", "replay a request log on one simulated LLM executor"),
    "latency fit": ("latency:Fit", "fit a latency profile to a table of iteration times"),
    "latency show": ("latency:Show", "show one latency profile"),
    "latency list": ("latency:List", "list the latency profiles that come with the package"),
    "calibrate": ("calibrate:Calibrate", "measure running vLLM servers and write their latency profile"),
    "validate": ("validate:Validate", "run the same jobs on the simulator and on real vLLM servers"),
    "compile": ("compile:Compile", "compile everything ahead of its first use"),
    "list": ("listing:List", "list environments, scenarios, policies, applications, latency profiles"),
}
"""Words → module of this package and dataclass, imported only when asked for, and help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Words after the program's name; default: those of this process.

    Returns:
        Exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        # A terminated process is to end like an interrupted one: finished episodes kept, workers gone.
        signal.signal(signal.SIGTERM, _interrupt)
        _mend_streams()
    try:
        try:
            return _dispatch(words)
        finally:
            sys.stdout.flush()
    except InputError as error:
        return _end(f"error: {error}", 2)
    except RunError as error:
        return _end(f"failed: {error}", 1)
    except KeyboardInterrupt as interrupt:
        return _end(": ".join(["interrupted", *map(str, interrupt.args)]), 1)
    except BrokenPipeError:  # the reader of our output is gone (`| head`)
        _drop(sys.stdout)
        return 1
    except OSError as error:
        _drop(sys.stdout)
        where = "standard output" if error.filename is None else error.filename
        return _end(f"failed: {where}: {error.strerror or error}", 1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _end(last_words: str, code: int) -> int:
    try:
        print(escaped(last_words), file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)
    return code


def _mend_streams() -> None:
    """Make what the process was started with fit to be written to: streams may be closed, and not encode everything."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    if sys.stdout is None:
        print("failed: standard output is closed", file=sys.stderr)
        raise SystemExit(1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop(stream: TextIO) -> None:
    """Keep Python from complaining, by its exit code too, when it writes at exit what could not be written."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _dispatch(words: list[str]) -> int:
    if words and words[0] == "--version":
        from llmsched_gym import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    if words and words[0] in ("-h", "--help"):
        print(_overview(""))
        return 0
    length = 2 if words and any(name.startswith(f"{words[0]} ") for name in _VERBS) else 1
    if length == 2 and words[1:2] in (["-h"], ["--help"]):
        print(_overview(words[0]))
        return 0
    name = " ".join(words[:length])
    if name not in _VERBS:
        raise _unknown(words, length)
    from llmsched_gym.cli.parsing import parse  # not for --help and unknown commands

    module, _, attribute = _VERBS[name][0].partition(":")
    verb_class: type[Verb] = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    verb = parse(verb_class, f"{PROGRAM} {name}", words[length:])
    raise_interrupts()
    return verb.run()


def _unknown(words: list[str], length: int) -> InputError:
    group = words[0] if length == 2 else ""
    known = {name.split()[length - 1] for name in _VERBS if not group or name.startswith(f"{group} ")}
    given = words[length - 1] if len(words) >= length else ""
    return InputError(f"{PROGRAM} {group}".rstrip(), "command", given or Plain("nothing"), suggest(given, known))


def _overview(group: str) -> str:
    shown = {name: text for name, (_, text) in _VERBS.items() if not group or name.startswith(f"{group} ")}
    width = max(map(len, shown))
    lines = [f"  {name:<{width}}  {text}" for name, text in shown.items()]
    prefix = f"{PROGRAM} {group}".rstrip()
    head = [f"usage: {prefix} COMMAND [OPTIONS]", ""]
    if not group:
        head += ["Schedule compound LLM applications: compare policies, replay engines, inspect workloads.", ""]
    tail = ["", f"'{PROGRAM} COMMAND --help' explains the options of a command."]
    if not group:
        tail.append("Exit codes: 0 done, 1 failed or interrupted, 2 bad input.")
    return "\n".join([*head, "commands:", *lines, *tail])
