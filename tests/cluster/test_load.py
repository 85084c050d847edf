"""Offered load: the rate that a load asks for keeps the busiest executors as busy as the load says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmsched_gym.backends.simulator import loop
from llmsched_gym.cluster.latency import load_profile
from llmsched_gym.cluster.load import saturation_rates
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.envs.outcome import outcome
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import HISTORY

TEMPLATE = ApplicationTemplate(
    "one", "predefined", (TemplateNode("ask", StageKind.LLM), TemplateNode("tool", StageKind.REGULAR, ("ask",)))
)


def history(presence: float) -> np.ndarray:
    """Half a call of 100 tokens after a 500-token prompt, then 3 s of tools."""
    rows = np.zeros(2, HISTORY)
    rows["presence"] = [presence, 1.0]
    rows["output_tokens"] = [100.0, 0.0]
    rows["prefill_tokens"] = [500.0, 0.0]
    rows["context_tokens"] = [60_000.0, 0.0]
    rows["seconds"] = [0.0, 3.0]
    return rows


def cluster(n_llm: int, n_regular: int, seqs: int = 8) -> ClusterSpec:
    """A cluster of equal executors."""
    groups: list[dict[str, object]] = []
    if n_llm:
        groups.append({"kind": "llm", "latency": "llama-2-7b-h100", "count": n_llm, "max_num_seqs": seqs})
    if n_regular:
        groups.append({"kind": "regular", "count": n_regular})
    return ClusterSpec.model_validate({"executors": groups})


def test_saturation_by_hand() -> None:
    rates = saturation_rates(cluster(2, 6), [(1.0, TEMPLATE, history(0.5))])
    assert rates["regular"] == pytest.approx(6 / 3.0)
    profile = load_profile("llama-2-7b-h100")
    picoseconds = 100 * (profile.iteration_ps / 8 + profile.decode_ps) + 500 * profile.prefill_ps
    picoseconds += 60_000 * profile.context_ps
    assert rates["llm"] == pytest.approx(2 / (0.5 * picoseconds * 1e-12))


def test_shares_weigh_applications() -> None:
    part = (1.0, TEMPLATE, history(0.5))
    idle = (3.0, TEMPLATE, np.zeros(2, HISTORY))
    alone, mixed = saturation_rates(cluster(1, 1), [part]), saturation_rates(cluster(1, 1), [part, idle])
    assert mixed["llm"] == pytest.approx(4 * alone["llm"])
    assert mixed["regular"] == pytest.approx(4 * alone["regular"])


def test_what_is_missing_or_not_needed_limits_nothing() -> None:
    part = (1.0, TEMPLATE, history(0.5))
    assert saturation_rates(cluster(0, 1), [part])["llm"] == math.inf
    assert saturation_rates(cluster(1, 0), [part])["regular"] == math.inf
    assert saturation_rates(cluster(1, 1), [(1.0, TEMPLATE, history(0.0))])["llm"] == math.inf


def test_the_rate_of_a_load_is_a_share_of_saturation() -> None:
    scenario = load_scenario("mixed")
    full = scenario.replaced(load=1.0).arrival_rate()
    assert scenario.replaced(load=0.5).arrival_rate() == pytest.approx(0.5 * full)
    assert scenario.replaced(rate=0.25).arrival_rate() == 0.25


@pytest.mark.parametrize("name", ["mixed", "chain"])
def test_the_busiest_executors_are_as_busy_as_the_load_says(name: str) -> None:
    """Over many jobs, the busier kind's work over its capacity is near the load of 0.7."""
    scenario = load_scenario(name).replaced(jobs=1500, load=0.7)
    workload = scenario.build("train", 0)
    state, simulation = loop.start(workload, scenario.cluster)
    loop.run_fcfs(state, simulation)
    result = outcome(state)
    regular = result["regular_utilisation"]
    # An LLM slot is held longer than the load charges when batches are not full, so only a floor holds for it.
    busiest = max(regular, result["llm_utilisation"])
    assert 0.5 < busiest < 1.0
    assert regular < 0.85
