"""Foresight: plans as `fate` does, by what the profiler believes of stages that are not revealed yet.

This one is ours. What differs from `llmsched_gym.policies.fate`, and why:

- *Presence.* `fate` takes the graph as it is listed: a stage that a job may turn out not to need counts as any other.
  Here each counts by the probability that it comes, estimated as the posterior work of the stage over the work of one
  of its tasks, at most 1. Keeping a model for a stage that one job in ten needs is worth a tenth.
- *Order.* `fate` values the seconds of all jobs alike. Here those of jobs that are expected to be over soon weigh more,
  since mean completion times gain most by these: a weight mean / (mean + remaining), by the posterior mean of the slot
  time to come, over the jobs present. Tasks start in the order of the same, as ``srtf`` and ``llmsched`` choose them.

Nothing else does: candidates, costs, terms, packing and waiting are the same, so that the two compare. Without a
profiler, historical means take the place of the posterior. Jobs beyond the window weigh least.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from llmsched_gym.cluster.state import StageStatus
from llmsched_gym.envs.columns import Job, Node, System
from llmsched_gym.policies.base import Observation, job_column
from llmsched_gym.policies.fate import Fate
from llmsched_gym.policies.fate_frontier import Floats, Ints

_LEAST_S: Final = 1e-3
_LEAST_WEIGHT: Final = 0.05


class Foresight(Fate):
    """FATE-style planning over what the Bayesian profile expects; parameters as `Fate`."""

    name = "foresight"

    def presence(self, obs: Observation) -> Floats:
        """Return the expected presence of each row of ``nodes``, float64 (nodes,)."""
        nodes = obs["nodes"][: int(obs["system"][System.NODES])].astype(np.float64)
        expected = nodes[:, Node.WORK_S]
        posterior = nodes[:, Node.POSTERIOR_WORK_S]
        believed = posterior if posterior.any() else expected
        one_task_s = expected / np.maximum(nodes[:, Node.TASKS_WAITING], 1e-9)
        tasks = np.where(expected > 0, believed / np.maximum(one_task_s, 1e-9), 1.0)
        return np.where(nodes[:, Node.STATUS] == StageStatus.HIDDEN, np.clip(tasks, 0.0, 1.0), 1.0)

    def urgency(self, obs: Observation, rows: Ints) -> Floats:
        """Return the weight of each candidate row, float64 (n,)."""
        jobs = obs["jobs"][: int(obs["system"][System.JOB_ROWS])]
        mean = float(jobs[:, Job.POSTERIOR_S].mean())
        remaining = job_column(obs, rows, Job.POSTERIOR_S).astype(np.float64)
        return np.maximum(mean / np.maximum(mean + remaining, _LEAST_S), _LEAST_WEIGHT)

    def order(self, obs: Observation) -> Ints:
        """Return the candidate rows, those of jobs that are over soonest first."""
        rows = np.arange(int(obs["system"][System.CANDIDATES]))
        return np.argsort(job_column(obs, rows, Job.POSTERIOR_S), kind="stable")
