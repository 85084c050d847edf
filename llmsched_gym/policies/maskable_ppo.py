"""MaskablePPO: a small network over the rows of the default observation, trained by ``agents/sb3_maskable_ppo.py``."""

from __future__ import annotations

import numpy as np

from llmsched_gym.envs.normalise import normalise, scales_from_json
from llmsched_gym.errors import InputError
from llmsched_gym.policies.base import Observation, Policy
from llmsched_gym.policies.learned import TRAINED, card_file, load_weights, need_torch, read_card, weights_file


class MaskablePPO(Policy):
    """Start the task of the stage that the network scores highest; wait only when nothing can start.

    Args:
        weights: "trained", or a ``.safetensors`` file with its card.

    Raises:
        InputError: Torch is not installed, or the weights cannot be used.
    """

    name = "maskable_ppo"

    def __init__(self, weights: str = TRAINED) -> None:
        need_torch(self.name)
        from llmsched_gym.policies.candidate_network import CandidateNetwork

        path = weights_file(self.name, weights)
        card = read_card(path, self.name)
        place = str(card_file(path))
        try:
            network = CandidateNetwork(**card.network)
        except TypeError as error:
            raise InputError(place, "network", str(error), "arguments of CandidateNetwork") from error
        load_weights(network, path)
        self.sources = (path, card_file(path))
        self._network = network.eval()
        self._scales = scales_from_json(card.scales or {}, place)

    def act(self, obs: Observation) -> int:
        """Return the row with the highest score among those that can start; a single one needs no network."""
        import torch

        mask = obs["action_mask"][:-1] > 0
        rows = np.flatnonzero(mask)
        if len(rows) < 2:
            return int(rows[0]) if len(rows) else len(mask)
        shown = {name: obs[name][None] for name in ("candidates", "jobs", "executors", "system")}
        shown["candidates"] = shown["candidates"][:, rows]
        seen = {name: torch.from_numpy(table) for name, table in normalise(shown, self._scales).items()}
        with torch.no_grad():
            scores, _ = self._network(**seen, legal=torch.ones((1, len(rows)), dtype=torch.bool))
        return int(rows[int(scores[0].argmax())])
