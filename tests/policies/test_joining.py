"""ORDER+PLACE: names, what is said about wrong ones, whole episodes, and comparisons on the command line."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hetero import CLUSTER, SCENARIO
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsched_gym.cli import main
from llmsched_gym.envs.columns import Placement
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.contestants import find_contestants
from llmsched_gym.evaluation.episode import make_env
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.base import Policy, PriorityPolicy
from llmsched_gym.policies.placing import Placing
from llmsched_gym.policies.registry import (
    is_built_in,
    joint_names,
    load_policy,
    placement_names,
    policy_class,
    rule_class,
    shows_graph,
)
from llmsched_gym.scenario import load_scenario

MINE = """
from llmsched_gym.policies.base import Policy, PriorityPolicy
from llmsched_gym.policies.placement import PlacementRule, tasks_held


class Last(PriorityPolicy):
    name = "last"

    def __init__(self, sign=-1):
        self.sign = sign

    def key(self, obs, rows):
        return self.sign * rows


class Fullest(PlacementRule):
    name = "fullest"

    def __init__(self, factor=-1):
        self.factor = factor

    def cost(self, obs, rows):
        return self.factor * tasks_held(obs, rows)


class Nameless(Fullest):
    name = ""


class Nowhere(Policy):
    name = "nowhere"
    placement = "anywhere"

    def act(self, obs):
        return 0
