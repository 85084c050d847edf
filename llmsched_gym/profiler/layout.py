"""How the jobs of a workload map to the variables of the profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.initial import slot_time_ns
from llmsched_gym.cluster.latency import LatencyProfile, expected_ps
from llmsched_gym.cluster.state import FAR, Rows
from llmsched_gym.profiler.bank import ProfileBank
from llmsched_gym.profiler.profile import MAX_STATES, Profile
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload


class Layout(NamedTuple):
    """How a workload's jobs map to the variables of a bank; constant during an episode, but for `tokens`.

    Attributes:
        apps: int32 (applications,) Index of the application in the bank; -1 for none.
        first_node: int32 (applications + 1,) Where the nodes of an application start.
        variable: int32 (nodes,) Variable of a template node, counted within the application.
        plan: int32 (nodes,) Variable of the size of the plan that the node is a candidate of; -1 for other nodes.
        latency_ps: int64 (applications, 5) a to e of the latency profile that the network was fitted with.
        llm_share: float64 (nodes,) Share of LLM time in what a node takes by its historical means. Without a profile
            1, also for plans that may hold tools, and 0 for tools.
        work_ns: int64 (tasks,) Batch-1 slot time of each task under that latency profile, by truth.
        tokens: int32 (tasks,) Tokens that running LLM tasks have generated; the backend's to fill.
    """

    apps: NDArray[np.int32]
    first_node: NDArray[np.int32]
    variable: NDArray[np.int32]
    plan: NDArray[np.int32]
    latency_ps: NDArray[np.int64]
    llm_share: NDArray[np.float64]
    work_ns: NDArray[np.int64]
    tokens: NDArray[np.int32]


class StateTables(NamedTuple):
    """What evidence asks of the variables of a bank.

    Attributes:
        first_variable: int32 (applications of the bank + 1,) Where the variables of an application start.
        kinds: int32 (variables,) `StageKind`.
        counts: int32 (variables,) Number of states.
        absent: bool (variables,) State 0 is "absent".
        ends: int64 (variables, MAX_STATES) Least value beyond a bin: ns, or planned stages; FAR for the last bin. 0
            for "absent".
        once: int32 (variables,) Mask of the bins.
        repeats: int32 (variables, MAX_STATES) Least number of occurrences of each state: 0 for "absent", 1 for bins.
            Beyond the states none can reach it.
        calls_ns: float64 (variables, SLICES) `Variable.calls_s`.
    """

    first_variable: NDArray[np.int32]
    kinds: NDArray[np.int32]
    counts: NDArray[np.int32]
    absent: NDArray[np.bool_]
    ends: NDArray[np.int64]
    once: NDArray[np.int32]
    repeats: NDArray[np.int32]
    calls_ns: NDArray[np.float64]


def map_applications(workload: Workload, profiles: Mapping[int, tuple[int, Profile]]) -> Layout:
    """Map the applications of a workload to profiles.

    Args:
        workload: The jobs.
        profiles: For each application of the workload that has one: its index in the bank, and its profile.

    Returns:
        The layout of a workload without tasks.
    """
    templates = workload.templates
    first_node = np.cumsum([0, *(len(template.nodes) for template in templates)])
    variable = np.full(first_node[-1], -1, np.int32)
    plan = np.full(first_node[-1], -1, np.int32)
    latency = np.zeros((len(templates), 5), np.int64)
    kinds = [node.kind for template in templates for node in template.nodes]
    llm_share = np.array([float(kind != StageKind.REGULAR) for kind in kinds])
    for app, (_, profile) in profiles.items():
        for v, one in enumerate(profile.variables):
            variable[first_node[app] + one.node] = v
        for position, node in enumerate(templates[app].nodes):
            if node.candidate_of is not None:
                dynamic = templates[app].index[node.candidate_of]
                plan[first_node[app] + position] = variable[first_node[app] + dynamic]
        latency[app] = profile.latency.coefficients_ps
        llm_share[first_node[app] : first_node[app + 1]] = _llm_share(workload.history[app], profile.latency)
    return Layout(
        apps=np.array([profiles[app][0] if app in profiles else -1 for app in range(len(templates))], np.int32),
        first_node=first_node.astype(np.int32),
        variable=variable,
        plan=plan,
        latency_ps=latency,
        llm_share=llm_share,
        work_ns=np.zeros(0, np.int64),
        tokens=np.zeros(0, np.int32),
    )


def lay_out_tasks(mapped: Layout, workload: Workload) -> Layout:
    """Complete a layout from `map_applications` for a workload of the same applications."""
    work_ns = np.zeros(len(workload.tasks), np.int64)
    _fill_work(mapped, workload.jobs, workload.stages, workload.tasks, work_ns)
    return mapped._replace(work_ns=work_ns, tokens=np.zeros(len(workload.tasks), np.int32))


@kernel
def _fill_work(mapped: Layout, jobs: Rows, stages: Rows, tasks: Rows, work_ns: NDArray[np.int64]) -> None:
    """Write the slot time of each task under the latency profile of its application; none where that has none."""
    for t in range(len(tasks)):
        app = jobs[stages[tasks[t].stage].job].app
        if mapped.apps[app] >= 0:
            work_ns[t] = slot_time_ns(tasks[t], mapped.latency_ps[app])


def state_tables(profiles: list[Profile], bank: ProfileBank) -> StateTables:
    """Lay out the states of the variables of a bank, in its order."""
    variables = [variable for profile in profiles for variable in profile.variables]
    ends = np.full((len(variables), MAX_STATES), FAR, np.int64)
    once = np.zeros(len(variables), np.int32)
    repeats = np.full((len(variables), MAX_STATES), np.iinfo(np.int32).max, np.int32)
    for v, variable in enumerate(variables):
        scale = 1.0 if variable.kind is StageKind.DYNAMIC else 1e9
        inner = np.ceil(variable.edges_s[1:-1] * scale).astype(np.int64)
        first, several = int(variable.absent), int(variable.absent) + len(inner) + 1
        ends[v, first : several - 1] = inner
        ends[v, :first] = 0
        once[v] = (1 << several) - (1 << first)
        repeats[v, :first] = 0
        repeats[v, first:several] = 1
        repeats[v, several : variable.states] = variable.repeats
    return StateTables(
        first_variable=bank.first_variable,
        kinds=bank.kinds,
        counts=bank.states,
        absent=bank.absent,
        ends=ends,
        once=once,
        repeats=repeats,
        calls_ns=bank.calls * 1e9,
    )


def _llm_share(history: NDArray[Any], clock: LatencyProfile) -> NDArray[np.float64]:
    """Share of LLM time in the historical means of each node; 0 where it takes no time."""
    terms = history["output_tokens"], history["prefill_tokens"], history["context_tokens"]
    llm_ns = expected_ps(clock.coefficients_ps, *terms) / 1000.0
    total_ns = llm_ns + history["seconds"] * 1e9
    return np.where(total_ns > 0.0, llm_ns / np.where(total_ns > 0.0, total_ns, 1.0), 0.0)
