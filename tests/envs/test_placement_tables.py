"""What it would cost to run each candidate on each executor, worked out again in plain Python.

Which models are resident and active follows from the dispatches so far, by the classes of `plain_simulator`; inputs
from the jobs and where their tasks ran; what a prefix cache holds from what the task finds when it is dispatched.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from plain_simulator import Executor, Model, executors_of
from random_workloads import Case, random_model_cluster, with_models

from llmsched_gym.backends.simulator import loop
from llmsched_gym.cluster.latency import load_profile
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, TaskStatus
from llmsched_gym.envs.columns import Ahead, Node, Placement, Residency, System
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.transfer import expected_output_bytes
from llmsched_gym.workloads.workload import Workload

SEEDS = range(40)


def draw(seed: int) -> tuple[Workload, ClusterSpec, np.random.Generator]:
    """A random workload whose stages ask for models, a cluster that serves them, and a generator for actions.

    No KV is sent there: what is cached where is compared in `tests/backends/test_kv_transfer.py`.
    """
    case = Case(seed, n_apps=2, n_jobs=4, n_stages=5, spread_ns=[0, 10**7, 10**10][seed % 3], short_of_kv=False)
    draft, _, rng = case.draw()
    cluster = random_model_cluster(rng).model_copy(update={"kv_transfer": None})
    return with_models(rng, draft.assemble()), cluster, rng


def make_env(workload: Workload, cluster: ClusterSpec, **kwargs: Any) -> SchedulingEnv:
    """An environment that shows placements."""
    return SchedulingEnv("toy", workload=workload, cluster=cluster, placement="agent", profiler=False, **kwargs)


class Shadow:
    """What plain Python knows of an episode: the executors' models by the dispatches, the rest by the jobs."""

    def __init__(self, env: SchedulingEnv, workload: Workload, cluster: ClusterSpec) -> None:
        self.env, self.workload, self.cluster = env, workload, cluster
        self.executors: list[Executor] = executors_of(cluster)
        self.links = {frozenset(link.between): link for link in cluster.links}
        self.parents: dict[int, list[int]] = {}
        for s, row in enumerate(workload.stages):
            for child in workload.children[row["first_child"] : row["first_child"] + row["n_children"]].tolist():
                self.parents.setdefault(child, []).append(s)

    @property
    def now_ns(self) -> int:
        """The time."""
        return int(self.env.episode.state.clock[0]["now_ns"])

    def look(self) -> None:
        """Take note of what has ended."""
        tasks = self.env.episode.state.tasks
        for e, executor in enumerate(self.executors):
            mine = tasks[tasks["executor"] == e]
            executor.running = int((mine["status"] == TaskStatus.RUNNING).sum())
            if executor.running == 0 and executor.active is not None and len(mine):
                executor.active.used_ns = max(executor.active.used_ns, int(mine["finish_ns"].max()))

    def model_of(self, stage: int) -> str:
        """The model that the tasks of a stage ask for; none for tools."""
        model = int(self.workload.tasks[self.workload.stages[stage]["first_task"]]["model"])
        return self.workload.models[model] if model >= 0 else ""

    def served(self, stage: int, executor: Executor) -> Model | None:
        """The model by which an executor would serve a stage."""
        return next((one for one in executor.models if one.host.model == self.model_of(stage)), None)

    def fetch_ns(self, stage: int, executor: Executor) -> int:
        """How long fetching the inputs of a stage takes."""
        state, sizes = self.env.episode.state, Counter[int | str]()
        for parent in self.parents.get(stage, ()):
            row = self.workload.stages[parent]
            for t in range(row["first_task"], row["first_task"] + row["n_tasks"]):
                if state.tasks[t]["status"] == TaskStatus.DONE:
                    where = self.executors[state.tasks[t]["executor"]].location
                    sizes[where] += int(self.workload.tasks[t]["output_bytes"])
        longest = 0
        for where, size in sizes.items():
            if self.links and where != executor.location and size > 0:
                link = self.links[frozenset((where, executor.location))]
                longest = max(longest, round(link.latency_s * 1e9) + math.ceil(size * (1.0 / link.gb_per_s)))
        return longest

    def load_ns(self, model: Model, executor: Executor) -> int:
        """How long it takes until a model is there."""
        if model is executor.active:
            return max(executor.ready_ns - self.now_ns, 0)
        return model.host.load_ns if model.engine is None else round(model.group.activate_s * 1e9)

    def reload_ns(self, model: Model, executor: Executor) -> int:
        """How long loading back takes of what has to make room for a model."""
        resident = [one for one in executor.models if one.engine is not None]
        if model.engine is not None:
            return 0
        total, used = 0, sum(one.host.bytes for one in resident)
        for one in sorted(resident, key=lambda one: one.used_ns):
            if used + model.host.bytes > executor.memory:
                used -= one.host.bytes
                total += one.host.load_ns
        return total

    def history(self, stage: int) -> Any:
        """The historical means of a stage's template node."""
        row = self.workload.stages[stage]
        return self.workload.history[self.workload.jobs[row["job"]]["app"]][row["node"]]

    def idle_task_s(self, stage: int, model: Model, cached: float) -> float:
        """What one task of a stage would take on an idle engine: by the mean of its tokens, and its own prompt."""
        history, state = self.history(stage), self.env.episode.state
        row = state.stages[stage]
        prompt = int(self.workload.tasks[row["first_task"] + row["started_tasks"]]["prompt_tokens"])
        profile = load_profile(model.host.latency)
        output = float(history["output_tokens"]) / max(float(history["n_tasks"]), 1.0)
        step_ps = profile.iteration_ps + profile.decode_ps + profile.context_ps * (prompt + 0.5 * output)
        return (output * step_ps + max(prompt - cached, 1) * profile.prefill_ps) * 1e-12

    def dispatched(self, stage: int, e: int) -> None:
        """Take note of a dispatch."""
        if self.executors[e].models:
            self.executors[e].activate(self.model_of(stage), self.now_ns)


