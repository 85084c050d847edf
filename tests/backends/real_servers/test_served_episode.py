"""Whole episodes on real servers: exact lengths, faults, tools, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_proxy import Fault, FaultKind, FaultProxy

from llmsched_gym.backends.vllm.launch import Server
from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.backends.vllm.tools import ToolCall
from llmsched_gym.cluster.state import TaskStatus
from llmsched_gym.envs.columns import Executor
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import EpisodeLost, InputError, RunError
from llmsched_gym.evaluation.runner import compare
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import read_json
from llmsched_gym.policies.base import Policy
from llmsched_gym.policies.registry import load_policy

FAST: dict[str, Any] = {"rate": 20.0, "time_scale": 10.0}
"""Jobs that arrive almost at once, with short tool calls."""

CALLS: list[ToolCall] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test leaves the threads and sockets that it found."""
    before = {thread.name for thread in threading.enumerate()}, _sockets()
    yield
    gc.collect()
    assert {thread.name for thread in threading.enumerate()} <= before[0]
    assert _sockets() <= before[1]


def _sockets() -> int:
    """Return the number of open sockets of this process."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(descriptor))
        except OSError:  # closed in the meantime
            continue
    return sum(link.startswith("socket:") for link in links)


def play(env: SchedulingEnv, policy: Policy, seed: int = 0) -> dict[str, Any]:
    """Play an episode and return its result."""
    observation, info = env.reset(seed=seed)
    policy.reset(info)
    terminated = False
    while not terminated:
        observation, _, terminated, _, info = env.step(policy.act(observation))
    return info["result"]


def check_all_served(env: SchedulingEnv, result: dict[str, Any]) -> None:
    """Every task has one accepted reply, with the token counts of the workload."""
    tasks, requests = env.workload.tasks, result["requests"]
    llm = tasks["model"] >= 0
    assert (env.episode.state.tasks["status"] == TaskStatus.DONE).all()
    assert np.isfinite(result["jct_s"]).all()
    assert (result["jct_s"] > 0).all()
    for column in ("prompt_tokens", "output_tokens"):
        assert (requests[column][llm] == tasks[column][llm]).all()
    assert result["served"]["accepted_requests"] == np.count_nonzero(llm)
    assert result["served"]["token_mismatches"] == 0
    assert (requests["enabled_ns"] <= requests["start_ns"]).all()
    assert (requests["start_ns"] <= requests["sent_ns"])[llm].all()
    assert (requests["sent_ns"] < requests["finish_ns"])[llm].all()


@pytest.mark.parametrize("policy", ["fcfs", "llmsched"])
def test_every_task_is_served_with_its_own_lengths(servers: list[Server], policy: str):
    env = SchedulingEnv("chain", jobs=5, served={"servers": [server.url for server in servers]}, **FAST)
    try:
        result = play(env, load_policy(policy))
        check_all_served(env, result)
        served = result["served"]
        assert all(served[name] == 0 for name in ("retries", "quarantines", "timeouts", "http_errors", "malformed"))
        used = result["requests"]["executor"][env.workload.tasks["model"] >= 0]
        assert set(used.tolist()) == {0, 1}
        assert 0 < served["process_cpu_share"] < 2
    finally:
        env.close()


def test_streamed_tokens_are_observed(servers: list[Server]):
    env = SchedulingEnv("predefined", jobs=2, served={"servers": [servers[0].url]}, **{**FAST, "load": None})
    try:
        observation, _ = env.reset(seed=0)
        seen = []
        for _ in range(40):
            observation, _, terminated, _, _ = env.step(int(observation["action_mask"].argmax()))
            seen.append(float(observation["executors"][0, Executor.DECODED_TOKENS]))
            if terminated:
                break
        assert max(seen) > 0
        running = env.episode.state.tasks["status"] == TaskStatus.RUNNING
        assert (env.episode.beliefs.stages["work_s"] >= 0).all()
        assert running.any()  # the episode is broken off by `close`, with requests under way
    finally:
        env.close()


@pytest.mark.parametrize(
    ("kind", "counter"),
    [
        ("status", "http_errors"),
        ("drop", "refused"),
        ("cut", "refused"),
        ("garble", "malformed"),
        ("miscount", "malformed"),
        ("hold", "timeouts"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_no_fault_loses_a_task(servers: list[Server], kind: FaultKind, counter: str, stream: bool):
    if kind in ("garble", "miscount") and stream:
        pytest.skip("spoils whole replies")
    with FaultProxy(servers[0].url) as proxy:
        urls = [proxy.url, servers[1].url]
        served = {"servers": urls, "stream": stream, "request_timeout_s": 5.0}
        env = SchedulingEnv("chain", jobs=4, served=served, **FAST)
        try:
            proxy.fault = Fault(kind)
            result = play(env, load_policy("fcfs"))
        finally:
            env.close()
    check_all_served(env, result)
    assert result["served"][counter] == proxy.failed == 1
    assert result["served"]["retries"] >= 1
    assert result["served"]["quarantines"] == 1
    assert result["requests"]["attempts"].max() >= 2


def test_jobs_are_lost_only_with_the_last_server_and_what_was_done_is_kept(servers: list[Server], tmp_path: Path):
    proxies = [FaultProxy(server.url) for server in servers]
    for proxy in proxies:
        proxy.__enter__()
    open_proxies = list(proxies)

    class Saboteur(Policy):
        name = "saboteur"

        def act(self, obs: Any) -> int:
            if obs["system"][0] > 1.0:
                while open_proxies:
                    open_proxies.pop().__exit__()
            return int(obs["action_mask"].argmax())

    globals()["Saboteur"] = Saboteur
    options = ServedOptions(tuple(proxy.url for proxy in proxies), request_timeout_s=5.0, give_up_s=1.5)
    setting = Setting.make("chain", jobs=20, rate=5.0, time_scale=5.0, serving=options)
    try:
        with pytest.raises(EpisodeLost, match="no server has been usable") as lost:
            compare(setting, [f"{__name__}:Saboteur"], [0], tmp_path, workers=1)
    finally:
        while open_proxies:
            open_proxies.pop().__exit__()
    assert str(lost.value).count("\n") == 0
    (file,) = (tmp_path / "episodes").glob("*.partial.json")
    partial = read_json(file)["result"]
    assert partial["jobs"] == 20
    assert 0 < len(partial["finished_jobs"]) == len(partial["jct_s"]) < 20
    assert partial["served"]["quarantines"] >= 2


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_policy_that_raises_leaves_nothing_behind(
    servers: list[Server], tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
):
    class Raising(Policy):
        name = "raising"

        def act(self, obs: Any) -> int:
            if obs["system"][0] > 0.5:
                raise error
            return int(obs["action_mask"].argmax())

    monkeypatch.setitem(globals(), "Raising", Raising)
    setting = Setting.make("chain", jobs=8, serving=ServedOptions(tuple(server.url for server in servers)))
    expected = RunError if error is ZeroDivisionError else KeyboardInterrupt
    with pytest.raises(expected):
        compare(setting, [f"{__name__}:Raising"], [0], tmp_path, workers=1)


async def called(call: ToolCall) -> None:
    """Remember that a task was run; the first call of all fails."""
    first = not CALLS  # asked before others can be called meanwhile
    CALLS.append(call)
    await asyncio.sleep(0.01)
    if first:
        raise ConnectionError("busy")


async def broken(call: ToolCall) -> None:
    """Fail always."""
    raise ConnectionError("out of order")


def test_tools_run_in_place_of_waits(servers: list[Server]):
    CALLS.clear()
    urls = [server.url for server in servers]
    served = {"servers": urls, "tools": {"code_generation.test": f"{__name__}:called"}}
    env = SchedulingEnv("chain", jobs=6, served=served, **FAST)
    try:
        result = play(env, load_policy("fcfs"))
    finally:
        env.close()
    templates, stages, tasks = env.workload.templates, env.workload.stages, env.workload.tasks
    app = [template.name for template in templates].index("code_generation")
    owner = env.workload.jobs["app"][stages["job"][tasks["stage"]]]
    expected = np.count_nonzero((owner == app) & (tasks["model"] < 0))
    assert {call.application for call in CALLS} == {"code_generation"}
    assert len(CALLS) == expected + 1
    assert result["served"]["tool_retries"] == 1


def test_a_tool_that_never_works_ends_the_run_in_one_line(servers: list[Server]):
    served = {"servers": [servers[0].url], "tools": {"test": f"{__name__}:broken"}}
    env = SchedulingEnv("chain", jobs=6, served=served, **FAST)
    try:
        with pytest.raises(RunError, match=r"tool of code_generation\.test_1, job \d+: ConnectionError: out of order"):
            play(env, load_policy("fcfs"))
    finally:
        env.close()


def test_a_launched_server_that_dies_is_started_again(vllm_python: str):
    env = SchedulingEnv("chain", jobs=4, served={"servers": "dummy:tiny", "give_up_s": 600.0}, **FAST)
    policy = load_policy("fcfs")
    try:
        observation, info = env.reset(seed=0)
        policy.reset(info)
        (replica,) = env.episode.cluster.fleet.replicas  # pyright: ignore[reportAttributeAccessIssue]: it is served
        server = replica.server
        assert server is not None
        first = server.pid
        terminated = False
        while not terminated:
            if server.pid == first and first is not None:
                server.kill()
                first = None
            observation, _, terminated, _, info = env.step(policy.act(observation))
        check_all_served(env, info["result"])
        assert info["result"]["served"]["server_restarts"] == 1
    finally:
        env.close()
    assert not server.alive()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"servers": None}, "servers: got none"),
        ({"servers": "http://127.0.0.1:1"}, "server: http://127.0.0.1:1"),
        ({"servers": ["http://127.0.0.1:1", "http://127.0.0.1:1/"]}, "every server once"),
        ({"servers": "http://127.0.0.1:1", "request_timeout_s": 0.0}, "request_timeout_s: got 0.0"),
        ({"servers": "http://127.0.0.1:1", "tools": {"search": "nothing"}}, "module:function"),
        ({"servers": "http://127.0.0.1:1", "tools": {"search": "json:loads"}}, "an async function"),
        ({"servers": "dummy:huge"}, "huge"),
        ({"server": "http://127.0.0.1:1"}, "served: got 'server'"),
        ("http://127.0.0.1:1", "ServedOptions or their fields"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str):
    def make() -> None:
        env = SchedulingEnv("chain", served=arguments)
        try:
            env.reset(seed=0)
        finally:
            env.close()

    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        make()
