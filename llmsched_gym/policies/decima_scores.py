"""Decima's probabilities of many choices at once, for training: options one after another. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmsched_gym.policies.decima_network import DecimaNetwork, Embedding, compress
from llmsched_gym.policies.decima_options import Options


class Flat(NamedTuple):
    """Options of many choices, one after another.

    Attributes:
        job_choice: int64 (j,). Choice of each (choice, job in the system).
        job_graph: int64 (j,). Graph of that job.
        choice: int64 (c,). Choice of each option, ascending.
        node: int64 (c,). Node of each option.
        graph: int64 (c,). Graph of each option.
        free: float32 (c,). Free slots for each option.
        room: int64 (c,). Tasks of each option that can start.
        n_choices: Number of choices.
    """

    job_choice: Tensor
    job_graph: Tensor
    choice: Tensor
    node: Tensor
    graph: Tensor
    free: Tensor
    room: Tensor
    n_choices: int

    @property
    def first(self) -> Tensor:
        """int64 (n_choices,): the first option of each choice."""
        return torch.searchsorted(self.choice, torch.arange(self.n_choices))


class Limits(NamedTuple):
    """Limits of the choices that have several, one after another.

    Attributes:
        choice: int64 (k,). Choice of each limit, ascending.
        option: int64 (k,). The chosen option, among all options.
        limit: float32 (k,). Tasks that the job may run.
    """

    choice: Tensor
    option: Tensor
    limit: Tensor


def flatten(offered: Sequence[Options], jobs: Sequence[NDArray[np.int64]]) -> Flat:
    """Put choices one after another.

    Args:
        offered: Options of each choice, at least one each.
        jobs: Graphs of the jobs in the system at each choice.
    """
    choices = np.arange(len(offered))
    joined = [np.concatenate(parts) for parts in zip(*offered, strict=True)]
    _, nodes, graphs, free, room = (torch.from_numpy(part) for part in joined)
    return Flat(
        torch.from_numpy(np.repeat(choices, [len(one) for one in jobs])),
        torch.from_numpy(np.concatenate(jobs)),
        torch.from_numpy(np.repeat(choices, [len(one.rows) for one in offered])),
        nodes,
        graphs,
        free,
        room,
        len(offered),
    )


def list_limits(network: DecimaNetwork, known: Embedding, flat: Flat, chosen: Tensor) -> Limits:
    """Return the limits of the choices that have several.

    Args:
        network: The network.
        known: Embedding of the graphs.
        flat: The choices.
        chosen: int64 (n_choices,). The option that was chosen in each.
    """
    room = flat.room[chosen]
    several = torch.nonzero(room > 1)[:, 0]
    counts = room[several]
    first = counts.cumsum(0) - counts
    tasks = torch.arange(int(counts.sum())) - first.repeat_interleave(counts) + 1
    option = chosen[several].repeat_interleave(counts)
    running = known.features[flat.node[option], 0] * network.tasks_scale
    return Limits(several.repeat_interleave(counts), option, running + tasks)


def score_stages(network: DecimaNetwork, known: Embedding, flat: Flat) -> tuple[Tensor, Tensor]:
    """Score the options.

    Returns:
        Log-probability of each, float32 (c,), and summary of the system at each choice, float32 (n_choices, d).
    """
    sums = known.shares.new_zeros(flat.n_choices, network.width)
    system = compress(sums.index_add(0, flat.job_choice, known.shares[flat.job_graph]))
    logits = network.stage_logits(
        known.features[flat.node], known.nodes[flat.node], known.jobs[flat.graph], system[flat.choice], flat.free
    )
    return segment_log_softmax(logits, flat.choice, flat.n_choices), system


def score_limits(network: DecimaNetwork, known: Embedding, flat: Flat, system: Tensor, limits: Limits) -> Tensor:
    """Return the log-probability of each limit, float32 (k,)."""
    at = limits.option
    logits = network.limit_logits(
        known.features[flat.node[at]], known.jobs[flat.graph[at]], system[limits.choice], flat.free[at], limits.limit
    )
    return segment_log_softmax(logits, limits.choice, flat.n_choices)


def sample(
    network: DecimaNetwork, known: Embedding, flat: Flat, noise: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a stage and a limit for each choice.

    Returns:
        Each of (n_choices,): the option, int64; how many of its tasks start, int64; the log-probability, float32.
    """
    stages, system = score_stages(network, known, flat)
    chosen = segment_draw(stages, flat.choice, flat.n_choices, noise)
    tasks, chances = torch.ones_like(chosen), stages[chosen]
    limits = list_limits(network, known, flat, chosen)
    if len(limits.choice):
        logarithms = score_limits(network, known, flat, system, limits)
        drawn = segment_draw(logarithms, limits.choice, flat.n_choices, noise)
        at = torch.nonzero(drawn >= 0)[:, 0]
        tasks[at] = drawn[at] - torch.searchsorted(limits.choice, at) + 1
        chances[at] += logarithms[drawn[at]]
    return chosen, tasks, chances


def evaluate(
    network: DecimaNetwork, known: Embedding, flat: Flat, chosen: Tensor, tasks: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log-probability and normalised entropy of each choice, float32 (n_choices,), with gradients.

    Args:
        network: The network.
        known: Embedding of the graphs.
        flat: The choices.
        chosen: int64 (n_choices,). Option that was chosen, among all options.
        tasks: int64 (n_choices,). How many of its tasks started.
    """
    stages, system = score_stages(network, known, flat)
    entropy = segment_entropy(stages, flat.choice, flat.n_choices)
    chance = stages[chosen]
    limits = list_limits(network, known, flat, chosen)
    if len(limits.choice):
        several = torch.unique_consecutive(limits.choice)
        logarithms = score_limits(network, known, flat, system, limits)
        taken = torch.searchsorted(limits.choice, several) + tasks[several] - 1
        chance = chance.index_add(0, several, logarithms[taken])
        entropy = entropy + segment_entropy(logarithms, limits.choice, flat.n_choices)
    return chance, entropy


def segment_log_softmax(logits: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Return the log-softmax within each segment.

    Args:
        logits: float32 (c,).
        segment: int64 (c,). Segment of each entry.
        n_segments: Number of segments.
    """
    highest = torch.full((n_segments,), -torch.inf).scatter_reduce(0, segment, logits.detach(), "amax")
    shifted = logits - highest[segment]
    total = shifted.new_zeros(n_segments).index_add(0, segment, shifted.exp())
    return shifted - total[segment].log()


def segment_entropy(log_probabilities: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Return each segment's entropy over the logarithm of its size, float32 (n,); 0 for a single entry or none."""
    counts = torch.bincount(segment, minlength=n_segments).clamp_min(2).float()
    terms = -log_probabilities.exp() * log_probabilities
    return terms.new_zeros(n_segments).index_add(0, segment, terms) / counts.log()


def segment_draw(log_probabilities: Tensor, segment: Tensor, n_segments: int, noise: torch.Generator) -> Tensor:
    """Draw an entry of each segment by its probability.

    Returns:
        int64 (n_segments,): index of the entry; -1 for a segment without entries.
    """
    uniform = torch.rand(len(segment), generator=noise).clamp_min(1e-12)
    keys = log_probabilities - torch.log(-torch.log(uniform))
    highest = torch.full((n_segments,), -torch.inf).scatter_reduce(0, segment, keys, "amax")
    drawn = torch.full((n_segments,), -1)
    won = torch.nonzero(keys == highest[segment])[:, 0]
    drawn[segment[won]] = won
    return drawn
