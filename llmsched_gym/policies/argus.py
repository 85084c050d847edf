"""Argus: the ready stage with the largest influence on the rest of its job.

Argus (IPDPS 2021); that LLMSched's baseline of this name is that scheduler is an inference. Influence without
durations: 1 for a sink, else the maximum over its children plus their number. Stages are compared across jobs, with
no term for the job. Assumed: the influence counts what the scheduler may know, so a plan's stages count from the time
it is revealed. Equal stages in order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Candidate
from llmsched_gym.policies.base import Observation, PriorityPolicy


class Argus(PriorityPolicy):
    """Largest stage influence first."""

    name = "argus"

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by influence, largest first."""
        return -obs["candidates"][rows, Candidate.INFLUENCE]
