"""The MaskablePPO recipe in small: it trains, goes on from a checkpoint, and its weights make a policy."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("sb3_contrib")

from llmsched_gym import training
from llmsched_gym.errors import InputError
from llmsched_gym.policies.learned import read_card
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.training import read_curve, read_settings, write_curve

RECIPE = Path(__file__).resolve().parents[2] / "agents" / "sb3_maskable_ppo.py"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sb3_maskable_ppo", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_run_that_was_stopped_goes_on(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"num_envs": 2, "steps": 96, "n_steps": 16, "batch_size": 16, "epochs": 1, "hidden": 8}
    config = recipe.Config(jobs=3, window=8, validations=1, validation_seeds=1, output=tmp_path, **small)
    with monkeypatch.context() as stopped:
        stopped.setattr(recipe.Progress, "_on_step", lambda self: self.num_timesteps < 40)
        recipe.train(config)
    points = read_curve(tmp_path)["points"]
    assert [point["done"] for point in points] == [0, 40]
    capsys.readouterr()
    with monkeypatch.context() as watched:
        bars: list[tuple[int, int]] = []
        bar = training.progress_bar
        watched.setattr(
            training, "progress_bar", lambda what, total, done: bars.append((total, done)) or bar(what, total, done)
        )
        recipe.train(config)
    assert bars == [(96, 40)]
    weights = tmp_path / "maskable_ppo.safetensors"
    policies = f"--policies 'fcfs,fair,srtf,maskable_ppo?weights={weights}'"
    told = f"weights in {weights}; compare: llmsched-gym compare --scenario mixed {policies}\n"
    assert capsys.readouterr().out.endswith(f"finished: {told}")
    points = read_curve(tmp_path)["points"]
    assert points[-1]["done"] >= 96
    recipe.train(config)
    assert capsys.readouterr().out == f"finished already: {told}"
    assert read_curve(tmp_path)["points"] == points
    assert {"fcfs", "fair"} == points[-1]["below_pct"]["mixed"].keys()
    card = read_card(weights, "maskable_ppo")
    assert card.training["steps"] == points[-1]["done"]
    assert card.training["split"] == "train"
    load_policy(f"maskable_ppo?weights={weights}")
    with pytest.raises(InputError, match=r"curve.json: steps: got 97; expected 96, as the run there began: .* fixed"):
        recipe.train(replace(config, steps=97))
    (tmp_path / "checkpoint.zip").write_bytes(b"cut short")
    curve = read_curve(tmp_path)
    write_curve(tmp_path, curve["policy"], curve["unit"], curve["settings"], points[:-1])
    with pytest.raises(InputError, match=r"checkpoint\.zip.*a checkpoint; or another folder"):
        recipe.train(config)


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