"""
EVERY = (*placement_names(), *joint_names(), "srtf+static", "oracle_srtf+mct", "mct?wait=true", "min_min?state=blind")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def play(policy: Policy, env: SchedulingEnv, check: Any = None) -> dict[str, Any]:
    obs, info = env.reset(seed=0)
    policy.reset(info)
    done = False
    while not done:
        action = policy.act(obs)
        if check is not None:
            check(obs, action)
        obs, _, done, _, info = env.step(action)
    return info["result"]


@lru_cache
def setting(jobs: int = 12) -> Setting:
    return Setting.make(load_scenario(SCENARIO), jobs=jobs)


def test_placements_have_their_name_alone_and_after_a_plus() -> None:
    for name in placement_names():
        alone, joined = load_policy(name), load_policy(f"srtf+{name}")
        assert isinstance(alone, Placing)
        assert (alone.name, alone.order.name, alone.rule.name) == (name, "fcfs", name)
        assert joined.name == f"srtf+{name}"
        assert rule_class(name).__doc__
    for name in joint_names():
        assert load_policy(name).name == name
        assert policy_class(name).placement == "agent"


def test_both_halves_say_what_the_environment_must_be() -> None:
    policy = load_policy("oracle_srtf+sticky")
    assert (policy.placement, policy.privileged, policy.observation) == ("agent", True, "table")
    env = make_env(setting(), policy, 0)
    assert {"placements", "models", "truth"} <= set(env.shapes.asked)
    assert "placements" not in make_env(setting(), load_policy("srtf"), 0).shapes.asked
    assert is_built_in("srtf+mct?state=blind")
    assert not is_built_in("srtf+mine.py:Rule")
    assert shows_graph("carbyne")
    assert not shows_graph("srtf+mct")


def test_parameters_go_to_the_half_that_knows_them(file: Path) -> None:
    policy = load_policy(f"{file}:Last+{file}:Fullest?sign=3&factor=4")
    assert isinstance(policy, Placing)
    assert (vars(policy.order)["sign"], vars(policy.rule)["factor"]) == (3, 4)
    assert policy.name == "last+fullest"
    mixed = load_policy(f"{file}:Last+mct?state=blind&sign=2")
    assert isinstance(mixed, Placing)
    assert (vars(mixed.order)["sign"], vars(mixed.rule)["state"]) == (2, "blind")
    assert load_policy(f"{file}:Fullest").name == "fullest"


def test_a_plus_in_the_path_of_a_file_joins_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a+b.py"
    path.write_text(MINE)
    assert load_policy(f"{path}:Last").name == "last"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("srtf+mtc", "srtf+mtc, name: got 'mtc'; expected module:factory, path.py:factory, or one of admit, kv_"),
        ("srft+mct", "did you mean 'srtf'"),
        ("srtf+srtf", "got 'srtf'"),
        ("mct+srtf", "got 'mct'"),
        ("carbyne+mct", "order: got 'carbyne'; expected a PriorityPolicy"),
        ("min_min+mct", "order: got 'min_min'; expected a PriorityPolicy"),
        ("srtf+{file}:Last", "placement: got '{file}:Last'; expected a PlacementRule"),
        ("{file}:Fullest+mct", "order: got '{file}:Fullest'; expected a PriorityPolicy"),
        ("srtf+mct+sticky", "expected one order and one placement"),
        ("srtf+", "expected one order and one placement"),
        ("+mct", "expected one order and one placement"),
        ("fcfs+mct?stat=blind", "parameters: got 'stat'; expected one of state, wait; did you mean 'state'"),
        ("fcfs+static?state=blind", "parameters: got 'state'; expected no parameter"),
        ("srtf+{file}:Nameless", "attribute name"),
        ("{file}:Nowhere", "attribute placement: got 'anywhere'"),
    ],
)
def test_wrong_names_are_told_in_one_line(file: Path, spec: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_policy(spec.format(file=file))
    message = str(caught.value)
    assert words.format(file=file) in message
    assert "\n" not in message


@pytest.mark.parametrize("name", EVERY)
def test_an_episode_is_legal_and_repeatable(name: str) -> None:
    def check(obs: Any, action: int) -> None:
        assert obs["action_mask"][action]
        if action < len(obs["action_mask"]) - 1:
            row, executor = divmod(action, len(obs["executors"]))
            assert obs["placements"][row, executor, Placement.LEGAL] == 1

    policy = load_policy(name)
    env = make_env(setting(), policy, 0)
    result = play(policy, env, check)
    assert result["illegal_actions"] == result["hidden_candidates"] == 0
    assert play(policy, env)["digest"] == result["digest"]
    assert play(load_policy(name), make_env(setting(), policy, 0))["digest"] == result["digest"]


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(EVERY),
    executors=st.permutations(CLUSTER["executors"]),
    slots=st.integers(1, 3),
    resident=st.lists(st.sampled_from(["qwen3-4b", "qwen3-8b", "qwen3-14b"]), max_size=3, unique=True),
    window=st.sampled_from([None, 2]),
)
def test_no_cluster_and_no_window_make_an_action_illegal(
    name: str, executors: list[Any], slots: int, resident: list[str], window: int | None
) -> None:
    tight = [one | ({"max_num_seqs": slots, "resident": resident[:2]} if "serves" in one else {}) for one in executors]
    policy = load_policy(name)
    env = SchedulingEnv(
        SCENARIO,
        cluster=CLUSTER | {"executors": tight},
        workload=setting(6).workload(1),
        placement=policy.placement,
        observation=policy.observation,
        privileged=policy.privileged,
        max_candidates=window,
        max_jobs=window,
    )
    assert play(policy, env)["illegal_actions"] == 0


@pytest.mark.parametrize("order", ["fcfs", "srtf", "critical_path"])
def test_least_loaded_is_what_the_environment_does_itself(order: str) -> None:
    plain, placed = load_policy(order), load_policy(f"{order}+least_loaded")
    expected = play(plain, make_env(setting(), plain, 0))["jct_s"]
    assert np.array_equal(play(placed, make_env(setting(), placed, 0))["jct_s"], expected)


def test_placements_run_where_executors_serve_one_model_each() -> None:
    plain = Setting.make("mixed", jobs=6)
    expected = play(load_policy("fcfs"), make_env(plain, load_policy("fcfs"), 0))["jct_s"]
    for name in ("static", "sticky"):
        policy = load_policy(name)
        assert np.array_equal(play(policy, make_env(plain, policy, 0))["jct_s"], expected)


def test_results_depend_on_both_halves(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "place.py"
    other.write_text(MINE)

    def sources() -> list[str]:
        specs = [f"{file}:Last+{other}:Fullest", f"{file}:Last+mct", f"srtf+{other}:Fullest", "srtf+mct"]
        found = find_contestants(specs)
        assert not any(one.doubt for one in found)
        return [one.source for one in found]

    before = sources()
    file.write_text(MINE + "\n# changed\n")
    after_order = sources()
    assert [a != b for a, b in zip(before, after_order, strict=True)] == [True, True, False, False]
    other.write_text(MINE + "\n# changed\n")
    assert [a != b for a, b in zip(after_order, sources(), strict=True)] == [True, False, True, False]


def test_real_servers_refuse_them_in_one_line() -> None:
    for name in ("srtf+mct", "min_min"):
        with pytest.raises(InputError, match=r"got a policy that chooses executors; expected the simulator"):
            find_contestants(["fcfs", name], served=True)
    assert len(find_contestants(["fcfs", "srtf"], served=True)) == 2


def test_compare_and_run_take_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "several.yaml"
    scenario.write_text(yaml.safe_dump(SCENARIO | {"jobs": 5}))
    given = ["--scenario", str(scenario)]
    policies = "fcfs,least_loaded,srtf+mct,min_min?state=blind,min_min"
    compare = ["compare", *given, "--policies", policies, "--seeds", "0:2", "--workers", "1", "-o", str(tmp_path / "o")]
    assert main([*compare, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["policies"]
    assert list(found) == ["fcfs", "least_loaded", "srtf+mct", "min_min?state=blind", "min_min"]
    assert found["least_loaded"]["per_seed_mean_jct_s"] == found["fcfs"]["per_seed_mean_jct_s"]
    assert main([*compare, "--json"]) == 0  # all of it resumed
    assert json.loads(capsys.readouterr().out)["policies"] == found
    assert json.loads((tmp_path / "o" / "manifest.json").read_text())["results_resumed"] == 12
    assert main(["run", *given, "--policy", "srtf+mct", "--seed", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_jct_s"] == found["srtf+mct"]["per_seed_mean_jct_s"][0]
    served = ["--backend", "vllm", "--servers", "dummy:tiny"]
    assert main(["compare", "--scenario", "toy", "--policies", "srtf+mct", *served, "-o", str(tmp_path / "s")]) == 2
    assert "got a policy that chooses executors; expected the simulator" in capsys.readouterr().err


def test_list_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert tuple(content["placements"]) == placement_names()
    assert {content["policies"][name]["placement"] for name in joint_names()} == {"agent"}
    assert content["policies"]["srtf"]["placement"] == "least_loaded"


def test_scenarios_with_such_clusters_survive_being_written_down() -> None:
    scenario = load_scenario(SCENARIO)
    assert type(scenario).model_validate_json(scenario.model_dump_json()) == scenario


def test_every_order_that_ranks_rows_can_be_joined() -> None:
    names = ("fcfs", "sjf", "fair", "las", "srtf", "critical_path", "argus", "gittins", "llmsched_no_uncertainty")
    assert all(issubclass(policy_class(name), PriorityPolicy) for name in names)
    assert [load_policy(f"{name}+sticky").name for name in names] == [f"{name}+sticky" for name in names]
