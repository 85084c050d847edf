"""What an application consists of, and the empty block that samplers of static templates fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.template import ApplicationTemplate

MAX_CONTEXT_TOKENS = 8192
"""Assumed context window of the served models: a prompt and its output never exceed it together."""


@dataclass(frozen=True)
class Application:
    """A template and a sampler of jobs that follow it.

    Attributes:
        template: The stages and their topology.
        prefixes: Names of the prompt prefixes that all jobs share; positions are the application-local prefix ids.
        sample: ``sample(n, rng)`` draws `n` jobs; the same generator state gives the same jobs.
    """

    template: ApplicationTemplate
    prefixes: tuple[str, ...]
    sample: Callable[[int, np.random.Generator], JobBlock]

    @property
    def name(self) -> str:
        """Name of the application."""
        return self.template.name


def static_block(template: ApplicationTemplate, n: int, n_tasks: int) -> JobBlock:
    """Block of `n` jobs with one slot per node of a template without planned stages.

    Edges and revealers are the template's, every stage is present, and nothing else is set: no tasks, no tokens, no
    prefixes. `n_tasks` is the most tasks of a slot.
    """
    slots = len(template.nodes)
    index = template.index
    edges = np.zeros((slots, slots), dtype=np.bool_)
    for child, node in enumerate(template.nodes):
        edges[child, [index[parent] for parent in node.parents]] = True
    revealers = [-1 if node.revealed_by is None else index[node.revealed_by] for node in template.nodes]
    return JobBlock(
        exists=np.ones((n, slots), dtype=np.bool_),
        node=np.tile(np.arange(slots), (n, 1)),
        present=np.ones((n, slots), dtype=np.bool_),
        revealer=np.tile(np.array(revealers, dtype=np.int64), (n, 1)),
        parents=np.broadcast_to(edges, (n, slots, slots)),
        n_tasks=np.zeros((n, slots), dtype=np.int64),
        prompt_tokens=np.zeros((n, slots, n_tasks), dtype=np.int64),
        output_tokens=np.zeros((n, slots, n_tasks), dtype=np.int64),
        duration_ns=np.zeros((n, slots, n_tasks), dtype=np.int64),
        app_prefix=np.full((n, slots), -1, dtype=np.int64),
        app_prefix_tokens=np.zeros((n, slots), dtype=np.int64),
        job_prefix=np.full((n, slots), -1, dtype=np.int64),
        job_prefix_tokens=np.zeros((n, slots), dtype=np.int64),
        output_bytes=np.zeros((n, slots, n_tasks), dtype=np.int64),
    )
