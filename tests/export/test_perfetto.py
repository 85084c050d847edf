"""Traces hold what happened, once, in a form that trace viewers accept."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from random_workloads import Case

from llmsched_gym.backends.simulator.loop import kv_share
from llmsched_gym.cluster.state import FAR, ClusterState, StageStatus, TaskStatus
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.simulated_episode import SimulatedEpisode
from llmsched_gym.errors import InputError
from llmsched_gym.export.perfetto import kv_tokens, write_trace

EPISODES: dict[str, tuple[dict[str, Any], int | None]] = {
    "toy": ({"scenario": "toy"}, None),
    "toy, unfinished": ({"scenario": "toy"}, 4),
    "mixed": ({"scenario": "mixed", "jobs": 15}, None),
    "mixed, unfinished": ({"scenario": "mixed", "jobs": 15}, 200),
    "mixed, at reset": ({"scenario": "mixed", "jobs": 15}, 0),
    # In 6, 7, 8 and 19, stages start before a parent of a skipped parent of theirs is done.
    **{f"random {seed}": ({"seed": seed}, None) for seed in (1, 6, 7, 8, 19)},
    **{f"random {seed}, unfinished": ({"seed": seed}, 12) for seed in (2, 4)},
}


def play(options: dict[str, Any], decisions: int | None) -> SchedulingEnv:
    """Play first come, first served, to the end or for some decisions; a random workload if a seed is given."""
    if "seed" in options:
        case = Case(options["seed"], n_apps=2, n_jobs=6, n_stages=6, spread_ns=10**9, short_of_kv=True)
        draft, cluster, _ = case.draw()
        options = {"workload": draft.assemble(), "cluster": cluster}
    env = SchedulingEnv(**options)
    _, info = env.reset(seed=5)
    done, count = False, 0
    while not done and count != decisions:
        _, _, done, _, info = env.step(int(info["action_mask"].argmax()))
        count += 1
    return env


@pytest.fixture(scope="module", params=EPISODES)
def env(request: pytest.FixtureRequest) -> SchedulingEnv:
    return play(*EPISODES[request.param])


@pytest.fixture(scope="module")
def state(env: SchedulingEnv) -> ClusterState:
    return env.episode.state


@pytest.fixture(scope="module")
def events(env: SchedulingEnv, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    write_trace(env.episode.state, env.workload, path)
    return json.loads(path.read_bytes())["traceEvents"]


def of_phase(events: list[dict[str, Any]], phase: str) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == phase]


def test_every_dispatched_task_is_one_slice(events: list[dict[str, Any]], state: ClusterState) -> None:
    started = np.flatnonzero(state.tasks["start_ns"] != FAR)
    slices = of_phase(events, "X")
    assert len(slices) == len(started)
    tasks = state.tasks[started]
    expected = Counter(
        (int(task["executor"]) + 2, int(task["start_ns"]) // 1000, int(state.stages["job"][task["stage"]]))
        for task in tasks
    )
    assert Counter((span["pid"], span["ts"], span["args"]["job"]) for span in slices) == expected
    running = np.count_nonzero(tasks["status"] == TaskStatus.RUNNING)
    assert sum(span["args"].get("unfinished", False) for span in slices) == running
    tokens = sum(span["args"].get("output_tokens", 0) for span in slices)
    assert tokens == tasks["output_tokens"].sum()


def test_time_never_goes_back(events: list[dict[str, Any]], state: ClusterState) -> None:
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)
    assert times[0] >= 0
    ends = [event["ts"] + event.get("dur", 0) for event in events if event["ph"] != "M"]
    assert max(ends) <= state.clock["now_ns"][0] // 1000


def test_slices_of_a_slot_do_not_overlap(events: list[dict[str, Any]]) -> None:
    end: dict[tuple[int, int], int] = defaultdict(int)
    for span in of_phase(events, "X"):
        track = span["pid"], span["tid"]
        assert span["dur"] >= 0
        assert span["ts"] >= end[track]
        end[track] = span["ts"] + span["dur"]


def test_every_track_is_named_and_no_thread_id_is_used_twice(events: list[dict[str, Any]], state: ClusterState) -> None:
    names = of_phase(events, "M")
    processes = {event["pid"] for event in names if event["name"] == "process_name"}
    threads = [(event["pid"], event["tid"]) for event in names if event["name"] == "thread_name"]
    assert len(processes) == len(state.executors) + 1
    assert Counter(pid for pid, _ in threads) == {
        e + 2: slots for e, slots in enumerate(state.executors["slots"].tolist())
    }
    assert len({tid for _, tid in threads} | processes) == len(threads) + len(processes)
    assert {(span["pid"], span["tid"]) for span in of_phase(events, "X")} <= set(threads)


def test_arrows_leave_one_slice_and_enter_another(events: list[dict[str, Any]]) -> None:
    starts = {event["id"]: event for event in of_phase(events, "s")}
    ends = {event["id"]: event for event in of_phase(events, "f")}
    assert len(starts) == len(of_phase(events, "s"))
    assert len(ends) == len(of_phase(events, "f"))
    assert starts.keys() == ends.keys()
    on_track = defaultdict(list)
    for span in of_phase(events, "X"):
        on_track[span["pid"], span["tid"]].append(span)

    def open_at(event: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the slices that an arrow's end may be tied to; several only where tasks take no time."""
        track = on_track[event["pid"], event["tid"]]
        return [span for span in track if span["ts"] <= event["ts"] < span["ts"] + max(span["dur"], 1)]

    for number, start in starts.items():
        pairs = [(parent, child) for parent in open_at(start) for child in open_at(ends[number])]
        assert any(
            parent["args"]["job"] == child["args"]["job"]
            and parent["ts"] + parent["dur"] <= child["ts"] == ends[number]["ts"]
            for parent, child in pairs
        )


