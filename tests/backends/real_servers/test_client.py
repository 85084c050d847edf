"""Requests to real servers: exact counts, a prefix cache that really hits, and an error for every way to fail."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fault_proxy import Fault, FaultKind, FaultProxy

from llmsched_gym.backends.vllm.client import (
    Completion,
    MalformedReply,
    RequestError,
    ServerError,
    ServerHung,
    ServerRefused,
    complete,
    open_session,
)
from llmsched_gym.backends.vllm.health import healthy, read_metrics, server_facts
from llmsched_gym.backends.vllm.launch import Server
from llmsched_gym.backends.vllm.prompts import PromptBook, content_ids
from llmsched_gym.errors import InputError
from llmsched_gym.scenario import load_scenario

BLOCK = 128
"""Tokens per KV block of the CPU build."""


def ask(url: str, prompt: list[int], output: int, *, on_token: Callable[[int], None] | None = None) -> Completion:
    """Have a server answer one request."""

    async def one() -> Completion:
        async with open_session() as session:
            return await complete(session, url, "dummy-tiny", prompt, output, timeout_s=60, on_token=on_token)

    return asyncio.run(one())


def fresh(length: int) -> list[int]:
    """Return a prompt that no test has sent before."""
    return content_ids(str(time.perf_counter_ns()), 0, length).tolist()


@pytest.mark.parametrize(("prompt", "output"), [(1, 1), (127, 2), (3000, 40)])
@pytest.mark.parametrize("stream", [False, True])
def test_exact_lengths(servers: list[Server], prompt: int, output: int, stream: bool):
    seen: list[int] = []
    done = ask(servers[0].url, fresh(prompt), output, on_token=seen.append if stream else None)
    assert (done.prompt_tokens, done.output_tokens, len(done.token_ids)) == (prompt, output, output)
    assert done.cached_tokens == 0
    assert done.sent_s < done.finish_s
    if stream:
        assert seen[-1] == output
        assert seen == sorted(set(seen))
        assert done.first_token_s is not None
        assert done.sent_s < done.first_token_s <= done.finish_s
    else:
        assert done.first_token_s is None


def test_many_at_once(servers: list[Server]):
    lengths = [(50 * (i + 1), 3 + i) for i in range(20)]  # more than the 8 that run at a time

    async def all_of_them() -> list[Completion]:
        async with open_session() as session:
            asked = [
                complete(
                    session, server.url, server.model, fresh(prompt), output, timeout_s=60, on_token=lambda _: None
                )
                for server in servers
                for prompt, output in lengths
            ]
            return await asyncio.gather(*asked)

    done = asyncio.run(all_of_them())
    assert [(one.prompt_tokens, one.output_tokens) for one in done] == lengths * 2


def test_jobs_of_a_workload_hit_the_cache_as_far_as_it_says(servers: list[Server]):
    """Conversations of one job, one turn after the other: prompt, output and the application's prefix are found."""
    workload = load_scenario("chain").replaced(jobs=12).build("train", 5)
    tasks, book = workload.tasks, PromptBook(workload, epoch=time.perf_counter_ns())
    chains, turns = np.unique(tasks["job_prefix"][tasks["job_prefix"] >= 0], return_counts=True)
    found = 0
    for chain in chains[np.argsort(turns)[-2:]]:
        rows = np.flatnonzero(tasks["job_prefix"] == chain)[:5].tolist()
        for before, task in pairwise([-1, *rows]):
            output = int(tasks["output_tokens"][task])
            done = ask(servers[1].url, book.prompt(task), output)
            book.record(task, done.token_ids)
            if before >= 0:
                # The last token that a request generates is never fed back, so it is not in the cache.
                held = int(tasks["prompt_tokens"][before] + tasks["output_tokens"][before]) - 1
                held = min(held, int(tasks["job_prefix_tokens"][task]))
                assert done.cached_tokens == held // BLOCK * BLOCK
                found += held // BLOCK
    assert found >= 10


