"""What training recipes do alike: settings, processes, checkpoints, learning curves, and which sources they ran on."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import make_dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryFile
from typing import Annotated, Any, Final, TypedDict, TypeVar, get_type_hints
from urllib.parse import quote

import numpy as np
import tyro
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from llmsched_gym.cli.parsing import read_options
from llmsched_gym.complaints import from_validation
from llmsched_gym.config import Real, Whole, read_yaml
from llmsched_gym.errors import InputError, Plain, RunError, suggest
from llmsched_gym.evaluation.episode import run_episode
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import first_difference, read_json, write_json
from llmsched_gym.evaluation.workers import worker_pool
from llmsched_gym.scenario import load_scenario
from llmsched_gym.user_code.faults import told
from llmsched_gym.workloads.files import make_folder, reason

Settings = TypeVar("Settings")

Count = Annotated[Whole, Field(ge=1)]
"""Setting: how often something is done, or how many there are of it."""

Size = Annotated[Whole, Field(ge=1, le=10_000)]
"""Setting: how many of something take memory at the same time. More is taken for a mistake."""

Seed = Annotated[Whole, Field(ge=0, lt=2**63)]
"""Setting: what random numbers begin with."""

Positive = Annotated[Real, Field(gt=0)]
"""Setting: a number > 0."""

Share = Annotated[Real, Field(ge=0, le=1)]
"""Setting: a number from 0 to 1."""

Fraction = Annotated[Real, Field(gt=0, le=1)]
"""Setting: a number > 0, and 1 at most."""

CURVE: Final = "curve.json"
"""File of the learning curve in the folder of a run."""


class Point(TypedDict):
    """What a run measured at one moment, on jobs of the ``train`` split that it does not train on."""

    done: int
    """Iterations or decisions until then."""
    cpu_s: float
    """CPU time of training until then, without that of measuring."""
    below_pct: dict[str, dict[str, float]]
    """By how many per cent mean JCT is below that of other policies: scenario -> policy -> per cent."""


class Curve(TypedDict):
    """A learning curve."""

    policy: str
    unit: str
    """Of `Point.done`: "iterations" or "decisions"."""
    settings: dict[str, Any]
    """What the run depends on."""
    points: list[Point]


def read_settings(settings: type[Settings], description: str | None) -> Settings:
    """Read the settings of a recipe: those of the file given by ``--config``, with what else the command line says.

    Args:
        settings: Dataclass of the settings, with defaults. Types say what is possible (`Count`, `Positive`, ...).
        description: Text of ``--help``.

    Raises:
        InputError: A setting does not exist, or its value is not possible.
    """
    program, words = Path(sys.argv[0]).name, sys.argv[1:]
    file = _settings_file(words)
    default = settings() if file is None else _read_file(settings, file)
    # Read before, and here once more, so that --help lists it.
    option = (
        "config",
        Annotated[Path | None, tyro.conf.arg(metavar="FILE", help=_CONFIG_HELP, help_behavior_hint="")],
        None,
    )
    options = make_dataclass(settings.__name__, [option], bases=(settings,), frozen=True)
    chosen = read_options(options, program, words, default=options(**vars(default)), description=description)
    values = {name: value for name, value in vars(chosen).items() if name != "config"}
    return _checked(settings, values, lambda name: f"{program}: --{name.replace('_', '-')}")


_CONFIG_HELP: Final = "YAML file of settings; what else is given here goes before it."


def _settings_file(words: Sequence[str]) -> Path | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path, nargs="?")  # that nothing follows is told with all other complaints
    return parser.parse_known_args(words)[0].config


def _read_file(settings: type[Settings], file: Path) -> Settings:
    content = read_yaml(file, "a YAML file of settings")
    if not isinstance(content, dict | None):
        raise InputError(file, "", content, "a mapping of settings")
    known = get_type_hints(settings)
    unknown = next((name for name in content or {} if name not in known), None)
    if unknown is not None:
        raise InputError(file, "setting", str(unknown), suggest(str(unknown), known))
    return _checked(settings, content or {}, lambda name: f"{file}: {name}")


def _checked(settings: type[Settings], values: Mapping[str, Any], source: Callable[[str], str]) -> Settings:
    """Return settings with these values, each checked by the type of its setting.

    Args:
        settings: Dataclass of the settings, with defaults.
        values: Values by name.
        source: Tells where the value of a name was given.

    Raises:
        InputError: A value is not possible.
    """
    types = get_type_hints(settings, include_extras=True)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        try:
            adapter = TypeAdapter(types[name], config=ConfigDict(allow_inf_nan=False))
            checked[name] = adapter.validate_python(value)
        except ValidationError as error:
            raise from_validation(source(name), error, types[name], value) from None
    return settings(**checked)


def check_scenarios(jobs: Mapping[str, int]) -> None:
    """Make sure that scenarios exist, and that their episodes can have so many jobs.

    Raises:
        InputError: One does not.
    """
    for name, n_jobs in jobs.items():
        load_scenario(name).replaced(jobs=n_jobs)


def run_recipe(settings: type[Settings], description: str | None, train: Callable[[Settings], None]) -> int:
    """Train with the settings that the command line gives.

    Args:
        settings: Dataclass of the settings, with defaults.
        description: Text of ``--help``.
        train: What trains.

    Returns:
        The exit code, as `exit_code` has it.
    """

    def work() -> None:
        given = read_settings(settings, description)
        try:
            train(given)
        except SystemExit as error:  # of a policy that is trained on, or measured: the work is not done
            raise RunError(f"the run was broken off: {told(error)}") from error

    return exit_code(work)


def exit_code(work: Callable[[], None]) -> int:
    """Do some work, and turn what goes wrong into one line.

    Returns:
        0; 2 if something given is not usable; 1 if it failed for another reason or was interrupted.
    """
    try:
        work()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from what is kept", file=sys.stderr)
        return 1
    return 0


def begin_run(output: Path) -> None:
    """Make the folder of a run.

    Raises:
        InputError: It cannot be made or written.
    """
    make_folder(output)
    try:
        TemporaryFile(dir=output).close()
    except OSError as error:
        raise InputError(output, "", reason(error), "a folder that can be written") from None


@contextmanager
def progress_bar(what: str, total: int, done: int) -> Iterator[Callable[[int, float], None]]:
    """Show how far a run is, from where it goes on; give a function that takes what is done now and its CPU time.

    Args:
        what: What is going on.
        total: What there is to do in all.
        done: How much of it was done before.
    """
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns) as bar:
        task = bar.add_task(what, total=total, completed=done, text="")
        yield lambda now, cpu_s: bar.update(task, completed=min(now, total), text=f"{cpu_s:.0f} s of CPU time")


def policy_spec(weights: Path) -> str:
    """Return the name by which commands load the policy with these weights, which are named after it."""
    return f"{weights.stem}?weights={quote(str(weights))}"


def tell_finished(weights: Path, scenario: str, *, already: bool = False) -> None:
    """Say in one line where the weights of a finished run are and how they are used.

    Args:
        weights: File of the weights, named after the policy.
        scenario: One that it was trained on.
        already: Whether there was nothing left to do.
    """
    compare = shlex.join(["llmsched-gym", "compare", "--scenario", scenario, "--policies"])
    policies = shlex.quote(f"fcfs,fair,srtf,{policy_spec(weights)}")
    print(f"{'finished already' if already else 'finished'}: weights in {weights}; compare: {compare} {policies}")


def check_settings(place: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Make sure that a run goes on with the settings that it began with.

    Args:
        place: File that holds them.
        before: Settings in that file, as JSON gives them back.
        now: Settings of the present command.

    Raises:
        InputError: Some differ; the first of them is named.
    """
    difference = first_difference(before, json.loads(json.dumps(now)))
    if difference is not None:
        name, there, here = difference
        allowed = (
            f"{there!r}, as the run there began: its settings are fixed; for others choose another folder (--output)"
        )
        raise InputError(place, name, here, allowed)


