"""What is believed of the jobs of an episode, and the evidence for it: record arrays, documented here alone."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.state import Rows
from llmsched_gym.profiler.layout import Layout
from llmsched_gym.workloads.workload import Workload

BELIEF: Final = np.dtype(
    [
        ("remaining_ns", "i8"),  # expected by historical means, when this was last brought up to date
        ("check_ns", "i8"),  # when a running stage may have outlasted a bin
        ("open_stages", "i4"),  # not done, when this was last brought up to date; -1: never yet
        ("level", "i4"),  # evidence that was given up (`inference.condition`); -1: there is no profile
        ("llm_s", "f8"),  # posterior mean of the slot time to come on LLM executors, batch-1 seconds
        ("llm_iterations", "f8"),  # the same in iterations with a batch of one
        ("regular_s", "f8"),  # on regular executors; without a profile, all that is expected
        ("tool_s", "f8"),  # on regular executors, with and without a profile
        ("low_s", "f8"),  # quantiles of the sum of both, batch-1 seconds: ends of `features.INTERVAL`, and quartiles
        ("quartile_s", "f8"),
        ("median_s", "f8"),
        ("upper_quartile_s", "f8"),
        ("high_s", "f8"),
        ("gittins_s", "f8"),  # Gittins index of the same sum
        ("history_llm_s", "f8"),  # LLM time in `remaining_ns`, batch-1 seconds
        ("history_llm_iterations", "f8"),  # the same in iterations with a batch of one
        ("history_tool_s", "f8"),  # time on regular executors in `remaining_ns`
        ("history_deviation_s", "f8"),  # standard deviation of the same sum without evidence and correlations
        ("first_evidence", "i4"),  # where its `EVIDENCE` rows start
        ("listed", "i4"),  # number of its `OPEN` rows
        ("slot", "i4"),  # of the cache that its evidence was last found in; -1: none
        ("cached_app", "i4"),  # number of its application there
    ],
    align=True,
)
"""One row per job."""

STAGE_BELIEF: Final = np.dtype(
    [
        ("work_s", "f8"),  # posterior mean of the slot time to come, batch-1 seconds
        ("entropy_bits", "f8"),
        # Mutual information with the rest (bits) x sum, or product, of ranges (s), as `reduction` has them. Computed
        # for stages with tasks to start: they get such tasks when another stage finishes, so that their job is stale.
        ("reduction_sum", "f8"),
        ("reduction_product", "f8"),
        ("history_reduction", "f8"),  # reduction_sum before any evidence
    ],
    align=True,
)
"""One row per stage; valid while it is known and not finished."""


EVIDENCE: Final = np.dtype(
    [
        ("settled_ns", "i8"),  # batch-1 work that its finished stages have received
        ("received_ns", "i8"),  # the same, and what unfinished ones have received
        ("calls_left_ns", "f8"),  # what unfinished calls of a candidate are still expected to take, one by one
        ("due_ns", "i8"),  # in how long one of them may have outlasted more of its slices; FAR if none
        ("times", "i4"),  # stages of the job that are known to belong to the variable
        ("unfinished", "i4"),  # how many of them are not finished
        ("running", "i4"),  # their running tasks
        ("planned", "i4"),  # for sizes of plans: the plan is known (1) or not (0)
        ("word", "u4"),  # under which it was last found in the cache
        ("mask", "u2"),  # the states that are possible
        ("left", "u2"),  # what is still to come, as `sampling.remaining` has it
        ("skipped", "?"),  # the stage is known to be skipped
    ],
    align=True,
)
"""One row per job and variable of its application, grouped by job. Beliefs depend on `mask` and `left`."""

OPEN: Final = np.dtype(
    [
        ("stage", "i4"),
        ("variable", "i2"),
        ("told", "?"),  # it is known, and no plan: what it has received is evidence
    ],
    align=True,
)
"""Unfinished stages of a job, known or to be expected, in the first rows of its stages."""


class Beliefs(NamedTuple):
    """The beliefs of an episode.

    Attributes:
        layout: How its jobs map to the profiles; the backend fills ``layout.tokens``.
        jobs: `BELIEF` rows.
        stages: `STAGE_BELIEF` rows.
        evidence: `EVIDENCE` rows.
        listed: `OPEN` rows, one per stage.
        counts: int64 (3,). Jobs without a profile, updates, updates with evidence that the profile cannot explain.
    """

    layout: Layout
    jobs: Rows
    stages: Rows
    evidence: Rows
    listed: Rows
    counts: NDArray[np.int64]


def new_beliefs(layout: Layout, first_variable: NDArray[np.int32], workload: Workload) -> Beliefs:
    """Allocate them for a workload, of whose jobs nothing is believed yet.

    Args:
        layout: How the workload maps to the profiles.
        first_variable: Of the bank.
        workload: The jobs.
    """
    apps = layout.apps[workload.jobs["app"]]
    ends = np.cumsum(np.where(apps >= 0, np.diff(first_variable)[apps], 0))
    jobs = np.zeros(workload.n_jobs, BELIEF)
    jobs["open_stages"] = -1
    jobs["slot"] = -1
    jobs["first_evidence"][1:] = ends[:-1]
    stages = len(workload.stages)
    return Beliefs(
        layout,
        jobs,
        np.zeros(stages, STAGE_BELIEF),
        np.zeros(ends[-1], EVIDENCE),
        np.zeros(stages, OPEN),
        np.zeros(3, np.int64),
    )


def no_beliefs(layout: Layout) -> Beliefs:
    """Return what an environment without a profiler has of them: nothing, of the same types."""
    rows = (np.zeros(0, dtype) for dtype in (BELIEF, STAGE_BELIEF, EVIDENCE, OPEN, np.int64))
    return Beliefs(layout._replace(work_ns=layout.work_ns[:0], tokens=layout.tokens[:0]), *rows)
