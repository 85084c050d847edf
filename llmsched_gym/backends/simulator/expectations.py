"""How long an LLM task is expected to take on an engine, by historical means and by what the engine holds now."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.state import ClusterState, Rows

SECONDS_PER_PS: Final = 1e-12


@kernel
def mean_output(state: ClusterState, s: int) -> float:
    """Return the historical mean of the tokens that a task of a stage generates."""
    stage = state.stages[s]
    return state.means[state.first_node[state.jobs[stage.job].app] + stage.node].output_tokens


@kernel
def task_s(latency_ps: NDArray[np.int64], step_ps: int, task: Rows, cached: int, output: float) -> float:
    """Return the expected seconds of a task, from when it joins an engine to its end.

    Args:
        latency_ps: int64 (5,), `LatencyProfile.coefficients_ps` of the engine.
        step_ps: An iteration in which it decodes beside those that decode now, but for its own context.
        task: `TASK_STATE` row.
        cached: Tokens of its prompt that it finds in the prefix cache.
        output: Tokens that it generates in the mean.
    """
    own_ps = step_ps + latency_ps[3] * (task.prompt_tokens + 0.5 * output)
    return (output * own_ps + max(task.prompt_tokens - cached, 1) * latency_ps[2]) * SECONDS_PER_PS
