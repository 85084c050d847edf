"""Decima's training recipe: runs go on where they stopped, and wrong settings are named."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tensorboard")

import decima as recipe

from llmsched_gym.errors import InputError
from llmsched_gym.policies.learned import read_card
from llmsched_gym.training import read_curve, read_settings, run_recipe

TINY = recipe.Config(
    jobs={"chain": 12, "planning": 8},
    discount_s={"chain": 15.0, "planning": 30.0},
    rollouts=2,
    iterations=2,
    epochs=2,
    validate_every=1,
)


def test_a_run_goes_on_where_it_stopped_in_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for told in ("finished", "finished already"):
        recipe.Run(replace(TINY, output=tmp_path / "whole")).train()
        said = capsys.readouterr().out.splitlines()
        assert said[-1].startswith(f"{told}: weights in {tmp_path}/whole/decima.safetensors; compare: llmsched-gym")
    assert len(said) == 1
    with monkeypatch.context() as patch:
        validate = recipe.Run.validate

        def stop(run: recipe.Run, fcfs_s: Mapping[str, float]) -> dict[str, float]:
            found = validate(run, fcfs_s)
            if run.learner.iteration == 1:
                raise KeyboardInterrupt
            return found

        patch.setattr(recipe.Run, "validate", stop)
        with pytest.raises(KeyboardInterrupt):
            recipe.Run(replace(TINY, output=tmp_path / "parts")).train()
    half = (tmp_path / "parts" / "decima.safetensors").read_bytes()
    recipe.Run(replace(TINY, output=tmp_path / "parts", workers=2)).train()
    whole = (tmp_path / "whole" / "decima.safetensors").read_bytes()
    assert (tmp_path / "parts" / "decima.safetensors").read_bytes() == whole
    assert half != whole
    assert whole != (tmp_path / "whole" / "decima_untrained.safetensors").read_bytes()
    whole_curve, curve = (read_curve(tmp_path / name)["points"] for name in ("whole", "parts"))
    assert [point["done"] for point in curve] == [0, 1, 2]
    assert [point["below_pct"] for point in curve] == [point["below_pct"] for point in whole_curve]
    assert curve[-1]["below_pct"].keys() == {"chain", "planning"}
    assert curve[2]["cpu_s"] > curve[1]["cpu_s"] > 0.0
    card = read_card(tmp_path / "whole" / "decima.safetensors", "decima")
    assert card.training["split"] == "train"
    assert card.training["iterations"] == 2
    with pytest.raises(InputError, match=r"clip: got 0.1; expected 0.2, as .* another folder"):
        recipe.Run(replace(TINY, output=tmp_path / "whole", clip=0.1))


@pytest.mark.parametrize(("content", "words"), [("clipp: 0.2", "clipp"), ("rollouts: many", "rollouts"), ("{", "YAML")])
def test_settings_that_are_wrong_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    monkeypatch.setattr(sys, "argv", ["decima.py", "--config", str(path)])
    assert recipe.main() == 2
    assert words in capsys.readouterr().err


def test_shipped_settings_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "agents" / "decima.yaml"
    monkeypatch.setattr(sys, "argv", ["decima.py", "--config", str(path)])
    assert read_settings(recipe.Config, None) == recipe.Config()


def test_interrupted_run_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: recipe.Config) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["decima.py"])
    assert run_recipe(recipe.Config, None, interrupted) == 1
    assert capsys.readouterr().err.splitlines()[-1:] == ["interrupted: the same command goes on from what is kept"]


def test_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    output = tmp_path / "run"
    output.mkdir()
    (output / "checkpoint.pt").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"checkpoint\.pt.*a checkpoint; or another folder"):
        recipe.Run(replace(TINY, output=output))
