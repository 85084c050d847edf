"""Probes: requests that make a server run iterations of a known kind, and what the server says they took.

Times are the server's own, from the sums of its request histograms (``/metrics``): tokens that a busy client sees late
or in bunches do not blur them. The prefix cache is the tool that sets contexts: a prompt that was sent before leaves
one token to compute, so all sequences of a probe decode, with the context wanted, from its first iteration on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import aiohttp

from llmsched_gym.backends.vllm.client import complete
from llmsched_gym.backends.vllm.health import read_metrics
from llmsched_gym.backends.vllm.prompts import content_ids
from llmsched_gym.errors import RunError

_GRAIN: Final = 128
"""Contexts are multiples of this and one token more: whole blocks of the cache at all usual block sizes."""

_BACKGROUND_TOKENS: Final = 384
"""Tokens of the sequences that decode while a prompt is measured: enough to outlast it, on a fast server too."""

_QUEUED: Final = 0.2
"""Time in the queue, relative to that of decoding, from which the sequences of a probe did not run together."""

_SETTLE_S: Final = 5.0
"""Longest wait for the server to count requests that it has answered."""

_DECODE: Final = "request_decode_time_seconds"
_PREFILL: Final = "request_prefill_time_seconds"
_QUEUE: Final = "request_queue_time_seconds"


@dataclass(frozen=True)
class Probe:
    """Iterations to measure.

    Attributes:
        n_decode: Sequences that decode.
        decode_context: Prompt tokens of each of them.
        prefill_tokens: Prompt tokens computed in one iteration beside them; 0 measures iterations that only decode.
        prefill_context: Prompt tokens before those, from the prefix cache.
        output_tokens: Tokens that each sequence generates.
    """

    n_decode: int
    decode_context: int
    prefill_tokens: int = 0
    prefill_context: int = 0
    output_tokens: int = 64

    @property
    def point(self) -> tuple[float, float, float, float]:
        """What its iterations compute, on average, as in `IterationTable.points`."""
        if not self.n_decode:
            return 0.0, self.prefill_tokens, 0.0, self.prefill_context
        generated = self.output_tokens / 2 if not self.prefill_tokens else 0.0
        return self.n_decode, self.prefill_tokens, self.decode_context + generated, self.prefill_context


@dataclass(frozen=True)
class Reading:
    """What one probe took, in milliseconds.

    Attributes:
        iteration_ms: Mean time of an iteration.
        overhead_ms: Time per request outside the engine: client, HTTP and the server's front end.
    """

    iteration_ms: float
    overhead_ms: float


@dataclass(frozen=True)
class _Sums:
    """Sums of a server's histograms over its requests so far, in ms, and how many it has finished."""

    finished: int
    decode: float
    prefill: float
    queue: float

    @classmethod
    async def read(cls, session: aiohttp.ClientSession, url: str) -> Self:
        """Ask the server.

        Raises:
            RunError: It does not answer, or keeps no such histograms.
        """
        metrics = await read_metrics(session, url)
        try:
            sums = [1e3 * metrics[f"{name}_sum"] for name in (_DECODE, _PREFILL, _QUEUE)]
            return cls(int(metrics[f"{_DECODE}_count"]), *sums)
        except KeyError as error:
            raise RunError(
                f"{url}/metrics has no {error.args[0]}: a vLLM V1 server with its statistics on has"
            ) from None


class Interference(RunError):
    """A probe did not run as it should have: requests of somebody else came between, or the host was too slow."""


