"""Same seed, same digest: in this process, in others, under other hash seeds and other instruction sets.

`golden_digests.json` holds the digests of every environment. They change only with a new version of an environment.
To write them again:

    python tests/test_determinism.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numpy._core._multiarray_umath import __cpu_baseline__, __cpu_dispatch__, __cpu_features__

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.registration import ENVIRONMENTS
from llmsched_gym.scenario import load_scenario

GOLDEN = Path(__file__).with_name("golden_digests.json")
ROOT = Path(__file__).resolve().parents[1]
JOBS = 40
POLICIES = ("fcfs", "srtf")


def digests(name: str, seed: int = 0, split: str = "eval") -> dict[str, str]:
    """Digest of the workload of one environment and seed, and of an episode of each policy on it."""
    scenario = load_scenario(ENVIRONMENTS[name])
    if scenario.fixed is None:
        scenario = scenario.replaced(jobs=JOBS)
    workload = scenario.build(split, seed)
    result = {"workload": workload.digest}
    for spec in POLICIES:
        policy = load_policy(spec)
        # Digests are of what happened, not of what was believed.
        env = SchedulingEnv(scenario, workload=workload, max_candidates=None, max_jobs=None, profiler=False)
        observation, info = env.reset(seed=seed)
        policy.reset(info)
        terminated = False
        while not terminated:
            observation, _, terminated, _, info = env.step(policy.act(observation))
        result[spec] = info["result"]["digest"]
    return result


def all_digests() -> dict[str, dict[str, str]]:
    """Digests of every environment."""
    return {name: digests(name) for name in ENVIRONMENTS}


def in_a_fresh_process(**environment: str) -> dict[str, dict[str, str]]:
    """The same, in another process with these environment variables."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    code = "import json, test_determinism as t; print(json.dumps(t.all_digests()))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(run.stdout)


def dispatched_features() -> str:
    """The instruction sets beyond the baseline that NumPy chooses among when it runs here."""
    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name] and name not in __cpu_baseline__)


def test_digests_are_the_published_ones() -> None:
    assert all_digests() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_digests_do_not_depend_on_the_process_or_its_hash_seed(hash_seed: str) -> None:
    assert in_a_fresh_process(PYTHONHASHSEED=hash_seed) == all_digests()


def test_digests_do_not_depend_on_the_instruction_set(tmp_path: Path) -> None:
    """NumPy without its dispatched instruction sets, and code compiled for a generic processor."""
    features = dispatched_features()
    if not features:
        pytest.skip("NumPy has nothing to choose among on this processor")
    plain = in_a_fresh_process(
        NPY_DISABLE_CPU_FEATURES=features, NUMBA_CPU_NAME="generic", LLMSCHED_GYM_CACHE=str(tmp_path)
    )
    assert plain == all_digests()


def test_seeds_and_splits_differ() -> None:
    name = "LLMSched/Mixed-v0"
    seen = [digests(name, seed, split) for seed in (0, 1) for split in ("train", "eval", "profile")]
    for column in ("workload", *POLICIES):
        assert len({one[column] for one in seen}) == len(seen), column
    assert all(one["fcfs"] != one["srtf"] for one in seen)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(all_digests(), indent=2) + "\n")
