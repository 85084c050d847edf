"""What an application's sampler returns: many jobs of one application as dense arrays."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.workloads.template import ApplicationTemplate


class JobBlock(NamedTuple):
    """`n` jobs of one application; `S` stage slots in a topological order, up to `T` tasks per slot.

    What tasks are like means nothing under slots that do not exist or are absent, and beyond ``n_tasks``.

    Attributes:
        exists: bool (n, S). The slot is a stage of the job: static template stages always exist (an optional one that
            the job skips exists and is not present); slots of a planned sub-DAG exist only when the plan has them.
        node: int (n, S). Template node of the slot.
        present: bool (n, S). False for an optional stage that the job will skip.
        revealer: int (n, S). Slot whose completion reveals this one as present or skipped; -1: visible on arrival.
        parents: bool (n, S, S). ``parents[j, c, p]``: slot p precedes slot c (p < c). For a dynamic slot D of planner
            P: D has parent P and revealer -1; sub-DAG sources have parent D and revealer P; what follows has the
            sub-DAG's sinks and D as parents.
        n_tasks: int (n, S). Parallel tasks of the slot; 0 for dynamic slots.
        prompt_tokens, output_tokens: int (n, S, T). LLM tasks, both at least 1.
        duration_ns: int (n, S, T). Regular tasks.
        app_prefix: int (n, S). Application-local prefix id, -1: none. Ids 0.. are numbered per application.
        app_prefix_tokens: int (n, S). Leading prompt tokens that every job of the application shares.
        job_prefix: int (n, S). Job-local id of the chain that the slot's content continues, -1: none. Two tasks with
            the same id in one job share content: a later prompt repeats an earlier prompt and its output, or siblings
            sampled from one prompt.
        job_prefix_tokens: int (n, S). Leading prompt tokens of the slot that equal what the chain holds when the slot
            starts (siblings: the whole prompt; a growing conversation: the previous prompt plus its output);
            >= app_prefix_tokens. Ignored where job_prefix is -1.
        output_bytes: int (n, S, T). Regular tasks' output; LLM outputs are 4 bytes per token.
    """

    exists: NDArray[np.bool_]
    node: NDArray[np.integer]
    present: NDArray[np.bool_]
    revealer: NDArray[np.integer]
    parents: NDArray[np.bool_]
    n_tasks: NDArray[np.integer]
    prompt_tokens: NDArray[np.integer]
    output_tokens: NDArray[np.integer]
    duration_ns: NDArray[np.integer]
    app_prefix: NDArray[np.integer]
    app_prefix_tokens: NDArray[np.integer]
    job_prefix: NDArray[np.integer]
    job_prefix_tokens: NDArray[np.integer]
    output_bytes: NDArray[np.integer]


def blank_block(n: int, slots: int, n_tasks: int) -> JobBlock:
    """Block of `n` jobs without any stage, to be filled; `n_tasks` is the most tasks of a slot."""

    def per_task() -> NDArray[np.int64]:
        return np.zeros((n, slots, n_tasks), dtype=np.int64)

    return JobBlock(
        exists=np.zeros((n, slots), dtype=np.bool_),
        node=np.zeros((n, slots), dtype=np.int64),
        present=np.zeros((n, slots), dtype=np.bool_),
        revealer=np.full((n, slots), -1, dtype=np.int64),
        parents=np.zeros((n, slots, slots), dtype=np.bool_),
        n_tasks=np.zeros((n, slots), dtype=np.int64),
        prompt_tokens=per_task(),
        output_tokens=per_task(),
        duration_ns=per_task(),
        app_prefix=np.full((n, slots), -1, dtype=np.int64),
        app_prefix_tokens=np.zeros((n, slots), dtype=np.int64),
        job_prefix=np.full((n, slots), -1, dtype=np.int64),
        job_prefix_tokens=np.zeros((n, slots), dtype=np.int64),
        output_bytes=per_task(),
    )


def static_block(template: ApplicationTemplate, n: int, n_tasks: int) -> JobBlock:
    """Block of `n` jobs with one slot per node of a template without planned stages.

    Edges and revealers are the template's, every stage is present, and nothing else is set: no tasks, no tokens, no
    prefixes. `n_tasks` is the most tasks of a slot.
    """
    block = blank_block(n, len(template.nodes), n_tasks)
    block.exists[:] = True
    block.present[:] = True
    block.node[:] = np.arange(len(template.nodes))
    block.revealer[:] = template.revealers
    block.parents[:] = template.edges
    return block


def repeated(job: JobBlock, n: int) -> JobBlock:
    """Block of `n` jobs that are all like the one of a block."""
    return JobBlock._make(np.repeat(values, n, axis=0) for values in job)


def in_one_layout(block: JobBlock, source: str) -> JobBlock:
    """Return a block of C-contiguous, writable arrays of int64 or bool: another layout would be compiled for anew.

    Args:
        block: From a sampler.
        source: What it belongs to, for the message.

    Raises:
        ValueError: An array is of another shape or type than `JobBlock` says, or a slot has more tasks than room.
    """
    (n, slots), room = block.exists.shape, block.prompt_tokens.shape[-1]
    for name, values in zip(JobBlock._fields, block, strict=True):
        shape = (n, slots, slots) if name == "parents" else (n, slots, room) if name in _PER_TASK else (n, slots)
        kind = "b" if name in _BOOLEAN else "iu"
        if values.shape != shape or values.dtype.kind not in kind:
            expected = f"{'bool' if name in _BOOLEAN else 'integers'} of shape {shape}"
            raise ValueError(f"{source}: {name} is {values.dtype} of shape {values.shape}; expected {expected}")
    if (block.n_tasks > room).any():
        raise ValueError(f"{source}: a slot has {block.n_tasks.max()} tasks, but its arrays hold {room}")
    return JobBlock._make(_laid_out(values) for values in block)


_BOOLEAN: Final = frozenset(("exists", "present", "parents"))
_PER_TASK: Final = frozenset(("prompt_tokens", "output_tokens", "duration_ns", "output_bytes"))


def _laid_out(values: NDArray[Any]) -> NDArray[Any]:
    dtype = values.dtype if values.dtype == np.bool_ else np.int64
    array = np.ascontiguousarray(values, dtype=dtype)
    return array if array.flags.writeable else array.copy()
