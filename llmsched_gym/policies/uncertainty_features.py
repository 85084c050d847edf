"""What the uncertainty network reads of a graph observation: a row per stage that can start, and its job's graph.

Times enter as logarithms, because jobs differ a thousandfold. Apart from the columns of the observation there is one
thing that a policy has to remember: how long the prompts of a job were, which shows only while an LLM stage waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.envs.columns import Candidate, Job, Node, System
from llmsched_gym.workloads.template import StageKind

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SMALLEST_S: Final = 0.05
"""Added to times before the logarithm."""

JOB_TIMES: Final = np.array(
    [
        Job.REMAINING_S,
        Job.PATH_S,
        Job.TOTAL_S,
        Job.ATTAINED_S,
        Job.HISTORY_LOW_S,
        Job.HISTORY_HIGH_S,
        Job.POSTERIOR_LOW_S,
        Job.POSTERIOR_QUARTILE_S,
        Job.POSTERIOR_MEDIAN_S,
        Job.POSTERIOR_UPPER_QUARTILE_S,
        Job.POSTERIOR_HIGH_S,
    ]
)
JOB_COUNTS: Final = np.array([Job.TASKS_RUNNING, Job.TASKS_WAITING, Job.STAGES_DONE])
STAGE_TIMES: Final = np.array([Candidate.WORK_S, Candidate.DURATION_S, Candidate.PATH_S])
STAGE_COUNTS: Final = np.array(
    [
        Candidate.TASKS_WAITING,
        Candidate.TASKS_RUNNING,
        Candidate.TASKS_DONE,
        Candidate.ENTROPY,
        Candidate.REDUCTION_SUM,
        Candidate.HISTORY_REDUCTION,
    ]
)
PROMPTS: Final = 1 + len(JOB_TIMES) + len(JOB_COUNTS) + len(STAGE_TIMES) + len(STAGE_COUNTS)
"""Where the prompts of the job (first, latest) and of the stage begin among the features."""

N_FEATURES: Final = PROMPTS + 4

NODE_TIMES: Final = np.array([Node.WORK_S, Node.DURATION_S, Node.PATH_S, Node.POSTERIOR_WORK_S])
NODE_COUNTS: Final = np.array([Node.TASKS_WAITING, Node.TASKS_RUNNING, Node.ENTROPY])
N_STATUSES: Final = 4
"""Hidden, blocked, ready, running: no others are listed."""

N_NODE_FEATURES: Final = N_STATUSES + len(NODE_TIMES) + len(NODE_COUNTS)

_SMALLEST_S: Final = np.float32(SMALLEST_S)
_TOKENS: Final = np.float32(100.0)


class PromptMemory:
    """The first and the latest prompt of each job in the system.

    An observation does not name jobs; they are recognised by application and arrival.
    """

    def __init__(self) -> None:
        self._arrivals: NDArray[np.float64] = np.zeros(0)
        self._apps: Floats = np.zeros(0, np.float32)
        self._prompts: Floats = np.zeros((0, 2), np.float32)

    def update(self, obs: Mapping[str, NDArray[Any]]) -> Floats:
        """Take notice of an observation.

        Returns:
            float32 (jobs, 2). Tokens of the first and of the latest prompt of each row of ``obs["jobs"]``; 0 if no LLM
            stage of the job was ever seen waiting.
        """
        system = obs["system"]
        jobs = obs["jobs"][: int(system[System.JOB_ROWS])]
        time_s = float(system[System.TIME_S])
        arrivals = time_s - jobs[:, Job.AGE_S].astype(np.float64)
        prompts = np.zeros((len(jobs), 2), np.float32)
        if len(self._arrivals):
            tolerance_s = max(1e-3, 4e-7 * time_s)  # seconds in float32
            at = np.searchsorted(self._arrivals, arrivals - tolerance_s).clip(max=len(self._arrivals) - 1)
            same = (np.abs(self._arrivals[at] - arrivals) < tolerance_s) & (self._apps[at] == jobs[:, Job.APP])
            prompts[same] = self._prompts[at[same]]
            arrivals[same] = self._arrivals[at[same]]
        stages = obs["candidates"][: int(system[System.CANDIDATES])]
        asking = stages[(stages[:, Candidate.KIND] == StageKind.LLM) & (stages[:, Candidate.JOB] >= 0)]
        prompts[asking[:, Candidate.JOB].astype(np.int64), 1] = asking[:, Candidate.PROMPT_TOKENS]
        prompts[:, 0] = np.where(prompts[:, 0] > 0, prompts[:, 0], prompts[:, 1])
        self._arrivals, self._apps, self._prompts = arrivals, jobs[:, Job.APP].copy(), prompts
        return prompts


class NodeNumbers:
    """Numbers for the template nodes of the applications that a network was trained on.

    Args:
        applications: Name and number of template nodes, in the order of training.
    """

    def __init__(self, applications: Sequence[tuple[str, int]]) -> None:
        self._spans: dict[str, tuple[int, int]] = {}
        first = 0
        for name, size in applications:
            self._spans[name] = (first, size)
            first += size
        self.count = first

    def table(self, applications: Sequence[str]) -> Ints:
        """Return int64 (applications, 2): number of the first node, and of nodes, of each application of an episode.

        Applications that are not known have no nodes.
        """
        return np.array([self._spans.get(name, (0, 0)) for name in applications], np.int64).reshape(-1, 2)


@kernel
def read_nodes(nodes: Floats, table: Ints, numbers: Ints, features: Floats) -> None:
    """Read the nodes of a graph observation.

    Args:
        nodes: float32 (n, len(Node)). Valid rows.
        table: `NodeNumbers.table` of the episode.
        numbers: int64 (n,). Filled with the number of each template node; -1 where it is not known.
        features: float32 (n, N_NODE_FEATURES), zeros. Filled.
    """
    for i in range(len(nodes)):
        app, node = int(nodes[i, Node.APP]), int(nodes[i, Node.NODE])
        known = app < len(table) and node < table[app, 1]
        numbers[i] = table[app, 0] + node if known else -1
        features[i, min(max(int(nodes[i, Node.STATUS]), 0), N_STATUSES - 1)] = 1.0
        at = N_STATUSES
        for column in NODE_TIMES:
            features[i, at] = math.log(nodes[i, column] + _SMALLEST_S)
            at += 1
        for column in NODE_COUNTS:
            features[i, at] = math.log1p(nodes[i, column])
            at += 1


@kernel
def read_rows(
    nodes: Floats,
    candidates: Floats,
    jobs: Floats,
    prompts: Floats,
    wanted: NDArray[np.int8],
    at: Ints,
    features: Floats,
) -> int:
    """Read the stages that are wanted and whose job is shown with its graph.

    Args:
        nodes: float32 (n, len(Node)). Valid rows.
        candidates: float32 (N, len(Candidate)).
        jobs: float32 (J, len(Job)).
        prompts: float32 (jobs, 2). See `PromptMemory`.
        wanted: int8 (N or more,). 1 for the wanted rows of `candidates`.
        at: int64 (N, 2). Filled with the row of each stage in `candidates` and in `nodes`.
        features: float32 (N, N_FEATURES). Filled; the first is the logarithm of the job's posterior mean, the quantiles
            are relative to it.

    Returns:
        The number of stages.
    """
    count = 0
    for i in range(len(nodes)):
        row = int(nodes[i, Node.CANDIDATE])
        if row < 0 or wanted[row] == 0:
            continue
        stage = candidates[row]
        job = jobs[int(stage[Candidate.JOB])]
        mine = features[count]
        mine[0] = math.log(job[Job.POSTERIOR_S] + _SMALLEST_S)
        k = 1
        for column in JOB_TIMES:
            mine[k] = math.log(job[column] + _SMALLEST_S)
            if column > Job.POSTERIOR_S and column <= Job.POSTERIOR_S + 5:
                mine[k] -= mine[0]
            k += 1
        for column in JOB_COUNTS:
            mine[k] = math.log1p(job[column])
            k += 1
        for column in STAGE_TIMES:
            mine[k] = math.log(stage[column] + _SMALLEST_S)
            k += 1
        for column in STAGE_COUNTS:
            mine[k] = math.log1p(stage[column])
            k += 1
        mine[k] = math.log1p(prompts[int(stage[Candidate.JOB]), 0] / _TOKENS)
        mine[k + 1] = math.log1p(prompts[int(stage[Candidate.JOB]), 1] / _TOKENS)
        mine[k + 2] = math.log1p(stage[Candidate.PROMPT_TOKENS] / _TOKENS)
        mine[k + 3] = stage[Candidate.KIND]
        at[count, 0], at[count, 1] = row, i
        count += 1
    return count
