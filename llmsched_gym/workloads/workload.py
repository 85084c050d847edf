"""The frozen workload: every job that will arrive, with the whole truth about it, as flat arrays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError
from llmsched_gym.numbers import real_number
from llmsched_gym.workloads.contents import Contents, prompt_contents
from llmsched_gym.workloads.links import starts
from llmsched_gym.workloads.template import ANY_MODEL, ApplicationTemplate, StageKind, TemplateNode

JOB: Final = np.dtype(
    [
        ("arrival_ns", "i8"),
        ("app", "i4"),  # index into Workload.templates
        ("first_stage", "i4"),
        ("n_stages", "i4"),
    ],
    align=True,
)
"""One row per job, by arrival."""

STAGE: Final = np.dtype(
    [
        ("job", "i4"),
        ("node", "i4"),  # template node of the job's application
        ("kind", "i4"),  # StageKind
        ("present", "i4"),  # 0: optional, and this job will skip it
        ("revealer", "i4"),  # stage whose completion reveals this one; -1: visible on arrival
        ("first_task", "i4"),
        ("n_tasks", "i4"),
        ("n_parents", "i4"),
        ("first_child", "i4"),  # into Workload.children
        ("n_children", "i4"),
        ("first_reveal", "i4"),  # into Workload.reveals
        ("n_reveals", "i4"),
    ],
    align=True,
)
"""One row per stage; the stages of a job are adjacent and in a topological order."""

TASK: Final = np.dtype(
    [
        ("duration_ns", "i8"),  # regular tasks; 0 for LLM tasks
        ("output_bytes", "i8"),
        ("stage", "i4"),
        ("model", "i4"),  # index into Workload.models; -1 for regular tasks
        ("prompt_tokens", "i4"),  # LLM tasks; 0 for regular tasks
        ("output_tokens", "i4"),
        ("app_prefix", "i4"),  # prefix shared by the application's jobs; -1: none
        ("app_prefix_tokens", "i4"),  # leading prompt tokens that are this prefix
        ("job_prefix", "i4"),  # chain of contents within the job; -1: none
        ("job_prefix_tokens", "i4"),  # leading prompt tokens that the chain held before; app_prefix_tokens if none
    ],
    align=True,
)
"""One row per task; the tasks of a stage are adjacent."""

HISTORY: Final = np.dtype(
    [
        ("presence", "f8"),  # share of jobs with the stage (candidates: mean number of times)
        ("n_tasks", "f8"),
        ("prefill_tokens", "f8"),  # prompt tokens that no prefix covers
        ("output_tokens", "f8"),
        ("context_tokens", "f8"),  # context summed over decode iterations
        ("seconds", "f8"),  # regular tasks
        ("path_share", "f8"),  # stage duration over stage work, all tasks in parallel
    ],
    align=True,
)
"""Means of one template node over jobs of the ``profile`` split: sums over the stage's tasks, given presence.

A dynamic node holds the sums over its whole sub-DAG. They are linear in the latency coefficients, so one history serves
every latency profile.
"""

BYTES_PER_TOKEN: Final = 4
"""Assumed size of one token of text; sets the output bytes of LLM tasks."""

MAX_ARRIVAL_NS: Final = 10**18
"""Latest arrival (31 years)."""

MAX_DURATION_NS: Final = 10**15
"""Longest regular task (11 days)."""

TIME_SCALES: Final = (1e-6, 1e6)
"""Least and greatest factor by which a workload's arrivals and regular tasks may be made faster."""

SCHEMA_VERSION: Final = 1


def check_time_scale(given: Any, source: object) -> float:
    """Return a time scale as a float.

    Args:
        given: What was given for it.
        source: Where, for the message.

    Raises:
        InputError: It is not a number from 1e-6 to 1e6.
    """
    scale, (least, greatest) = real_number(given), TIME_SCALES
    if scale is None or not least <= scale <= greatest:
        raise InputError(source, "time_scale", given, f"a number from {least:g} to {greatest:g}")
    return scale