def test_arrows_are_the_dependencies_of_the_stages_that_ran(events: list[dict[str, Any]], state: ClusterState) -> None:
    # The same by networkx: dependencies, less the stages that did not run, less what others imply.
    graph = nx.DiGraph()
    stages = state.stages
    graph.add_nodes_from(range(len(stages)))
    for stage, row in enumerate(stages):
        for child in state.children[row["first_child"] :][: row["n_children"]]:
            if stages["status"][child] != StageStatus.SKIPPED:
                graph.add_edge(stage, int(child))
        for revealed in state.reveals[row["first_reveal"] :][: row["n_reveals"]]:
            graph.add_edge(stage, int(revealed))
    closure = nx.transitive_closure_dag(graph)
    ran = np.flatnonzero(stages["start_ns"] != FAR).tolist()
    expected = nx.transitive_reduction(closure.subgraph(ran)).number_of_edges()
    assert len(of_phase(events, "s")) == expected


def test_arrivals(events: list[dict[str, Any]], state: ClusterState) -> None:
    arrivals = of_phase(events, "i")
    arrived = state.jobs[: state.clock["arrived"][0]]
    assert [event["args"]["job"] for event in arrivals] == list(range(len(arrived)))
    assert [event["ts"] for event in arrivals] == (arrived["arrival_ns"] // 1000).tolist()
    for event, job in zip(arrivals, arrived, strict=True):
        assert ("jct_s" in event["args"]) == (job["finish_ns"] != FAR)


def test_counters_end_at_the_present(events: list[dict[str, Any]], state: ClusterState) -> None:
    last = {(event["pid"], event["name"]): event["args"] for event in of_phase(events, "C")}
    assert last[1, "jobs in system"] == {"jobs": state.clock["active"][0]}
    engines = np.flatnonzero(state.executors["engine"] >= 0)
    assert all((e + 2, "KV tokens (reconstructed)") in last for e in engines)


def test_reconstructed_kv_tokens_follow_the_engine() -> None:
    """Without prefix caching every sequence holds its own blocks, as the reconstruction assumes."""
    cluster = SchedulingEnv("mixed").cluster
    groups = [
        group.model_dump() | ({"prefix_caching": False} if group.kind == "llm" else {}) for group in cluster.executors
    ]
    env = SchedulingEnv("mixed", jobs=15, cluster={"name": "uncached", "executors": groups})
    _, info = env.reset(seed=5)
    engines = np.flatnonzero(env.episode.state.executors["engine"] >= 0).tolist()
    real: dict[int, list[tuple[int, float]]] = {e: [] for e in engines}
    done = False
    while not done:
        _, _, done, _, info = env.step(int(info["action_mask"].argmax()))
        episode = env.episode
        assert isinstance(episode, SimulatedEpisode)
        for e in engines:
            share = kv_share(episode.state, episode.simulation, e)
            real[e].append((episode.now_ns, share * cluster.llm[0].kv_tokens))
    for e in engines:
        steps = kv_tokens(env.episode.state, e)
        time_ns, tokens = np.array(real[e]).T
        rebuilt = steps.value[np.searchsorted(steps.time_ns, time_ns, side="right") - 1]
        assert abs(rebuilt.mean() / tokens.mean() - 1.0) < 0.1
        assert np.corrcoef(rebuilt, tokens)[0, 1] > 0.95
        assert steps.value[-1] == 0


def test_gzip_by_name_and_equal_bytes_for_equal_episodes(env: SchedulingEnv, tmp_path: Path) -> None:
    for name in ("a.json", "a.json.gz", "b.json.gz"):
        write_trace(env.episode.state, env.workload, tmp_path / name)
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == (tmp_path / "a.json").read_bytes()
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.json.gz", "b.json.gz"]


def test_a_path_that_cannot_be_written_is_named(env: SchedulingEnv, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing/trace\.json"):
        write_trace(env.episode.state, env.workload, tmp_path / "missing" / "trace.json")