def test_health(servers: list[Server]):
    async def look() -> None:
        async with open_session() as session:
            facts = await server_facts(session, servers[0].url)
            assert (facts.model, facts.max_model_len) == ("dummy-tiny", 16384)
            assert facts.version.count(".") == 2
            assert await healthy(session, servers[0].url)
            before = await read_metrics(session, servers[0].url)
            await complete(session, servers[0].url, facts.model, fresh(300), 5, timeout_s=60)
            after = await read_metrics(session, servers[0].url)
            assert after["prompt_tokens_total"] - before["prompt_tokens_total"] == 300
            assert after["generation_tokens_total"] - before["generation_tokens_total"] == 5
            assert after["num_requests_running"] == 0
            assert not await healthy(session, f"http://127.0.0.1:{closed_port()}")
            with pytest.raises(InputError, match="the URL of a running vLLM server"):
                await server_facts(session, f"http://127.0.0.1:{closed_port()}")

    asyncio.run(look())


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def failing(url: str, *, prompt: int = 200, timeout_s: float = 60, stream: bool = True) -> Coroutine[Any, Any, None]:
    """Ask for a completion that is to fail."""

    async def one() -> None:
        async with open_session() as session:
            on_token = (lambda _: None) if stream else None
            await complete(session, url, "dummy-tiny", fresh(prompt), 20, timeout_s=timeout_s, on_token=on_token)

    return one()


def test_refused(servers: list[Server]):
    with pytest.raises(ServerRefused, match="Cannot connect"):
        asyncio.run(failing(f"http://127.0.0.1:{closed_port()}"))


def test_too_long_a_prompt_is_the_clients_fault(servers: list[Server]):
    with pytest.raises(ServerError, match=r"HTTP 400: .*16384") as caught:
        asyncio.run(failing(servers[0].url, prompt=17_000))
    assert caught.value.status == 400
    assert caught.value.final


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("drop", ServerRefused),
        ("cut", ServerRefused),
        ("end", MalformedReply),
        ("garble", MalformedReply),
        ("miscount", MalformedReply),
        ("status", ServerError),
        ("hold", ServerHung),
    ],
)
def test_faults(servers: list[Server], kind: FaultKind, error: type[RequestError], stream: bool):
    with FaultProxy(servers[0].url) as proxy:
        proxy.fault = Fault(kind)
        with pytest.raises(error) as caught:
            asyncio.run(failing(proxy.url, timeout_s=0.5 if kind == "hold" else 60, stream=stream))
        assert proxy.url in str(caught.value)
        assert type(caught.value) is error
        assert proxy.failed == 1
        if isinstance(caught.value, ServerError):
            assert caught.value.status == 503
            assert not caught.value.final
        assert ask(proxy.url, fresh(100), 3).output_tokens == 3  # the fault is over
        assert proxy.passed == 1


def test_stopped_server_hangs_and_comes_back(servers: list[Server]):
    group = servers[0].pid
    assert group is not None
    os.killpg(group, signal.SIGSTOP)
    try:
        with pytest.raises(ServerHung, match=r"silent for 0\.5 s"):
            asyncio.run(failing(servers[0].url, timeout_s=0.5))
    finally:
        os.killpg(group, signal.SIGCONT)
    assert ask(servers[0].url, fresh(10), 2).output_tokens == 2


def test_killed_in_the_middle_of_a_reply_and_restarted(servers: list[Server]):
    async def midway() -> None:
        async with open_session() as session:
            begun = asyncio.Event()
            request = asyncio.create_task(
                complete(
                    session,
                    servers[0].url,
                    servers[0].model,
                    fresh(10),
                    10_000,
                    timeout_s=60,
                    on_token=lambda _: begun.set(),
                )
            )
            await begun.wait()
            await asyncio.to_thread(servers[0].kill)
            with pytest.raises(ServerRefused):
                await request
            with pytest.raises(ServerRefused):
                await complete(session, servers[0].url, servers[0].model, fresh(10), 2, timeout_s=60)

    asyncio.run(midway())
    assert not servers[0].alive()
    url = servers[0].url
    servers[0].restart()
    assert servers[0].url == url
    assert ask(url, fresh(10), 2).output_tokens == 2
