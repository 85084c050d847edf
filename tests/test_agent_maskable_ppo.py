"""The MaskablePPO recipe in small: it trains, goes on from a checkpoint, and its weights make a policy."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("sb3_contrib")

from llmsched_gym.errors import InputError
from llmsched_gym.policies.learned import read_card
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.training import read_curve, read_settings

RECIPE = Path(__file__).parent.parent / "agents" / "sb3_maskable_ppo.py"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sb3_maskable_ppo", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_run_that_was_stopped_goes_on(recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"num_envs": 2, "steps": 96, "n_steps": 16, "batch_size": 16, "epochs": 1, "hidden": 8}
    config = recipe.Config(jobs=3, window=8, validations=1, validation_seeds=1, output=tmp_path, **training)
    with monkeypatch.context() as stopped:
        stopped.setattr(recipe.Progress, "_on_step", lambda self: self.num_timesteps < 40)
        recipe.train(config)
    points = read_curve(tmp_path)["points"]
    assert [point["done"] for point in points] == [0, 40]
    recipe.train(config)
    points = read_curve(tmp_path)["points"]
    assert points[-1]["done"] >= 96
    assert {"fcfs", "fair"} == points[-1]["below_pct"]["mixed"].keys()
    weights = tmp_path / "maskable_ppo.safetensors"
    card = read_card(weights, "maskable_ppo")
    assert card.training["steps"] == points[-1]["done"]
    assert card.training["split"] == "train"
    load_policy(f"maskable_ppo?weights={weights}")
    with pytest.raises(InputError, match=r"curve.json: \w+: got .*; expected .*as the run there began"):
        recipe.train(recipe.Config(output=tmp_path))


def test_settings_are_read_from_yaml_and_checked(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = RECIPE.parent.parent / "configs" / "agents" / "maskable_ppo.yaml"
    monkeypatch.setattr(sys, "argv", ["recipe", "--config", str(shipped), "--seed", "7"])
    assert read_settings(recipe.Config, "") == recipe.Config(seed=7)  # shipped settings are the defaults
    bad = tmp_path / "bad.yaml"
    bad.write_text("jobz: 3\n")
    monkeypatch.setattr(sys, "argv", ["recipe", "--config", str(bad)])
    with pytest.raises(InputError, match="jobz"):
        read_settings(recipe.Config, "")
