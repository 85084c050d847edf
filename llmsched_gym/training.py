"""What training recipes do alike: settings, processes, checkpoints, learning curves, and which sources they ran on."""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final, TypedDict, TypeVar

import numpy as np
import tyro
import yaml
from pydantic import TypeAdapter, ValidationError

from llmsched_gym.errors import InputError, from_validation, suggest
from llmsched_gym.evaluation.episode import run_episode
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import first_difference, read_json, write_json

Settings = TypeVar("Settings")

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
        settings: Dataclass of the settings, with defaults.
        description: Text of ``--help``.

    Raises:
        InputError: The file has a setting that does not exist, or a value that is not possible.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", type=Path)
    known, rest = parser.parse_known_args()
    if known.config is None:
        return tyro.cli(settings, args=rest, description=description)
    try:
        content = yaml.safe_load(known.config.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InputError("--config", "", str(known.config), f"a YAML file that can be read ({error})") from error
    known_names = list(inspect.signature(settings).parameters)
    unknown = next((name for name in content if name not in known_names), None) if isinstance(content, dict) else None
    if unknown is not None:
        raise InputError(known.config, "setting", str(unknown), suggest(str(unknown), known_names))
    try:
        default = TypeAdapter(settings).validate_python(content)
    except ValidationError as error:
        raise from_validation(known.config, error, content) from error
    return tyro.cli(settings, default=default, args=rest, description=description)


def run_recipe(settings: type[Settings], description: str | None, train: Callable[[Settings], None]) -> int:
    """Train with the settings that the command line gives.

    Args:
        settings: Dataclass of the settings, with defaults.
        description: Text of ``--help``.
        train: What trains.

    Returns:
        The exit code: 2, with one line that says why, if something given is not usable; 1 if interrupted.
    """
    try:
        chosen = read_settings(settings, description)
        print("compiling, or loading compiled code: up to two minutes the first time", file=sys.stderr, flush=True)
        train(chosen)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from what is kept", file=sys.stderr)
        return 1
    return 0


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
        raise InputError(place, name, here, f"{there!r}, as the run there began; or another folder (--output)")


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
    """
    if workers == 1:
        yield lambda *arguments: list(map(function, *arguments))
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield lambda *arguments: list(pool.map(function, *arguments))


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
        raise InputError(path, "", "cannot be read", "a checkpoint; or another folder (--output)") from error
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
        raise InputError(file, "", "another content", "the learning curve of a training run")
    return Curve(**content)


def validation_jct_s(policy: str, scenario: str, jobs: int, seeds: Sequence[int]) -> float:
    """Return the mean JCT of a policy on some seeds of the ``train`` split, without the profiler's columns."""
    setting = replace(Setting.make(scenario, jobs=jobs), split="train", profiler=False)
    return float(np.mean([run_episode(setting, policy, seed)["metrics"]["mean_jct_s"] for seed in seeds]))
