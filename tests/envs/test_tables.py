"""The tables of an observation: shapes said once, and windows by what could be present."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces

from llmsched_gym.envs.columns import Candidate, Executor, Job, Node, System, Truth
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.tables import Tables, Window
from llmsched_gym.scenario import load_scenario

COLUMNS = {
    "candidates": Candidate,
    "jobs": Job,
    "executors": Executor,
    "system": System,
    "nodes": Node,
    "truth": Truth,
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_docstring_says_the_shapes_that_spaces_have(name: str) -> None:
    env = SchedulingEnv("toy", observation="graph", privileged=True)
    found = re.search(rf"``{name}`` float32 \((?:[A-Z], )?(\d+),?\)", " ".join((SchedulingEnv.__doc__ or "").split()))
    # "nodes" and "edges" share a line, as "nodes float32 (M, 14) and edges int32 (L, 2)" does.
    assert found is not None, name
    space = env.observation_space
    assert isinstance(space, spaces.Dict)
    box = space[name]
    assert box.shape is not None
    assert int(found[1]) == len(COLUMNS[name]) == box.shape[-1]


def test_tables_are_in_the_space_and_do_not_overlap() -> None:
    env = SchedulingEnv("mixed", jobs=3, observation="graph", privileged=True, placement="agent")
    tables = env.shapes.new(5)
    for number, table in enumerate(tables, 1):
        table[...] = number
    assert all((table == number).all() for number, table in enumerate(tables, 1))
    assert env.observation_space.contains(env.shapes.first(env.shapes.new(1)))
    assert tuple(env.shapes.all) == Tables._fields


@pytest.mark.parametrize("scenario", ["mixed", "predefined", "chain", "planning"])
def test_a_window_does_not_tell_what_is_hidden(scenario: str) -> None:
    """Jobs of the same applications, of which other stages turn out to be present, give the same window."""
    workload = load_scenario(scenario).replaced(jobs=60).build("eval", 0)
    window = Window.around(workload)
    order = np.argsort(workload.jobs["app"], kind="stable")
    sizes = {}
    for job in order.tolist():
        row = workload.jobs[job]
        stages = workload.stages[row["first_stage"] : row["first_stage"] + row["n_stages"]]
        sizes.setdefault(int(row["app"]), []).append(len(stages))
    assert window.nodes == sum(max(own) * len(own) for own in sizes.values())
    arrivals = workload.jobs.copy()
    arrivals["arrival_ns"] = 0
    assert Window.around(replace(workload, jobs=arrivals)) == window


@pytest.mark.parametrize("scenario", ["mixed", "chain", "planning"])
def test_nothing_is_left_out_of_a_window_around_a_workload(scenario: str) -> None:
    workload = load_scenario(scenario).replaced(jobs=15).build("eval", 1)
    rows = workload.jobs.copy()
    rows["arrival_ns"] = 0
    env = SchedulingEnv(scenario, workload=replace(workload, jobs=rows), max_candidates=None, max_jobs=None)
    _, info = env.reset(seed=0)
    rng, done = np.random.default_rng(0), False
    while not done:
        _, _, done, _, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))
        assert info["hidden_candidates"] == 0
