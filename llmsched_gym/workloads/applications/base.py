"""What an application consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.template import ApplicationTemplate

MAX_CONTEXT_TOKENS = 8192
"""Assumed context window of the served models: a prompt and its output never exceed it together."""


@dataclass(frozen=True, eq=False)
class Application:
    """A template and a sampler of jobs that follow it.

    Attributes:
        template: The stages and their topology.
        prefixes: Names of the prompt prefixes that all jobs share; positions are the application-local prefix ids.
        sample: ``sample(n, rng)`` draws `n` jobs; the same generator state gives the same jobs.
        draws_as: Name of the application whose random streams it draws from, its own if empty. Applications that differ
            in one thing so meet equal jobs but for it.
    """

    template: ApplicationTemplate
    prefixes: tuple[str, ...]
    sample: Callable[[int, np.random.Generator], JobBlock]
    draws_as: str = ""

    @property
    def stream(self) -> str:
        """Name of its random streams."""
        return self.draws_as or self.name

    @property
    def name(self) -> str:
        """Name of the application."""
        return self.template.name
