"""Whatever environments, actions and seeds may be given by mistake: one line that names it, before anything is drawn.

The arguments are found by the signatures, and what each takes by its type, so that a new one is tested without a word.
"""

from __future__ import annotations

import inspect
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import gymnasium as gym
import numpy as np
import pytest
from bad_values import HUGE, INF, NAN
from gymnasium.vector import AutoresetMode

from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.envs.arguments import read_action, read_actions, read_seeds
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.vector_env import SchedulingVectorEnv
from llmsched_gym.errors import InputError
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.workloads.splits import MAX_SEED
from llmsched_gym.workloads.workload import Workload

JUNK: tuple[Any, ...] = (
    None,
    NAN,
    INF,
    -INF,
    HUGE,
    -1,
    0,
    1.5,
    "7",
    "no/such/thing",
    "",
    b"bytes",
    True,
    [],
    [1],
    {},
    {"a": 1},
    (),
    object(),
    np.zeros(2),
    np.float32(0.25),
    np.str_("nothing"),
    SchedulingEnv,
)
"""What someone might give for any argument."""

MANY_TOOLS = {"executors": [{"kind": "regular", "count": 9999}]}


def hints_of(environment: type) -> dict[str, Any]:
    """Return the arguments of an environment's constructor and their types."""
    names = {"Serving": object}
    hints = get_type_hints(environment.__init__, localns=names)
    parameters = inspect.signature(environment.__init__).parameters
    return {name: hints[name] for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY} | {
        name: hints[name] for name in ("scenario",)
    }


def takes(hint: Any, value: Any) -> bool:
    """Tell whether an argument of a type takes a value (of numbers: whether the value is one in reason)."""
    if get_origin(hint) in (Union, UnionType):
        return any(takes(arm, value) for arm in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        kinds = (int, np.integer) if hint is int else (int, float, np.integer, np.floating)
        return isinstance(value, kinds) and not isinstance(value, bool) and bool(0 < value < HUGE)
    return hint in (None, type(None)) and value is None  # no junk is a file, a mapping of fields, or an object of ours


CASES = [
    (environment, name, value)
    for environment in (SchedulingEnv, SchedulingVectorEnv)
    for name, hint in hints_of(environment).items()
    for value in JUNK
    if not (takes(hint, value) or (name == "max_candidates" and value is None))
]


def refusal(function: Any, *arguments: Any, **named: Any) -> str:
    """Call something with bad input, and return the one line that tells."""
    with pytest.raises(InputError) as raised:
        function(*arguments, **named)
    line = str(raised.value)
    assert "\n" not in line
    assert len(line) < 500
    assert "; expected " in line
    return line


@pytest.mark.parametrize("environment", [SchedulingEnv, SchedulingVectorEnv])
def test_junk_is_refused_by_name(environment: type) -> None:
    for _, name, value in (case for case in CASES if case[0] is environment):
        line = refusal(environment, **{name: value})
        subject = line.partition(": got ")[0]
        assert (
            name.removesuffix("ed") in subject or name in ("scenario", "cluster", "workload") or "scenario" in subject
        ), (
            name,
            value,
            line,
        )


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 300
    assert {name for _, name, _ in CASES} == {*hints_of(SchedulingEnv), *hints_of(SchedulingVectorEnv)}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"jobs": "10"}, "environment: jobs: got '10'; expected None, or a whole number from 1 to 1000000"),
        ({"time_scale": 0}, "environment: time_scale: got 0; expected a number from 1e-06 to 1e+06"),
        ({"time_scale": 1e-300}, "environment: time_scale: got 1e-300"),
        ({"profiler": 3}, "environment: profiler: got 3; expected True, False, or a folder with profiles"),
        ({"profiler": "no/folder"}, "environment: profiler: got 'no/folder'; expected True, False, or a folder"),
        ({"max_candidates": 10**9}, "environment: max_candidates: got 1000000000"),
        ({"max_candidates": 10**6, "observation": "graph"}, "expected numbers whose observations take at most 1 GiB"),
        ({"max_candidates": 10**6, "placement": "agent", "cluster": MANY_TOOLS},
         "max_candidates, max_jobs: got observations of 345"),
        ({"render_mode": "human"}, "render_mode: got 'human'; expected None, or one of ansi, rgb_array"),
        ({"served": "http://127.0.0.1:9"}, "environment: served: got 'http://127.0.0.1:9'; expected None, or"),
        ({"served": {"stream": False}}, "servers: got none; expected at least one URL"),
        ({"served": {"servers": "dummy:tiny", "request_timeout": 5.0}}, "environment: served: got 'request_timeout'"),
        ({"served": {"servers": "dummy:tiny", "tools": {"test": "tools.py:run"}}}, "tools.py"),
        ({"scenario": "mixed", "cluster": {"executors": [{"kind": "llm", "latency": "llama"}]}},
         "cluster: executors.0.latency: got 'llama'; expected the path of a JSON file, or one of"),
    ],
)  # fmt: skip
def test_arguments_are_told_in_these_words(arguments: dict[str, Any], told: str) -> None:
    assert told in refusal(SchedulingEnv, **arguments)


