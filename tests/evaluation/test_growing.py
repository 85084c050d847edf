"""Tables that grow show what tables of the whole size do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmsched_gym.envs.columns import System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.evaluation import growing
from llmsched_gym.evaluation.growing import GrowingPlay, small_tables

ROWS = {
    "candidates": System.CANDIDATES,
    "truth": System.CANDIDATES,
    "jobs": System.JOB_ROWS,
    "nodes": System.NODES,
    "edges": System.EDGES,
}


def whole(**arguments: Any) -> SchedulingEnv:
    workload = SchedulingEnv("mixed", jobs=60, load=3.0).draw(5)
    return SchedulingEnv("mixed", workload=workload, max_candidates=None, max_jobs=None, **arguments)


@pytest.mark.parametrize("observation", ["table", "graph"])
def test_nothing_is_left_out_however_small_they_begin(observation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "_FIRST", growing.Window(1, 1, 1, 1))
    plain, small = whole(observation=observation, privileged=True), whole(observation=observation, privileged=True)
    played = GrowingPlay(small)
    (seen, info), (less, its) = plain.reset(seed=5), played.reset(seed=5)
    rng, over, sizes = np.random.default_rng(0), False, set()
    while not over:
        for name, table in seen.items():
            if name in ROWS:
                rows = int(seen["system"][ROWS[name]])
                assert np.array_equal(table[:rows], less[name][:rows])
                assert not less[name][rows:].any()
            elif name == "action_mask":
                waits, shown = table[-1], int(seen["system"][System.CANDIDATES])
                assert less[name][-1] == waits
                assert np.array_equal(less[name][:shown], table[:shown])
                assert not less[name][shown:-1].any()
            else:
                assert np.array_equal(table, less[name])
        assert np.array_equal(its["action_mask"], less["action_mask"])
        sizes.add(len(less["candidates"]))
        legal = np.flatnonzero(info["action_mask"][:-1])
        row = int(rng.choice(legal)) if legal.size else -1
        seen, reward, over, _, info = plain.step(row if row >= 0 else len(info["action_mask"]) - 1)
        less, its_reward, its_over, _, its = played.step(row if row >= 0 else len(its["action_mask"]) - 1)
        assert (reward, over) == (its_reward, its_over)
    assert len(sizes) > 3
    assert its["result"]["digest"] == info["result"]["digest"]


def test_short_episodes_are_played_as_they_are() -> None:
    env = SchedulingEnv("mixed", jobs=5)
    assert small_tables(env) is env
