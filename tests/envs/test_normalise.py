"""Normalisation: exact rules, any leading axes, padding, overflow, and scales through JSON."""

from __future__ import annotations

import json
import re

import gymnasium as gym
import numpy as np
import pytest

from llmsched_gym.envs.columns import Candidate, Job
from llmsched_gym.envs.normalise import (
    SCALES,
    TABLES,
    NormalisedObservation,
    Scale,
    normalise,
    scales_from_json,
    scales_to_json,
)
from llmsched_gym.errors import InputError


def random_tables(*lead: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tables = {name: rng.gamma(1.0, 30.0, (*lead, 5, len(columns))) for name, columns in TABLES.items()}
    return {name: table.astype(np.float32) for name, table in tables.items()}


def test_each_rule_does_what_it_says() -> None:
    scales = {**SCALES, "jobs": (Scale("linear", 4.0, 3.0), Scale("log1p", 2.0, 0.5), *SCALES["jobs"][2:])}
    row = np.zeros((1, len(Job)), np.float32)
    row[0, :2] = 6.0, 5.0
    seen = normalise({"jobs": row}, scales)["jobs"]
    assert seen[0, 0] == 4.5
    assert seen[0, 1] == pytest.approx(0.5 * np.log1p(2.5))
    assert row[0, 0] == 6.0  # the caller's array is as it was


def test_row_numbers_and_categories_stay() -> None:
    row = np.zeros((2, len(Candidate)), np.float32)
    row[:, [Candidate.JOB, Candidate.APP, Candidate.NODE, Candidate.KIND]] = [[-1, 3, 17, 1], [5, 0, 2, 0]]
    assert np.array_equal(normalise({"candidates": row})["candidates"], row)


def test_batches_equal_single_observations() -> None:
    batch = random_tables(3, 2)
    together = normalise(batch)
    for name in TABLES:
        assert together[name].dtype == np.float32
        for i, j in np.ndindex(3, 2):
            alone = normalise({name: batch[name][i, j]})[name]
            assert np.array_equal(together[name][i, j], alone)


def test_padding_stays_zero_and_order_is_kept() -> None:
    tables = random_tables()
    zeros = normalise({name: np.zeros_like(table) for name, table in tables.items()})
    larger = normalise({name: table * 2 for name, table in tables.items()})
    scaled = normalise(tables)
    for name in TABLES:
        assert not zeros[name].any()
        assert (larger[name] > scaled[name]).all()


def test_overflown_products_become_finite() -> None:
    row = np.zeros((1, len(Candidate)), np.float32)
    row[0, Candidate.REDUCTION_PRODUCT] = np.inf
    assert np.isfinite(normalise({"candidates": row})["candidates"]).all()


def test_what_is_no_table_is_passed_on() -> None:
    mask = np.ones(3, np.int8)
    assert normalise({"action_mask": mask})["action_mask"] is mask


@pytest.mark.parametrize("observation", ["table", "graph"])
def test_observations_of_an_episode_come_out_small(observation: str) -> None:
    env = NormalisedObservation(gym.make("LLMSched/Mixed-v0", jobs=40, load=1.2, observation=observation))
    seen, info = env.reset(seed=0)
    categories = Scale("linear")
    done = False
    while not done:
        for name in TABLES.keys() & seen.keys():
            scaled = seen[name][..., [scale != categories for scale in SCALES[name]]]
            assert np.isfinite(scaled).all()
            assert np.abs(scaled).max() < 5.0
        seen, _, done, _, info = env.step(int(info["action_mask"].argmax()))


def test_scales_survive_json() -> None:
    text = json.dumps(scales_to_json())
    assert scales_from_json(json.loads(text), "weights.json") == SCALES


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("jobs",), None, "weights.json: scales: got without jobs"),
        (("jobs", "AGE_S"), None, "weights.json: scales.jobs: got without AGE_S"),
        (("jobs", "AGE"), ["linear", 1, 1], "weights.json: scales.jobs: got 'AGE'"),
        (("jobs", "AGE_S"), ["log", 1.0, 1.0], "weights.json: scales.jobs.AGE_S: got \"['log', 1.0, 1.0]\""),
        (("jobs", "AGE_S"), ["log1p", 0, 1], "weights.json: scales.jobs.AGE_S: got \"['log1p', 0, 1]\""),
        (("jobs", "AGE_S"), ["log1p", 1, float("nan")], "weights.json: scales.jobs.AGE_S"),
        (("jobs",), 3, "weights.json: scales.jobs: got 3"),
    ],
)
def test_bad_scales_are_told_in_one_line(path: tuple[str, ...], value: object, message: str) -> None:
    scales: dict = scales_to_json()
    *above, last = path
    holder = scales
    for name in above:
        holder = holder[name]
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        scales_from_json(scales, "weights.json")
    assert "\n" not in str(caught.value)