@pytest.mark.parametrize("given", [{"jobs": 3}, {"load": 0.5}, {"rate": 2.0}])
def test_other_jobs_than_those_of_a_workload_are_refused(given: dict[str, Any]) -> None:
    workload = load_scenario("toy").build("train", 0)
    (name,) = given
    line = refusal(SchedulingEnv, "mixed", workload=workload, **given)
    assert line.startswith(f"environment: {name}: got ")
    assert line.endswith(f"expected no value: the jobs are those of {workload.name}")


def test_numbers_of_numpy_are_numbers() -> None:
    env = SchedulingEnv("mixed", jobs=np.int64(3), load=np.float32(0.5), max_candidates=np.int8(4), profiler=False)  # pyright: ignore[reportArgumentType]
    assert (env.scenario.jobs, env.scenario.load) == (3, 0.5)
    assert type(env.scenario.jobs) is int


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"num_envs": 0}, "num_envs: got 0; expected a whole number from 1 to 65536"),
        ({"num_envs": 65_536, "max_candidates": 10_000}, "num_envs, max_candidates, max_jobs: got observations of"),
        ({"threads": 10**6}, "threads: got 1000000"),
        ({"copy": "yes"}, "copy: got 'yes'; expected True or False"),
        ({"autoreset_mode": ["NextStep"]}, "autoreset_mode: got ['NextStep']; expected one of"),
        ({"autoreset_mode": 3}, "autoreset_mode: got 3"),
        ({"render_mode": "ansi"}, "render_mode: got 'ansi'; expected None: many are not rendered"),
        ({"served": {"servers": "dummy:tiny"}}, "environment: served: got {'servers': 'dummy:tiny'}; expected None"),
        ({"time_scale": NAN}, "time_scale: got nan"),
    ],
)
def test_arguments_of_the_vector_environment(arguments: dict[str, Any], told: str) -> None:
    assert told in refusal(SchedulingVectorEnv, "mixed", **arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"reward_scale": NAN}, "reward_scale: got nan; expected a number > 0"),
        ({"reward_scale": "2"}, "reward_scale: got '2'"),
        ({"may_wait": 1}, "may_wait: got 1; expected True or False"),
        ({"scales": 3}, "scales: got 3"),
        ({"copy": True}, "copy: got True; expected nothing"),
        ({"num_envs": "3"}, "num_envs: got '3'"),
        ({"max_candidates": 10**9}, "max_candidates: got 1000000000"),
    ],
)
def test_arguments_of_the_adapter_for_stable_baselines(arguments: dict[str, Any], told: str) -> None:
    pytest.importorskip("stable_baselines3")
    from llmsched_gym.envs.sb3_vec_env import SchedulingVecEnv

    assert told in refusal(SchedulingVecEnv, "mixed", **arguments)


# Actions

GOOD_ACTIONS: tuple[Any, ...] = (0, 1, np.int64(1), np.int8(1), np.uint64(1), np.array(1), -5, 10**30)
BAD_ACTIONS: tuple[Any, ...] = (
    *(True, np.True_, 0.9, 1.0, np.float64(1), NAN, "0", "", b"0", None, {}),
    *([0], (0,), np.array([0]), np.array(0.0), np.zeros(0)),
)


@pytest.mark.parametrize("action", BAD_ACTIONS, ids=repr)
def test_an_action_is_a_whole_number(action: Any) -> None:
    assert "action: got " in refusal(read_action, action)
    assert "action: got " in refusal(read_actions, [0, action], 2)


def test_actions_of_several() -> None:
    for given in ([1, 2], (1, np.int8(2)), np.array([1, 2]), np.array([1, 2], np.uint8)):
        assert read_actions(given, 2).tolist() == [1, 2]
    assert read_actions([10**30, -(10**30)], 2).tolist() == [-1, -1]
    for given in ([1], 1, "12", None, np.array([1.0, 2.0]), np.array([True, False]), np.array([[1, 2]]), np.array(1)):
        assert "actions: got " in refusal(read_actions, given, 2)


SMALL: dict[str, Any] = {"jobs": 2, "profiler": False, "max_candidates": 4, "max_jobs": 4}


