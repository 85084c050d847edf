"""Models that are loaded, activated and evicted, and inputs that are fetched: schedules solved by hand.

Every iteration takes 1 s, whatever it holds, so that a task with k output tokens takes k seconds from when it joins.
Models a, b and c have 2 GB of weights and 20 MB of KV room each; an executor loads 1 GB/s after 0.5 s: 2.5 s.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_workloads import random_draft

from llmsched_gym.backends.simulator import loop
from llmsched_gym.cluster.lifecycle import is_over
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.workloads.jobtrace import read_job_trace
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

SECOND = 10**9
SERVED = {"latency": "one-second-per-token", "kv_tokens": 2000}
MODELS = ("a", "b", "c")
LOAD_S = 2.5
GB = 10**9


def llm(**fields: Any) -> dict[str, Any]:
    """A group of LLM executors that serve a, b and c, with room for two of them."""
    return {
        "kind": "llm",
        "location": "here",
        "max_num_seqs": 4,
        "memory_gb": 4.5,
        "serves": dict.fromkeys(MODELS, SERVED),
        "load": {"overhead_s": 0.5, "gb_per_s": 1.0},
        "activate_s": 0.25,
        **fields,
    }


def cluster(*groups: dict[str, Any], links: list[dict[str, Any]] | None = None) -> ClusterSpec:
    """A cluster of these groups, with three models of 2 GB and a KV cache of 10 KB per token."""
    models = {key: {"weights_gb": 2, "kv_kib_per_token": 10} for key in MODELS}
    return ClusterSpec.model_validate({"models": models, "executors": groups, "links": links or []})


def ask(model: str, output: int = 1, **fields: Any) -> dict[str, Any]:
    """An LLM task."""
    return {"prompt_tokens": 64, "output_tokens": output, "model": model, **fields}


def run_tool(seconds: float = 1.0, **fields: Any) -> dict[str, Any]:
    """A regular task."""
    return {"duration_s": seconds, **fields}


def jobs(folder: Path, *given: list[list[dict[str, Any]]], arrivals: tuple[float, ...] = ()) -> Workload:
    """Jobs that consist of stages in a row, each a list of tasks; job k arrives at `arrivals[k]`, or at 0."""
    applications, records = [], []
    for k, stages in enumerate(given):
        names = [f"stage{s}" for s in range(len(stages))]
        templates = [
            {
                "name": name,
                "kind": "llm" if "prompt_tokens" in tasks[0] else "regular",
                "parents": names[s - 1 : s] if s else [],
            }
            for s, (name, tasks) in enumerate(zip(names, stages, strict=True))
        ]
        applications.append({"name": f"app{k}", "type": "predefined", "prefixes": ["shared"], "stages": templates})
        listed = [{"stage": name, "tasks": tasks} for name, tasks in zip(names, stages, strict=True)]
        records.append({"application": f"app{k}", "arrival_s": dict(enumerate(arrivals)).get(k, 0.0), "stages": listed})
    content = {"format": "llmsched-gym/job-trace", "version": 1, "models": MODELS}
    path = folder / "trace.json"
    path.write_text(json.dumps({**content, "applications": applications, "jobs": records}))
    return read_job_trace(path)


@dataclass
class Run:
    """A cluster whose decisions the test takes."""

    state: ClusterState
    simulation: loop.Simulation

    @classmethod
    def of(cls, workload: Workload, spec: ClusterSpec) -> Run:
        """Begin, at the first decision."""
        state, simulation = loop.start(workload, spec)
        loop.advance(state, simulation, False)
        return cls(state, simulation)

    @property
    def now_s(self) -> float:
        """The time."""
        return self.state.clock[0]["now_ns"] / SECOND

    def takes(self, executor: int, model: str) -> bool:
        """Whether an executor takes tasks of a model now."""
        row = self.state.executors[executor]
        return bool(int(row["pools"]) >> MODELS.index(model) & 1) and row["running"] < row["slots"]

    def free(self, model: str) -> int:
        """Free slots for tasks of a model."""
        return int(self.state.pools[MODELS.index(model)]["free"])

    def resident(self, executor: int = 0) -> str:
        """Resident models of an executor that serves all three."""
        first = self.state.executors[executor]["first_engine"]
        return "".join(name for k, name in enumerate(MODELS) if self.state.hosts[first + k]["resident"])

    def active(self, executor: int = 0) -> str:
        """The active model."""
        row = self.state.executors[executor]
        return MODELS[row["engine"] - row["first_engine"]]

    def dispatch(self, stage: int, executor: int = 0) -> Any:
        """Dispatch the next task of a stage; return its row."""
        row = self.state.stages[stage]
        task = int(row["first_task"] + row["started_tasks"])
        assert (int(self.state.executors[executor]["pools"]) >> int(row["pool"])) & 1, "the mask forbids it"
        loop.dispatch(self.state, self.simulation, stage, executor)
        return self.state.tasks[task]

    def go_on(self) -> float:
        """Wait until anything is seen; return the time."""
        loop.advance(self.state, self.simulation, True)
        return self.now_s

    def alone(self, stage: int, executor: int = 0) -> Any:
        """Dispatch the next task of a stage and wait until it is done."""
        task = self.dispatch(stage, executor)
        while task["status"] != 2:
            self.go_on()
        return task

    def finish(self) -> None:
        """Dispatch and wait until everything is done."""
        loop.run_fcfs(self.state, self.simulation)
        assert is_over(self.state)


def seconds(task: Any) -> tuple[float, float, float, float]:
    """Dispatch, join, first iteration and end of a task."""
    return tuple(float(task[name]) / SECOND for name in ("start_ns", "join_ns", "scheduled_ns", "finish_ns"))  # pyright: ignore


def test_the_first_task_waits_until_its_model_is_loaded_and_others_join_then(tmp_path: Path) -> None:
    workload = jobs(tmp_path, [[ask("a", 1), ask("a", 3)]], [[ask("a", 2)]], arrivals=(0.0, 1.0))
    run = Run.of(workload, cluster(llm()))
    first, second = run.dispatch(0), run.dispatch(0)
    assert (first["load_ns"], second["load_ns"]) == (2_500_000_000, 0)
    assert run.go_on() == 1.0
    third = run.dispatch(1)
    run.finish()
    assert third["load_ns"] == 0
    assert seconds(first) == (0.0, 2.5, 2.5, 3.5)
    assert seconds(second) == (0.0, 2.5, 2.5, 5.5)
    assert seconds(third) == (1.0, 2.5, 2.5, 4.5)


def test_a_task_that_comes_later_joins_at_once(tmp_path: Path) -> None:
    workload = jobs(tmp_path, [[ask("a", 3)]], [[ask("a", 1)]], arrivals=(0.0, 3.0))
    run = Run.of(workload, cluster(llm()))
    run.dispatch(0)
    assert run.go_on() == 3.0
    task = run.dispatch(1)
    run.finish()
    assert seconds(task) == (3.0, 3.0, 3.5, 4.5)  # an iteration runs from 2.5 to 3.5


def test_a_resident_model_is_activated(tmp_path: Path) -> None:
    workload = jobs(tmp_path, [[ask("a")]], [[ask("b")]], [[ask("c")]])
    run = Run.of(workload, cluster(llm(resident=["a", "b"])))
    assert run.active() == "a"
    active, inactive, absent = run.alone(0), run.alone(1), run.alone(2)
    assert seconds(active) == (0.0, 0.0, 0.0, 1.0)
    assert seconds(inactive) == (1.0, 1.25, 1.25, 2.25)
    assert seconds(absent) == (2.25, 4.75, 4.75, 5.75)
    assert [one["load_ns"] for one in (active, inactive, absent)] == [0, 250_000_000, 2_500_000_000]


def test_an_executor_takes_no_other_model_until_it_is_drained(tmp_path: Path) -> None:
    workload = jobs(tmp_path, [[ask("a", 1), ask("a", 2)]], [[ask("b")]], [[ask("a")]])  # the last waits all the time
    run = Run.of(workload, cluster(llm(resident=["b", "a"])))
    assert [run.takes(0, model) for model in MODELS] == [True, True, True]
    run.dispatch(0)
    assert [run.takes(0, model) for model in MODELS] == [True, False, False]  # also while it is activated
    assert [run.free(model) for model in MODELS] == [3, 0, 0]
    run.dispatch(0)
    assert [run.free(model) for model in MODELS] == [2, 0, 0]
    assert run.go_on() == 1.25
    assert [run.takes(0, model) for model in MODELS] == [True, False, False]
    assert [run.free(model) for model in MODELS] == [3, 0, 0]
    assert run.go_on() == 2.25
    assert [run.takes(0, model) for model in MODELS] == [True, True, True]
    assert [run.free(model) for model in MODELS] == [4, 4, 4]
    assert run.active() == "a"
    assert seconds(run.alone(1)) == (2.25, 2.5, 2.5, 3.5)


def test_the_model_used_least_recently_makes_room(tmp_path: Path) -> None:
    order = "cacbab"
    workload = jobs(tmp_path, *([[ask(model)]] for model in order))
    run = Run.of(workload, cluster(llm(resident=["a", "b"])))
    assert run.resident() == "ab"
    seen, loaded = [], []
    for stage in range(len(order)):
        task = run.alone(stage)
        seen.append(run.resident())
        loaded.append(task["load_ns"] / SECOND)
    # c evicts b, which came second at time 0; a and c stay; b evicts a, then a evicts c, used longer ago than b.
    assert seen == ["ac", "ac", "ac", "bc", "ab", "ab"]
    assert loaded == [2.5, 0.25, 0.25, 2.5, 2.5, 0.25]


@pytest.mark.parametrize(("resident", "left"), [(["a", "b"], "ac"), (["b", "a"], "bc")])
def test_at_time_0_the_model_named_last_goes_first(tmp_path: Path, resident: list[str], left: str) -> None:
    run = Run.of(jobs(tmp_path, [[ask("c")]]), cluster(llm(resident=resident)))
    run.dispatch(0)
    assert run.resident() == left


def test_as_many_make_room_as_must_and_no_more(tmp_path: Path) -> None:
    facts = {"kv_kib_per_token": 10}
    catalogue = {name: {"weights_gb": 4 if name == "c" else 2, **facts} for name in MODELS}
    workload = jobs(tmp_path, [[ask("c")]])
    for memory_gb, left in ((8.5, "abc"), (6.5, "ac"), (4.5, "c")):
        group = llm(resident=["a", "b"] if memory_gb > 4.1 else [], memory_gb=memory_gb)
        spec = ClusterSpec.model_validate({"models": catalogue, "executors": [group]})
        run = Run.of(workload, spec)
        task = run.dispatch(0)
        assert run.resident() == left
        assert task["load_ns"] == 4_500_000_000
        taken = {"abc": 8, "ac": 6, "c": 4}[left] * GB + len(left) * 2000 * 10 * 1024
        assert run.state.executors[0]["free_bytes"] == round(memory_gb * GB) - taken


def test_eviction_loses_the_prefix_cache_and_staying_resident_keeps_it(tmp_path: Path) -> None:
    prefix = {"app_prefix": "shared", "app_prefix_tokens": 48}
    chain = [[ask("a", **prefix)], [ask("b")], [ask("a", **prefix)], [ask("c")], [ask("b")], [ask("a", **prefix)]]
    run = Run.of(jobs(tmp_path, chain), cluster(llm()))
    tasks = [run.alone(stage) for stage in range(len(chain))]
    assert [task["load_ns"] / SECOND for task in tasks] == [2.5, 2.5, 0.25, 2.5, 2.5, 2.5]
    assert [task["cached_tokens"] for task in tasks] == [0, 0, 48, 0, 0, 0]


def test_two_gpus_halve_the_load_time_but_for_the_overhead(tmp_path: Path) -> None:
    workload = jobs(tmp_path, [[ask("a")]], [[ask("a")]])
    run = Run.of(workload, cluster(llm(), llm(gpus=2)))
    one, two = run.dispatch(0, 0), run.dispatch(1, 1)
    run.finish()
    assert (one["load_ns"], two["load_ns"]) == (2_500_000_000, 1_500_000_000)
    assert (seconds(one)[3], seconds(two)[3]) == (3.5, 2.5)
    bare = [cluster(llm(gpus=gpus, load={"gb_per_s": 1.0})).engines[0][1].load_ns for gpus in (1, 2, 4)]
    assert bare == [2 * SECOND, SECOND, SECOND // 2]
    assert run.state.executors[1]["free_bytes"] == 9 * GB - (2 * GB + 2000 * 10 * 1024)  # memory is of each GPU


def test_an_executor_without_an_active_model_holds_nothing(tmp_path: Path) -> None:
    run = Run.of(jobs(tmp_path, [[ask("c", 9)]], [[ask("a")]], arrivals=(0.0, 4.0)), cluster(llm(), llm()))
    run.dispatch(0, 1)
    assert run.go_on() == 4.0
    assert run.state.executors["engine"].tolist() == [-1, 5]
    assert [loop.kv_share(run.state, run.simulation, executor) for executor in (0, 1)] == [0.0, 5 / 125]


def test_executors_of_a_group_have_models_of_their_own(tmp_path: Path) -> None:
    workload = jobs(tmp_path, [[ask("a")]], [[ask("b")]], [[ask("a")]])
    run = Run.of(workload, cluster(llm(count=2)))
    first, second = run.dispatch(0, 0), run.dispatch(1, 1)
    assert (run.resident(0), run.resident(1)) == ("a", "b")
    assert [run.takes(0, model) for model in MODELS] == [True, False, False]
    assert [run.takes(1, model) for model in MODELS] == [False, True, False]
    run.finish()
    assert seconds(first)[3] == seconds(second)[3] == 3.5


# Inputs


LINKS = [
    {"between": ["here", "near"], "gb_per_s": 2.0, "latency_s": 0.1},
    {"between": ["here", "far"], "gb_per_s": 0.5, "latency_s": 0.2},
    {"between": ["near", "far"], "gb_per_s": 1.0},
]
NEAR, FAR = {"kind": "regular", "location": "near"}, {"kind": "regular", "location": "far"}


def test_inputs_come_from_all_sources_at_once(tmp_path: Path) -> None:
    parents = [run_tool(1, output_bytes=GB), run_tool(1, output_bytes=GB // 4), run_tool(1, output_bytes=GB)]
    workload = jobs(tmp_path, [parents, [ask("a"), ask("a")]])
    run = Run.of(workload, cluster(llm(resident=["a"]), NEAR, NEAR, FAR, links=LINKS))
    for executor in (1, 2, 3):
        assert run.dispatch(0, executor)["moved_bytes"] == 0
    assert run.go_on() == 1.0
    # 1.25 GB at 2 GB/s after 0.1 s; 1 GB at 0.5 GB/s after 0.2 s.
    task, another = run.dispatch(1), run.dispatch(1)
    run.finish()
    assert seconds(task) == seconds(another) == (1.0, 3.2, 3.2, 4.2)
    assert task["moved_bytes"] == another["moved_bytes"] == 9 * GB // 4


def test_what_lies_where_it_is_needed_is_not_fetched(tmp_path: Path) -> None:
    workload = jobs(tmp_path, [[ask("a", output_bytes=GB)], [ask("a")], [run_tool()]])
    run = Run.of(workload, cluster(llm(resident=["a"]), NEAR, FAR, links=LINKS))
    assert seconds(run.alone(0))[3] == 1.0
    second = run.alone(1)
    assert seconds(second) == (1.0, 1.0, 1.0, 2.0)
    assert second["moved_bytes"] == 0
    tool = run.dispatch(2, 1)
    assert tool["moved_bytes"] == 4  # four bytes per token, unless given
    assert tool["join_ns"] == 2 * SECOND + 100_000_000 + 2


@pytest.mark.parametrize(("executor", "arrives"), [(1, 1.6), (2, 3.2)])
def test_regular_executors_start_after_the_fetch(tmp_path: Path, executor: int, arrives: float) -> None:
    workload = jobs(tmp_path, [[ask("a", output_bytes=GB)], [run_tool(5)]])
    run = Run.of(workload, cluster(llm(resident=["a"]), NEAR, FAR, links=LINKS))
    run.alone(0)
    task = run.alone(1, executor)
    start, join, _, finish = seconds(task)
    assert (start, join, finish) == (1.0, arrives, arrives + 5)
    assert run.state.executors[executor]["busy_ns"] == round((arrives + 5 - 1) * SECOND)  # it holds the slot meanwhile


@pytest.mark.parametrize(("size_gb", "joins"), [(0.25, 3.5), (1.0, 3.5), (2.0, 5.2)])
def test_loading_and_fetching_overlap(tmp_path: Path, size_gb: float, joins: float) -> None:
    """Loading takes until 1 + 2.5 s; fetching until 1 + 0.2 + 2 s per GB."""
    workload = jobs(tmp_path, [[run_tool(1, output_bytes=round(size_gb * GB))], [ask("a")]])
    run = Run.of(workload, cluster(llm(), NEAR, FAR, links=LINKS))
    run.alone(0, 2)
    assert seconds(run.alone(1)) == (1.0, joins, joins, joins + 1)


def test_tasks_join_in_the_order_of_their_inputs(tmp_path: Path) -> None:
    """What was dispatched first joins last: another task runs, and ends, meanwhile."""
    workload = jobs(
        tmp_path, [[run_tool(1, output_bytes=2 * GB)], [ask("a")]], [[run_tool(1, output_bytes=GB)], [ask("a", 2)]]
    )
    run = Run.of(workload, cluster(llm(resident=["a"]), NEAR, FAR, links=LINKS))
    run.dispatch(0, 2)
    run.dispatch(2, 1)
    assert run.go_on() == 1.0
    slow, fast = run.dispatch(1), run.dispatch(3)
    run.finish()
    assert seconds(fast) == (1.0, 1.6, 1.6, 3.6)
    assert seconds(slow) == (1.0, 5.2, 5.2, 6.2)


def test_a_link_is_the_same_both_ways_and_for_each_transfer(tmp_path: Path) -> None:
    workload = jobs(tmp_path, [[ask("a", output_bytes=GB)], [run_tool(1, output_bytes=GB), run_tool(1)], [ask("a")]])
    run = Run.of(workload, cluster(llm(resident=["a"]), NEAR, NEAR, FAR, links=LINKS))
    run.alone(0)
    tools = [run.dispatch(1, 1), run.dispatch(1, 2)]
    assert [seconds(tool)[1] for tool in tools] == [1.6, 1.6]  # both at the full rate
    run.finish()
    assert seconds(run.state.tasks[-1]) == (2.6, 3.2, 3.2, 4.2)


# Where nothing has to be waited for


@pytest.mark.parametrize("seed", range(12))
def test_without_delays_all_goes_as_without_models_and_links(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bare = random_draft(rng, 2, 4, 5, 10**10).assemble()
    tasks = bare.tasks.copy()
    tasks["output_bytes"] = 0
    tasks["model"] = np.where(bare.stages["kind"][tasks["stage"]] == StageKind.LLM, 0, -1)
    workload = replace(bare, tasks=tasks, models=("a",))
    engine = {"kind": "llm", "max_num_seqs": 3, "max_num_batched_tokens": 50, "block_size": 4, "location": "here"}
    one = {**engine, "latency": "llama-2-7b-h100", "kv_tokens": 400, "model": "a"}
    served = {"latency": "llama-2-7b-h100", "kv_tokens": 400}
    several = {
        **engine,
        "serves": {"b": served, "a": served},
        "memory_gb": 100,
        "load": {"gb_per_s": 1e6},
        "resident": ["b", "a"] if seed % 2 else [],
    }
    tiny = {key: {"weights_gb": 0.0001, "kv_kib_per_token": 1} for key in "ab"}  # loaded within a tenth of a nanosecond
    link = {"between": ["here", "near"], "gb_per_s": 1.0}
    specs = [
        ClusterSpec.model_validate({"models": tiny, "executors": [group, group, NEAR, NEAR], "links": links})
        for group in (one, several)
        for links in ([], [link])
    ]
    times = []
    for spec in specs:
        run = Run.of(workload, spec)
        run.finish()
        times.append([run.state.tasks[name].tolist() for name in ("start_ns", "join_ns", "finish_ns", "executor")])
        assert times[-1] == times[0]
        assert not run.state.tasks["load_ns"].any()
