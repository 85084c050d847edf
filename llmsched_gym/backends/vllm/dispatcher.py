"""What happens outside: requests, tool calls, arrivals and probes run in the I/O thread and report as events.

The episode's thread sends orders and takes events from one queue; neither side ever waits for the other. An event says
when something happened on the episode's clock, which may be before anybody looked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.vllm.client import Completion, RequestError, complete
from llmsched_gym.backends.vllm.fleet import Fleet
from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.backends.vllm.tools import Tool, ToolCall
from llmsched_gym.errors import RunError
from llmsched_gym.user_code.faults import told

TOOL_ATTEMPTS: Final = 3
"""A tool that raises is called that often in all."""

MAX_PROBE_S: Final = 5.0
"""Longest time between two probes of a server."""


class EpisodeClock:
    """Nanoseconds since the start of an episode; stands at 0 before."""

    def __init__(self) -> None:
        self._origin_ns: int | None = None

    def start(self) -> None:
        """Let the episode begin now."""
        self._origin_ns = time.perf_counter_ns()

    @property
    def now_ns(self) -> int:
        """Time since the start."""
        return 0 if self._origin_ns is None else time.perf_counter_ns() - self._origin_ns

    def at_ns(self, seconds: float) -> int:
        """Turn a time of ``time.perf_counter`` into one of this clock."""
        return round(seconds * 1e9) - (self._origin_ns or 0)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A job arrived."""

    at_ns: int
    job: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A task was served, or its tool returned. LLM tasks have a completion and a time at which the request was sent."""

    at_ns: int
    task: int
    attempt: int
    completion: Completion | None = None
    wire_ns: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed."""

    at_ns: int
    task: int
    attempt: int
    error: RequestError


@dataclass(frozen=True, slots=True)
class Recovered:
    """A server that failed is healthy again; it may have had to be started anew."""

    at_ns: int
    engine: int
    restarted: bool


@dataclass(frozen=True, slots=True)
class ToolRetried:
    """A tool raised and is called again."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The episode cannot go on."""

    at_ns: int
    error: BaseException


Event = Arrived | Finished | Failed | Recovered | ToolRetried | Broken


@dataclass
class _Flight:
    """A request or tool call under way."""

    task: int
    attempt: int
    wire_ns: int = 0
    handle: asyncio.Task[None] | None = None


_SENDING: ContextVar[_Flight | None] = ContextVar("_SENDING", default=None)
"""The flight whose coroutine runs: tells the session's trace whose request has just been written."""


