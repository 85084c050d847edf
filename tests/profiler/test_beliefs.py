"""Evidence and beliefs, against finished jobs, pgmpy-free recomputation, and what must be survived."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.cluster.state import FAR, JobStatus
from llmsched_gym.envs.columns import Candidate, Job
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.profiler.belief_state import new_beliefs
from llmsched_gym.profiler.evidence import collect
from llmsched_gym.profiler.fit import profiling_jobs
from llmsched_gym.profiler.profiler import load_profiler, make_profiler, shipped_profiler
from llmsched_gym.profiler.store import list_profiles, load_profile, save_profile
from llmsched_gym.profiler.variables import observe, to_states
from llmsched_gym.workloads.workload import Workload


def busy(application: str, jobs: int = 12, **arguments: Any) -> SchedulingEnv:
    """Jobs of one application that arrive fast on the cluster of the mixed scenario."""
    workload = profiling_jobs(application, jobs, seed=5)
    rows = workload.jobs.copy()
    rows["arrival_ns"] //= 10
    return SchedulingEnv("mixed", workload=replace(workload, jobs=rows), **arguments)


def play(env: SchedulingEnv, steps: int = 10**9, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take random legal actions; return the last observation and info."""
    observation, info = env.reset(seed=0)
    rng = np.random.default_rng(seed)
    done = False
    while not done and steps > 0:
        legal = np.flatnonzero(observation["action_mask"])
        observation, _, done, _, info = env.step(int(legal[rng.integers(len(legal))]))
        steps -= 1
    return observation, info


def evidence_of(env: SchedulingEnv, job: int, *, soft: bool = True) -> tuple[np.ndarray, np.ndarray, int]:
    """Return masks, unfinished variables and the next check of a job as it is now."""
    assert env.profiler is not None
    layout, states = env.episode.beliefs.layout, env.profiler.inference.states
    app = layout.apps[env.workload.jobs["app"][job]]
    n = int(states.first_variable[app + 1] - states.first_variable[app])
    beliefs = new_beliefs(layout, states.first_variable, env.workload)
    check_ns, _ = collect(env.episode.state, states, beliefs, job, soft)
    evidence = beliefs.evidence[beliefs.jobs["first_evidence"][job] :][:n]
    return evidence["mask"].copy(), evidence["left"].astype(bool), check_ns


@pytest.mark.parametrize("application", list_profiles())
def test_finished_jobs_give_the_states_that_fitting_sees(application: str) -> None:
    env = busy(application)
    play(env)
    profile = load_profile(application)
    states = to_states(profile.variables, observe(env.workload, 0, profile.latency))
    for job in range(env.workload.n_jobs):
        masks, unfinished, check_ns = evidence_of(env, job)
        assert not unfinished.any()
        assert check_ns == FAR
        assert masks.tolist() == [1 << int(state) for state in states[job]]


@pytest.mark.parametrize("application", list_profiles())
def test_evidence_never_excludes_the_truth(application: str) -> None:
    env = busy(application)
    env.reset(seed=0)
    profile = load_profile(application)
    states = to_states(profile.variables, observe(env.workload, 0, profile.latency))
    told = 0
    for steps in (3, 11, 20, 29, 61):
        play(env, steps)
        for job in np.flatnonzero(env.episode.state.jobs["status"] == JobStatus.ACTIVE):
            hard, _, _ = evidence_of(env, int(job), soft=False)
            soft, _, check_ns = evidence_of(env, int(job))
            assert (hard >> states[job] & 1).all()
            assert (soft >> states[job] & 1).all()
            assert (soft & ~hard == 0).all()  # soft evidence only excludes more
            assert check_ns > env.episode.now_ns
            told += int((soft != hard).sum())
    assert told > 0


def test_beliefs_do_not_depend_on_what_the_cache_holds() -> None:
    profiles = [load_profile(name) for name in list_profiles()]
    columns = []
    for profiler in (shipped_profiler(), make_profiler(profiles)):
        env = SchedulingEnv("mixed", jobs=30, load=2.0)
        env.profiler = profiler
        columns.append(play(env, 200)[0])
    for name, table in columns[0].items():
        assert np.array_equal(table, columns[1][name]), name


