"""Whose the tokens of a prompt are: the application's, its job's chain's, or no other prompt's.

A prefix cache finds a prompt's leading tokens where an earlier one had the same, so what it finds follows from this:

- the first ``app_prefix_tokens`` are those of the application's prefix;
- then come those of the job's chain, which is one text that grows. A task that continues it where it ends adds the rest
  of its prompt and its output to it. One that leaves it earlier (a sibling sampled from the same prompt; a prompt that
  does not repeat the answer) shares with it the first ``job_prefix_tokens``, and no more;
- the rest, and the output, no other prompt has.

Who comes first is decided by the order of the tasks in the workload, not by when they run. The simulated engine and the
prompts for real servers (backends/vllm/prompts.py) both follow this.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel

COLUMNS: Final = ("app_prefix", "app_prefix_tokens", "chain", "job_prefix_tokens", "own_from")
"""What an engine knows of a prompt's contents: columns of `TASK_STATE`, and of `Contents.columns`."""


class Contents(NamedTuple):
    """Contents of some prompts.

    Attributes:
        chain: int32 (n,), number of the chain that each prompt continues; -1: none. Chains are numbered on from the
            application prefixes. A job prefix behind two application prefixes is two chains.
        own_from: int32 (n,), position of the first token that is the task's own; all tokens where it adds to the chain.
        total: Number of application prefixes and chains.
    """

    chain: NDArray[np.int32]
    own_from: NDArray[np.int32]
    total: int

    def columns(self, tasks: NDArray[Any]) -> NDArray[np.int64]:
        """Return the `COLUMNS` of the tasks; int64 (n, 5)."""
        found = {"chain": self.chain, "own_from": self.own_from}
        columns = [found[name] if name in found else tasks[name] for name in COLUMNS]
        return np.stack(columns, axis=1, dtype=np.int64)

    def extends(self, tasks: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which of the tasks add their prompt and output to their chain; bool (n,)."""
        return self.own_from > tasks["prompt_tokens"]


def prompt_contents(tasks: NDArray[Any], n_app_prefixes: int, n_prefixes: int) -> Contents:
    """Find out whose the tokens of tasks are.

    Args:
        tasks: `TASK` rows.
        n_app_prefixes: Number of application prefixes.
        n_prefixes: Number of application and job prefixes.

    Returns:
        Their contents.
    """
    chain, own_from = np.empty(len(tasks), np.int32), np.empty(len(tasks), np.int32)
    scratch = np.zeros((2, n_prefixes), np.int64), np.empty(len(tasks), np.int64)
    count = _fill(tasks, n_app_prefixes, *scratch, Contents(chain, own_from, 0))
    return Contents(chain, own_from, count)


@kernel
def _start_alike(task: Any, other: Any) -> bool:
    """Tell whether two prompts begin with the same part of an application's prefix."""
    tokens = task.app_prefix_tokens
    return tokens == other.app_prefix_tokens and (tokens == 0 or task.app_prefix == other.app_prefix)


@kernel
def _fill(tasks: Any, count: int, prefixes: NDArray[np.int64], before: NDArray[np.int64], contents: Contents) -> int:
    """Write the contents, and return `count` and the number of chains.

    Args:
        tasks: `TASK` rows.
        count: Where to start to count chains.
        prefixes: int64 (2, prefixes), zero. Per job prefix: where its text ends by now; 1 + the last task that started
            a chain with it.
        before: int64 (tasks,). Per task that started a chain: 1 + the task that did so before with the same job prefix.
        contents: What to write.
    """
    for t in range(len(tasks)):
        task = tasks[t]
        contents.chain[t] = -1
        contents.own_from[t] = task.app_prefix_tokens
        if task.job_prefix < 0:
            continue
        contents.own_from[t] = task.job_prefix_tokens
        if task.job_prefix_tokens >= prefixes[0, task.job_prefix]:
            contents.own_from[t] = prefixes[0, task.job_prefix] = task.prompt_tokens + task.output_tokens
        last = prefixes[1, task.job_prefix]
        while last > 0 and not _start_alike(tasks[last - 1], task):
            last = before[last - 1]
        if last == 0:
            before[t] = prefixes[1, task.job_prefix]
            prefixes[1, task.job_prefix] = t + 1
            contents.chain[t] = count
            count += 1
        else:
            contents.chain[t] = contents.chain[last - 1]
    return count
