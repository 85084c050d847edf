"""The state of a cluster with jobs on it: a few record arrays, and the dtype of each, documented here and nowhere else.

Rows are copies of the `Workload` (the truth) plus what has happened so far. Compiled functions work on these arrays;
nothing in here is handed to a policy, which sees only observations. Times are int64 nanoseconds.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = Any
"""A record array, or one record of it, inside compiled code; type checkers do not know the fields of a dtype."""

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
        ("attained_ns", "i8"),  # slot time received is attained_ns + running_tasks * now
        ("remaining_ns", "i8"),  # expected slot time of everything unfinished: the sum of its stages' work_ns
        ("total_ns", "i8"),  # expected slot time of a whole job of its application
        ("path_ns", "i8"),  # longest expected path over its unfinished stages
        ("true_remaining_ns", "i8"),  # slot time of its unfinished tasks by truth (privileged)
        ("true_tool_ns", "i8"),  # the same on regular executors (privileged)
        ("ideal_ns", "i8"),  # its true critical path at batch size 1 on an idle cluster
        ("app", "i4"),
        ("status", "i4"),  # JobStatus
        ("first_stage", "i4"),
        ("n_stages", "i4"),
        ("open_stages", "i4"),  # stages neither done nor skipped, hidden ones included
        ("done_stages", "i4"),
        ("running_tasks", "i4"),
        ("waiting_tasks", "i4"),  # tasks of ready or running stages that have not started
        ("row", "i4"),  # its row in the latest observation; -1 outside the window
    ],
    align=True,
)
"""One row per job of the workload, by arrival."""

STAGE_STATE: Final = np.dtype(
    [
        ("ready_ns", "i8"),  # FAR until ready
        ("start_ns", "i8"),  # FAR until a task starts
        ("finish_ns", "i8"),  # FAR until done or skipped
        ("task_work_ns", "i8"),  # historical mean slot time of one task, given that the stage is present
        ("stage_work_ns", "i8"),  # historical mean slot time of the stage, given that it is present
        ("stage_duration_ns", "i8"),  # historical mean duration, its tasks in parallel, given that it is present
        ("work_ns", "i8"),  # expected slot time of its unfinished tasks, by what has been revealed
        ("duration_ns", "i8"),  # expected duration by what has been revealed; 0 once done or skipped
        ("path_ns", "i8"),  # longest expected path from here to the end of the job, this stage included
        ("true_work_ns", "i8"),  # slot time by truth (privileged)
        ("true_path_ns", "i8"),  # longest path from here to the end of the job by truth (privileged)
        ("job", "i4"),
        ("node", "i4"),
        ("kind", "i4"),  # StageKind
        ("pool", "i4"),  # pool of executors that can run it; -1 for dynamic stages
        ("status", "i4"),  # StageStatus
        ("present", "i4"),
        ("planned", "i4"),  # 1: part of a sub-DAG, unknown to anybody until its planner is done
        ("influence", "i4"),  # Argus, by counts: 1 for a sink, else maximum over children + number of children
        ("first_task", "i4"),
        ("n_tasks", "i4"),
        ("started_tasks", "i4"),  # tasks start in order: the next is first_task + started_tasks
        ("done_tasks", "i4"),
        ("pending_parents", "i4"),  # parents neither done nor skipped
        ("first_child", "i4"),
        ("n_children", "i4"),
        ("first_reveal", "i4"),
        ("n_reveals", "i4"),
        ("row", "i4"),  # its node row in the latest graph observation
        ("next_prompt_tokens", "i4"),  # of the next task to start, whose own row is seldom in a cache
    ],
    align=True,
)
"""One row per stage, grouped by job, in a topological order within the job."""

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
        ("chain", "i4"),  # content row of its job's chain (workloads/contents.py); -1: none
        ("job_prefix_tokens", "i4"),
        ("own_from", "i4"),  # position of the first token that no other prompt has
        ("output_bytes", "i8"),
        ("join_ns", "i8"),  # its model and its inputs are there: it joins the engine, or starts on the tool executor
        ("load_ns", "i8"),  # how long loading takes that its dispatch began; 0: none
        ("moved_bytes", "i8"),  # of its inputs, those that came from other locations
    ],
    align=True,
)
"""One row per task, grouped by stage."""

EXECUTOR_STATE: Final = np.dtype(
    [
        ("pools", "u8"),  # bit p set: runs tasks of pool p
        ("event_ns", "i8"),  # its next event: a regular task's end, an engine segment's end; FAR when idle
        ("busy_ns", "i8"),  # slot time spent on finished tasks
        ("kind", "i4"),  # StageKind.LLM or StageKind.REGULAR
        ("gpus", "i4"),  # LLM: GPUs that it is made of; 0: regular
        ("slots", "i4"),  # tasks it can hold: max_num_seqs, or 1
        ("running", "i4"),  # tasks it holds
        ("task", "i4"),  # regular: the task it runs; -1 idle
        ("engine", "i4"),  # LLM: row of the engine of its active model; -1 for regular executors, and before the first
        ("first_engine", "i4"),  # LLM: row of its first engine; the others follow
        ("n_engines", "i4"),  # models that it serves; 0: regular
        ("location", "i4"),  # row of `links`
        ("moving", "i4"),  # tasks that hold a slot and wait for their model or their inputs
        ("heap_position", "i4"),  # where it stands in the event heap; -1 when it has no event
        ("serves", "u8"),  # pools that it takes when it holds no task, else only its active model's; 0: `pools` stay
        ("ready_ns", "i8"),  # when its active model is there, or was
        ("free_bytes", "i8"),  # memory that no resident model takes up
        ("drained_ns", "i8"),  # when the tasks that it holds are expected to be done, as was expected at their dispatch
        ("wait_s", "f8"),  # seconds until then at least, at the latest observation
    ],
    align=True,
)
"""One row per executor, in the order of the cluster file."""

HOST_STATE: Final = np.dtype(
    [
        ("bytes", "i8"),  # memory that it takes up while it is resident
        ("kv_bytes", "i8"),  # per token
        ("load_ns", "i8"),  # how long loading it takes
        ("activate_ns", "i8"),  # how long activating it takes while it is resident
        ("used_ns", "i8"),  # when it was last made active or ran its last task; below 0: by rank at time 0
        ("model", "i4"),  # its pool; -1: no task asks for it
        ("name", "i4"),  # its place among the models of the cluster
        ("resident", "i4"),  # 0 or 1
        # at the latest observation:
        ("step_ps", "i8"),  # an iteration with one more sequence
        ("start_s", "f8"),  # seconds until it could run a task
        ("evict_s", "f8"),  # seconds to load back what would make room for it
    ],
    align=True,
)
"""One row per engine: a model on an executor."""

MEAN: Final = np.dtype(
    [
        ("output_tokens", "f8"),  # of one task
        ("output_bytes", "f8"),  # of all tasks together, given that it is present
    ],
    align=True,
)
"""One row per template node: what its stages put out by their historical means."""

LINK: Final = np.dtype([("latency_ns", "i8"), ("ns_per_byte", "f8")], align=True)
"""One entry per pair of locations: (locations, locations)."""

POOL_STATE: Final = np.dtype([("ready", "i4"), ("free", "i4")], align=True)
"""One row per pool (models first, then regular): ready stages with tasks to start, and free slots."""

CLOCK: Final = np.dtype(
    [
        ("now_ns", "i8"),
        ("area_ns", "i8"),  # jobs in the system, integrated over time
        ("jobs", "i4"),  # jobs of the episode
        ("arrived", "i4"),  # jobs 0..arrived-1 have arrived
        ("active", "i4"),  # length of the list of jobs in the system
        ("done", "i4"),  # finished jobs
        ("ready", "i4"),  # length of the list of ready stages
        ("heap", "i4"),  # length of the event heap
        ("illegal_actions", "i4"),
        ("decisions", "i4"),
        ("hidden_candidates", "i8"),  # ready stages beyond the observation window, summed over decisions
    ],
    align=True,
)
"""A single row: the clock and the counters of an episode."""


class ClusterState(NamedTuple):
    """All that the compiled transitions read and write.

    Attributes:
        clock: (1,) `CLOCK`.
        jobs: (n_jobs,) `JOB_STATE`.
        stages: (n_stages,) `STAGE_STATE`.
        tasks: (n_tasks,) `TASK_STATE`.
        executors: (n_executors,) `EXECUTOR_STATE`.
        hosts: (n_engines,) `HOST_STATE`.
        host_of: (n_executors, n_pools) int32; row of the host by which an LLM executor serves the tasks of a pool, now
            or at another time; -1: it does not.
        inputs: (n_stages, locations) int64; bytes that finished parents have left for a stage, by where they are.
            Without columns where that is of no concern.
        links: (locations, locations) `LINK`; likewise empty.
        kv_links: (locations, locations) `LINK`, by which engines fetch KV from each other; empty where they do not.
        pools: (n_pools,) `POOL_STATE`.
        first_node: (applications,) int32; where the template nodes of each begin in `means`.
        means: (nodes,) `MEAN`.
        children: int32; child lists of the stages.
        reveals: int32; lists of the stages that each stage reveals.
        active: (n_jobs,) int32; jobs in the system, by arrival.
        ready: (n_stages,) int32; ready stages with tasks to start, ascending: by job arrival, then stage order.
        scratch: (n_stages,) int32; stack of the stage transitions.
    """

    clock: Rows
    jobs: Rows
    stages: Rows
    tasks: Rows
    executors: Rows
    hosts: Rows
    host_of: NDArray[np.int32]
    inputs: NDArray[np.int64]
    links: Rows
    kv_links: Rows
    pools: Rows
    first_node: NDArray[np.int32]
    means: Rows
    children: NDArray[np.int32]
    reveals: NDArray[np.int32]
    active: NDArray[np.int32]
    ready: NDArray[np.int32]
    scratch: NDArray[np.int32]