class Dispatcher:
    """Runs what one episode orders. All public methods are for the episode's thread and return at once.

    Args:
        fleet: The servers.
        options: How they are used.
        clock: The episode's.
        generated: int32 (tasks,). Tokens that running LLM tasks have generated; filled when replies are streamed.

    Attributes:
        events: What happened, in order.
    """

    def __init__(self, fleet: Fleet, options: ServedOptions, clock: EpisodeClock, generated: NDArray[np.int32]) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self._fleet = fleet
        self._io = fleet.io
        self._options = options
        self._clock = clock
        self._generated = generated
        self._flights: dict[int, _Flight] = {}
        self._others: set[asyncio.Task[None]] = set()
        self._trace = aiohttp.TraceConfig()
        self._trace.on_request_headers_sent.append(self._note_sent)
        self._trace.on_request_chunk_sent.append(self._note_sent)
        self._trace.freeze()
        self._io.session.trace_configs.append(self._trace)

    def start(self, arrivals_ns: Sequence[int]) -> None:
        """Start the clock, and let jobs arrive at these times."""
        self._clock.start()
        self._io.post(self._spawn_other, lambda: self._arrive(arrivals_ns))

    def request(self, task: int, attempt: int, engine: int, prompt: Sequence[int], output_tokens: int) -> None:
        """Send a request to a server."""
        flight = _Flight(task, attempt)
        self._io.post(self._launch, flight, lambda: self._request(flight, engine, prompt, output_tokens))

    def wait(self, task: int, attempt: int, until_ns: int) -> None:
        """Finish a regular task at a time."""
        flight = _Flight(task, attempt)
        self._io.post(self._launch, flight, lambda: self._wait(flight, until_ns))

    def call(self, task: int, attempt: int, tool: Tool, call: ToolCall) -> None:
        """Run a tool."""
        flight = _Flight(task, attempt)
        self._io.post(self._launch, flight, lambda: self._call(flight, tool, call))

    def cancel(self, task: int) -> None:
        """Drop the request of a task, if it is still under way."""
        self._io.post(self._cancel, task)

    def probe(self, engine: int, delay_s: float) -> None:
        """Look after a server until it is healthy, at first after `delay_s`."""
        self._io.post(self._spawn_other, lambda: self._probe(engine, delay_s))

    def close(self) -> None:
        """Drop everything under way and wait until it is gone."""
        self._io.call(self._end())

    def _emit(self, event: Event) -> None:
        self.events.put(event)

    def _launch(self, flight: _Flight, work: Callable[[], Any]) -> None:
        self._flights[flight.task] = flight
        flight.handle = self._io.spawn(work())
        flight.handle.add_done_callback(lambda _: self._land(flight))

    def _land(self, flight: _Flight) -> None:
        if self._flights.get(flight.task) is flight:
            del self._flights[flight.task]

    def _spawn_other(self, work: Callable[[], Any]) -> None:
        task = self._io.spawn(work())
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    def _cancel(self, task: int) -> None:
        flight = self._flights.pop(task, None)
        if flight is not None and flight.handle is not None:
            flight.handle.cancel()

    async def _end(self) -> None:
        flights = [flight.handle for flight in self._flights.values() if flight.handle is not None]
        running = [*flights, *self._others]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._trace in self._io.session.trace_configs:
            self._io.session.trace_configs.remove(self._trace)

    async def _note_sent(self, session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
        flight = _SENDING.get()
        if flight is not None:
            flight.wire_ns = self._clock.now_ns  # the last part counts: headers, then the body

    async def _sleep_until(self, time_ns: int) -> None:
        while (left_ns := time_ns - self._clock.now_ns) > 0:
            await asyncio.sleep(left_ns * 1e-9)

    async def _arrive(self, arrivals_ns: Sequence[int]) -> None:
        for job, arrival_ns in enumerate(arrivals_ns):
            await self._sleep_until(arrival_ns)
            self._emit(Arrived(self._clock.now_ns, job))

    async def _request(self, flight: _Flight, engine: int, prompt: Sequence[int], output_tokens: int) -> None:
        _SENDING.set(flight)
        replica = self._fleet.replicas[engine]

        def progress(tokens: int) -> None:
            if self._flights.get(flight.task) is flight:
                self._generated[flight.task] = tokens

        try:
            completion = await complete(
                self._io.session,
                replica.url,
                replica.model,
                prompt,
                output_tokens,
                timeout_s=self._options.request_timeout_s,
                on_token=progress if self._options.stream else None,
            )
        except RequestError as error:
            self._emit(Failed(self._clock.now_ns, flight.task, flight.attempt, error))
        except Exception as error:  # nothing may vanish in the loop: the episode would wait for ever
            self._emit(Broken(self._clock.now_ns, error))
        else:
            at_ns = self._clock.at_ns(completion.finish_s)
            self._emit(Finished(at_ns, flight.task, flight.attempt, completion, flight.wire_ns))

    async def _wait(self, flight: _Flight, until_ns: int) -> None:
        await self._sleep_until(until_ns)
        self._emit(Finished(self._clock.now_ns, flight.task, flight.attempt))

    async def _call(self, flight: _Flight, tool: Tool, call: ToolCall) -> None:
        for attempt in range(1, TOOL_ATTEMPTS + 1):
            try:
                await tool(call)
            except BaseException as error:  # whatever a user's tool may raise; SystemExit would end the loop
                if _cancelled():
                    raise
                if attempt == TOOL_ATTEMPTS:
                    text = f"tool of {call.application}.{call.stage}, job {call.job}: {told(error)}"
                    self._emit(Broken(self._clock.now_ns, RunError(f"{text}, {attempt} attempts")))
                    return
                self._emit(ToolRetried(self._clock.now_ns))
                await asyncio.sleep(0.1 * 2**attempt)
            else:
                break
        self._emit(Finished(self._clock.now_ns, flight.task, flight.attempt))

    async def _probe(self, engine: int, delay_s: float) -> None:
        restarted = False
        while True:
            await asyncio.sleep(delay_s)
            try:
                restarted |= await self._fleet.restart_if_dead(engine)
                if await self._fleet.is_healthy(engine):
                    break
            except RunError:
                pass  # a server that does not start now is tried again; the episode gives up when none is left
            delay_s = min(2 * delay_s, MAX_PROBE_S)
        self._emit(Recovered(self._clock.now_ns, engine, restarted))


def _cancelled() -> bool:
    """Tell whether the present task is being cancelled by us, rather than by what it calls."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
