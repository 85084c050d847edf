"""Names, units and meaning of every observation column: the one place that documents them.

All tables are float32; times are seconds, relative to now where they tell an age. "Expected" values are historical
means over jobs of the ``profile`` split, at batch size 1; a policy never sees the truth about anything that has not
been revealed. "Profiler" columns come from the Bayesian network of the job's application and what has been observed of
the job; in environments with ``profiler=False`` they are 0.
"""

from __future__ import annotations

from enum import IntEnum


class Candidate(IntEnum):
    """Columns of ``candidates``: one row per ready stage with tasks to start, by job arrival, then stage order."""

    JOB = 0
    """Row of its job in ``jobs``; -1 if the job window is too small for it."""
    APP = 1
    """Application index."""
    NODE = 2
    """Template node index within the application."""
    KIND = 3
    """`StageKind`: 0 LLM, 1 regular."""
    TASKS_WAITING = 4
    """Tasks not started."""
    TASKS_RUNNING = 5
    TASKS_DONE = 6
    READY_S = 7
    """Seconds since it became ready."""
    PROMPT_TOKENS = 8
    """Prompt tokens of its next task; 0 for regular stages."""
    WORK_S = 9
    """Expected slot time of its unfinished tasks, seconds."""
    DURATION_S = 10
    """Expected duration of the stage with all tasks in parallel, seconds."""
    PATH_S = 11
    """Longest expected path from this stage to the end of its job, seconds."""
    INFLUENCE = 12
    """Argus influence by counts: 1 for a sink, else the maximum over children plus the number of children."""
    FREE_SLOTS = 13
    """Free slots on the executors that can run it."""
    ENTROPY = 14
    """Profiler: posterior entropy of the stage's time, bits; 0 without a profile, as the columns that follow."""
    REDUCTION_SUM = 15
    """Profiler: uncertainty reduction, bit·s: mutual information of the stage and the rest of its job, times the sum of
    the ranges of the unfinished stages that it is correlated with."""
    REDUCTION_PRODUCT = 16
    """Profiler: the same with the product of the ranges, bit·s^n."""
    HISTORY_REDUCTION = 17
    """Profiler: ``REDUCTION_SUM`` of such a stage before anything is known of its job."""


class Job(IntEnum):
    """Columns of ``jobs``: one row per job in the system, by arrival."""

    APP = 0
    AGE_S = 1
    """Seconds since arrival."""
    ATTAINED_S = 2
    """Slot time received so far, running tasks included, seconds."""
    REMAINING_S = 3
    """Expected slot time of everything unfinished, by what has been revealed, seconds."""
    TOTAL_S = 4
    """Expected slot time of a whole job of this application, seconds."""
    PATH_S = 5
    """Longest expected path over its unfinished stages, seconds."""
    TASKS_RUNNING = 6
    TASKS_WAITING = 7
    """Tasks of its ready stages that have not started."""
    STAGES_DONE = 8
    POSTERIOR_S = 9
    """Profiler: posterior mean of the slot time to come, seconds. LLM time at the executors' present batch. Without a
    profile ``REMAINING_S``, as the columns that follow."""
    POSTERIOR_LOW_S = 10
    """Profiler: 5 % quantile of the same."""
    POSTERIOR_QUARTILE_S = 11
    """Profiler: 25 % quantile."""
    POSTERIOR_MEDIAN_S = 12
    """Profiler: 50 % quantile."""
    POSTERIOR_UPPER_QUARTILE_S = 13
    """Profiler: 75 % quantile."""
    POSTERIOR_HIGH_S = 14
    """Profiler: 95 % quantile."""
    HISTORY_LOW_S = 15
    """Profiler: lower end of a 90 % interval around ``HISTORY_S``, by the variances of the unfinished stages alone:
    without evidence and correlations."""
    HISTORY_HIGH_S = 16
    """Profiler: its upper end."""
    HISTORY_S = 17
    """Profiler: ``REMAINING_S`` with LLM time at the executors' present batch, as ``POSTERIOR_S`` has it: they differ
    by what the network knows alone. Without a profile ``REMAINING_S``."""
    HISTORY_TOOL_S = 18
    """Profiler: expected slot time on regular executors in ``HISTORY_S``, seconds. Without a profile, of stages that
    are known to be of that kind."""
    POSTERIOR_TOOL_S = 19
    """Profiler: posterior mean of the slot time to come on regular executors, seconds. Without a profile
    ``HISTORY_TOOL_S``."""
    GITTINS_S = 20
    """Profiler: Gittins index of the posterior, seconds: over all quotas, the least of the slot time that the job is
    expected to take within the quota, over the probability that it is finished within it. Without a profile
    ``REMAINING_S``."""


class Executor(IntEnum):
    """Columns of ``executors``: one row per executor, in cluster order."""

    KIND = 0
    """`StageKind`: 0 LLM, 1 regular."""
    SLOTS = 1
    """Tasks it can hold."""
    RUNNING = 2
    """Tasks it holds."""
    KV_USED = 3
    """Share of its KV blocks that are in use, blocks that requests share counted once; 0 for regular executors."""
    DECODED_TOKENS = 4
    """Tokens generated so far for the tasks that it holds, those before a restart included."""
    BUSY_S = 5
    """Slot time spent on finished tasks, seconds."""