def test_a_job_is_looked_at_again_only_when_something_happened() -> None:
    env = SchedulingEnv("mixed", jobs=30, load=1.0)
    _, info = play(env)
    tasks = len(env.workload.tasks)
    assert 0 < info["result"]["belief_updates"] < 3 * (tasks + env.workload.n_jobs)


@pytest.mark.parametrize("soft", [False, True])
def test_intervals_are_in_order_and_end_with_the_job(soft: bool) -> None:
    env = SchedulingEnv("mixed", jobs=30, load=2.0, soft_evidence=soft)
    for steps in (1, 40, 160, 320):
        observation, _ = play(env, steps)
        rows = observation["jobs"][: int(observation["system"][1])]
        quantiles = rows[:, Job.POSTERIOR_LOW_S : Job.POSTERIOR_HIGH_S + 1]
        assert (np.diff(quantiles, axis=1) >= 0.0).all()
        assert (quantiles >= 0.0).all()
        assert (rows[:, Job.HISTORY_LOW_S] <= rows[:, Job.HISTORY_S]).all()
        assert (rows[:, Job.HISTORY_HIGH_S] >= rows[:, Job.HISTORY_S]).all()
        shown = observation["candidates"][: int(observation["system"][2])]
        assert np.isfinite(shown).all()
        assert (shown[:, Candidate.ENTROPY :] >= 0.0).all()


def test_nothing_that_was_not_computed_is_believed() -> None:
    """Reductions of stages without tasks to start are left out of the inference: they count as 0."""
    env = SchedulingEnv("mixed", jobs=20, load=2.0)
    for steps in (1, 60, 240):
        play(env, steps)
        beliefs = env.episode.beliefs
        for table in (beliefs.jobs, beliefs.stages):
            assert all(np.isfinite(table[name]).all() for name in table.dtype.names or ())


def other_version(workload: Workload) -> Workload:
    """The same jobs of an application whose first stage has another name."""
    template = workload.templates[0]
    first = replace(template.nodes[0], name="renamed")
    nodes = [
        replace(
            node,
            parents=tuple("renamed" if name == template.nodes[0].name else name for name in node.parents),
            revealed_by="renamed" if node.revealed_by == template.nodes[0].name else node.revealed_by,
        )
        for node in template.nodes[1:]
    ]
    return replace(workload, templates=(replace(template, nodes=(first, *nodes)),))


def test_another_version_of_an_application_falls_back_to_historical_means() -> None:
    workload = other_version(profiling_jobs("web_search", 8))
    env = SchedulingEnv("mixed", workload=workload)
    observation, _ = play(env, 20)
    rows = observation["jobs"][: int(observation["system"][1])]
    assert np.array_equal(rows[:, Job.POSTERIOR_S], rows[:, Job.REMAINING_S])
    assert not observation["candidates"][:, Candidate.ENTROPY :].any()
    _, info = play(env)
    assert info["result"]["unprofiled_jobs"] == 8
    assert info["result"]["belief_updates"] == 0


def test_a_profile_that_the_user_gave_must_fit(tmp_path: Path) -> None:
    save_profile(load_profile("web_search"), tmp_path / "web_search.json")
    env = SchedulingEnv("mixed", workload=other_version(profiling_jobs("web_search", 8)), profiler=tmp_path)
    with pytest.raises(InputError, match="nodes"):
        env.reset(seed=0)


def test_a_folder_without_profiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="profiler"):
        load_profiler(tmp_path)


def test_evidence_that_the_profile_holds_for_impossible_is_survived_and_counted() -> None:
    """A profile in which every round after the first is impossible meets jobs that have more."""
    profile = load_profile("web_search")
    tables = []
    for variable, table in zip(profile.variables, profile.tables, strict=True):
        sure = np.zeros_like(table)
        sure[..., 0] = 1.0
        tables.append(sure if variable.absent else table)
    env = busy("web_search")
    env.profiler = make_profiler([replace(profile, tables=tuple(tables))])
    observation, info = play(env)
    assert info["result"]["unseen_evidence"] > 0
    assert info["result"]["unprofiled_jobs"] == 0
    assert np.isfinite(observation["jobs"]).all()
