"""A cluster whose LLM executors are real vLLM servers: the same transitions, with completions from outside.

Everything here runs in the thread that calls it, which alone changes the cluster's state. Time is the wall clock; it is
brought forward to each event, and to the present whenever a decision is due.

A request that fails is withdrawn and sent again, to another server where one is left; its executor serves nothing
until a probe finds its server healthy. When a server has been silent for too long, all of its requests are withdrawn.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Mapping
from queue import Empty
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.vllm.client import RequestError, ServerError, ServerHung
from llmsched_gym.backends.vllm.dispatcher import (
    Arrived,
    Broken,
    Dispatcher,
    EpisodeClock,
    Event,
    Failed,
    Finished,
    Recovered,
    ToolRetried,
)
from llmsched_gym.backends.vllm.fleet import Fleet
from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.backends.vllm.prompts import PromptBook
from llmsched_gym.backends.vllm.served_record import ServedRecord
from llmsched_gym.backends.vllm.tools import Tool, task_tools
from llmsched_gym.cluster.initial import initial_state
from llmsched_gym.cluster.lifecycle import (
    arrive,
    can_dispatch,
    finish_task,
    least_loaded,
    place_task,
    set_pools,
    start_task,
    withdraw_task,
)
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.cluster.state import FAR, ClusterState, TaskStatus
from llmsched_gym.errors import EpisodeLost, RunError
from llmsched_gym.workloads.workload import Workload

FIRST_BACKOFF_S: Final = 0.1
"""A request that failed once waits that long, twice that after the second failure, and so on."""

MAX_BACKOFF_S: Final = 5.0

FIRST_PROBE_S: Final = 0.5
"""An executor that failed is probed after that long; twice that if it fails again without having served anything."""

MAX_REJECTIONS: Final = 3
"""A request that servers understood and will not serve is tried that often per server."""


class ServedCluster:
    """A workload on real servers.

    Args:
        workload: Jobs to run; arrivals and regular tasks in wall-clock time.
        cluster: Executors; one LLM executor per server, in order.
        fleet: The servers.
        options: How they are used.
        tools: Functions that run in place of timed waits, by stage.

    Attributes:
        state: The cluster's state.
        workload: The jobs.
        fleet: The servers.
        generated: int32 (tasks,). Tokens that running LLM tasks have generated, where replies are streamed.
        record: Requests, counters and overhead.

    Raises:
        InputError: The cluster or a server cannot run some task.
    """

    def __init__(
        self,
        workload: Workload,
        cluster: ClusterSpec,
        fleet: Fleet,
        options: ServedOptions,
        tools: Mapping[str, Tool],
    ) -> None:
        fleet.check_fits(workload)
        self.state: ClusterState = initial_state(workload, cluster)
        self.generated: NDArray[np.int32] = np.zeros(len(workload.tasks), np.int32)
        self.record = ServedRecord(len(workload.tasks), len(self.state.executors))
        self.workload = workload
        self.fleet = fleet
        self._options = options
        self._tools = task_tools(tools, workload)
        self._prompts = PromptBook(workload, epoch=fleet.next_epoch())
        self._clock = EpisodeClock()
        self._dispatcher = Dispatcher(fleet, options, self._clock, self.generated)
        self._pools = self.state.executors["pools"].copy()
        self._llm = np.flatnonzero(self.state.executors["engine"] >= 0)
        self._failures = np.zeros(len(self.state.executors), np.int64)
        self._rejections: dict[int, int] = {}
        self._withdrawn: list[tuple[int, int]] = []  # heap of (when to send again, task)
        self._down_since_ns: int | None = None

    def start(self) -> None:
        """Start the clock and wait for the first decision."""
        _rehearse(copy.deepcopy(self.state))
        self._dispatcher.start(self.workload.jobs["arrival_ns"].tolist())
        self.advance()

    @property
    def done(self) -> bool:
        """Whether all jobs are finished."""
        return bool(self.state.clock[0]["done"] == len(self.state.jobs))

    @property
    def can_wait(self) -> bool:
        """Whether anything will ever happen without a dispatch."""
        clock = self.state.clock[0]
        running = self.state.executors["running"].any()
        return bool(running or clock["arrived"] < len(self.state.jobs) or self._withdrawn or self._quarantined)

    @property
    def _quarantined(self) -> bool:
        return bool((self.state.executors["pools"] != self._pools).any())

    def dispatch(self, stage: int, executor: int) -> None:
        """Start the next task of a ready stage on an executor that can run it and has a free slot."""
        self._tick(self._clock.now_ns)
        now_ns = int(self.state.clock[0]["now_ns"])
        task = start_task(self.state, stage, executor, now_ns)
        self._send(task, executor, now_ns)

    def advance(self, *, wait: bool = False) -> None:
        """Let time pass until a decision is due, or everything is done.

        Args:
            wait: Something visible has to happen first.

        Raises:
            EpisodeLost: No server is left.
            RunError: A tool failed, or servers reject a request.
        """
        happened = self._drain(block=False) or not wait
        while not self.done and not (happened and can_dispatch(self.state)):
            happened |= self._drain(block=True)
        self._tick(self._clock.now_ns)

    def close(self) -> None:
        """Drop everything that is under way."""
        self._dispatcher.close()

    def _send(self, task: int, executor: int, now_ns: int) -> None:
        ready_ns = int(self.state.stages["ready_ns"][self.state.tasks["stage"][task]])
        attempt = self.record.start(task, executor, ready_ns, now_ns)
        engine = int(self.state.executors["engine"][executor])
        if engine >= 0:
            self.generated[task] = 0
            output_tokens = int(self.workload.tasks["output_tokens"][task])
            self._dispatcher.request(task, attempt, engine, self._prompts.prompt(task), output_tokens)
        elif task in self._tools:
            self._dispatcher.call(task, attempt, *self._tools[task])
        else:
            self._dispatcher.wait(task, attempt, now_ns + int(self.workload.tasks["duration_ns"][task]))

    def _drain(self, *, block: bool) -> bool:
        """Apply the events at hand, or wait for one; tells whether anything visible happened."""
        happened = False
        try:
            event = self._dispatcher.events.get(block, self._patience_s() if block else None)
            while True:
                happened |= self._apply(event)
                event = self._dispatcher.events.get_nowait()
        except Empty:
            pass
        self._send_again()
        self._check_lost()
        return happened

    def _patience_s(self) -> float:
        """How long nothing but events can matter."""
        due_ns = [self._withdrawn[0][0]] if self._withdrawn else []
        if self._down_since_ns is not None:
            due_ns.append(self._down_since_ns + round(self._options.give_up_s * 1e9))
        later = [time_ns for time_ns in due_ns if time_ns > self._clock.now_ns]
        return (min(later) - self._clock.now_ns) * 1e-9 + 1e-3 if later else 60.0

    def _apply(self, event: Event) -> bool:
        """Let one event happen in the state; tells whether a policy can see it."""
        self._tick(event.at_ns)
        match event:
            case Finished():
                return self._finish(event)
            case Arrived():
                arrive(self.state, event.job, int(self.state.clock[0]["now_ns"]))
            case Failed():
                return self._fail(event)
            case Recovered():
                self._recover(event)
            case ToolRetried():
                self.record.faults.tool_retries += 1
                return False
            case Broken():
                raise event.error
        return True

    def _tick(self, at_ns: int) -> None:
        """Bring the clock forward; what was seen only after a later decision counts as of that decision."""
        clock = self.state.clock[0]
        passed_ns = at_ns - int(clock["now_ns"])
        if passed_ns > 0:
            clock["area_ns"] += int(clock["active"]) * passed_ns
            clock["now_ns"] = at_ns

    def _is_current(self, task: int, attempt: int) -> bool:
        running = self.state.tasks["status"][task] == TaskStatus.RUNNING
        return bool(running and self.record.requests["attempts"][task] == attempt)

    def _finish(self, event: Finished) -> bool:
        task, completion = event.task, event.completion
        if not self._is_current(task, event.attempt):
            self.record.faults.duplicate_outputs += 1
            return False
        row = self.state.tasks[task]
        executor = int(row["executor"])
        if completion is not None:
            first_ns = FAR if completion.first_token_s is None else self._clock.at_ns(completion.first_token_s)
            self.record.accept(task, event.at_ns, event.wire_ns, first_ns, completion)
            self._prompts.record(task, completion.token_ids)
            row["scheduled_ns"], row["first_token_ns"] = event.wire_ns, first_ns
            row["cached_tokens"] = completion.cached_tokens or 0
            self._failures[executor] = 0
        self.record.free(executor, event.at_ns)
        finish_task(self.state, task, int(self.state.clock[0]["now_ns"]))
        return True

    def _fail(self, event: Failed) -> bool:
        if not self._is_current(event.task, event.attempt):
            return False
        self.record.faults.count(event.error)
        executor = int(self.state.tasks["executor"][event.task])
        self._check_rejected(event.task, event.error)
        lost = [event.task]
        if isinstance(event.error, ServerHung):
            held = (self.state.tasks["executor"] == executor) & (self.state.tasks["status"] == TaskStatus.RUNNING)
            lost = np.flatnonzero(held).tolist()
        self._quarantine(executor)
        for task in lost:
            self._withdraw(task)
        return True

    def _check_rejected(self, task: int, error: RequestError) -> None:
        if isinstance(error, ServerError) and error.final:
            self._rejections[task] = self._rejections.get(task, 0) + 1
            if self._rejections[task] >= MAX_REJECTIONS * len(self._llm):
                raise RunError(f"task {task} is rejected wherever it is sent: {error}")

    def _withdraw(self, task: int) -> None:
        now_ns = int(self.state.clock[0]["now_ns"])
        self._dispatcher.cancel(task)
        self.record.free(int(self.state.tasks["executor"][task]), now_ns)
        withdraw_task(self.state, task, now_ns)
        attempts = int(self.record.requests["attempts"][task])
        backoff_s = min(FIRST_BACKOFF_S * 2 ** (attempts - 1), MAX_BACKOFF_S)
        heapq.heappush(self._withdrawn, (now_ns + round(backoff_s * 1e9), task))

    def _quarantine(self, executor: int) -> None:
        if self.state.executors["pools"][executor] == 0:
            return
        set_pools(self.state, executor, np.uint64(0))
        self.record.faults.quarantines += 1
        self._failures[executor] += 1
        delay_s = min(FIRST_PROBE_S * 2 ** (int(self._failures[executor]) - 1), MAX_BACKOFF_S)
        self._dispatcher.probe(int(self.state.executors["engine"][executor]), delay_s)
        if not self.state.executors["pools"][self._llm].any():
            self._down_since_ns = int(self.state.clock[0]["now_ns"])

    def _recover(self, event: Recovered) -> None:
        executor = int(self._llm[event.engine])
        set_pools(self.state, executor, self._pools[executor])
        self.record.faults.server_restarts += event.restarted
        self._down_since_ns = None

    def _send_again(self) -> None:
        """Send withdrawn tasks whose time has come and for which a slot is free: they go before all decisions."""
        now_ns = self._clock.now_ns
        kept: list[tuple[int, int]] = []
        while self._withdrawn and self._withdrawn[0][0] <= now_ns:
            due_ns, task = heapq.heappop(self._withdrawn)
            pool = int(self.state.stages["pool"][self.state.tasks["stage"][task]])
            executor = least_loaded(self.state, pool)
            if executor < 0:
                kept.append((due_ns, task))
                continue
            self._tick(now_ns)
            place_task(self.state, task, executor, int(self.state.clock[0]["now_ns"]))
            self.record.faults.retries += 1
            self._send(task, executor, int(self.state.clock[0]["now_ns"]))
        for entry in kept:
            heapq.heappush(self._withdrawn, entry)

    def _check_lost(self) -> None:
        if self._down_since_ns is None:
            return
        down_s = (self._clock.now_ns - self._down_since_ns) * 1e-9
        if down_s > self._options.give_up_s:
            jobs, done = len(self.state.jobs), int(self.state.clock[0]["done"])
            what = f"{jobs - done} of {jobs} jobs are not finished"
            raise EpisodeLost(f"no server has been usable for {down_s:.0f} s: {what}")


def _rehearse(state: ClusterState) -> None:
    """Run every transition once on a copy of a state, so that none has to be compiled while the clock runs."""
    arrive(state, 0, 0)
    stage = int(state.ready[0])
    executor = least_loaded(state, int(state.stages["pool"][stage]))
    can_dispatch(state)
    task = start_task(state, stage, executor, 0)
    withdraw_task(state, task, 0)
    pools = state.executors["pools"][executor].copy()
    set_pools(state, executor, np.uint64(0))
    set_pools(state, executor, pools)
    place_task(state, task, executor, 0)
    finish_task(state, task, 0)
