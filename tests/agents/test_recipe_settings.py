"""Settings of the recipes: what is wrong is told in one line that names it, before anything is written."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("sb3_contrib")
pytest.importorskip("tensorboard")

import decima
import sb3_maskable_ppo
import uncertainty_gnn

RECIPES = [decima, sb3_maskable_ppo, uncertainty_gnn]


def _start(recipe: ModuleType, words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", [f"{recipe.__name__}.py", *words])
    return recipe.main()


@pytest.mark.parametrize(
    ("recipe", "words", "said"),
    [
        (sb3_maskable_ppo, "--seed -1", "--seed: got -1; expected a whole number from 0"),
        (sb3_maskable_ppo, "--seed 401", "--seed: got 401"),
        (sb3_maskable_ppo, "--batch-size 0", "--batch-size: got 0"),
        (sb3_maskable_ppo, "--n-steps 0", "--n-steps: got 0"),
        (sb3_maskable_ppo, "--n-steps 1 --num-envs 1", "n_steps: got 1"),
        (sb3_maskable_ppo, "--learning-rate -1", "--learning-rate: got -1.0"),
        (sb3_maskable_ppo, "--learning-rate nan", "--learning-rate: got nan"),
        (sb3_maskable_ppo, "--validations 0", "--validations: got 0"),
        (sb3_maskable_ppo, "--validation-seeds 0", "--validation-seeds: got 0"),
        (sb3_maskable_ppo, "--window 0", "--window: got 0"),
        (sb3_maskable_ppo, "--gamma 2", "--gamma: got 2.0; expected a number from 0 to 1"),
        (sb3_maskable_ppo, "--steps 0", "--steps: got 0"),
        (sb3_maskable_ppo, "--steps x", "--steps: got 'x'; expected a whole number"),
        (sb3_maskable_ppo, "--stepz 5", "did you mean '--steps'?"),
        (sb3_maskable_ppo, "--scenario nope", "scenario: got 'nope'"),
        (sb3_maskable_ppo, "--config nope.yaml", "nope.yaml: got no such file"),
        (sb3_maskable_ppo, "--config", "--config"),
        (decima, "--workers 0", "--workers: got 0"),
        (decima, "--rollouts 0", "--rollouts: got 0; expected a whole number from 2"),
        (decima, "--validate-every 0", "--validate-every: got 0"),
        (decima, "--start nope.safetensors", "start: got 'nope.safetensors'; expected a .safetensors file that exists"),
        (decima, "--entropy 0 1", "--entropy: 0: got 0.0"),
        (decima, "--jobs.mixed 0", "--jobs: mixed: got 0"),
        (uncertainty_gnn, "--rounds 0", "--rounds: got 0"),
        (uncertainty_gnn, "--sampled.chain 2", "--sampled: chain: got 2.0"),
        (uncertainty_gnn, "--loads 0.9 0", "--loads: 1: got 0.0"),
        (uncertainty_gnn, "--index nope", "index: got 'nope'; expected one of"),
        (uncertainty_gnn, "--behaviour nope", "got 'nope'"),
        (uncertainty_gnn, "--refine -1", "--refine: got -1"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    recipe: ModuleType,
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _start(recipe, words.split(), monkeypatch) == 2
    out, err = capsys.readouterr()
    assert not out
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert said in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_output_that_is_a_file_is_told(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "taken"
    file.write_text("kept")
    assert _start(recipe, ["--output", str(file)], monkeypatch) == 2
    assert capsys.readouterr().err == f"error: {file}: got a file; expected a folder\n"
    assert file.read_text() == "kept"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_setting_in_a_file_is_bounded_too(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 0\n")
    assert _start(recipe, ["--config", str(file), "--epochs", "1"], monkeypatch) == 2
    assert capsys.readouterr().err == f"error: {file}: epochs: got 0; expected a whole number >= 1\n"


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_explains_every_option(
    recipe: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _start(recipe, ["--help"], monkeypatch)
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert re.search(r"--config FILE YAML file", words)
    silent = re.findall(r"--([\w-]+)(?: [A-Z]+)+ \(default", words)  # entries of a mapping are explained together
    assert silent == []
