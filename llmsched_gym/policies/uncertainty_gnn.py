"""A graph network that predicts what is left of each job, and a scheduler that ranks jobs by it.

The network (`uncertainty_network`) reads each job's graph with the profiler's columns (posterior remaining time and
its quantiles, entropy, uncertainty reduction), the stage that could start and the lengths of the job's prompts, and
predicts mean and quantiles of the job's remaining slot time: a posterior that knows more than the profiler's, which
sees durations of stages only. It was trained on the ``train`` split to know as much of an oracle's truth as can be
known (``agents/uncertainty_gnn.py``). Decisions follow from the predictions by a few numbers:

- *Ranking.* The smallest weighted sum of logarithms first: of the mean (posterior SRTF), of the Gittins index of the
  quantiles, and of the quantiles. `RANKINGS` are named ones; ``learned`` is what came with the weights.
- *Reserve.* The last free one of several regular executors is kept for tasks shorter than ``reserve_s`` per executor: a
  task that holds one of two tool executors for a minute delays every job that needs a tool in this minute. So this
  policy may wait though it could start something.

Jobs of applications that the network was not trained on are ranked by the profiler's posterior mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate, Node, System
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.policies.base import Observation, ObservationMode, Policy
from llmsched_gym.policies.learned import TRAINED, card_file, read_card, weights_file
from llmsched_gym.policies.scarce_tools import kept_from
from llmsched_gym.policies.uncertainty_features import (
    N_FEATURES,
    N_NODE_FEATURES,
    Floats,
    NodeNumbers,
    PromptMemory,
    read_nodes,
    read_rows,
)
from llmsched_gym.policies.uncertainty_network import LEVELS, N_OUTPUTS, Weights, predict, read_weights

Floats64 = NDArray[np.float64]

_DONE_BY: Final = np.arange(1, len(LEVELS) + 1, dtype=np.float32) / np.float32(len(LEVELS))


def _unit(*columns: int) -> Floats64:
    row = np.zeros(1 + N_OUTPUTS)
    row[list(columns)] = 1.0 / len(columns)
    return np.stack([row, row])


RANKINGS: Final = {
    "mean": _unit(1),
    "gittins": _unit(0),
    "median": _unit(2 + LEVELS.index(0.5)),
    "blend": _unit(0, 1, 2 + LEVELS.index(0.5)),
}
"""Weights of the logarithms of Gittins index, mean and quantiles, float64 (2, 1 + N_OUTPUTS): for LLM and for regular
stages. ``blend`` is the geometric mean of index, mean and median: the index is right where one server decides, the mean
where many do, and the median errs least where few jobs are very long."""

LEARNED: Final = "learned"


class UncertaintyGNN(Policy):
    """Smallest predicted index first, by a graph network on the profiler's columns and prompts.

    Args:
        weights: "trained", the name of a variant, or a ``.safetensors`` file with its card.
        index: What jobs are ranked by: "learned", or a name in `RANKINGS`.
        reserve_s: Longest task, in seconds per regular executor, that may take the last free one; 0 keeps none free.
            Default: what came with the weights.

    Attributes:
        ranking: float64 (2, 1 + N_OUTPUTS). As in `RANKINGS`.

    Raises:
        InputError: A parameter is out of range, safetensors is not installed, or the weights cannot be used.
    """

    name = "uncertainty_gnn"
    observation: ObservationMode = "graph"

    def __init__(self, weights: str = TRAINED, index: str = LEARNED, reserve_s: float | None = None) -> None:
        names = (LEARNED, *RANKINGS)
        if index not in names:
            raise InputError("policy uncertainty_gnn", "index", index, suggest(str(index), names))
        path = weights_file(self.name, weights)
        card = read_card(path, self.name)
        for key in ("applications", "ranking", "reserve_s"):
            if key not in card.network:
                raise InputError(
                    card_file(path), f"network, {key}", Plain("nothing"), "a value, as the recipe writes it"
                )
        self.sources = (path, card_file(path))
        self._forecast = Forecast(read_weights(path), NodeNumbers(card.network["applications"]))
        self.ranking = np.array(card.network["ranking"]) if index == LEARNED else RANKINGS[index]
        self.reserve_s = card.network["reserve_s"] if reserve_s is None else reserve_s
        if isinstance(self.reserve_s, bool) or not isinstance(self.reserve_s, int | float) or not self.reserve_s >= 0.0:
            raise InputError("policy uncertainty_gnn", "reserve_s", reserve_s, "seconds, from 0")

    def reset(self, info: Mapping[str, Any]) -> None:
        """Begin an episode with no jobs in memory."""
        self._forecast.begin(info)

    def act(self, obs: Observation) -> int:
        """Dispatch the smallest index that need not wait; wait if there is none."""
        mask = obs["action_mask"]
        rows, logs = self._forecast.predict(obs)
        if rows.size == 0:  # nothing can start, or only jobs that a small window leaves out
            return int(mask.argmax())
        index = self._rank(logs, obs["candidates"][rows, Candidate.KIND].astype(np.int64))
        if self.reserve_s > 0 and mask[-1]:
            index[kept_from(obs, rows, self.reserve_s)] = np.inf
        best = int(index.argmin())
        return int(rows[best]) if index[best] < np.inf else len(mask) - 1

    def _rank(self, logs: Floats, kinds: NDArray[np.int64]) -> Floats64:
        """Return the logarithm of the index, float64 (n,)."""
        weights = self.ranking[kinds]
        index = weights[:, 0] * np.log(predicted_gittins(np.exp(logs[:, 1:])))
        for k in range(N_OUTPUTS):  # one after another: a fixed order of additions
            index += weights[:, 1 + k] * logs[:, k]
        return index


class Forecast:
    """The network at work on one episode after another.

    Args:
        weights: The network.
        numbers: Template nodes that it knows.
    """

    def __init__(self, weights: Weights, numbers: NodeNumbers) -> None:
        self._weights = weights
        self._numbers = numbers
        self._scratch = np.zeros((4, max(N_FEATURES + 2 * len(weights.message.bias), *_widths(weights))), np.float32)
        self.begin({})

    def begin(self, info: Mapping[str, Any]) -> None:
        """Begin an episode: take the names of its applications from what the environment's ``reset`` returned."""
        self._table = self._numbers.table(info.get("applications", ()))
        self._memory = PromptMemory()

    def predict(self, obs: Observation) -> tuple[NDArray[np.int64], Floats]:
        """Predict for the stages that can start and whose jobs are shown with their graph.

        Returns:
            int64 (n,), their rows in ``obs["candidates"]``; and float32 (n, N_OUTPUTS), logarithms of mean and
            quantiles of the remaining slot time of their jobs in seconds.
        """
        prompts = self._memory.update(obs)
        system = obs["system"]
        nodes = obs["nodes"][: int(system[System.NODES])]
        n, d, c = len(nodes), len(self._weights.message.bias), int(system[System.CANDIDATES])
        at, features = np.empty((c, 2), np.int64), np.empty((c, N_FEATURES), np.float32)
        count = read_rows(nodes, obs["candidates"], obs["jobs"], prompts, obs["action_mask"], at, features)
        at, features = at[:count], features[:count]
        numbers, node_features = np.empty(n, np.int64), np.zeros((n, N_NODE_FEATURES), np.float32)
        read_nodes(nodes, self._table, numbers, node_features)
        out = np.empty((count, N_OUTPUTS), np.float32)
        predict(
            self._weights,
            node_features,
            numbers,
            nodes[:, Node.JOB].astype(np.int64),
            obs["edges"][: int(system[System.EDGES])],
            at,
            features,
            np.empty((n, d), np.float32),
            np.zeros((n, d), np.float32),
            np.zeros((len(prompts), d), np.float32),
            self._scratch,
            out,
        )
        return at[:, 0], out + features[:, :1]


def predicted_gittins(quantiles: Floats) -> Floats:
    """Return the Gittins index of discrete distributions, as `llmsched_gym.policies.gittins` explains it.

    Args:
        quantiles: float32 (n, 5) of `LEVELS`, each with a fifth of the probability; sorted here.

    Returns:
        float32 (n,) In the unit of the quantiles.
    """
    ascending = np.sort(quantiles, axis=1)
    below = np.cumsum(ascending, axis=1, dtype=np.float32) / np.float32(len(LEVELS))
    return ((below + ascending * (1 - _DONE_BY)) / _DONE_BY).min(axis=1)


def _widths(weights: Weights) -> list[int]:
    return [len(layer.bias) for layer in weights[1:]]
