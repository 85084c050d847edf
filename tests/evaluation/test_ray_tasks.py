"""A comparison on a (local) Ray cluster gives what the same comparison gives in processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.ray_tasks import run_on_ray
from llmsched_gym.workloads.splits import check_seed

pytest.importorskip("ray", reason="Ray is not installed")


COMMAND = [sys.executable, "-c", "import sys; from llmsched_gym.cli import main; sys.exit(main())", "compare"]


def _compare(folder: Path, *flags: str) -> Any:
    setting = ["--jobs", "10", "--policies", "fcfs,srtf", "--seeds", "0:2", "--json", "-o", str(folder)]
    run = subprocess.run([*COMMAND, *setting, *flags], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def test_results_are_those_of_processes(tmp_path: Path) -> None:
    on_ray, in_processes = _compare(tmp_path / "ray", "--ray"), _compare(tmp_path / "processes", "--workers", "1")
    for name in ("fcfs", "srtf"):
        expected = in_processes["policies"][name]["per_seed_mean_jct_s"]
        assert on_ray["policies"][name]["per_seed_mean_jct_s"] == expected
    assert len(list((tmp_path / "ray").rglob("*.json"))) == len(list((tmp_path / "processes").rglob("*.json")))


def test_every_task_comes_back_and_errors_arrive_as_they_were_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert sorted(run_on_ray(check_seed, [(i,) for i in range(20)], str)) == [((i,), i) for i in range(20)]
    with pytest.raises(InputError, match="a whole number from 0"):
        list(run_on_ray(check_seed, [(-1,)], str))
    assert list(run_on_ray(check_seed, [], str)) == []


def test_what_policies_print_goes_to_standard_error_and_their_end_is_told(tmp_path: Path) -> None:
    policy = tmp_path / "mine.py"
    policy.write_text(
        "import os, signal\nfrom llmsched_gym.policies.fcfs import FCFS\n"
        "class Mine(FCFS):\n    name = 'mine'\n    def __init__(self, dies=False):\n        self.dies = dies\n"
        "    def reset(self, info):\n        print('policy speaks', flush=True)\n"
        "        if self.dies: os.kill(os.getpid(), signal.SIGSEGV)\n"
    )

    def run(spec: str) -> subprocess.CompletedProcess[str]:
        words = [
            "--scenario",
            "toy",
            "--policies",
            spec,
            "--seeds",
            "0",
            "--ray",
            "--json",
            "-o",
            str(tmp_path / "out"),
        ]
        return subprocess.run([*COMMAND, *words], check=False, capture_output=True, text=True)

    done = run(f"{policy}:Mine")
    assert done.returncode == 0
    assert list(json.loads(done.stdout)["policies"]) == ["mine"]
    assert "policy speaks" in done.stderr
    done = run(f"{policy}:Mine?dies=true")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"failed: policy {policy}:Mine?dies=true, seed 0: lost by Ray: " in done.stderr


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match="RAY_ADDRESS"):
        list(run_on_ray(check_seed, [(2,)], str))
