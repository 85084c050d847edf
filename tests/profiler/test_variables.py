"""What jobs took at each stage, and its states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsched_gym.cluster.latency import LatencyProfile, load_profile
from llmsched_gym.profiler.fit import profiling_jobs
from llmsched_gym.profiler.profile import MAX_STATES, SLICES, Variable
from llmsched_gym.profiler.variables import (
    ABSENT,
    MAX_BINS,
    Observations,
    make_variables,
    observe,
    optional,
    to_states,
)
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.toy import TOY_APPLICATIONS

LATENCY = load_profile("llama-2-7b-h100")
SECOND = 1_000_000_000
ONE_STAGE = ApplicationTemplate("one", "predefined", (TemplateNode("only", StageKind.REGULAR),))
ONE_PLAN = ApplicationTemplate(
    "one",
    "planning",
    (TemplateNode("plan", StageKind.LLM), TemplateNode("tools", StageKind.DYNAMIC, ("plan",), revealed_by="plan")),
)


def observed(rows: list[list[int]]) -> Observations:
    """What jobs took at each node, once."""
    values = np.array(rows, dtype=np.int64)
    return Observations(values, (values != ABSENT).astype(np.int64), tuple(values.T))


def cut(values: list[int], bins: int = 6) -> Variable:
    """Variable of a stage that took these ns."""
    return make_variables(ONE_STAGE, observed([[value] for value in values]), bins)[0]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_values_are_sums_over_tasks(name: str):
    workload = profiling_jobs(name, 40, seed=3)
    template = workload.templates[0]
    values = observe(workload, 0, LATENCY).values
    for job in range(workload.n_jobs):
        expected = dict.fromkeys(range(len(template.nodes)), ABSENT)
        for stage in np.flatnonzero(workload.stages["job"] == job):
            row = workload.stages[stage]
            if not row["present"]:
                continue
            node = int(row["node"])
            total = 0
            for task in workload.tasks[row["first_task"] : row["first_task"] + row["n_tasks"]]:
                total += alone_ns(task, LATENCY)
            if template.nodes[node].kind is not StageKind.DYNAMIC:
                expected[node] = max(expected[node], 0) + total
            dynamic = template.nodes[node].candidate_of
            if dynamic is not None:
                size = template.index[dynamic]
                expected[size] = max(expected[size], 0) + 1
        assert values[job].tolist() == list(expected.values())


def alone_ns(task: np.void, latency: LatencyProfile) -> int:
    """Slot time of one task, iteration by iteration."""
    if task["output_tokens"] == 0:
        return int(task["duration_ns"])
    prompt = int(task["prompt_tokens"])
    covered = int(max(task["app_prefix_tokens"], task["job_prefix_tokens"]))
    ps = latency.iteration_ps + latency.prefill_ps * max(prompt - covered, 1)
    for step in range(1, int(task["output_tokens"])):
        ps += latency.iteration_ps + latency.decode_ps + latency.context_ps * (prompt + step)
    return ps // 1000


def test_only_the_jobs_of_the_application_count():
    workload = profiling_jobs("certain", 5, applications=TOY_APPLICATIONS)
    assert observe(workload, 0, load_profile("one-second-per-token")).values.tolist() == [[5 * SECOND, SECOND]] * 5


def test_optional_stages():
    template = APPLICATIONS["llm_compiler"].template
    lacking = optional(template)
    names = {node.name for node, one in zip(template.nodes, lacking, strict=True) if one}
    assert names == {"search", "math", "replan", "more_tasks", "more_search", "final_join"}
    assert not optional(APPLICATIONS["document_merging"].template).any()


def test_bins_hold_equally_many_jobs():
    rng = np.random.default_rng(0)
    values = rng.permutation(np.arange(1, 601)) * SECOND
    variable = cut(values.tolist())
    assert np.allclose(variable.edges_s, [0, 100.5, 200.5, 300.5, 400.5, 500.5, np.inf])
    assert np.allclose(variable.means_s, [50.5, 150.5, 250.5, 350.5, 450.5, 550.5])
    assert variable.slices_s[0] == pytest.approx(np.arange(3.0, 100.0, 5.0))  # means of 1 to 5, 6 to 10, ...
    assert variable.lows_s[0] == pytest.approx(3.0)
    assert variable.highs_s[0] == pytest.approx(98.0)
    assert variable.kind is StageKind.REGULAR
    assert not variable.absent


def test_a_constant_has_one_bin():
    variable = cut([7 * SECOND] * 50)
    assert variable.states == 1
    assert variable.means_s.tolist() == [7.0]
    assert variable.edges_s.tolist() == [0.0, np.inf]


def test_equal_values_stay_together():
    # Nine in ten take 1 s: every inner quantile is 1 s, and still the rest is told apart.
    variable = cut([SECOND] * 90 + [3 * SECOND] * 10)
    assert variable.edges_s.tolist() == [0.0, 2.0, np.inf]
    assert variable.means_s.tolist() == [1.0, 3.0]


def test_sizes_have_a_state_each():
    size = make_variables(ONE_PLAN, observed([[SECOND, size] for size in (2, 5, 1, 2, 9)]), 3)[1]
    assert size.kind is StageKind.DYNAMIC
    assert size.edges_s.tolist() == [0.0, 1.5, 3.5, 7.0, np.inf]
    assert size.means_s.tolist() == [0.0] * 4
    sizes = observed([[0, one] for one in (1, 2, 3, 4, 7, 100)])
    assert to_states((size,), sizes)[:, 0].tolist() == [0, 1, 1, 2, 3, 3]


def test_many_sizes_are_binned():
    size = make_variables(ONE_PLAN, observed([[SECOND, size] for size in range(1, 41)]), 3)[1]
    assert size.states == MAX_BINS


def test_a_stage_that_was_never_there():
    values = observed([[ABSENT]] * 4)
    variable = make_variables(ONE_STAGE, values, 6)[0]
    assert variable.absent
    assert variable.states == 2
    assert to_states((variable,), values)[:, 0].tolist() == [0] * 4


def test_slices_share_jobs():
    """Three jobs in twenty parts: each part is a mean of what it cuts from whom."""
    variable = cut([1 * SECOND, 2 * SECOND, 6 * SECOND], bins=1)
    expected = [1.0] * 6 + [(2 / 3 * 1 + 1 / 3 * 2)] + [2.0] * 6 + [(1 / 3 * 2 + 2 / 3 * 6)] + [6.0] * 6
    assert len(expected) == SLICES
    assert variable.slices_s[0] == pytest.approx(expected)
    assert variable.means_s[0] == pytest.approx(3.0)


def test_a_candidate_has_bins_for_one_call_and_states_for_several():
    """The second node is planned once (60 jobs), twice (30), four times (9) or five times (1); ten jobs have none."""
    plan = TemplateNode("tool", StageKind.REGULAR, candidate_of="tools")
    template = ApplicationTemplate("one", "planning", (*ONE_PLAN.nodes, plan))
    times = np.repeat([1, 2, 4, 5, 0], [60, 30, 9, 1, 10])
    values = np.where(times > 0, times * SECOND + np.arange(110), ABSENT)
    sizes = np.where(times > 0, times, ABSENT)
    rows = np.stack([np.full(110, SECOND), sizes, values], axis=1)
    calls = np.repeat([SECOND, 3 * SECOND], [100, 65])
    none = np.zeros(0, np.int64)
    seen = Observations(rows, np.stack([np.ones(110, int), sizes > 0, times], axis=1), (none, none, calls))
    tool = make_variables(template, seen, 3)[2]
    assert tool.absent
    assert len(tool.edges_s) == 4
    assert tool.repeats.tolist() == [2, 4]  # five calls are too rare for a state
    assert tool.states == 6
    assert to_states((tool,), seen)[:, 0].tolist() == [1] * 20 + [2] * 20 + [3] * 20 + [4] * 30 + [5] * 10 + [0] * 10
    assert tool.means_s[4:] == pytest.approx([2.0, 4.1], abs=1e-6)
    assert tool.calls_s.mean() == pytest.approx(calls.mean() / SECOND)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.just(ABSENT), st.integers(0, 30), st.integers(0, 10**12)), min_size=1, max_size=60),
    st.integers(1, MAX_BINS),
)
def test_every_value_lies_in_its_bin(values: list[int], bins: int):
    variable = cut(values, bins)
    states = to_states((variable,), observed([[value] for value in values]))[:, 0]
    assert variable.states <= bins + variable.absent <= MAX_STATES
    assert (np.diff(variable.edges_s) > 0).all()
    for value, state in zip(values, states.tolist(), strict=True):
        if value == ABSENT:
            assert state == 0
            assert variable.absent
            continue
        k = state - variable.absent
        assert variable.edges_s[k] <= value * 1e-9 < variable.edges_s[k + 1]
    there = [state for value, state in zip(values, states.tolist(), strict=True) if value != ABSENT]
    if there:
        assert set(there) == set(range(int(variable.absent), variable.states))  # no empty bin
    slack = 1e-9 * np.abs(variable.means_s)
    assert (np.diff(variable.slices_s, axis=1) >= 0).all()
    assert (variable.edges_s[:-1] <= variable.means_s[int(variable.absent) :] + slack[int(variable.absent) :]).all()
