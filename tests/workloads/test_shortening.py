"""Workloads for slow engines: divided lengths and faster clocks change what they say they change, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.history import compute_history, task_terms
from llmsched_gym.workloads.shortening import shortened
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import Workload


@pytest.fixture(scope="module")
def mixed() -> Workload:
    return load_scenario("mixed").replaced(jobs=30).build("train", 0)


@pytest.mark.parametrize("divisor", [2, 16, 1000])
def test_lengths_are_divided_and_prefixes_stay_inside_prompts(mixed: Workload, divisor: int):
    short = shortened(mixed, divisor)
    validate_workload(short)
    llm = mixed.tasks["model"] >= 0
    for column in ("prompt_tokens", "output_tokens"):
        assert (short.tasks[column][llm] == np.ceil(mixed.tasks[column][llm] / divisor)).all()
    assert (short.tasks["job_prefix_tokens"] <= short.tasks["prompt_tokens"]).all()
    assert (short.tasks["app_prefix_tokens"] <= short.tasks["job_prefix_tokens"])[llm].all()
    assert (short.tasks["duration_ns"] == mixed.tasks["duration_ns"]).all()
    assert (short.jobs == mixed.jobs).all()
    assert (short.stages == mixed.stages).all()


def test_history_follows_the_lengths(mixed: Workload):
    """Means recomputed from shorter jobs agree with shortened means, up to the rounding of short lengths."""
    app = [template.name for template in mixed.templates].index("document_merging")
    short = shortened(mixed, 4)
    told, found = shortened(mixed, 4).history[app], compute_history(short, app)
    before = compute_history(mixed, app)
    for column, power in (("output_tokens", 1), ("context_tokens", 2)):
        assert (told[column] == mixed.history[app][column] / 4**power).all()
        assert found[column].sum() == pytest.approx(before[column].sum() / 4**power, rel=0.02)
    assert task_terms(short.tasks)[0].sum() == pytest.approx(task_terms(mixed.tasks)[0].sum() / 4, rel=0.02)


def test_a_time_scale_leaves_llm_tasks_alone(mixed: Workload):
    fast = mixed.scaled(4)
    assert (fast.jobs["arrival_ns"] == np.rint(mixed.jobs["arrival_ns"] / 4)).all()
    assert (fast.tasks["duration_ns"] == np.rint(mixed.tasks["duration_ns"] / 4)).all()
    for column in set(mixed.tasks.dtype.names or ()) - {"duration_ns"}:
        assert (fast.tasks[column] == mixed.tasks[column]).all()
    assert fast.history[0]["seconds"].sum() == pytest.approx(mixed.history[0]["seconds"].sum() / 4)
    assert fast.provenance["time_scale"] == 4
    assert fast.scaled(0.5).provenance["time_scale"] == 2
    assert fast.digest != mixed.digest
    assert mixed.scaled(1) is mixed


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), True, "2"])
def test_bad_time_scales_are_refused(mixed: Workload, scale: float):
    with pytest.raises(InputError, match="time_scale"):
        mixed.scaled(scale)


def test_a_scenario_divides_its_tokens_and_keeps_its_load():
    real = load_scenario("mixed")
    small = real.model_copy(update={"token_divisor": 8})
    assert small.build("train", 3).provenance["token_divisor"] == 8
    assert real.arrival_rate() <= small.arrival_rate() < 8 * real.arrival_rate()
    assert load_scenario("configs/scenarios/mixed_small.yaml").token_divisor == 16
