"""The uncertainty network and its policy: equal to its torch form, honest about what it knows, and worth its name."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from llmsched_gym.envs.columns import Candidate, Executor, Job, System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.policies.base import Policy
from llmsched_gym.policies.learned import WEIGHTS
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.policies.uncertainty_examples import Collector, joined
from llmsched_gym.policies.uncertainty_features import N_FEATURES, NodeNumbers, PromptMemory
from llmsched_gym.policies.uncertainty_gnn import RANKINGS, Forecast, UncertaintyGNN, predicted_gittins
from llmsched_gym.policies.uncertainty_network import LEVELS, N_OUTPUTS, read_weights, weights_of
from llmsched_gym.scenario import load_scenario

RECIPE = Path(__file__).parents[2] / "agents" / "uncertainty_gnn.py"
REGULAR = 1


def make_env(scenario: str, jobs: int, seed: int, split: str = "train", load: float = 0.9) -> SchedulingEnv:
    chosen = load_scenario(scenario).replaced(jobs=jobs, load=load)
    workload = chosen.build(split, seed)
    return SchedulingEnv(
        chosen, workload=workload, observation="graph", privileged=True, max_candidates=None, max_jobs=None
    )


def decisions(env: SchedulingEnv, policy: Policy) -> Iterator[tuple[dict[str, Any], int]]:
    """Play an episode; yield each observation with the action that the policy takes."""
    obs, info = env.reset(seed=0)
    policy.reset(info)
    done = False
    while not done:
        action = policy.act(obs)
        yield obs, action
        obs, _, done, _, _ = env.step(action)


def mean_jct_s(scenario: str, jobs: int, seed: int, policy: Policy) -> float:
    env = make_env(scenario, jobs, seed)
    for _ in decisions(env, policy):
        pass
    finished = env.episode.state.jobs
    return float((finished["finish_ns"] - finished["arrival_ns"]).mean()) * 1e-9


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("uncertainty_gnn_recipe", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def test_the_compiled_network_equals_the_torch_network(recipe: ModuleType) -> None:
    import torch

    torch.manual_seed(3)
    collector = Collector()
    collector.play(make_env("mixed", 25, 4), load_policy("llmsched"), 4, share=0.2, held_out=False)
    data = collector.examples
    features = torch.from_numpy(data.features.copy())
    network = recipe.UncertaintyNetwork(8, 24, features.mean(0), features.std(0) + 0.05)
    torch.nn.init.normal_(network.head_3.weight, std=0.2)
    exported = {name: tensor.numpy() for name, tensor in network.exported().items()}
    forecast = Forecast(weights_of(exported, "test"), NodeNumbers(recipe.TREES))

    rng, compared = np.random.default_rng(4), 0
    env, policy = make_env("mixed", 25, 4), load_policy("llmsched")
    obs, info = env.reset(seed=4)
    policy.reset(info)
    forecast.begin(info)
    taken, done = 0, False
    while not done:
        rows, logs = forecast.predict(obs)
        if rng.random() < 0.2:  # the decision is among the examples, with all of its ready stages
            ready = int(obs["system"][System.CANDIDATES])
            mine = np.arange(taken, taken + ready)
            graphs, which = np.unique(data.graph[mine], return_inverse=True)
            batch, first = data.batch(graphs)
            with torch.no_grad():
                nodes, jobs = network.embed(batch)
                at = torch.from_numpy(first[which] + data.place[mine])
                outputs = network(features[mine], nodes[at], jobs[torch.from_numpy(which)]).numpy()
            outputs = outputs + data.features[mine, :1]
            np.testing.assert_allclose(logs, outputs[np.isin(np.arange(ready), rows)], rtol=2e-3, atol=2e-3)
            taken, compared = taken + ready, compared + len(rows)
        obs, _, done, _, _ = env.step(policy.act(obs))
    assert compared > 200


def test_an_untrained_network_is_posterior_srtf(recipe: ModuleType, tmp_path: Path) -> None:
    import torch

    network = recipe.UncertaintyNetwork(8, 16, torch.zeros(N_FEATURES), torch.ones(N_FEATURES))
    path = tmp_path / "untrained.safetensors"
    card = {"applications": recipe.TREES, "ranking": RANKINGS["mean"].tolist(), "reserve_s": 0.0}
    recipe.save_weights(path, "uncertainty_gnn", network.exported(), card, {})
    policy, plain = load_policy("uncertainty_gnn", weights=str(path)), load_policy("llmsched_no_uncertainty")
    for obs, action in decisions(make_env("mixed", 30, 1), policy):
        expected = plain.act(obs)
        jobs = obs["candidates"][[action, expected], Candidate.JOB].astype(int)
        assert obs["jobs"][jobs[0], Job.POSTERIOR_S] == pytest.approx(obs["jobs"][jobs[1], Job.POSTERIOR_S], rel=1e-5)


def test_prompts_are_remembered_while_jobs_come_and_go() -> None:
    env, memory = make_env("mixed", 40, 2), PromptMemory()
    checked = 0
    for obs, _ in decisions(env, load_policy("srtf")):
        prompts = memory.update(obs)
        state = env.episode.state
        for row, job in enumerate(state.active[: int(state.clock[0]["active"])]):
            first = state.stages[state.jobs[job]["first_stage"]]
            assert prompts[row, 0] == state.tasks[first["first_task"]]["prompt_tokens"]
            checked += 1
    assert checked > 1000


def test_jobs_of_unknown_applications_are_ranked_by_the_posterior() -> None:
    forecast = Forecast(read_weights(WEIGHTS / "uncertainty_gnn.safetensors"), NodeNumbers([]))
    policy = load_policy("srtf")
    env = make_env("planning", 15, 0)
    obs, info = env.reset(seed=0)
    policy.reset(info)
    forecast.begin({})
    done = False
    while not done:
        rows, logs = forecast.predict(obs)
        owners = obs["candidates"][rows, Candidate.JOB].astype(int)
        expected = np.log(obs["jobs"][owners, Job.POSTERIOR_S] + 0.05)
        np.testing.assert_allclose(logs, np.repeat(expected[:, None], N_OUTPUTS, axis=1), rtol=1e-5, atol=1e-5)
        obs, _, done, _, _ = env.step(policy.act(obs))


def test_the_last_executor_is_kept_for_short_tasks() -> None:
    waited = started = 0
    for obs, action in decisions(make_env("mixed", 60, 3), load_policy("uncertainty_gnn", reserve_s=0.5)):
        executors = obs["executors"]
        slots = executors[executors[:, Executor.KIND] == REGULAR, Executor.SLOTS].sum()
        if action == len(obs["action_mask"]) - 1:
            waited += 1
            continue
        stage = obs["candidates"][action]
        if stage[Candidate.KIND] == REGULAR and stage[Candidate.FREE_SLOTS] == 1 and obs["action_mask"][-1]:
            tasks = stage[Candidate.TASKS_WAITING] + stage[Candidate.TASKS_RUNNING]
            assert stage[Candidate.WORK_S] / tasks <= 0.5 * slots + 1e-6
            started += 1
    assert waited > 0
    assert started > 0


def test_without_a_reserve_it_never_waits() -> None:
    for obs, action in decisions(make_env("mixed", 30, 3), load_policy("uncertainty_gnn", reserve_s=0.0)):
        assert action < len(obs["action_mask"]) - 1


def test_gittins_index_by_hand() -> None:
    quantiles = np.array([[1.0, 1.0, 1.0, 100.0, 100.0], [10.0, 10.0, 10.0, 10.0, 10.0]], np.float32)
    # Two out of five never end soon: stopping at 1 s costs 1 s in any case and succeeds with 0.6.
    np.testing.assert_allclose(predicted_gittins(quantiles), [1.0 / 0.6, 10.0], rtol=1e-6)


def test_the_weights_know_what_they_were_trained_on() -> None:
    card = json.loads((WEIGHTS / "uncertainty_gnn.json").read_text())
    assert card["training"]["split"] == "train"
    assert card["training"]["seeds"]
    assert card["training"]["commit"]
    assert np.array(card["network"]["ranking"]).shape == (2, 2 + len(LEVELS))


@pytest.mark.parametrize(("scenario", "jobs"), [("predefined", 80), ("chain", 300)])
def test_it_is_better_than_llmsched(scenario: str, jobs: int) -> None:
    ours, llmsched = (
        sum(mean_jct_s(scenario, jobs, seed, load_policy(name)) for seed in (1, 2, 3, 4))
        for name in ("uncertainty_gnn", "llmsched")
    )
    assert ours < llmsched


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"index": "gitins"}, "index: got 'gitins'"),
        ({"reserve_s": -1.0}, "reserve_s"),
        ({"reserve_s": float("nan")}, "reserve_s"),
        ({"weights": "nothing"}, "weights"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        UncertaintyGNN(**parameters)


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"identity: got nothing"):
        weights_of({}, tmp_path)
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="a safetensors file"):
        read_weights(path)


def test_joined_examples_keep_their_graphs() -> None:
    parts = []
    for seed in (1, 2, 3):
        collector = Collector()
        collector.play(make_env("planning", 12, seed), load_policy("srtf"), seed, share=0.3, held_out=False)
        parts.append(collector.examples)
    whole = joined(parts)
    before = np.cumsum([0, *(len(part.features) for part in parts)])
    for number, part in enumerate(parts):
        for mine in (0, len(part.features) - 1):
            batch, first = whole.batch(whole.graph[[before[number] + mine]])
            alone, start = part.batch(part.graph[[mine]])
            np.testing.assert_array_equal(batch.nodes, alone.nodes)
            assert [link.tolist() for level in batch.levels for link in level] == [
                link.tolist() for level in alone.levels for link in level
            ]
            assert first[0] + whole.place[before[number] + mine] == start[0] + part.place[mine]


def test_the_recipe_trains_and_goes_on(recipe: ModuleType, tmp_path: Path) -> None:
    config = recipe.Config(
        episodes={"chain": 2},
        sampled={"chain": 0.5},
        loads=(3.0,),
        jobs=(12,),
        epochs=1,
        batch=64,
        width=4,
        hidden=8,
        refine=1,
        refine_jobs={"chain": 30},
        pairs=2,
        spread=0.5,
        validate={"chain": 1},
        output=tmp_path,
    )
    recipe.Run(config).train()
    weights = tmp_path / "uncertainty_gnn.safetensors"
    learned = weights.read_bytes()
    policy = load_policy("uncertainty_gnn", weights=str(weights))
    assert isinstance(policy, UncertaintyGNN)
    training = json.loads(weights.with_suffix(".json").read_text())["training"]
    refined = training["refined"]
    assert np.abs(np.array(refined["centre"][:-1]).reshape(2, -1) - RANKINGS["blend"]).max() > 1e-3
    assert refined["kept"] == (refined["validated"]["chain"] < 1.0)
    assert (np.abs(policy.ranking - RANKINGS["blend"]).max() > 1e-3) == refined["kept"]
    assert training["seeds"] == "100000 to 100001, 110000 to 110001, 200000 to 200000, 300000 to 300000"
    losses = (tmp_path / "losses.csv").read_text().splitlines()
    assert losses[0] == "round,epoch,application,mean,quantiles"
    assert {line.split(",")[0] for line in losses[1:]} == {"1", "2"}

    recipe.Run(config).train()  # nothing is left to do
    assert weights.read_bytes() == learned
    with pytest.raises(InputError, match=r"settings"):
        recipe.Run(recipe.Config(output=tmp_path, seed=1))


def test_a_run_that_was_stopped_goes_on_with_what_it_collected(recipe: ModuleType, tmp_path: Path) -> None:
    config = recipe.Config(
        episodes={"chain": 2},
        sampled={"chain": 0.5},
        jobs=(12,),
        epochs=1,
        batch=64,
        width=4,
        hidden=8,
        output=tmp_path,
    )
    recipe.Run(config).train()
    weights = tmp_path / "uncertainty_gnn.safetensors"
    learned = weights.read_bytes()
    weights.unlink()
    weights.with_suffix(".json").unlink()
    recipe.Run(config).train()
    assert weights.read_bytes() == learned
