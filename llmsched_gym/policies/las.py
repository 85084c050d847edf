"""Least attained service: the job that has received the least slot time so far.

Program-level attained service as in Autellix's PLAS (NSDI 2026), which needs no estimate of lengths. Assumed: service
is counted over both kinds of slots, running tasks included up to now; ranks are continuous, where Autellix sorts
programs into a few queues with quanta, unless ``quantum_s`` is given: then jobs stand in queues, the first up to that
service and each further one up to twice as much, and in order of arrival within a queue. No preemption. Equal jobs in
order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.columns import Job
from llmsched_gym.policies.base import Observation, PriorityPolicy, job_column
from llmsched_gym.policies.parameters import real


class LAS(PriorityPolicy):
    """Least slot time received by the job first.

    Args:
        quantum_s: Slot seconds that the first queue holds jobs for; 0 ranks jobs without queues.

    Raises:
        InputError: The parameter is out of range.
    """

    name = "las"

    def __init__(self, quantum_s: float = 0.0) -> None:
        self.quantum_s = real(self.name, "quantum_s", quantum_s, 0.0, 1e9)

    def key(self, obs: Observation, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rank by the slot time that the job has received, or by the queue that it stands in."""
        attained_s = job_column(obs, rows, Job.ATTAINED_S)
        if self.quantum_s == 0.0:
            return attained_s
        quanta = np.floor(attained_s / np.float32(self.quantum_s))
        return np.frexp(quanta)[1]  # 0, 1, 2-3, 4-7, ...: no logarithm, which libraries round differently