class Prober:
    """Runs probes on one server.

    Args:
        session: From `client.open_session`.
        url: Root of the server.
        model: Name of its model.
        run: Prompts of different runs share nothing.
        timeout_s: Longest silence of the server.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, model: str, run: str, *, timeout_s: float = 120.0
    ) -> None:
        self._session = session
        self._url = url
        self._model = model
        self._run = run
        self._timeout_s = timeout_s
        self._answered = 0
        self._others: int | None = None  # finished requests that were not ours, counted from the first look on
        self._fresh_prompts = 0

    async def measure(self, probe: Probe) -> Reading:
        """Run a probe once.

        Raises:
            Interference: It did not run as it should have.
            RunError: The server failed.
        """
        if self._others is None:
            await self._settled()
        return await (self._prefill(probe) if probe.prefill_tokens else self._decode(probe))

    async def _decode(self, probe: Probe) -> Reading:
        prompts = await self._warm(probe)
        before = await self._settled()
        seconds = await asyncio.gather(*(self._send(prompt, probe.output_tokens) for prompt in prompts))
        after = await self._settled()
        decode, queue = after.decode - before.decode, after.queue - before.queue
        if queue > _QUEUED * decode:
            raise RunError(f"{self._url}: {probe.n_decode} requests do not run together; is --max-num-seqs right?")
        inside = decode + after.prefill - before.prefill + queue
        n = len(prompts)
        return Reading(decode / n / (probe.output_tokens - 1), (1e3 * sum(seconds) - inside) / n)

    async def _prefill(self, probe: Probe) -> Reading:
        prompts = await self._warm(probe)
        cached = self._ids("prefix", 0, probe.prefill_context)
        if cached:
            await self._send([*cached, *self._fresh(probe.prefill_context, 1)], 1)
        before = await self._settled()
        running = [asyncio.create_task(self._send(prompt, _BACKGROUND_TOKENS)) for prompt in prompts]
        try:
            if running:
                await self._until_decoding(running)
            seconds = await self._send([*cached, *self._fresh(probe.prefill_context, probe.prefill_tokens)], 1)
            self._check_running(running)
            after = await self._settled()
        finally:
            await asyncio.gather(*running, return_exceptions=True)
        prefill = after.prefill - before.prefill
        return Reading(prefill, 1e3 * seconds - prefill - (after.queue - before.queue))

    async def _warm(self, probe: Probe) -> list[list[int]]:
        """Return the prompts of the sequences that decode, all but the last token of each in the prefix cache."""
        prompts = [self._ids(f"sequence {index}", 0, probe.decode_context) for index in range(probe.n_decode)]
        for prompt in prompts:
            await self._send(prompt, 1)
        return prompts

    async def _until_decoding(self, running: Sequence[asyncio.Task[float]]) -> None:
        while (await read_metrics(self._session, self._url)).get("num_requests_running", 0.0) < len(running):
            self._check_running(running)
            await asyncio.sleep(0.01)

    def _check_running(self, running: Sequence[asyncio.Task[float]]) -> None:
        """Check that the sequences beside a prompt still decode.

        Raises:
            Interference: One is done.
            RunError: One failed.
        """
        for task in running:
            if task.done():
                task.result()
                raise Interference(f"{self._url}: the sequences beside a prompt were done before it")

    async def _settled(self) -> _Sums:
        """Return the sums once the server has counted every request that it has answered.

        Raises:
            Interference: It counts more than those of this prober.
            RunError: It counts fewer, even after a while.
        """
        end_s = time.monotonic() + _SETTLE_S
        while True:
            sums = await _Sums.read(self._session, self._url)
            if self._others is None:
                self._others = sums.finished - self._answered
            more = sums.finished - self._answered - self._others
            if more == 0:
                return sums
            if more > 0:
                self._others += more
                raise Interference(f"{self._url}: {more} requests of somebody else finished during a measurement")
            if time.monotonic() > end_s:
                raise RunError(f"{self._url}/metrics: {-more} requests that were answered are not counted")
            await asyncio.sleep(0.01)

    async def _send(self, prompt: Sequence[int], output_tokens: int) -> float:
        """Have the server serve one request; returns the seconds that took."""
        done = await complete(self._session, self._url, self._model, prompt, output_tokens, timeout_s=self._timeout_s)
        self._answered += 1
        return done.finish_s - done.sent_s

    def _fresh(self, start: int, n: int) -> list[int]:
        """Return `n` ids that no prompt has had at these positions."""
        self._fresh_prompts += 1
        return self._ids(f"fresh {self._fresh_prompts}", start, start + n)

    def _ids(self, content: str, start: int, stop: int) -> list[int]:
        return content_ids(f"{self._run} {content}", start, stop).tolist()


def context_near(tokens: float, limit: int) -> int:
    """Return the context nearest to `tokens` of which the prefix cache can hold all but one, at most `limit`."""
    return max(1, min(round(tokens / _GRAIN), (limit - 1) // _GRAIN)) * _GRAIN + 1
