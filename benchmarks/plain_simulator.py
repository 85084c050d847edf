"""The simulator's model under FCFS as plain Python: the yardstick of its tests and of its benchmark.

One object per stage, one heap of events, one pass of `PlainEngine` per engine iteration. It follows the text of
`llmsched_gym.backends.simulator` and `llmsched_gym.cluster.lifecycle` and shares no code with them.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from dataclasses import dataclass, field

from plain_engine import PlainEngine, Request

from llmsched_gym.backends.simulator.loop import engine_config
from llmsched_gym.cluster.executors import Host, LLMExecutors
from llmsched_gym.cluster.spec import ClusterSpec
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
    model: str
    inputs: dict[int | str, int] = field(default_factory=dict)  # bytes that parents have left, by location
    started: int = 0
    done: int = 0


@dataclass
class Model:
    """A model on an executor; without an engine, it is not resident."""

    group: LLMExecutors
    host: Host
    engine: PlainEngine | None = None
    used_ns: int = 0

    def fresh(self) -> PlainEngine:
        """Return an engine that has cached nothing."""
        return PlainEngine(engine_config(self.group, self.host))


@dataclass
class Executor:
    """One executor; a regular one has no models."""

    slots: int
    location: int | str
    models: list[Model] = field(default_factory=list)
    active: Model | None = None
    any_model: bool = False  # its one model serves every task
    memory: int = 0
    ready_ns: int = 0
    running: int = 0
    busy: bool = False  # an iteration is in flight
    requests: dict[Request, int] = field(default_factory=dict)  # the tasks of the requests that its engine holds

    @property
    def engine(self) -> PlainEngine | None:
        """The engine of the active model."""
        return None if self.active is None else self.active.engine

    def takes(self, model: str) -> bool:
        """Tell whether a task that asks for a model may be dispatched to it now."""
        if self.any_model:
            return True
        served = [one for one in self.models if one.host.model == model]
        return bool(served) and (self.running == 0 or served[0] is self.active)

    def activate(self, model: str, now_ns: int) -> None:
        """Make a model the active one."""
        if self.any_model:
            return
        wanted = next(one for one in self.models if one.host.model == model)
        if wanted is not self.active:
            delay_ns = round(wanted.group.activate_s * 1e9)
            if wanted.engine is None:
                resident = [one for one in self.models if one.engine is not None]
                resident.sort(key=lambda one: one.used_ns)
                while sum(one.host.bytes for one in resident) + wanted.host.bytes > self.memory:
                    resident.pop(0).engine = None
                wanted.engine = wanted.fresh()
                delay_ns = wanted.host.load_ns
            self.active, self.ready_ns = wanted, now_ns + delay_ns
        wanted.used_ns = now_ns


def executors_of(cluster: ClusterSpec) -> list[Executor]:
    """Return the executors of a cluster."""
    executors: list[Executor] = []
    for group in cluster.executors:
        for _ in range(group.count):
            if not isinstance(group, LLMExecutors):
                executors.append(Executor(1, group.location))
                continue
            models = [Model(group, host) for host in group.hosts(cluster.models)]
            for one in models:
                if not group.serves or one.host.model in group.resident:
                    one.engine = one.fresh()
                    one.used_ns = -group.resident.index(one.host.model) if group.serves else 0
            one = Executor(group.max_num_seqs, group.location, models, memory=group.memory_bytes)
            one.any_model = not group.serves
            if one.any_model:
                one.active = models[0]
            elif group.resident:
                one.active = next(model for model in models if model.host.model == group.resident[0])
            executors.append(one)
    return executors


class PlainSimulator:
    """A workload on a cluster, first come first served; `run` returns when every task started and finished.

    Executors with one model serve all tasks. Tasks go to the executor that holds the fewest, or, with `rotate`, to one
    after the other of those that can take them.
    """

    def __init__(self, workload: Workload, cluster: ClusterSpec, *, rotate: bool = False) -> None:
        """Lay out the jobs and the executors."""
        self.rotate = rotate
        self.links = {frozenset(link.between): link for link in cluster.links}
        self.kv_transfer = cluster.kv_transfer
        models = [workload.models[row["model"]] if row["model"] >= 0 else "" for row in workload.tasks]
        self.output_bytes = workload.tasks["output_bytes"].tolist()
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
                model=models[row["first_task"]] if row["n_tasks"] > 0 else "",
            )
            for row in workload.stages
        ]
        self.arrivals = workload.jobs["arrival_ns"].tolist()
        self.stages_of = [range(row["first_stage"], row["first_stage"] + row["n_stages"]) for row in workload.jobs]
        self.task_rows = workload.tasks
        self.own_from = workload.contents.own_from
        self.stage_of = workload.tasks["stage"].tolist()
        self.duration_ns = workload.tasks["duration_ns"].tolist()
        self.executors = executors_of(cluster)
        self.now_ns = 0
        self.ready: list[int] = []
        self.events: list[tuple[int, int, int, int]] = []
        """Time, executor, number of the dispatch (0: an iteration ends), task."""
        self.start_ns = [-1] * len(workload.tasks)
        self.finish_ns = [-1] * len(workload.tasks)
        self.dispatches = 0
        self.fetched: dict[int, int] = {}
        """Tokens of KV that tasks fetch."""
        self.transfers = 0
        self.used_at: dict[int, list[tuple[int, int, int]]] = {}
        """KV blocks in use and in all, and tokens generated so far, on each LLM executor, its active model's, at the
        decisions of an instant."""

    def run(self) -> tuple[list[int], list[int]]:
        """Run to the end; returns start and finish of every task in ns."""
        arrived = 0
        while True:
            self.used_at[self.now_ns] = [
                (0, 1, 0)
                if one.engine is None
                else (one.engine.shown_used, one.engine.config.kv_blocks, sum(r.generated for r in one.requests))
                for one in self.executors
                if one.models
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
                _, executor, dispatch, task = heapq.heappop(self.events)
                if dispatch == 0:
                    self.end_iteration(executor)
                elif self.executors[executor].models:
                    self.submit(executor, task)
                else:
                    self.finish(executor, task)
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
                if bool(executor.models) == (stage.kind == StageKind.LLM)
                and executor.running < executor.slots
                and (not executor.models or executor.takes(stage.model))
            ]
            if not free:
                position += 1
                continue
            self.dispatch(stage, free[self.dispatches % len(free)][1] if self.rotate else min(free)[1])
            if stage.started == len(stage.tasks):
                self.ready.pop(position)

    def dispatch(self, stage: Stage, number: int) -> None:
        """Start the next task of a stage."""
        task = stage.tasks[stage.started]
        executor = self.executors[number]
        if executor.models:
            executor.activate(stage.model, self.now_ns)
        stage.started += 1
        executor.running += 1
        self.start_ns[task] = self.now_ns
        self.dispatches += 1
        fetched, kv_ns = self.fetched_kv(task, stage.model, executor) if executor.models else (0, 0)
        there_ns = max([self.now_ns + kv_ns, executor.ready_ns, *self.arrivals_of_inputs(stage, executor)])
        if not executor.models:
            heapq.heappush(self.events, (there_ns + self.duration_ns[task], number, self.dispatches, task))
        elif there_ns > self.now_ns:
            self.fetched[task] = fetched
            heapq.heappush(self.events, (there_ns, number, self.dispatches, task))
        else:
            self.submit(number, task)

    def arrivals_of_inputs(self, stage: Stage, executor: Executor) -> list[int]:
        """Return when what a stage needs from each other location would be where an executor is."""
        if not self.links:
            return []
        arrivals: list[int] = []
        for location, size in stage.inputs.items():
            if location != executor.location and size > 0:
                link = self.links[frozenset((location, executor.location))]
                arrivals.append(self.now_ns + round(link.latency_s * 1e9) + math.ceil(size * (1.0 / link.gb_per_s)))
        return arrivals

    def fetched_kv(self, task: int, model: str, executor: Executor) -> tuple[int, int]:
        """Return the tokens that are cached if a task fetches KV, and how long that takes, in ns; 0 if it does not.

        It fetches from where it gains most: prefill time saved less the time of sending.
        """
        mine = next(one for one in executor.models if executor.any_model or one.host.model == model)
        if self.kv_transfer is None or mine.engine is None or not mine.engine.config.prefix_caching:
            return 0, 0
        cached, size = mine.engine.cached_tokens(self.request(task)), mine.engine.config.block_size
        profile = mine.engine.config.profile
        best, best_gain = (0, 0), 0
        for other in self.executors:
            for theirs in other.models:
                if other is executor or theirs.host.model != mine.host.model or theirs.engine is None:
                    continue
                found = theirs.engine.cached_tokens(self.request(task)) // size * size
                if found <= cached:
                    continue
                same_place = other.location == executor.location or not self.links
                link = self.kv_transfer if same_place else self.links[frozenset((other.location, executor.location))]
                size_bytes = (found - cached) * mine.host.kv_bytes
                kv_ns = round(link.latency_s * 1e9) + math.ceil(size_bytes * (1.0 / link.gb_per_s))
                before = sum(range(cached, found))
                gain = (found - cached) * profile.prefill_ps + before * profile.attention_ps - kv_ns * 1000
                if gain > best_gain:
                    best, best_gain = (found, kv_ns), gain
        self.transfers += best[0] > 0
        return best

    def request(self, task: int) -> Request:
        """Return a task as a request that arrives now."""
        row = self.task_rows[task]
        return Request(
            self.now_ns,
            int(row["prompt_tokens"]),
            int(row["output_tokens"]),
            int(row["app_prefix"]),
            int(row["app_prefix_tokens"]),
            int(row["job_prefix"]),
            int(self.own_from[task]),
        )

    def submit(self, number: int, task: int) -> None:
        """Hand a task to the engine of the active model."""
        executor = self.executors[number]
        assert executor.engine is not None
        request = self.request(task)
        request.fetched = self.fetched.get(task, 0)
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
                    heapq.heappush(self.events, (engine.next_ns, number, 0, -1))

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
        executor = self.executors[number]
        executor.running -= 1
        if executor.active is not None and executor.running == 0:
            executor.active.used_ns = self.now_ns
        self.finish_ns[task] = self.now_ns
        stage = self.stages[self.stage_of[task]]
        for child in stage.children:
            inputs = self.stages[child].inputs
            inputs[executor.location] = inputs.get(executor.location, 0) + self.output_bytes[task]
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
