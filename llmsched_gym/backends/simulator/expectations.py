"""How long an LLM task is expected to take on an engine, by historical means and by what the engine holds now."""

from __future__ import annotations

from typing import Final

from llmsched_gym._jit import kernel
from llmsched_gym.backends.simulator import readings
from llmsched_gym.cluster.latency import iteration_ps
from llmsched_gym.cluster.state import ClusterState, Rows

SECONDS_PER_PS: Final = 1e-12


@kernel
def mean_output(state: ClusterState, s: int) -> float:
    """Return the historical mean of the tokens that a task of a stage generates."""
    stage = state.stages[s]
    return state.means[state.first_node[state.jobs[stage.job].app] + stage.node].output_tokens


@kernel
def task_s(engine_row: Rows, batch: int, prompt: int, cached: int, output: float) -> float:
    """Return the expected seconds of a task, from when it joins an engine to its end.

    Args:
        engine_row: `ENGINE` row.
        batch: Sequences that share an iteration, this one included.
        prompt: Tokens of its prompt.
        cached: Of these, tokens that it finds in the prefix cache.
        output: Tokens that it generates in the mean.
    """
    latency_ps = engine_row.latency_ps
    _, present = readings.present_decodes(engine_row)
    step_ps = iteration_ps(latency_ps, batch, 0, present, 0) + latency_ps[3] * (prompt + 0.5 * output)
    return (output * step_ps + max(prompt - cached, 1) * latency_ps[2]) * SECONDS_PER_PS
