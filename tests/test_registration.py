"""The ids: one per scenario, made from strings, arguments passed on."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import pytest

import llmsched_gym
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.registration import ENVIRONMENTS, PLACED
from llmsched_gym.scenario import SCENARIOS


def test_every_scenario_has_an_id() -> None:
    assert sorted(ENVIRONMENTS.values()) == sorted(SCENARIOS)
    assert len(set(ENVIRONMENTS)) == len(ENVIRONMENTS)
    assert all(name in (llmsched_gym.__doc__ or "") for name in ENVIRONMENTS)


@pytest.mark.parametrize(("name", "scenario"), ENVIRONMENTS.items())
def test_an_id_makes_its_scenario(name: str, scenario: str) -> None:
    env = gym.make(name, max_candidates=5).unwrapped
    assert isinstance(env, SchedulingEnv)
    assert env.scenario.name == scenario
    assert (scenario in PLACED) == env.scenario.cluster.serves_several
    choices = env.cluster.n_executors if scenario in PLACED else 1
    assert env.action_space == gym.spaces.Discrete(5 * choices + 1)
    spec = gym.spec(name)
    assert isinstance(spec.entry_point, str)  # a class would break spec.to_json
    assert spec.max_episode_steps is None


def test_the_module_prefix_imports_the_package() -> None:
    code = "import gymnasium; print(gymnasium.make('llmsched_gym:LLMSched/Toy-v0').spec.id)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "LLMSched/Toy-v0"


def test_importing_the_package_stays_light() -> None:
    """Neither what only some verbs need, nor the simulator: that comes with the first environment."""
    code = "import sys, llmsched_gym; print([m for m in ('torch', 'matplotlib', 'scipy', 'vllm') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


def test_environments_need_no_heavy_library_either() -> None:
    code = (
        "import sys, gymnasium, llmsched_gym; env = gymnasium.make('LLMSched/Toy-v0'); env.reset(seed=0); env.step(0); "
        "print([m for m in ('torch', 'matplotlib', 'vllm') if m in sys.modules])"  # Numba loads scipy if it is there
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
