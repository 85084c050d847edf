"""PLAS on observations small enough to solve by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.policies.registry import load_policy

SHORT, LONG = ({"kind": 0, "prompt_tokens": tokens} for tokens in (2048, 2049))


class Player:
    """Decides one observation after the other."""

    def __init__(self, place: Any, spec: str = "plas") -> None:
        self.place, self.policy = place, load_policy(spec)
        self.policy.reset({"policy_seed": 0})

    def __call__(self, candidates: Any, cells: Any, jobs: Any, held: Any = (0, 0), time_s: float = 0.0) -> Any:
        executors = [{"running": tasks} for tasks in held]
        obs = self.place(candidates, cells, jobs=jobs, executors=executors)
        obs["system"][0] = time_s
        action = self.policy.act(obs)
        assert obs["action_mask"][action]
        return None if action == len(obs["action_mask"]) - 1 else divmod(action, len(executors))


def job(attained_s: float = 0.0, age_s: float = 0.0, app: int = 0, done: int = 0) -> dict[str, float]:
    return {"attained_s": attained_s, "age_s": age_s, "app": app, "stages_done": done}


def test_the_program_that_was_served_least_goes_first(place: Any) -> None:
    candidates = [SHORT | {"job": 0}, SHORT | {"job": 1}]
    play = Player(place)
    assert play(candidates, [[{}, {}]] * 2, [job(5), job(3)], (2, 1)) == (1, 1)
    assert play(candidates, [[{}, {}]] * 2, [job(5), job(9)], (2, 3)) == (0, 0)


def test_short_calls_go_to_the_least_used_and_long_ones_where_the_program_is(place: Any) -> None:
    play = Player(place)
    one = [LONG | {"job": 0}]
    assert play(one, [[{}, {}]], [job()], (1, 0)) == (0, 1)
    assert play(one, [[{}, {}]], [job()], (0, 9)) == (0, 1)
    assert play([SHORT | {"job": 0}], [[{}, {}]], [job()], (0, 9)) == (0, 0)
    assert play(one, [[{}, {"wait_s": 1}]], [job()], (0, 9)) is None
    assert play([*one, SHORT | {"job": 0}], [[{}, {"wait_s": 1}], [{}, {}]], [job()], (0, 9)) == (1, 0)
    other = [LONG | {"job": 0, "prompt_tokens": 9000}]
    assert play(other, [[{"model": 1}, {"model": 1}]], [job()], (0, 9)) == (0, 0)  # another model, another engine
    assert play(one, [[{}, {}]], [job()], (0, 9)) == (0, 1)
    play.policy.reset({"policy_seed": 1})
    assert play(one, [[{}, {}]], [job()], (0, 9)) == (0, 0)


def test_a_program_is_known_by_its_arrival_when_others_are_over(place: Any) -> None:
    play = Player(place)
    both = [LONG | {"job": 0}, LONG | {"job": 1}]
    cells = [[{}, {}]] * 2
    assert play(both, cells, [job(0), job(9)], (0, 1)) == (0, 0)
    assert play(both, cells, [job(9), job(0)], (1, 0)) == (1, 1)
    jobs = [job(age_s=1), job(age_s=1, app=3), job(age_s=0.5)]  # a third one comes
    assert play([LONG | {"job": 2}], cells[:1], jobs, (0, 9), time_s=1.0) == (0, 0)
    left = [job(age_s=2, done=1), job(age_s=1.5)]  # the second of the first two is over
    assert play([LONG | {"job": 0}], cells[:1], left, (9, 0), time_s=2.0) == (0, 0)
    assert play([LONG | {"job": 0}], cells[:1], [job(age_s=2.5)], (9, 0), time_s=3.0) == (0, 0)
    assert play([LONG | {"job": 0}], cells[:1], [job(age_s=0)], (9, 0), time_s=3.0) == (0, 1)  # a new one


def test_jobs_beyond_the_window_have_no_engine(place: Any) -> None:
    play = Player(place)
    for held, executor in (((0, 1), 0), ((1, 0), 1)):
        assert play([LONG | {"job": -1}], [[{}, {}]], [], held) == (0, executor)


def test_its_parameter_is_checked(place: Any) -> None:
    play = Player(place, "plas?short_tokens=9000")
    assert play([LONG | {"job": 0}], [[{}, {}]], [job()], (0, 1)) == (0, 0)
    assert play([LONG | {"job": 0}], [[{}, {}]], [job()], (1, 0)) == (0, 1)
    told = "policy plas: short_tokens: got -1; expected a whole number from 0"
    with pytest.raises(InputError, match=re.escape(told)):
        load_policy("plas?short_tokens=-1")
