"""Weights on disk: what is written is read, and whatever does not belong together gives one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from llmsched_gym.errors import InputError
from llmsched_gym.policies.decima_network import DecimaNetwork
from llmsched_gym.policies.learned import (
    WEIGHTS,
    file_digest,
    load_weights,
    read_card,
    save_weights,
    weights_file,
)
from llmsched_gym.policies.registry import learned_names, load_policy, policy_class

TRAINING = {"split": "train", "seeds": "0", "commit": "none"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network = DecimaNetwork()
    path = tmp_path / "mine.safetensors"
    save_weights(path, "decima", network.state_dict(), network.arguments, TRAINING)
    return path


def test_what_is_written_is_read(saved: Path) -> None:
    card = read_card(saved, "decima")
    assert card.training == TRAINING
    network, first = DecimaNetwork(**card.network), DecimaNetwork()
    load_weights(network, saved)
    save_weights(saved, "decima", network.state_dict(), network.arguments, TRAINING)
    load_weights(first, saved)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[name])
    assert load_policy("decima", weights=str(saved)).sources == (saved, saved.with_suffix(".json"))


@pytest.mark.parametrize("name", learned_names())
def test_shipped_weights_say_what_they_were_trained_on(name: str) -> None:
    card = read_card(weights_file(name, "trained"), name)
    assert card.training["split"] == "train"
    assert {"seeds", "commit"} <= card.training.keys()
    assert policy_class(name).name == name


def test_shipped_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 2_000_000


def break_card(path: Path, **changes: object) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def other_shape(path: Path) -> None:
    network = DecimaNetwork(width=4)
    save_weights(path, "decima", network.state_dict(), DecimaNetwork().arguments, TRAINING)


def no_tensors(path: Path) -> None:
    path.write_bytes(b"nothing of the kind")
    break_card(path, digest=file_digest(path))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "a .safetensors file that exists"),
        (
            lambda path: path.with_suffix(".json").unlink(),
            "mine.json: got no such file or directory",
        ),
        (lambda path: path.with_suffix(".json").write_text("{"), "got no JSON"),
        (lambda path: break_card(path, policy="maskable_ppo"), "policy: got 'maskable_ppo'; expected decima"),
        (lambda path: break_card(path, more=1), "more"),
        (lambda path: break_card(path, digest="0"), "the file has changed"),
        (lambda path: break_card(path, network={"wide": 3}), "network"),
        (cut, "the file has changed"),
        (other_shape, "the shape"),
        (no_tensors, "a safetensors file"),
    ],
)
def test_what_does_not_belong_together_gives_one_line(saved: Path, damage, words: str) -> None:
    damage(saved)
    with pytest.raises(InputError) as caught:
        load_policy("decima", weights=str(saved))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_variant_names_those_there_are() -> None:
    with pytest.raises(InputError, match="one of trained, untrained"):
        load_policy("decima?weights=traind")


def test_without_torch_the_extra_is_named_and_all_else_works() -> None:
    code = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from llmsched_gym.cli.listing import List
from llmsched_gym.errors import InputError
from llmsched_gym.policies.registry import load_policy
assert List(as_json=True).run() == 0
assert load_policy("srtf").name == "srtf"
try:
    load_policy("decima")
except InputError as error:
    print(error, file=sys.stderr)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"{sys.executable} -m pip install 'llmsched-gym[learn]'" in answer.stderr
    assert json.loads(answer.stdout)["policies"]["decima"]["needs"] == "learn"