def seconds(ns: int) -> np.float32:
    """What a column shows of a time."""
    return np.float32(ns * 1e-9)


def check(shadow: Shadow, seen: dict[str, NDArray[Any]], counts: Counter[str]) -> None:
    """Compare every column with what plain Python makes of it, but for prefix caches."""
    state, now_ns = shadow.env.episode.state, shadow.now_ns
    table, mask = seen["placements"], seen["action_mask"]
    np.testing.assert_array_equal(table[:, :, Placement.LEGAL], mask[:-1].reshape(table.shape[:2]))
    names = shadow.cluster.model_names
    ready = state.ready[: state.clock[0]["ready"]].tolist()
    assert not table[len(ready) :].any()
    for i, stage in enumerate(ready[: len(table)]):
        tool = state.stages[stage]["kind"] == StageKind.REGULAR
        for e, executor in enumerate(shadow.executors):
            row = table[i, e]
            model = shadow.served(stage, executor)
            serves = not executor.models if tool else model is not None
            counts["legal"] += int(row[Placement.LEGAL])
            assert row[Placement.SERVES] == serves
            if not serves:
                assert row[Placement.MODEL] == -1
                assert not np.delete(row, Placement.MODEL).any()
                continue
            assert row[Placement.FETCH_S] == seconds(shadow.fetch_ns(stage, executor))
            counts["fetches"] += row[Placement.FETCH_S] > 0
            free = executor.running < executor.slots and (tool or executor.takes(shadow.model_of(stage)))
            assert row[Placement.LEGAL] == free
            if free:
                assert row[Placement.WAIT_S] == 0.0
            if model is None:
                history = shadow.history(stage)
                mean_ns = round(float(history["seconds"]) * 1e9 / max(float(history["n_tasks"]), 1.0))
                assert row[Placement.MODEL] == -1
                assert row[Placement.TASK_S] == seconds(mean_ns)
                assert not row[[Placement.LOAD_S, Placement.CACHED_TOKENS, Placement.EVICT_S]].any()
                if not free:
                    running = state.tasks[(state.tasks["executor"] == e) & (state.tasks["status"] == 1)][0]
                    left_ns = running["join_ns"] + state.stages[running["stage"]]["task_work_ns"] - now_ns
                    assert row[Placement.WAIT_S] == seconds(max(int(left_ns), 0))
                continue
            assert row[Placement.MODEL] == names.index(model.host.model)
            assert row[Placement.LOAD_S] == seconds(shadow.load_ns(model, executor))
            assert row[Placement.EVICT_S] == seconds(shadow.reload_ns(model, executor))
            counts["loads"] += row[Placement.LOAD_S] > 0
            counts["evictions"] += row[Placement.EVICT_S] > 0
            if model.engine is None:
                assert row[Placement.CACHED_TOKENS] == 0
            if not free:
                assert row[Placement.WAIT_S] > 0.0
                counts["waits"] += 1
            if model is not executor.active or executor.running == 0:
                expected = shadow.idle_task_s(stage, model, float(row[Placement.CACHED_TOKENS]))
                assert row[Placement.TASK_S] == pytest.approx(expected, rel=1e-6)
                counts["idle"] += 1
            else:
                counts["busy"] += 1


def check_models(shadow: Shadow, models: NDArray[Any]) -> None:
    """Compare which models are where."""
    names = shadow.cluster.model_names
    expected = np.zeros_like(models)
    for e, executor in enumerate(shadow.executors):
        for one in executor.models:
            column = names.index(one.host.model)
            expected[e, column, Residency.RESIDENT] = one.engine is not None
            latency = load_profile(one.host.latency)
            expected[e, column, Residency.SERVES] = 1
            expected[e, column, Residency.LOAD_S] = seconds(one.host.load_ns)
            expected[e, column, Residency.STEP_S] = (latency.iteration_ps + latency.decode_ps) * 1e-12
            expected[e, column, Residency.PREFILL_S] = latency.prefill_ps * 1e-12
            if one is executor.active:
                expected[e, column, Residency.ACTIVE] = 1
                expected[e, column, Residency.LOADING_S] = seconds(max(executor.ready_ns - shadow.now_ns, 0))
    np.testing.assert_array_equal(models, expected)