def test_all_environments_take_the_same_actions() -> None:
    one = gym.make("LLMSched/Toy-v0", profiler=False, disable_env_checker=True)
    one.reset(seed=0)
    info: dict[str, Any] = {}
    for action in GOOD_ACTIONS:
        assert read_action(action) == int(action)
        info = one.unwrapped.step(action)[-1]
    for action in BAD_ACTIONS:
        assert "environment: action: got " in refusal(one.step, action)
    counted = info["illegal_actions"]
    assert one.unwrapped.step(10**30)[-1]["illegal_actions"] == counted + 1
    with SchedulingVectorEnvs(2) as many:
        many.reset(seed=0)
        for action in GOOD_ACTIONS:
            many.step([action, 0])
        for action in BAD_ACTIONS:
            assert "environment: action: got " in refusal(many.step, [0, action])


def test_the_adapter_takes_the_same_actions() -> None:
    pytest.importorskip("stable_baselines3")
    from llmsched_gym.envs.sb3_vec_env import SchedulingVecEnv

    envs = SchedulingVecEnv("toy", num_envs=2, profiler=False)
    envs.reset()
    envs.step(np.array([0, 0]))
    envs.step_async([np.int64(0), 0])  # pyright: ignore[reportArgumentType]
    envs.step_wait()
    for action in BAD_ACTIONS:
        assert "environment: action: got " in refusal(envs.step_async, [0, action])
    for actions in (np.array([0.9, 0.0]), np.array([True, False])):
        assert "environment: actions: got " in refusal(envs.step_async, actions)
    envs.close()


class SchedulingVectorEnvs:
    """Toy environments that are closed at the end of a ``with``."""

    def __init__(self, count: int) -> None:
        self._envs = SchedulingVectorEnv("toy", num_envs=count, profiler=False, autoreset_mode=AutoresetMode.SAME_STEP)

    def __enter__(self) -> Any:
        return self._envs

    def __exit__(self, *_: object) -> None:
        self._envs.close()


# Seeds

GOOD_SEEDS: tuple[Any, ...] = (3, np.int64(3), np.uint8(3), np.array(3))
BAD_SEEDS: tuple[Any, ...] = (
    -1,
    np.int64(-1),
    3.0,
    np.float32(3),
    True,
    np.True_,
    "3",
    b"3",
    2**63,
    HUGE,
    NAN,
    {},
    object,
)


def test_a_seed_of_numpy_is_a_seed() -> None:
    env = gym.make("LLMSched/Mixed-v0", **SMALL)
    assert isinstance(env.unwrapped, SchedulingEnv)
    digests = set()
    for seed in GOOD_SEEDS:
        env.reset(seed=seed)
        digests.add(env.unwrapped.workload.digest)
    assert len(digests) == 1
    for seed in (*BAD_SEEDS, [3], np.array([3])):
        assert refusal(env.reset, seed=seed).startswith("environment: seed: got ")


def test_seeds_of_several() -> None:
    for seed in GOOD_SEEDS:
        assert read_seeds(seed, 3) == [3, 4, 5]
    for given in ([7, None, np.int64(9)], (7, None, 9), np.array([7, 8, 9])):
        assert [seed or 8 for seed in read_seeds(given, 3)] == [7, 8, 9]
        assert all(seed is None or type(seed) is int for seed in read_seeds(given, 3))
    assert read_seeds(None, 2) == [None, None]
    assert read_seeds(MAX_SEED - 2, 3)[-1] == MAX_SEED
    for given in (
        *BAD_SEEDS,
        MAX_SEED - 1,
        [1, 2],
        [],
        "123",
        np.zeros(3),
        np.zeros((3, 1), int),
        [[1], [2], [3]],
        {1, 2, 3},
    ):
        assert "environment: seed: got " in refusal(read_seeds, given, 3)
    for seed in BAD_SEEDS:
        assert "environment: seed: got " in refusal(read_seeds, [0, 1, seed], 3)


def test_seeds_of_the_adapter() -> None:
    pytest.importorskip("stable_baselines3")
    from llmsched_gym.envs.sb3_vec_env import SchedulingVecEnv

    envs = SchedulingVecEnv("toy", num_envs=2, profiler=False)
    assert envs.seed(np.int64(5)) == [5, 6]  # pyright: ignore[reportArgumentType]
    for seed in BAD_SEEDS:
        assert "environment: seed: got " in refusal(envs.seed, seed)
    envs.close()


def test_bad_masks_of_a_reset_are_refused() -> None:
    with SchedulingVectorEnvs(2) as envs:
        for mask in (True, [True, False], np.array([True]), np.array([False, False]), np.array([1, 0])):
            assert "reset_mask: got " in refusal(envs.reset, options={"reset_mask": mask})
        assert "options: got 3" in refusal(envs.reset, options=3)


def test_objects_of_ours_are_taken() -> None:
    scenario = load_scenario("toy")
    assert isinstance(scenario, Scenario)
    assert isinstance(scenario.cluster, ClusterSpec)
    workload = scenario.build("train", 0)
    assert isinstance(workload, Workload)
    env = SchedulingEnv(scenario, workload=workload, cluster=scenario.cluster, max_candidates=None, max_jobs=None)
    assert env.scenario is scenario
