"""The state of a cluster with jobs on it: a few record arrays, and the dtype of each, documented here and nowhere else.

Rows are copies of the `Workload` (the truth) plus what has happened so far. Compiled functions work on these arrays;
nothing in here is handed to a policy, which sees only observations. Times are int64 nanoseconds.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

FAR: Final = np.iinfo(np.int64).max
"""A time that never comes."""


class JobStatus(IntEnum):
    """Where a job is in its life."""

    FUTURE = 0
    ACTIVE = 1
    DONE = 2


class StageStatus(IntEnum):
    """Where a stage is in its life, as far as the scheduler may know."""

    HIDDEN = 0
    """Its revealer is not done: it may turn out to be skipped, or nobody knows that it exists."""
    BLOCKED = 1
    """Known to be needed; a parent is not done."""
    READY = 2
    """All parents are done or skipped, and no task has started."""
    RUNNING = 3
    """A task has started."""
    DONE = 4
    SKIPPED = 5


class TaskStatus(IntEnum):
    """Where a task is in its life."""

    WAITING = 0
    RUNNING = 1
    DONE = 2


JOB_STATE: Final = np.dtype(
    [
        ("arrival_ns", "i8"),
        ("finish_ns", "i8"),  # FAR until done
        ("attained_ns", "i8"),  # slot time received: attained_ns + running_tasks * now
        ("remaining_ns", "i8"),  # expected slot time of the tasks not finished, by historical means
        ("true_remaining_ns", "i8"),  # the same by truth (privileged)
        ("app", "i4"),
        ("status", "i4"),  # JobStatus
        ("first_stage", "i4"),
        ("n_stages", "i4"),
        ("open_stages", "i4"),  # stages neither done nor skipped
        ("running_tasks", "i4"),
    ],
    align=True,
)

STAGE_STATE: Final = np.dtype(
    [
        ("ready_ns", "i8"),  # FAR until ready
        ("start_ns", "i8"),  # FAR until a task starts
        ("finish_ns", "i8"),  # FAR until done or skipped
        ("work_ns", "i8"),  # historical mean slot time of the whole stage, times its presence while that is unknown
        ("duration_ns", "i8"),  # the same for the stage's duration, its tasks in parallel
        ("path_ns", "i8"),  # longest expected path from here to the end of the job, this stage included
        ("true_work_ns", "i8"),  # batch-1 slot time by truth (privileged)
        ("true_path_ns", "i8"),  # longest batch-1 path from here to the end by truth (privileged)
        ("job", "i4"),
        ("node", "i4"),
        ("kind", "i4"),  # StageKind
        ("pool", "i4"),  # which executors can run it: model index, or the last pool for regular stages; -1 dynamic
        ("status", "i4"),  # StageStatus
        ("present", "i4"),
        ("revealer", "i4"),
        ("first_task", "i4"),
        ("n_tasks", "i4"),
        ("started_tasks", "i4"),  # tasks start in order: the next is first_task + started_tasks
        ("done_tasks", "i4"),
        ("pending_parents", "i4"),  # parents neither done nor skipped
        ("first_child", "i4"),
        ("n_children", "i4"),
        ("first_reveal", "i4"),
        ("n_reveals", "i4"),
        ("depth", "i4"),  # Argus influence by counts: inf(sink) = 1, else max over children + number of children
    ],
    align=True,
)

TASK_STATE: Final = np.dtype(
    [
        ("start_ns", "i8"),  # dispatched to an executor; FAR before
        ("scheduled_ns", "i8"),  # LLM: start of the first iteration that computes some of it
        ("first_token_ns", "i8"),  # LLM: end of the iteration that ends its prefill
        ("finish_ns", "i8"),
        ("duration_ns", "i8"),
        ("work_ns", "i8"),  # batch-1 slot time by truth
        ("stage", "i4"),
        ("status", "i4"),  # TaskStatus
        ("executor", "i4"),  # -1 before dispatch
        ("restarts", "i4"),  # LLM: preemptions by recomputation
        ("cached_tokens", "i4"),  # LLM: prompt tokens taken from the prefix cache when first admitted
        ("prompt_tokens", "i4"),
        ("output_tokens", "i4"),
        ("app_prefix", "i4"),
        ("app_prefix_tokens", "i4"),
        ("job_prefix", "i4"),
        ("job_prefix_tokens", "i4"),
        ("output_bytes", "i8"),
    ],
    align=True,
)

EXECUTOR_STATE: Final = np.dtype(
    [
        ("pools", "u8"),  # bit p set: runs stages of pool p
        (
            "finish_ns",
            "i8",
        ),  # regular: when its task ends; LLM: when its next visible or internal event is due; FAR idle
        ("busy_ns", "i8"),  # slot time spent on finished tasks
        ("kind", "i4"),  # StageKind.LLM or StageKind.REGULAR
        ("slots", "i4"),  # tasks it can hold: max_num_seqs, or 1
        ("running", "i4"),  # tasks it holds
        ("task", "i4"),  # regular: the task it runs; -1 idle
        ("engine", "i4"),  # LLM: row among the engines; -1 regular
        ("location", "i4"),
    ],
    align=True,
)
