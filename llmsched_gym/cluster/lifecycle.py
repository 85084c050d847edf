"""Transitions of jobs, stages and tasks: arrive, become ready, start, finish, reveal, skip.

Both backends run exactly these functions; they differ only in where completions come from. Only real executors fail:
their tasks are withdrawn and placed again, and they serve nothing until they have recovered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.state import FAR, ClusterState, JobStatus, Rows, StageStatus, TaskStatus
from llmsched_gym.workloads.template import StageKind


@kernel
def arrive(state: ClusterState, job: int, now_ns: int) -> None:
    """Let a job enter the system; its sources become ready."""
    clock = state.clock[0]
    state.active[clock.active] = job
    clock.active += 1
    clock.arrived += 1
    state.jobs[job].status = JobStatus.ACTIVE
    first = state.jobs[job].first_stage
    for stage in range(first, first + state.jobs[job].n_stages):
        row = state.stages[stage]
        if row.status == StageStatus.BLOCKED and row.pending_parents == 0:
            _become_ready(state, stage, now_ns)
    _update_paths(state, job)


@kernel
def start_task(state: ClusterState, stage: int, executor: int, now_ns: int) -> int:
    """Move the next task of a ready stage onto an executor with a free slot.

    Returns:
        The task's row.
    """
    row = state.stages[stage]
    job = state.jobs[row.job]
    task = row.first_task + row.started_tasks
    if row.started_tasks == 0:
        row.status = StageStatus.RUNNING
        row.start_ns = now_ns
    row.started_tasks += 1
    if row.started_tasks < row.n_tasks:
        row.next_prompt_tokens = state.tasks[task + 1].prompt_tokens
    else:
        _leave_ready(state, stage)
    job.waiting_tasks -= 1
    _occupy(state, job, task, executor, now_ns)
    return task


@kernel
def finish_task(state: ClusterState, task: int, now_ns: int) -> None:
    """Take a finished task off its executor; the last task of a stage completes the stage."""
    done = state.tasks[task]
    done.status = TaskStatus.DONE
    done.finish_ns = now_ns
    executor = state.executors[done.executor]
    executor.running -= 1
    executor.busy_ns += now_ns - done.start_ns
    _count_free(state, done.executor, 1)
    stage = state.stages[done.stage]
    if state.inputs.shape[1] > 0:
        _hand_on(state, stage, executor.location, done.output_bytes)
    job = state.jobs[stage.job]
    job.running_tasks -= 1
    job.attained_ns += now_ns
    job.true_remaining_ns -= done.work_ns
    if stage.kind == StageKind.REGULAR:
        job.true_tool_ns -= done.work_ns
    stage.done_tasks += 1
    _expect(state, done.stage, stage.work_ns - stage.task_work_ns, stage.duration_ns)
    if stage.done_tasks == stage.n_tasks:
        _complete(state, done.stage, StageStatus.DONE, now_ns)
        if job.open_stages == 0:
            _leave_system(state, stage.job, now_ns)
        else:
            _update_paths(state, stage.job)


@kernel
def _hand_on(state: ClusterState, stage: Rows, location: int, output_bytes: int) -> None:
    """Leave what a task of a stage has put out for the children of the stage, where it is."""
    for k in range(stage.first_child, stage.first_child + stage.n_children):
        state.inputs[state.children[k], location] += output_bytes


@kernel
def withdraw_task(state: ClusterState, task: int, now_ns: int) -> None:
    """Take an unfinished task off its executor: it waits to be placed again, and has to run anew.

    Its stage still counts it as started, so that no policy is asked for it a second time. The slot time that it held
    counts as attained by its job.
    """
    lost = state.tasks[task]
    state.executors[lost.executor].running -= 1
    _count_free(state, lost.executor, 1)
    job = state.jobs[state.stages[lost.stage].job]
    job.running_tasks -= 1
    job.waiting_tasks += 1
    job.attained_ns += now_ns
    lost.status = TaskStatus.WAITING
    lost.executor = -1
    lost.start_ns = FAR


@kernel
def place_task(state: ClusterState, task: int, executor: int, now_ns: int) -> None:
    """Move a withdrawn task onto an executor with a free slot."""
    job = state.jobs[state.stages[state.tasks[task].stage].job]
    job.waiting_tasks -= 1
    _occupy(state, job, task, executor, now_ns)


@kernel
def set_pools(state: ClusterState, executor: int, pools: int | np.uint64) -> None:
    """Change which pools an executor serves: none (0) while it cannot be used. Tasks that it holds stay there."""
    row = state.executors[executor]
    _count_free(state, executor, row.running - row.slots)
    row.pools = pools
    _count_free(state, executor, row.slots - row.running)


@kernel
def _occupy(state: ClusterState, job: Rows, task: int, executor: int, now_ns: int) -> None:
    """Let a task hold a slot of an executor from now on."""
    job.running_tasks += 1
    job.attained_ns -= now_ns
    started = state.tasks[task]
    started.status = TaskStatus.RUNNING
    started.executor = executor
    started.start_ns = now_ns
    state.executors[executor].running += 1
    _count_free(state, executor, -1)


@kernel
def _complete(state: ClusterState, stage: int, status: int, now_ns: int) -> None:
    """Mark a stage done or skipped, and all that follows from it at this instant.

    A stage first reveals (its revealed stages become known as needed, or are skipped), then releases its children,
    so that a planner's sub-DAG is known before the placeholder that stands for it is done.
    """
    stack = state.scratch
    stack[0] = stage
    state.stages[stage].status = status
    depth = 1
    while depth > 0:
        depth -= 1
        current = stack[depth]
        row = state.stages[current]
        row.finish_ns = now_ns
        job = state.jobs[row.job]
        job.open_stages -= 1
        if row.status == StageStatus.DONE:
            job.done_stages += 1
        _expect(state, current, 0, 0)
        for k in range(row.first_reveal, row.first_reveal + row.n_reveals):
            revealed = state.reveals[k]
            target = state.stages[revealed]
            if target.present == 0:
                target.status = StageStatus.SKIPPED
                stack[depth] = revealed
                depth += 1
            else:
                target.status = StageStatus.BLOCKED
                _expect(state, revealed, target.stage_work_ns, target.stage_duration_ns)
                if target.pending_parents == 0 and _become_ready(state, revealed, now_ns):
                    stack[depth] = revealed
                    depth += 1
        for k in range(row.first_child, row.first_child + row.n_children):
            child = state.children[k]
            target = state.stages[child]
            target.pending_parents -= 1
            if (
                target.pending_parents == 0
                and target.status == StageStatus.BLOCKED
                and _become_ready(state, child, now_ns)
            ):
                stack[depth] = child
                depth += 1


@kernel
def _become_ready(state: ClusterState, stage: int, now_ns: int) -> bool:
    """Make a stage ready; a dynamic stage has nothing to run: it is done at once, and the caller must complete it.

    Returns:
        True if the stage is done already.
    """
    row = state.stages[stage]
    row.ready_ns = now_ns
    if row.kind == StageKind.DYNAMIC:
        row.status = StageStatus.DONE
        return True
    row.status = StageStatus.READY
    state.jobs[row.job].waiting_tasks += row.n_tasks
    _expect(state, stage, row.task_work_ns * row.n_tasks, row.stage_duration_ns)  # the number of tasks is known now
    _join_ready(state, stage)
    return False


@kernel
def _expect(state: ClusterState, stage: int, work_ns: int, duration_ns: int) -> None:
    """Change what is expected of a stage, and of its job with it."""
    row = state.stages[stage]
    state.jobs[row.job].remaining_ns += work_ns - row.work_ns
    row.work_ns = work_ns
    row.duration_ns = duration_ns


@kernel
def _update_paths(state: ClusterState, job: int) -> None:
    """Recompute the longest expected paths and influences of a job from sinks to sources.

    Stages of a plan that has not been made count nothing: the dynamic stage stands for them.
    """
    owner = state.jobs[job]
    longest = 0
    for stage in range(owner.first_stage + owner.n_stages - 1, owner.first_stage - 1, -1):
        row = state.stages[stage]
        path, influence, known_children = 0, 0, 0
        for k in range(row.first_child, row.first_child + row.n_children):
            child = state.stages[state.children[k]]
            path = max(path, child.path_ns)
            if child.status != StageStatus.SKIPPED and (child.planned == 0 or child.status != StageStatus.HIDDEN):
                influence = max(influence, child.influence)
                known_children += 1
        row.path_ns = path + row.duration_ns  # nothing is expected of a stage that is done, skipped or not planned yet
        row.influence = max(influence + known_children, 1)
        longest = max(longest, row.path_ns)
    owner.path_ns = longest


@kernel
def _leave_system(state: ClusterState, job: int, now_ns: int) -> None:
    clock = state.clock[0]
    state.jobs[job].status = JobStatus.DONE
    state.jobs[job].finish_ns = now_ns
    _remove_sorted(state.active, clock.active, job)
    clock.active -= 1
    clock.done += 1


@kernel
def _join_ready(state: ClusterState, stage: int) -> None:
    clock = state.clock[0]
    position = clock.ready
    while position > 0 and state.ready[position - 1] > stage:
        state.ready[position] = state.ready[position - 1]
        position -= 1
    state.ready[position] = stage
    clock.ready += 1
    state.pools[state.stages[stage].pool].ready += 1


@kernel
def _leave_ready(state: ClusterState, stage: int) -> None:
    clock = state.clock[0]
    _remove_sorted(state.ready, clock.ready, stage)
    clock.ready -= 1
    state.pools[state.stages[stage].pool].ready -= 1


@kernel
def _remove_sorted(values: NDArray[np.int32], length: int, value: int) -> None:
    low, high = 0, length
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    for i in range(low, length - 1):
        values[i] = values[i + 1]


@kernel
def _count_free(state: ClusterState, executor: int, change: int) -> None:
    mask = state.executors[executor].pools
    for pool in range(len(state.pools)):
        if (mask >> pool) & 1:
            state.pools[pool].free += change


@kernel
def least_loaded(state: ClusterState, pool: int) -> int:
    """Return the executor of a pool that holds the fewest tasks among those with a free slot; -1 if all are full."""
    best, fewest = -1, 0
    for e in range(len(state.executors)):
        row = state.executors[e]
        if (row.pools >> pool) & 1 and row.running < row.slots and (best < 0 or row.running < fewest):
            best, fewest = e, row.running
    return best


@kernel
def can_dispatch(state: ClusterState) -> bool:
    """Tell whether some ready stage has a free compatible slot: a decision is due."""
    due = False
    for pool in range(len(state.pools)):
        due |= state.pools[pool].ready > 0 and state.pools[pool].free > 0
    return due


@kernel
def is_over(state: ClusterState) -> bool:
    """Tell whether all jobs are finished."""
    return state.clock[0].done == state.clock[0].jobs