class Placement(IntEnum):
    """Columns of ``placements`` (``placement="agent"``, simulator): one row per row of ``candidates`` and executor.

    What the next task of a candidate would cost there, by what is revealed and by historical means.
    """

    LEGAL = 0
    """1: it may be dispatched there now."""
    SERVES = 1
    """1: the executor serves such tasks, now or at another time. Without, all else is 0 (``MODEL`` -1)."""
    MODEL = 2
    """Column of ``models`` of the model that would serve it; -1 for regular executors."""
    LOAD_S = 3
    """Seconds until that model is there: loading or activating it, or what is left of it."""
    FETCH_S = 4
    """Seconds to fetch what its parents have left elsewhere; meanwhile, the model may load."""
    CACHED_TOKENS = 5
    """Tokens of its prompt that are in the prefix cache there."""
    TASK_S = 6
    """Expected seconds from then to its end, beside the tasks that the executor holds now."""
    EVICT_S = 7
    """Seconds that loading back all the models would take that have to make room."""
    WAIT_S = 8
    """Expected seconds until the executor may take it: is drained of another model's tasks, or has a free slot (as if
    its tasks ended one after the other until it is drained); by what was expected at the dispatch of its tasks. 0 where
    ``LEGAL``."""


class Residency(IntEnum):
    """Columns of ``models`` (``placement="agent"``, simulator): one row per executor and model of the cluster.

    The models are those that executors serve, in the order in which the cluster file names them. Where ``SERVES`` is 0,
    so is all else.
    """

    RESIDENT = 0
    """1: it is in the executor's memory, or on its way there."""
    ACTIVE = 1
    """1: it is the one that runs."""
    LOADING_S = 2
    """Seconds until it is there."""
    SERVES = 3
    """1: the executor serves it."""
    LOAD_S = 4
    """Seconds that loading it takes where it is not resident."""
    STEP_S = 5
    """Seconds per token that a lone sequence generates there, without context."""
    PREFILL_S = 6
    """Seconds per prompt token."""


class Ahead(IntEnum):
    """Columns of ``ahead`` (graph observation with ``placement="agent"``, simulator): one row per row of ``nodes``."""

    MODEL = 0
    """Column of ``models`` of the model that it asks for; -1 for other stages, and where any model will do."""
    OUTPUT_TOKENS = 1
    """Historical mean of the tokens that one of its tasks generates."""
    OUTPUT_BYTES = 2
    """Historical mean of the bytes that it leaves for its children, all tasks together, given that it is present."""


class System(IntEnum):
    """Entries of ``system``."""

    TIME_S = 0
    """Seconds since the episode began."""
    JOBS = 1
    """Jobs in the system."""
    CANDIDATES = 2
    """Valid rows of ``candidates``."""
    HIDDEN_CANDIDATES = 3
    """Ready stages that did not fit into ``candidates``."""
    JOB_ROWS = 4
    """Valid rows of ``jobs``."""
    NODES = 5
    """Valid rows of ``nodes`` (graph observation; 0 otherwise)."""
    EDGES = 6
    """Valid rows of ``edges`` (graph observation; 0 otherwise)."""


class Node(IntEnum):
    """Columns of ``nodes`` (graph observation): the unfinished stages that the scheduler may know of, grouped by job.

    Optional stages whose presence is still unknown are listed with their expected work; stages of a plan that has
    not been made are not.
    """

    JOB = 0
    """Row of its job in ``jobs``."""
    APP = 1
    NODE = 2
    """Template node index within the application."""
    KIND = 3
    """`StageKind`: 0 LLM, 1 regular, 2 dynamic (a sub-DAG not planned yet)."""
    STATUS = 4
    """`StageStatus`."""
    CANDIDATE = 5
    """Row in ``candidates``; -1 if it is not listed there."""
    TASKS_WAITING = 6
    """Tasks not started: known once ready, expected before."""
    TASKS_RUNNING = 7
    WORK_S = 8
    """Expected slot time of its unfinished tasks (presence included while unknown), seconds."""
    DURATION_S = 9
    """Expected duration (presence included while unknown), seconds."""
    PATH_S = 10
    """Longest expected path from here to the end of the job, seconds."""
    INFLUENCE = 11
    POSTERIOR_WORK_S = 12
    """Profiler: posterior mean of the slot time to come, at batch size 1; without a profile ``WORK_S``."""
    ENTROPY = 13
    """Profiler: posterior entropy of the stage's time or, of a dynamic stage, of its plan's size, bits."""


class Truth(IntEnum):
    """Columns of ``truth`` (privileged environments only): one row per row of ``candidates``, at batch size 1."""

    JOB_REMAINING_S = 0
    """Slot time of everything the job has not finished, seconds."""
    STAGE_WORK_S = 1
    """Slot time of the whole stage, seconds."""
    STAGE_PATH_S = 2
    """Longest path from this stage to the end of its job, seconds."""
    JOB_TOOL_S = 3
    """Slot time on regular executors in ``JOB_REMAINING_S``, seconds."""
