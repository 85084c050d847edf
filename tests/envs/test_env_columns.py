"""The meaning of every observation column, table by table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from random_workloads import Case

from llmsched_gym.cluster.state import StageStatus
from llmsched_gym.envs.columns import Candidate, Executor, Job, Node, System, Truth
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.workloads.template import StageKind

BUSY = Case(seed=7, n_apps=2, n_jobs=6, n_stages=6, spread_ns=10**10, short_of_kv=True)


def busy_env(case: Case = BUSY, **kwargs: Any) -> SchedulingEnv:
    """A random workload on a random cluster."""
    draft, cluster, _ = case.draw()
    return SchedulingEnv("toy", workload=draft.assemble(), cluster=cluster, **kwargs)


@pytest.mark.parametrize("seed", range(6))
def test_tables_say_what_their_columns_promise(seed: int) -> None:
    env = busy_env(
        replace(BUSY, seed=seed, short_of_kv=bool(seed % 2)), max_candidates=None, max_jobs=None, privileged=True
    )
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=1)
    terminated = False
    while not terminated:
        check_tables(env, observation)
        observation, _, terminated, _, _ = env.step(int(rng.choice(np.flatnonzero(observation["action_mask"]))))


def check_tables(env: SchedulingEnv, observation: dict[str, NDArray[Any]]) -> None:
    """Compare every column with its definition, from the state of the cluster."""
    state = env.episode.state
    now_ns = int(state.clock[0]["now_ns"])
    in_system = np.flatnonzero(state.jobs["status"] == 1)
    system = observation["system"]
    assert system[System.TIME_S] == np.float32(now_ns * 1e-9)
    assert system[System.JOBS] == system[System.JOB_ROWS] == len(in_system)
    finished = state.tasks["finish_ns"] <= now_ns
    held_ns = np.where(finished, state.tasks["finish_ns"], now_ns) - np.minimum(state.tasks["start_ns"], now_ns)
    owner = state.stages["job"][state.tasks["stage"]]
    running = state.tasks["status"] == 1
    for row, job in enumerate(in_system):
        seen, own = observation["jobs"][row], state.jobs[job]
        stages = state.stages[own["first_stage"] : own["first_stage"] + own["n_stages"]]
        open_ready = np.isin(stages["status"], (StageStatus.READY, StageStatus.RUNNING))
        expected = {
            Job.APP: own["app"],
            Job.AGE_S: (now_ns - own["arrival_ns"]) * 1e-9,
            Job.ATTAINED_S: held_ns[owner == job].sum() * 1e-9,
            Job.REMAINING_S: stages["work_ns"].sum() * 1e-9,
            Job.TOTAL_S: own["total_ns"] * 1e-9,
            Job.PATH_S: stages["path_ns"].max() * 1e-9,
            Job.TASKS_RUNNING: np.count_nonzero(running & (owner == job)),
            Job.TASKS_WAITING: (stages["n_tasks"] - stages["started_tasks"])[open_ready].sum(),
            Job.STAGES_DONE: np.count_nonzero(stages["status"] == StageStatus.DONE),
        }
        # Applications without a profile: the profiler believes in the historical mean.
        expected |= dict.fromkeys(list(Job)[Job.POSTERIOR_S :], expected[Job.REMAINING_S])
        tools_s = stages["work_ns"][stages["kind"] == StageKind.REGULAR].sum() * 1e-9
        expected |= {Job.HISTORY_TOOL_S: tools_s, Job.POSTERIOR_TOOL_S: tools_s}
        assert seen == pytest.approx([float(expected[column]) for column in Job], rel=1e-6, abs=1e-6)
    waiting = np.isin(state.stages["status"], (StageStatus.READY, StageStatus.RUNNING))
    ready = np.flatnonzero(waiting & (state.stages["started_tasks"] < state.stages["n_tasks"]))
    assert system[System.CANDIDATES] == len(ready)
    for row, stage in enumerate(ready):
        own = state.stages[stage]
        kind = int(own["kind"])
        of_kind = state.executors["kind"] == kind
        following = state.tasks[own["first_task"] + own["started_tasks"]]
        expected = {
            Candidate.JOB: np.searchsorted(in_system, own["job"]),
            Candidate.APP: state.jobs["app"][own["job"]],
            Candidate.NODE: own["node"],
            Candidate.KIND: kind,
            Candidate.TASKS_WAITING: own["n_tasks"] - own["started_tasks"],
            Candidate.TASKS_RUNNING: own["started_tasks"] - own["done_tasks"],
            Candidate.TASKS_DONE: own["done_tasks"],
            Candidate.READY_S: (now_ns - own["ready_ns"]) * 1e-9,
            Candidate.PROMPT_TOKENS: following["prompt_tokens"],
            Candidate.WORK_S: (own["n_tasks"] - own["done_tasks"]) * own["task_work_ns"] * 1e-9,
            Candidate.DURATION_S: own["stage_duration_ns"] * 1e-9,
            Candidate.PATH_S: own["path_ns"] * 1e-9,
            Candidate.INFLUENCE: own["influence"],
            Candidate.FREE_SLOTS: (state.executors["slots"] - state.executors["running"])[of_kind].sum(),
        }
        expected |= dict.fromkeys(list(Candidate)[Candidate.ENTROPY :], 0.0)
        values = [float(expected[column]) for column in Candidate]
        assert observation["candidates"][row] == pytest.approx(values, rel=1e-6, abs=1e-6)
        unfinished = state.tasks[(owner == own["job"]) & (state.tasks["status"] < 2)]
        mine = state.tasks[own["first_task"] : own["first_task"] + own["n_tasks"]]
        truth = observation["truth"][row]
        assert truth[Truth.JOB_REMAINING_S] == pytest.approx(unfinished["work_ns"].sum() * 1e-9, rel=1e-6)
        its_tools = unfinished[np.isin(unfinished["stage"], np.flatnonzero(state.stages["kind"] == StageKind.REGULAR))]
        assert truth[Truth.JOB_TOOL_S] == pytest.approx(its_tools["work_ns"].sum() * 1e-9, rel=1e-6)
        assert truth[Truth.STAGE_WORK_S] == pytest.approx(mine["work_ns"].sum() * 1e-9, rel=1e-6)
        assert truth[Truth.STAGE_PATH_S] >= np.float32(mine["work_ns"].max() * 1e-9)
    for row, own in zip(observation["executors"], state.executors, strict=True):
        assert row[Executor.KIND] == own["kind"]
        assert row[Executor.SLOTS] == own["slots"]
        assert row[Executor.RUNNING] == own["running"]
        assert row[Executor.BUSY_S] == np.float32(own["busy_ns"] * 1e-9)
        assert 0.0 <= row[Executor.KV_USED] <= 1.0
        assert row[Executor.DECODED_TOKENS] >= 0.0


def test_decoded_tokens_grow_with_time() -> None:
    """Two thorough jobs decode a token per second each; they start at 0 s and, when a quick one is done, at 1 s."""
    llm = {"kind": "llm", "latency": "one-second-per-token", "max_num_seqs": 2, "prefix_caching": False}
    env = SchedulingEnv("toy", cluster={"executors": [llm, {"kind": "regular"}]})
    observation, _ = env.reset(seed=0)
    seen = set()
    for action in (0, 0, 1, 0, 1):
        observation, _, _, _, info = env.step(action)
        busy = observation["executors"][0]
        seen.add((info["time_s"], float(busy[Executor.RUNNING]), float(busy[Executor.DECODED_TOKENS])))
    assert (1.0, 1.0, 1.0) in seen
    assert (4.0, 1.0, 3.0) in seen


@pytest.mark.parametrize("seed", range(6))
def test_graphs_list_the_known_unfinished_stages_and_their_edges(seed: int) -> None:
    env = busy_env(replace(BUSY, seed=seed), max_candidates=None, max_jobs=None, observation="graph")
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=1)
    terminated = False
    while not terminated:
        state, system = env.episode.state, observation["system"]
        nodes = observation["nodes"][: int(system[System.NODES])]
        edges = observation["edges"][: int(system[System.EDGES])]
        known = known_stages(env)
        assert nodes[:, Node.NODE].tolist() == state.stages["node"][known].tolist()
        assert nodes[:, Node.STATUS].tolist() == state.stages["status"][known].tolist()
        assert nodes[:, Node.WORK_S] == pytest.approx(state.stages["work_ns"][known] * 1e-9, rel=1e-6)
        place = {stage: row for row, stage in enumerate(known)}
        wanted = []
        for stage in known:
            first = state.stages["first_child"][stage]
            children = state.children[first : first + state.stages["n_children"][stage]].tolist()
            wanted += [(place[stage], place[child]) for child in children if child in place]
        assert [tuple(edge) for edge in edges.tolist()] == wanted
        listed = nodes[nodes[:, Node.CANDIDATE] >= 0]
        assert listed[:, Node.CANDIDATE].tolist() == list(range(int(system[System.CANDIDATES])))
        assert np.all(observation["nodes"][len(nodes) :] == 0)
        assert np.all(observation["edges"][len(edges) :] == 0)
        observation, _, terminated, _, _ = env.step(int(rng.choice(np.flatnonzero(observation["action_mask"]))))


def known_stages(env: SchedulingEnv) -> list[int]:
    """Unfinished stages of jobs in the system, without those of plans that are not made."""
    state = env.episode.state
    return [
        index
        for index, stage in enumerate(state.stages)
        if state.jobs["status"][stage["job"]] == 1
        and stage["status"] < StageStatus.DONE
        and not (stage["planned"] and stage["status"] == StageStatus.HIDDEN)
    ]


def test_a_graph_window_shows_whole_jobs_only() -> None:
    env = SchedulingEnv("toy", observation="graph", max_candidates=1, max_jobs=64)
    observation, _ = env.reset(seed=0)
    nodes = observation["nodes"][: int(observation["system"][System.NODES])]
    assert np.bincount(nodes[:, Node.JOB].astype(np.int64)).tolist() == [2, 2, 2, 2, 2]