@dataclass(frozen=True)
class Workload:
    """Jobs to schedule, with everything about them that a policy must not know yet.

    Attributes:
        name: Workload name, for tables and figures.
        templates: Applications; ``jobs["app"]`` indexes them.
        history: Per application, one `HISTORY` row per template node.
        models: Names of the models that LLM tasks ask for; ``tasks["model"]`` indexes them.
        jobs: `JOB` rows, sorted by arrival.
        stages: `STAGE` rows, grouped by job.
        tasks: `TASK` rows, grouped by stage.
        children: Stage indices, concatenated child lists of the stages.
        reveals: Stage indices, concatenated lists of the stages that each stage reveals.
        n_app_prefixes: Number of application prefixes; their ids come first, job prefixes follow.
        n_prefixes: Number of prefixes in all.
        provenance: How it was made (scenario, split, seed, rate, source file), JSON-able.
    """

    name: str
    templates: tuple[ApplicationTemplate, ...]
    history: tuple[NDArray[Any], ...]
    models: tuple[str, ...]
    jobs: NDArray[Any]
    stages: NDArray[Any]
    tasks: NDArray[Any]
    children: NDArray[np.int32]
    reveals: NDArray[np.int32]
    n_app_prefixes: int
    n_prefixes: int
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays."""
        for array in (*self.history, self.jobs, self.stages, self.tasks, self.children, self.reveals):
            array.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Freeze the arrays of a copy, too: NumPy copies and unpickles them writable."""
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def n_jobs(self) -> int:
        """Number of jobs."""
        return len(self.jobs)

    @property
    def _longest_ns(self) -> int:
        return int(self.tasks["duration_ns"].max(initial=0))

    def scaled(self, time_scale: float) -> Workload:
        """Return the same jobs with arrivals and regular tasks `time_scale` times as fast; LLM tasks are left alone.

        Historical means are scaled with them. The digest tells different scales apart.

        Args:
            time_scale: 1e-6 to 1e6; 1 returns this workload.

        Raises:
            InputError: It is not such a number, or arrivals or durations would be out of range.
        """
        scale = check_time_scale(time_scale, f"workload {self.name}")
        if scale == 1.0:
            return self
        longest = max(self.jobs["arrival_ns"].max(initial=0) / MAX_ARRIVAL_NS, self._longest_ns / MAX_DURATION_NS)
        if longest > scale:
            allowed = f"a number >= {longest:.3g}: with less, an arrival or a duration would be out of range"
            raise InputError(f"workload {self.name}", "time_scale", time_scale, allowed)
        jobs, tasks = self.jobs.copy(), self.tasks.copy()
        jobs["arrival_ns"] = np.rint(jobs["arrival_ns"] / scale)
        regular = tasks["model"] < 0
        tasks["duration_ns"][regular] = np.rint(tasks["duration_ns"][regular] / scale)
        history = tuple(rows.copy() for rows in self.history)
        for rows in history:
            rows["seconds"] /= scale
        provenance = self.provenance | {"time_scale": scale * self.provenance.get("time_scale", 1.0)}
        return replace(self, jobs=jobs, tasks=tasks, history=history, provenance=provenance)

    @cached_property
    def contents(self) -> Contents:
        """Whose the tokens of each task's prompt are."""
        return prompt_contents(self.tasks, self.n_app_prefixes, self.n_prefixes)

    @cached_property
    def node_models(self) -> tuple[NDArray[np.int32], ...]:
        """Model that each template node asks for, whether or not a job has it.

        Returns:
            Per application, int32 (nodes,): index into ``models``. That is the model of the template where it names
            one. Where it names none, the tasks decide: the model that all tasks of the node ask for, over all jobs;
            `ANY_MODEL` (the first model where the workload lists it not) if no job has such a task; -1 if they ask for
            several models. Regular and dynamic nodes have -1.
        """
        sizes = [len(template.nodes) for template in self.templates]
        position = {model: m for m, model in reversed([*enumerate(self.models)])}
        nodes = [node for template in self.templates for node in template.nodes]
        llm = np.array([node.kind is StageKind.LLM for node in nodes])
        named = np.array([node.model is not None for node in nodes])
        asked = np.full(len(nodes), position.get(ANY_MODEL, 0), dtype=np.int32)
        asked[named] = [position[node.model] for node in nodes if node.model is not None]
        if len(self.models) > 1 and (llm & ~named).any():
            row = self.stages["node"] + starts(sizes)[self.jobs["app"][self.stages["job"]]]
            row, model = row[self.tasks["stage"]], self.tasks["model"]
            least, greatest = np.full(len(nodes), len(self.models), np.int32), np.full(len(nodes), -1, np.int32)
            np.minimum.at(least, row, model)
            np.maximum.at(greatest, row, model)
            told = llm & ~named & (greatest >= 0)
            asked[told] = np.where(least == greatest, least, -1)[told]
        asked[~llm] = -1
        asked.flags.writeable = False
        return tuple(np.split(asked, np.cumsum(sizes)[:-1]))

    @cached_property
    def digest(self) -> str:
        """Hex digest of the content: equal digests mean equal jobs (provenance and names of files do not count)."""
        state = hashlib.blake2b(digest_size=16)
        head = {
            "schema": SCHEMA_VERSION,
            "templates": [[t.name, t.type, [_content(node) for node in t.nodes]] for t in self.templates],
            "models": self.models,
            "prefixes": [self.n_app_prefixes, self.n_prefixes],
        }
        state.update(json.dumps(head, sort_keys=True).encode())
        for array in (*self.history, self.jobs, self.stages, self.tasks):
            for column in array.dtype.names or ():  # padding bytes of aligned rows are not content
                state.update(np.ascontiguousarray(array[column]).tobytes())
        for array in (self.children, self.reveals):
            state.update(array.tobytes())
        return state.hexdigest()


def _content(node: TemplateNode) -> list[Any]:
    """Return what a digest says of a stage: nothing of models where it names none, as before stages had models."""
    model = [] if node.model is None else [node.model]
    return [node.name, int(node.kind), node.parents, node.revealed_by, node.candidate_of, *model]