def commit() -> str:
    """Return the commit of the sources, with a mark if they have changed since; "unknown" outside of a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(git, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def provenance(recipe: str, seeds: str, config: Mapping[str, Any], done: Mapping[str, int]) -> dict[str, Any]:
    """Return what the card of weights says about their training: split, seeds, commit, settings.

    Args:
        recipe: Path of the script in the repository.
        seeds: Which seeds of the ``train`` split its jobs are drawn from.
        config: All settings that the weights depend on.
        done: How long was trained, by unit.
    """
    import torch

    versions = {"commit": commit(), "torch": torch.__version__}
    return {"recipe": recipe, "split": "train", "seeds": seeds, **versions, **done, "config": config}


@contextmanager
def spread(function: Callable[..., Any], workers: int) -> Iterator[Callable[..., list[Any]]]:
    """Give a function that maps `function` over lists of its arguments: in this process, or in several.

    Args:
        function: At the top level of its module, so that other processes find it.
        workers: Number of processes; 1 is this one.

    Raises:
        RunError: A process was killed.
    """
    if workers == 1:
        yield lambda *arguments: list(map(function, *arguments))
        return
    with worker_pool(workers) as pool:

        def there(*arguments: Sequence[Any]) -> list[Any]:
            done = dict(pool.run(function, list(zip(*arguments, strict=True)), lambda _: function.__name__))
            return [done[position] for position in range(len(done))]

        yield there


def save_checkpoint(path: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write the state of a run, with the settings that it belongs to; the file appears whole or not at all."""
    import torch

    part = path.with_suffix(".part")
    torch.save({**state, "settings": json.loads(json.dumps(settings))}, part)
    part.replace(path)


def load_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read the state of a run back.

    Raises:
        InputError: The run had other settings, or the file is not a checkpoint.
    """
    import torch

    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise InputError(path, "", Plain("cannot be read"), "a checkpoint; or another folder (--output)") from error
    check_settings(path, state["settings"], settings)
    return state


def write_curve(folder: Path, policy: str, unit: str, settings: Mapping[str, Any], points: Sequence[Point]) -> None:
    """Write the learning curve of a run, as `Curve` says, in one step."""
    write_json(folder / CURVE, {"policy": policy, "unit": unit, "settings": settings, "points": points})


def read_curve(folder: Path) -> Curve:
    """Read the learning curve of a run.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    file = folder / CURVE
    content = read_json(file)
    if content.keys() != Curve.__annotations__.keys() or not content["points"]:
        raise InputError(file, "", Plain("another content"), "the learning curve of a training run")
    return Curve(**content)


def validation_jct_s(policy: str, scenario: str, jobs: int, seeds: Sequence[int]) -> float:
    """Return the mean JCT of a policy on some seeds of the ``train`` split, without the profiler's columns."""
    setting = replace(Setting.make(scenario, jobs=jobs), split="train", profiler=False)
    return float(np.mean([run_episode(setting, policy, seed)["metrics"]["mean_jct_s"] for seed in seeds]))
