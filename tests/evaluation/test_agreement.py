"""What a validation says follows from its runs: errors, noise, ranking, and what is left with the same dispatches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.evaluation.agreement import agreement, ranking, relative_errors, residual, spearman
from llmsched_gym.evaluation.episode import find_policy, make_env, play
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.validation import Run, Validation, final_state
from llmsched_gym.evaluation.validation_figure import validation_figure

POLICIES = ("fcfs", "srtf")
COLUMNS = ("start_ns", "finish_ns", "executor", "cached_tokens")


@pytest.fixture(scope="module")
def validation() -> Validation:
    """Two policies, with the simulator in place of the servers."""
    setting = Setting.make("chain", jobs=12, load=1.5)
    found = Validation(setting.workload(0), setting.scenario.cluster, POLICIES)
    for spec in POLICIES:
        policy = find_policy(spec)
        env = make_env(setting, policy, 0)
        result, _ = play(env, policy, spec, 0)
        tasks = env.episode.state.tasks
        run = Run(np.asarray(result["jct_s"]), **{name: tasks[name].astype(np.int64) for name in COLUMNS})
        found.simulated[spec] = run
        found.served[spec] = [run, run]
    return found


def slower(run: Run, factor: float) -> Run:
    """The same dispatches, with everything taking longer."""
    latency_ns = np.where(run.start_ns < run.finish_ns, run.finish_ns - run.start_ns, 0)
    finish_ns = np.where(latency_ns > 0, run.start_ns + np.round(factor * latency_ns).astype(np.int64), run.finish_ns)
    return replace(run, jct_s=factor * run.jct_s, finish_ns=finish_ns)


def test_equal_runs_agree(validation: Validation) -> None:
    found = agreement(validation)
    for name, value in found["overall"].items():
        assert value == pytest.approx(0.0, abs=1e-9), name
    assert found["residual"]["engine_mape_pct"] == pytest.approx(0.0, abs=1e-6)
    assert found["residual"]["cached_tokens_error_pct"] == 0.0
    assert found["residual"]["dispatch_overhead_ms_p50"] is None
    assert found["ranking"]["spearman"] == pytest.approx(1.0)
    assert found["jobs"] == 12


def test_slower_servers_show_as_bias_and_repetitions_as_noise(validation: Validation) -> None:
    changed = replace(validation)
    changed.served = {
        policy: [slower(run, factor) for factor in (1.25, 1.2, 1.25)] for policy, (run, _) in validation.served.items()
    }
    found = agreement(changed)
    fcfs = found["policies"]["fcfs"]
    assert fcfs["mean_jct_error_pct"] == pytest.approx(-20.0)
    assert fcfs["job_bias_pct"] == pytest.approx(-20.0)
    assert fcfs["job_mape_pct"] == pytest.approx(20.0)
    assert fcfs["request_bias_pct"] == pytest.approx(-20.0, abs=0.01)
    # Pairs of runs: 25 % against 20 %, the same twice.
    assert fcfs["noise_pct"] == pytest.approx((100 * (1.25 / 1.2 - 1) + 100 * (1 - 1.2 / 1.25)) / 3)
    left = found["residual"]
    assert left["engine_bias_pct"] < -15.0
    assert left["outside_engine_ms"] > 0.0
    assert [third["batch"] for third in left["engine_bias_pct_by_batch"]] == sorted(
        third["batch"] for third in left["engine_bias_pct_by_batch"]
    )


def test_a_single_run_has_no_noise(validation: Validation) -> None:
    once = replace(validation)
    once.served = {policy: runs[:1] for policy, runs in validation.served.items()}
    found = agreement(once)
    assert found["overall"]["noise_pct"] is None
    assert found["policies"]["srtf"]["job_noise_pct"] is None


def test_servers_that_do_not_tell_cached_tokens_leave_them_out(validation: Validation) -> None:
    silent = replace(validation)
    silent.served = {
        policy: [replace(run, cached_tokens=np.full_like(run.cached_tokens, -1)) for run in runs]
        for policy, runs in validation.served.items()
    }
    assert residual(silent)["cached_tokens_error_pct"] is None


def test_only_differences_above_the_noise_are_ranked() -> None:
    served = {"a": [10.0, 10.2], "b": [10.1, 10.3], "c": [20.0, 21.0], "d": [5.0, 5.0]}
    found = ranking({"a": 10.0, "b": 9.0, "c": 30.0, "d": 12.0}, served)
    # a and b are within the noise; d is the best on the servers and the third in the simulator.
    assert found["pairs"] == 5
    assert found["agreeing"] == 3
    assert found["disagreeing"] == ["a, d", "b, d"]
    assert found["order_served"] == ["d", "a", "b", "c"]
    assert found["order_simulated"] == ["b", "a", "d", "c"]


def test_rank_correlation() -> None:
    assert spearman([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]) == pytest.approx(1.0)
    assert spearman([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert spearman([1.0, 1.0, 2.0], [1.0, 2.0, 3.0]) == pytest.approx(np.sqrt(3) / 2)
    assert spearman([1.0], [1.0]) is None
    assert spearman([1.0, 1.0], [1.0, 2.0]) is None


def test_relative_errors() -> None:
    mape, bias = relative_errors(np.array([1.1, 0.8]), np.array([1.0, 1.0]))
    assert (mape, bias) == (pytest.approx(15.0), pytest.approx(-5.0))


def test_a_run_survives_its_file(validation: Validation) -> None:
    run = validation.simulated["fcfs"]
    again = Run.of(run.content())
    for name in ("jct_s", *COLUMNS):
        assert np.array_equal(getattr(run, name), getattr(again, name))
    assert again.mean_jct_s == run.mean_jct_s


def test_the_picture_shows_the_schedule_of_a_run(validation: Validation, tmp_path: Path) -> None:
    state = final_state(validation, validation.simulated["fcfs"])
    assert int(state.clock["now_ns"][0]) == int(state.jobs["finish_ns"].max())
    path = tmp_path / "validation.png"
    validation_figure(validation, "fcfs", path, "mixed: 8 jobs")
    assert path.read_bytes().startswith(b"\x89PNG")
