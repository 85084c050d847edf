"""The recipe of the uncertainty network in small: rounds are learned, refinements added, nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tensorboard")

import uncertainty_gnn as recipe

from llmsched_gym.errors import InputError, RunError
from llmsched_gym.policies.learned import read_card

TINY = recipe.Config(
    episodes={"chain": 4},
    sampled={"chain": 1.0},
    jobs=(8,),
    rounds=1,
    epochs=1,
    batch=32,
    width=4,
    hidden=8,
    refine_jobs={"chain": 4},
    pairs=1,
    validate={"chain": 1},
)


def test_only_what_is_left_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "uncertainty_gnn.safetensors"
    said: list[str] = []
    for refine in (0, 0, 1):
        recipe.Run(replace(TINY, output=tmp_path, refine=refine)).train()
        said.append(capsys.readouterr().out)
    first, again, refined = said
    told = f"weights in {weights}; compare: llmsched-gym compare --scenario chain"
    assert "held-out loss" in first
    assert "refining" not in first
    assert f"\nfinished: {told}" in first
    assert again.startswith(f"finished already: {told}")
    assert "collecting" not in refined
    assert "refining" in refined
    card = read_card(weights, "uncertainty_gnn")
    assert card.training["refined"]["iterations"] == 1
    with pytest.raises(InputError, match=r"settings.json: epochs: got 2; expected 1, as the run there began"):
        recipe.Run(replace(TINY, output=tmp_path, epochs=2))


def test_episodes_without_examples_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no examples"):
        recipe.Run(replace(TINY, output=tmp_path, sampled={"chain": 1e-9})).train()
