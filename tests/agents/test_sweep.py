"""Sweeps run every seed of a recipe in a folder of its own, here or on Ray, and name what failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sweep

SWEEP = Path(__file__).resolve().parents[2] / "agents" / "sweep.py"
DECIMA = SWEEP.with_name("decima.py")

RECIPE = """
import argparse, json, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
parser.add_argument("--output", type=pathlib.Path)
parser.add_argument("--bad", type=int, default=-1)
parser.add_argument("--sleep", type=float, default=0.0)
given = parser.parse_args()
if given.seed == given.bad:
    sys.exit("error: settings.yaml: rollouts: got 0; expected a number > 0")
(given.output / "started").write_text(str(__import__("os").getpid()))
time.sleep(given.sleep)
points = [{"done": n, "cpu_s": 1.0, "below_pct": {"mixed": {"fcfs": n * (1.0 - given.seed)}}} for n in (0, 10)]
curve = {"policy": "P", "unit": "iterations", "settings": {}, "points": points}
(given.output / "curve.json").write_text(json.dumps(curve))
print("seed", given.seed)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    return path


def _sweep(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SWEEP), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_every_seed_has_its_folder_and_the_best_is_named(recipe: Path, tmp_path: Path) -> None:
    done = _sweep(recipe, "--seeds", "0:3", "-o", tmp_path / "runs", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / "runs" / str(seed) / "train.log").read_text() for seed in range(3)] == [
        f"seed {seed}\n" for seed in range(3)
    ]
    assert "seed 1: after 10, mixed 0.0 % below fcfs" in done.stderr
    assert "best on validation jobs: seed 0" in done.stdout


def test_runs_that_fail_are_named_and_stop_no_other(recipe: Path, tmp_path: Path) -> None:
    done = _sweep(recipe, "--seeds", "0:3", "-o", tmp_path / "runs", "--bad", "1")
    assert done.returncode == 1
    assert "1 of 3 runs failed: seed 1 (exit code 1): error: settings.yaml: rollouts: got 0" in done.stderr
    assert (tmp_path / "runs" / "2" / "curve.json").exists()


def test_the_reason_of_a_failure_is_read_from_a_box(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("begun\n╭─ Error ──────╮\n│ no such step │\n╰──────────────╯\n\n")
    assert sweep._last_line(log) == "no such step"


def test_an_end_from_outside_ends_the_runs(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SWEEP), str(recipe), "--seeds", "0", "-o", str(tmp_path / "runs"), "--sleep", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        started = tmp_path / "runs" / "0" / "started"
        until = time.monotonic() + 30.0
        while not (started.exists() and started.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=30.0)
    assert running.returncode == 1
    assert "the same command goes on" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "3:1"], "--seeds"),
        (["--workers", "0"], "--workers"),
        (["--workers", "x"], "--workers: invalid int value: 'x' (see sweep.py --help)"),
        (["--seed", "1"], "--seed'"),
        (["--ray", "127.0.0.1:1"], "RAY_ADDRESS"),
    ],
)
def test_wrong_input_is_named(recipe: Path, tmp_path: Path, words: list[str], said: str) -> None:
    if "--ray" in words:
        pytest.importorskip("ray", reason="Ray is not installed")
    done = _sweep(recipe, "-o", tmp_path / "runs", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = _sweep("nothing.py", "-o", tmp_path / "runs")
    assert done.returncode == 2
    assert "nothing.py" in done.stderr


def test_ray_trains_what_one_process_trains(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    pytest.importorskip("ray", reason="Ray is not installed")
    settings = {"jobs": {"chain": 8}, "discount_s": {"chain": 15.0}, "rollouts": 2, "iterations": 1, "epochs": 1}
    (tmp_path / "tiny.yaml").write_text(json.dumps(settings))
    common = [DECIMA, "--config", tmp_path / "tiny.yaml"]
    for folder, rest in (("here", ["--seeds", "1"]), ("ray", ["--seeds", "0:2", "--ray"])):
        done = _sweep(*common, "-o", tmp_path / folder, *rest, RAY_ADDRESS="")
        assert done.returncode == 0, done.stderr
        assert "best on validation jobs: seed" in done.stdout
    here, there, other = (
        (tmp_path / name / "decima.safetensors").read_bytes() for name in ("here/1", "ray/1", "ray/0")
    )
    assert here == there
    assert here != other
