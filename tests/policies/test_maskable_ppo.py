"""The candidate network and its policy: rows do not depend on each other, windows or order; bad weights are told."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from llmsched_gym.envs.columns import Candidate
from llmsched_gym.envs.normalise import SCALES, normalise, scales_from_json, scales_to_json
from llmsched_gym.errors import InputError
from llmsched_gym.policies.candidate_network import CandidateNetwork
from llmsched_gym.policies.learned import read_card, save_weights, weights_file
from llmsched_gym.policies.registry import load_policy

TABLES = ("candidates", "jobs", "executors", "system")


def observations(window: int, steps: int = 60) -> list[dict[str, np.ndarray]]:
    env = gym.make("LLMSched/Mixed-v0", jobs=20, load=2.0, max_candidates=window, max_jobs=window)
    seen, info = env.reset(seed=3)
    found = [seen]
    for _ in range(steps):
        seen, _, _, _, info = env.step(int(info["action_mask"].argmax()))
        found.append(seen)
    return found


def scores(network: CandidateNetwork, seen: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    tables = {name: torch.from_numpy(normalise(seen)[name][None]) for name in TABLES}
    with torch.no_grad():
        found, value = network(**tables, legal=torch.from_numpy(seen["action_mask"][None, :-1] > 0))
    return found[0].numpy(), float(value[0])


def test_scores_depend_neither_on_windows_nor_on_the_order_of_rows() -> None:
    torch.manual_seed(0)
    network = CandidateNetwork(hidden=16)
    for small, large in zip(observations(40), observations(64), strict=True):
        narrow, value = scores(network, small)
        wide, same_value = scores(network, large)
        np.testing.assert_allclose(wide[:40], narrow, atol=1e-6)
        assert value == pytest.approx(same_value, abs=1e-5)
        turned = dict(small)
        order = np.random.default_rng(0).permutation(40)
        turned["candidates"] = small["candidates"][order]
        turned["action_mask"] = np.append(small["action_mask"][:-1][order], small["action_mask"][-1])
        np.testing.assert_allclose(scores(network, turned)[0], narrow[order], atol=1e-6)


def test_a_batch_equals_its_parts_and_illegal_rows_score_nothing() -> None:
    torch.manual_seed(0)
    network = CandidateNetwork(hidden=16)
    seen = observations(16, 30)
    batch = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
    tables = {name: torch.from_numpy(normalise(batch)[name]) for name in TABLES}
    with torch.no_grad():
        together, _ = network(**tables, legal=torch.from_numpy(batch["action_mask"][:, :-1] > 0))
    for row, one in zip(together.numpy(), seen, strict=True):
        np.testing.assert_allclose(row, scores(network, one)[0], atol=1e-6)
        assert not row[one["action_mask"][:-1] == 0].any()


def test_the_policy_starts_the_highest_score(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CandidateNetwork(hidden=16)
    path = tmp_path / "mine.safetensors"
    training = {"split": "train", "seeds": "none", "commit": "none"}
    save_weights(path, "maskable_ppo", network.state_dict(), network.arguments, training, scales_to_json())
    policy = load_policy(f"maskable_ppo?weights={path}")
    policy.reset({"policy_seed": 0})
    chosen = set()
    for seen in observations(16):
        legal = seen["action_mask"][:-1] > 0
        best = np.where(legal, scores(network, seen)[0], -np.inf).argmax()
        assert policy.act(seen) == (best if legal.any() else len(legal))
        chosen.add(int(seen["candidates"][policy.act(seen), Candidate.APP]))
    assert len(chosen) > 1


def test_shipped_weights_say_what_they_were_trained_on() -> None:
    card = read_card(weights_file("maskable_ppo", "trained"), "maskable_ppo")
    assert card.training["split"] == "train"
    assert card.training["seeds"]
    assert card.scales is not None
    assert scales_from_json(card.scales, "the card") == SCALES
    present = scales_to_json(SCALES)
    later = {name for table, rules in present.items() for name in rules.keys() - card.scales[table].keys()}
    assert later == {"HISTORY_TOOL_S", "POSTERIOR_TOOL_S", "GITTINS_S"}, "columns that came after the weights"


@pytest.mark.parametrize(
    ("network", "scales", "message"),
    [({"width": 3}, scales_to_json(), "network"), ({"hidden": 64}, {}, "scales")],
)
def test_cards_that_do_not_fit_are_told(tmp_path: Path, network: dict, scales: dict, message: str) -> None:
    path = tmp_path / "mine.safetensors"
    weights = CandidateNetwork().state_dict()
    save_weights(path, "maskable_ppo", weights, network, {"split": "train"}, scales)
    with pytest.raises(InputError, match=message):
        load_policy(f"maskable_ppo?weights={path}")
