"""The simulator's model under FCFS as plain Python: the yardstick of its tests and of its benchmark.

One object per stage, one heap of events, one pass of `PlainEngine` per engine iteration. It follows the text of
`llmsched_gym.backends.simulator.loop` and `llmsched_gym.cluster.lifecycle` and shares no code with them.
"""

from __future__ import annotations

import heapq
from bisect import insort
from dataclasses import dataclass, field

from plain_engine import PlainEngine, Request

from llmsched_gym.backends.simulator.loop import engine_config
from llmsched_gym.cluster.spec import ClusterSpec, LLMExecutors
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload


@dataclass
class Stage:
    """One stage and where it is in its life."""

    kind: int
    present: bool
    revealed: bool  # known to be needed
    parents_left: int
    children: list[int]
    reveals: list[int]
    tasks: range
    started: int = 0
    done: int = 0


@dataclass
class Executor:
    """One executor; `engine` is None for a regular one."""

    slots: int
    engine: PlainEngine | None = None
    running: int = 0
    busy: bool = False  # an iteration is in flight
    requests: dict[Request, int] = field(default_factory=dict)  # the tasks of the requests that its engine holds


class PlainSimulator:
    """A workload on a cluster, first come first served; `run` returns when every task started and finished.

    All models of the workload are served by all LLM executors.
    """

    def __init__(self, workload: Workload, cluster: ClusterSpec) -> None:
        """Lay out the jobs and the executors."""
        children, reveals = workload.children.tolist(), workload.reveals.tolist()
        self.stages = [
            Stage(
                kind=int(row["kind"]),
                present=bool(row["present"]),
                revealed=row["revealer"] < 0,
                parents_left=int(row["n_parents"]),
                children=children[row["first_child"] : row["first_child"] + row["n_children"]],
                reveals=reveals[row["first_reveal"] : row["first_reveal"] + row["n_reveals"]],
                tasks=range(row["first_task"], row["first_task"] + row["n_tasks"]),
            )
            for row in workload.stages
        ]
        self.arrivals = workload.jobs["arrival_ns"].tolist()
        self.stages_of = [range(row["first_stage"], row["first_stage"] + row["n_stages"]) for row in workload.jobs]
        self.task_rows = workload.tasks
        self.own_from = workload.contents.own_from
        self.stage_of = workload.tasks["stage"].tolist()
        self.duration_ns = workload.tasks["duration_ns"].tolist()
        self.executors = [
            Executor(group.max_num_seqs, PlainEngine(engine_config(group)))
            if isinstance(group, LLMExecutors)
            else Executor(1)
            for group in cluster.executors
            for _ in range(group.count)
        ]
        self.now_ns = 0
        self.ready: list[int] = []
        self.events: list[tuple[int, int, int]] = []  # time, executor, task (-1: an iteration ends)
        self.start_ns = [-1] * len(workload.tasks)
        self.finish_ns = [-1] * len(workload.tasks)
        self.dispatches = 0
        self.used_at: dict[int, list[tuple[int, int]]] = {}
        """KV blocks in use and tokens generated so far, on each LLM executor at the decisions of an instant."""

    def blocks_of(self, number: int) -> int:
        """Return the KV blocks that an LLM executor has."""
        engine = self.executors[number].engine
        assert engine is not None
        return engine.config.kv_blocks

    def run(self) -> tuple[list[int], list[int]]:
        """Run to the end; returns start and finish of every task in ns."""
        arrived = 0
        while True:
            self.used_at[self.now_ns] = [
                (one.engine.shown_used, sum(request.generated for request in one.requests))
                for one in self.executors
                if one.engine is not None
            ]
            self.dispatch_all()
            if not self.events or self.events[0][0] > self.now_ns:
                self.start_iterations()
            due = [self.arrivals[arrived]] if arrived < len(self.arrivals) else []
            if self.events:
                due.append(self.events[0][0])
            if not due:
                return self.start_ns, self.finish_ns
            self.now_ns = min(due)
            while self.events and self.events[0][0] == self.now_ns:
                _, executor, task = heapq.heappop(self.events)
                if task >= 0:
                    self.finish(executor, task)
                else:
                    self.end_iteration(executor)
            while arrived < len(self.arrivals) and self.arrivals[arrived] == self.now_ns:
                for stage in self.stages_of[arrived]:
                    if self.stages[stage].revealed and self.stages[stage].parents_left == 0:
                        self.make_ready(stage)
                arrived += 1

    # --- decisions ---

    def dispatch_all(self) -> None:
        """Start the oldest ready stage that has a free slot, until there is none."""
        position = 0
        while position < len(self.ready):
            index = self.ready[position]
            stage = self.stages[index]
            free = [
                (executor.running, number)
                for number, executor in enumerate(self.executors)
                if (executor.engine is None) == (stage.kind == StageKind.REGULAR) and executor.running < executor.slots
            ]
            if not free:
                position += 1
                continue
            self.dispatch(stage, min(free)[1])
            if stage.started == len(stage.tasks):
                self.ready.pop(position)

    def dispatch(self, stage: Stage, number: int) -> None:
        """Start the next task of a stage."""
        task = stage.tasks[stage.started]
        executor = self.executors[number]
        stage.started += 1
        executor.running += 1
        self.start_ns[task] = self.now_ns
        self.dispatches += 1
        if executor.engine is None:
            heapq.heappush(self.events, (self.now_ns + self.duration_ns[task], number, task))
            return
        row = self.task_rows[task]
        request = Request(
            self.now_ns,
            int(row["prompt_tokens"]),
            int(row["output_tokens"]),
            int(row["app_prefix"]),
            int(row["app_prefix_tokens"]),
            int(row["job_prefix"]),
            int(self.own_from[task]),
        )
        executor.requests[request] = task
        executor.engine.submit(request, self.now_ns)

    # --- engines ---

    def start_iterations(self) -> None:
        """Let every engine that is at a boundary go on."""
        for number, executor in enumerate(self.executors):
            engine = executor.engine
            if engine is not None and not executor.busy:
                engine.launch()
                if engine.next_ns is not None:
                    executor.busy = True
                    heapq.heappush(self.events, (engine.next_ns, number, -1))

    def end_iteration(self, number: int) -> None:
        """Finish what an engine's iteration ends."""
        executor = self.executors[number]
        assert executor.engine is not None
        executor.busy = False
        for request in executor.engine.land():
            self.finish(number, executor.requests.pop(request))

    # --- stages ---

    def finish(self, number: int, task: int) -> None:
        """Take a finished task off its executor."""
        self.executors[number].running -= 1
        self.finish_ns[task] = self.now_ns
        stage = self.stages[self.stage_of[task]]
        stage.done += 1
        if stage.done == len(stage.tasks):
            self.complete(stage)

    def complete(self, stage: Stage) -> None:
        """Reveal, skip and release what follows from a stage that is done or skipped."""
        for index in stage.reveals:
            revealed = self.stages[index]
            if not revealed.present:
                self.complete(revealed)
            else:
                revealed.revealed = True
                if revealed.parents_left == 0:
                    self.make_ready(index)
        for index in stage.children:
            child = self.stages[index]
            child.parents_left -= 1
            if child.parents_left == 0 and child.revealed:
                self.make_ready(index)

    def make_ready(self, index: int) -> None:
        """Queue a stage; one without anything to run is done at once."""
        if self.stages[index].kind == StageKind.DYNAMIC:
            self.complete(self.stages[index])
        else:
            insort(self.ready, index)