def play(seed: int, counts: Counter[str]) -> None:
    """Play an episode of random actions, and check every observation."""
    workload, cluster, rng = draw(seed)
    env = make_env(workload, cluster, max_candidates=3 if seed % 4 == 0 else None, max_jobs=None)
    observation, _ = env.reset(seed=0)
    shadow = Shadow(env, workload, cluster)
    done = False
    while not done:
        shadow.look()
        check(shadow, observation, counts)
        check_models(shadow, observation["models"])
        mask = observation["action_mask"]
        legal = np.flatnonzero(mask)
        action = int(rng.choice(legal[:-1] if len(legal) > 1 and rng.random() < 0.8 else legal))
        if action < len(mask) - 1:
            row, e = divmod(action, len(shadow.executors))
            shadow.dispatched(int(env.episode.state.ready[row]), e)
        observation, _, done, _, _ = env.step(action)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_column_is_what_plain_python_makes_of_it(seed: int) -> None:
    counts: Counter[str] = Counter()
    play(seed, counts)
    assert counts["legal"] > 0


def test_there_was_something_to_see() -> None:
    counts: Counter[str] = Counter()
    for seed in (4, 7, 21, 25):
        play(seed, counts)
    for what in ("legal", "fetches", "loads", "evictions", "waits", "idle", "busy"):
        assert counts[what] >= 20, counts


def test_a_task_finds_in_the_prefix_cache_what_was_shown() -> None:
    """Wherever an executor is idle, the next task of each candidate is dispatched there, in a copy of the episode."""
    found: Counter[bool] = Counter()
    for seed in SEEDS:
        workload, cluster, rng = draw(seed)
        env = make_env(workload, cluster, max_candidates=None, max_jobs=None)
        observation, _ = env.reset(seed=0)
        done = False
        while not done:
            mask = observation["action_mask"]
            found.update(found_in_copies(env, observation["placements"]))
            legal = np.flatnonzero(mask)
            observation, _, done, _, _ = env.step(int(rng.choice(legal[:-1] if len(legal) > 1 else legal)))
    assert found[True] >= 100
    assert found[False] >= 100


def found_in_copies(env: SchedulingEnv, placements: NDArray[Any]) -> list[bool]:
    """Check what tasks find on idle executors; tells for each whether it found anything."""
    found = []
    executors = env.episode.state.executors
    for i, e in np.argwhere(placements[:, :, Placement.LEGAL] == 1):
        if executors[e]["n_engines"] == 0 or executors[e]["running"] > 0:
            continue
        arrays: Any = copy.deepcopy(env.episode.arrays)  # pyright: ignore[reportAttributeAccessIssue]
        state, simulation = arrays.cluster, arrays.simulation
        stage = int(state.ready[i])
        task = int(state.stages[stage]["first_task"] + state.stages[stage]["started_tasks"])
        loop.dispatch(state, simulation, stage, int(e))
        while state.tasks[task]["scheduled_ns"] == FAR:
            loop.advance(state, simulation, True)
        shown = placements[i, e, Placement.CACHED_TOKENS]
        assert state.tasks[task]["cached_tokens"] == shown
        found.append(bool(shown > 0))
    return found


def test_executors_with_one_model_show_it_as_resident_and_active() -> None:
    env = SchedulingEnv("mixed", jobs=3, placement="agent", profiler=False)
    observation, _ = env.reset(seed=0)
    llm = env.episode.state.executors["n_engines"] > 0
    shown = observation["models"][llm][..., : Residency.LOAD_S]
    assert shown.tolist() == [[[1.0, 1.0, 0.0, 1.0]]] * int(llm.sum())
    assert not observation["models"][~llm].any()
    for column in (Placement.LOAD_S, Placement.EVICT_S, Placement.FETCH_S):
        assert not observation["placements"][:, :, column].any()


def test_ahead_tells_of_the_stages_in_nodes_also_where_jobs_do_not_fit() -> None:
    env = SchedulingEnv(
        "hetero4", jobs=30, load=5.0, placement="agent", observation="graph", profiler=False, max_candidates=1
    )
    observation, _ = env.reset(seed=0)
    workload = env.workload
    tokens = [rows["output_tokens"] / np.maximum(rows["n_tasks"], 1.0) for rows in workload.history]
    sizes = expected_output_bytes(workload)
    names = env.cluster.model_names
    cut, over = 0, False
    while not over:
        count = int(observation["system"][System.NODES])
        listed = len(np.unique(observation["nodes"][:count, Node.JOB]))
        cut += listed < observation["system"][System.JOB_ROWS]
        expected = np.zeros_like(observation["ahead"])
        for row in range(count):
            app, node = observation["nodes"][row, [Node.APP, Node.NODE]].astype(int)
            model = workload.node_models[app][node]
            expected[row, Ahead.MODEL] = names.index(workload.models[model]) if model >= 0 else -1
            expected[row, Ahead.OUTPUT_TOKENS] = tokens[app][node]
            expected[row, Ahead.OUTPUT_BYTES] = sizes[app][node]
        np.testing.assert_array_equal(observation["ahead"], expected)
        observation, _, over, _, _ = env.step(int(observation["action_mask"].argmax()))
    assert cut > 0
