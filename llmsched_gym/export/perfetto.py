"""Export of an episode as a trace for Perfetto (https://ui.perfetto.dev) or chrome://tracing; see docs/tracing.md.

The format is the JSON trace event format. Times are whole microseconds, rounded down, so that slices that touch in
the simulation touch in the trace.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmsched_gym.cluster.state import FAR, ClusterState, StageStatus, TaskStatus
from llmsched_gym.export.timeline import (
    Steps,
    Timeline,
    executor_names,
    jobs_in_system,
    model_spans,
    ready_tasks,
    timeline,
)
from llmsched_gym.workloads.files import write_atomic
from llmsched_gym.workloads.template import StageKind
from llmsched_gym.workloads.workload import Workload

Event = dict[str, Any]

_JOBS_PID: Final = 1
"""Process of the tracks that belong to no executor; executor e is process e + 2."""

_KV_SAMPLES: Final = 400
"""Least number of samples of a KV counter, evenly spaced, beside one at each event of its executor."""


def write_trace(state: ClusterState, workload: Workload, path: str | Path) -> None:
    """Write an episode as a JSON trace, compressed if the name ends in ``.gz``.

    A process per executor with a thread per slot; a slice per task, in it one for the time that it waits for its model
    and its inputs; a thread for the models of an executor that serves several; an arrow per dependency; counters of
    jobs in the system, tasks ready and KV tokens per LLM executor; an instant per arrival. Of an unfinished episode,
    the tasks that run are drawn up to the present time and marked ``unfinished``.

    Args:
        state: The episode, finished or not.
        workload: Its jobs.
        path: File to write.

    Raises:
        InputError: `path` cannot be written.
    """
    document = {
        "displayTimeUnit": "ms",
        "otherData": {
            "workload": workload.name,
            "workload_digest": workload.digest,
            "jobs": workload.n_jobs,
            "finished_jobs": int(state.clock["done"][0]),
            "end_s": int(state.clock["now_ns"][0]) * 1e-9,
            "kv_tokens": "reconstructed from task times and token counts, not recorded: see docs/tracing.md",
        },
        "traceEvents": trace_events(state, workload),
    }
    content = json.dumps(document, separators=(",", ":")).encode()
    # mtime=0: equal episodes give equal files.
    write_atomic(path, gzip.compress(content, mtime=0) if Path(path).suffix == ".gz" else content)


def trace_events(state: ClusterState, workload: Workload) -> list[Event]:
    """Return the events of a trace: metadata first, then all others by time."""
    spans = timeline(state)
    timed = [
        *_slices(state, workload, spans),
        *_arrows(state, spans),
        *_waits(state, spans),
        *_models(state, workload),
        *_arrivals(state, workload),
        *_counter("jobs in system", "jobs", jobs_in_system(state)),
        *_counter("ready tasks", "tasks", ready_tasks(state)),
        *_kv_counters(state),
    ]
    return [*_names(state, spans), *sorted(timed, key=lambda event: event["ts"])]


def _pid(executor: int) -> int:
    return executor + 2


def _tid(spans: Timeline, lane: int) -> int:
    """Return a thread id that no other thread or process of the trace has: some readers look threads up by it alone."""
    return _pid(len(spans.first_lane) - 1) + lane


def _us(ns: int | np.integer) -> int:
    return int(ns) // 1000


def _names(state: ClusterState, spans: Timeline) -> list[Event]:
    """Name and order processes and threads."""

    def named(kind: str, pid: int, tid: int, **args: str | int) -> Event:
        return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args}

    events = [
        named("process_name", _JOBS_PID, 0, name="jobs"),
        named("process_sort_index", _JOBS_PID, 0, sort_index=0),
    ]
    for e, name in enumerate(executor_names(state)):
        events.append(named("process_name", _pid(e), 0, name=f"{name} executor"))
        events.append(named("process_sort_index", _pid(e), 0, sort_index=e + 1))
        if state.executors[e]["serves"] != 0:
            events.append(named("thread_name", _pid(e), _pid(e), name="models"))
            events.append(named("thread_sort_index", _pid(e), _pid(e), sort_index=-1))
        first = int(spans.first_lane[e])
        for slot in range(int(spans.first_lane[e + 1]) - first):
            tid = _tid(spans, first + slot)
            events.append(named("thread_name", _pid(e), tid, name=f"slot {slot}"))
            events.append(named("thread_sort_index", _pid(e), tid, sort_index=slot))
    return events


def _slices(state: ClusterState, workload: Workload, spans: Timeline) -> list[Event]:
    """Return a complete event per dispatched task."""
    events = []
    columns = (spans.task, spans.lane, spans.start_ns, spans.end_ns)
    for row, lane, start_ns, end_ns in zip(*(column.tolist() for column in columns), strict=True):
        task = state.tasks[row]
        stage = state.stages[task["stage"]]
        template = workload.templates[state.jobs["app"][stage["job"]]]
        node = template.nodes[stage["node"]].name
        args: dict[str, Any] = {
            "job": int(stage["job"]),
            "application": template.name,
            "stage": node,
            "kind": StageKind(stage["kind"]).name.lower(),
            "task": f"{row - stage['first_task'] + 1} of {stage['n_tasks']}",
            "wait_s": _seconds(start_ns - stage["ready_ns"]),
            "duration_s": _seconds(end_ns - start_ns),
        }
        if stage["kind"] == StageKind.LLM:
            args["model"] = workload.models[stage["pool"]]
            args |= {key: int(task[key]) for key in ("prompt_tokens", "cached_tokens", "output_tokens", "restarts")}
            for column in ("scheduled_ns", "first_token_ns"):
                if task[column] != FAR:
                    args[column.replace("_ns", "_after_s")] = _seconds(task[column] - start_ns)
        if task["status"] == TaskStatus.RUNNING:
            args["unfinished"] = True
        begin = _us(start_ns)
        events.append(
            {
                "ph": "X",
                "name": f"{template.name}/{node}",
                "cat": "task",
                "pid": _pid(int(task["executor"])),
                "tid": _tid(spans, lane),
                "ts": begin,
                "dur": _us(end_ns) - begin,
                "args": args,
            }
        )
    return events


def _waits(state: ClusterState, spans: Timeline) -> list[Event]:
    """Return a complete event per task that had to wait for its model or its inputs on its executor."""
    events: list[Event] = []
    for span, row in enumerate(spans.task.tolist()):
        task = state.tasks[row]
        begin, end = _us(task["start_ns"]), _us(min(task["join_ns"], spans.end_ns[span]))
        if end > begin:
            args = {"loading_s": _seconds(task["load_ns"]), "moved_bytes": int(task["moved_bytes"])}
            place = _place(state, spans, span)
            events.append(
                {"ph": "X", "name": "wait for model, inputs", "cat": "wait", **place, "ts": begin, "dur": end - begin}
                | {"args": args}
            )
    return events


def _models(state: ClusterState, workload: Workload) -> list[Event]:
    """Return a complete event per time that a model was active, and one in it for its loading."""
    spans, events = model_spans(state), []
    for e, model, start_ns, ready_ns, end_ns in zip(*(column.tolist() for column in spans), strict=True):
        place = {"pid": _pid(e), "tid": _pid(e), "cat": "model", "ph": "X", "ts": _us(start_ns)}
        name = workload.models[model]
        events.append(place | {"name": name, "dur": _us(end_ns) - _us(start_ns), "args": {}})
        if ready_ns > start_ns:
            events.append(place | {"name": f"load {name}", "dur": _us(ready_ns) - _us(start_ns), "args": {}})
    return events


def _seconds(ns: int | np.integer) -> float:
    return round(int(ns) * 1e-9, 9)


def _arrows(state: ClusterState, spans: Timeline) -> list[Event]:
    """Return a flow per dependency between stages that ran, from the parent's last task to the child's first."""
    position = np.zeros(len(state.tasks), np.int64)
    position[spans.task] = np.arange(len(spans.task))
    finish_ns = state.tasks["finish_ns"]
    events = []
    for flow, (parent, child) in enumerate(_dependencies(state)):
        before = state.stages[parent]
        first = int(before["first_task"])
        last = first + int(np.argmax(finish_ns[first : first + before["n_tasks"]]))
        source, target = int(position[last]), int(position[state.stages["first_task"][child]])
        # An arrow is tied to the slice that is open at its time: at the end of a slice that is none, or the next.
        leave = max(_us(spans.start_ns[source]), _us(spans.end_ns[source]) - 1)
        begin: Event = {"ph": "s", "ts": leave, **_place(state, spans, source)}
        end: Event = {"ph": "f", "bp": "e", "ts": _us(spans.start_ns[target]), **_place(state, spans, target)}
        events += [event | {"name": "dependency", "cat": "dag", "id": flow} for event in (begin, end)]
    return events


def _place(state: ClusterState, spans: Timeline, span: int) -> dict[str, int]:
    executor = int(state.tasks["executor"][spans.task[span]])
    return {"pid": _pid(executor), "tid": _tid(spans, int(spans.lane[span]))}


def _dependencies(state: ClusterState) -> list[tuple[int, int]]:
    """Return the pairs (stage, stage that had to wait for it) that no chain of other pairs implies.

    A stage waits for its parents and for the stage that reveals it; one that is skipped, only for the latter. Stages
    that did not run (skipped ones, placeholders of sub-DAGs) are passed over: what waits for them waits for what they
    waited for.
    """
    stages = state.stages
    ran = (stages["start_ns"] != FAR).tolist()
    skipped = (stages["status"] == StageStatus.SKIPPED).tolist()
    parents: list[list[int]] = [[] for _ in ran]
    for stage, row in enumerate(stages):
        for child in state.children[row["first_child"] : row["first_child"] + row["n_children"]].tolist():
            if not skipped[child]:
                parents[child].append(stage)
        for revealed in state.reveals[row["first_reveal"] : row["first_reveal"] + row["n_reveals"]].tolist():
            parents[revealed].append(stage)
    pairs = []
    # Sets of stages of one job, as the bits of an integer. Rows are in topological order, parents before children.
    nearest = [0] * len(ran)  # stages that ran, and that a stage waits for without another in between
    ancestors = [0] * len(ran)  # stages that ran, and that a stage waits for
    for stage, job in enumerate(stages["job"].tolist()):
        first = int(state.jobs["first_stage"][job])
        direct = 0
        for parent in parents[stage]:
            direct |= 1 << (parent - first) if ran[parent] else nearest[parent]
            ancestors[stage] |= ancestors[parent] | (1 << (parent - first) if ran[parent] else 0)
        implied = 0
        for parent in _bits(direct):
            implied |= ancestors[first + parent]
        nearest[stage] = direct & ~implied
        if ran[stage]:
            pairs += [(first + parent, stage) for parent in _bits(nearest[stage])]
    return pairs


def _bits(members: int) -> list[int]:
    """Return the positions of the bits that are set, ascending."""
    positions = []
    while members:
        lowest = members & -members
        positions.append(lowest.bit_length() - 1)
        members ^= lowest
    return positions


def _arrivals(state: ClusterState, workload: Workload) -> list[Event]:
    """Return an instant per job that has arrived."""
    events = []
    for number, job in enumerate(state.jobs[: state.clock["arrived"][0]]):
        args: dict[str, Any] = {"job": number, "application": workload.templates[job["app"]].name}
        if job["finish_ns"] != FAR:
            args["jct_s"] = _seconds(job["finish_ns"] - job["arrival_ns"])
        event = {"ph": "i", "s": "p", "name": f"{args['application']} arrives", "cat": "arrival", "pid": _JOBS_PID}
        events.append(event | {"tid": 0, "ts": _us(job["arrival_ns"]), "args": args})
    return events


def _counter(name: str, unit: str, steps: Steps, pid: int = _JOBS_PID) -> list[Event]:
    return [
        {"ph": "C", "name": name, "pid": pid, "tid": 0, "ts": _us(time_ns), "args": {unit: value}}
        for time_ns, value in zip(steps.time_ns.tolist(), steps.value.tolist(), strict=True)
    ]


def _kv_counters(state: ClusterState) -> list[Event]:
    events = []
    for e in np.flatnonzero(state.executors["n_engines"] > 0).tolist():
        steps = kv_tokens(state, e)
        events += _counter("KV tokens (reconstructed)", "tokens", steps, _pid(e))
    return events


def kv_tokens(state: ClusterState, executor: int) -> Steps:
    """Reconstruct the tokens that the sequences of an LLM executor held in its KV cache over time.

    An approximation, as engines keep no history: a sequence holds its prompt, less what it found in the prefix cache,
    from the first iteration that computes some of it, then grows evenly from its first token to its end by its
    output. A sequence that has not finished is taken to grow at the mean pace of those that have. Prefixes that
    outlive the sequence that computed them, rounding to blocks and the loss of a preempted sequence's blocks are not
    in it.
    """
    now_ns = int(state.clock["now_ns"][0])
    held = state.tasks[(state.tasks["executor"] == executor) & (state.tasks["scheduled_ns"] <= now_ns)]
    from_ns = held["scheduled_ns"]
    grow_ns = np.minimum(held["first_token_ns"], now_ns)
    end_ns = np.minimum(held["finish_ns"], now_ns)
    prompt = (held["prompt_tokens"] - held["cached_tokens"]).astype(np.float64)
    output = held["output_tokens"].astype(np.float64)
    done = held["finish_ns"] != FAR
    growing_ns = np.maximum(end_ns - grow_ns, 1).astype(np.float64)
    pace = output[done].sum() / growing_ns[done].sum() if done.any() else 0.0
    grown = np.where(done, output, np.minimum(output, pace * (end_ns - grow_ns)))
    # The sum of lines that begin and end is itself a line between events: level + slope * time.
    slope = grown / growing_ns
    zero = np.zeros(len(held))
    events_ns = np.concatenate([from_ns, grow_ns, end_ns[done]])
    levels = np.concatenate([prompt, -slope * grow_ns, (slope * grow_ns - prompt)[done]])
    slopes = np.concatenate([zero, slope, -slope[done]])
    order = np.argsort(events_ns, kind="stable")
    level, rise = (np.concatenate([[0.0], np.cumsum(change[order])]) for change in (levels, slopes))
    sorted_ns = events_ns[order]
    times = np.unique(np.concatenate([sorted_ns, np.linspace(0, now_ns, _KV_SAMPLES).astype(np.int64)]))
    after = np.searchsorted(sorted_ns, times, side="right")
    tokens = np.rint(level[after] + rise[after] * times).astype(np.int64)
    return Steps(times, np.maximum(tokens, 0))
