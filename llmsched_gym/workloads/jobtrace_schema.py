"""The JSON schema of job traces (docs/workloads.md)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from llmsched_gym.workloads.schema import STRICT, TemplateRecord
from llmsched_gym.workloads.validate import MAX_BYTES, MAX_TOKENS

FORMAT: Final = "llmsched-gym/job-trace"
VERSION: Final = 1
MAX_ARRIVAL_S: Final = 2e6
"""Latest arrival in a trace (23 days): a float of seconds then still names every nanosecond."""
MAX_DURATION_S: Final = 1e6
"""Longest task of a tool in a trace (11 days)."""

_Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
_Share = Annotated[float, Field(ge=0.0, le=1e12)]


class TaskRecord(BaseModel):
    """One task: ``prompt_tokens`` and ``output_tokens`` in an LLM stage, ``duration_s`` in a regular one.

    Attributes:
        prompt_tokens: Tokens of the prompt, prefixes included.
        output_tokens: Tokens generated.
        model: Which model must serve it.
        app_prefix: Name of the application's prefix that the prompt starts with.
        app_prefix_tokens: How many prompt tokens that is.
        job_prefix: Number of the chain of contents within the job that the prompt continues.
        job_prefix_tokens: Prompt tokens, from the start, that the chain held before; at least ``app_prefix_tokens``,
            and as many unless given.
        duration_s: How long the tool runs.
        output_bytes: Size of the output; 4 bytes per output token, or 0, unless given.
    """

    model_config = STRICT

    prompt_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    model: str | None = None
    app_prefix: str | None = None
    app_prefix_tokens: int = Field(default=0, ge=0, le=MAX_TOKENS)
    job_prefix: int | None = Field(default=None, ge=0, le=1_000_000)
    job_prefix_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    duration_s: float | None = Field(default=None, ge=0.0, le=MAX_DURATION_S)
    output_bytes: int | None = Field(default=None, ge=0, le=MAX_BYTES)


class JobStageRecord(BaseModel):
    """One stage of a job.

    Attributes:
        stage: Name in the application.
        id: Unique within the job; the stage's name unless given. A plan may hold a candidate several times.
        present: False for an optional stage that the job skips.
        tasks: Its parallel tasks; none if dynamic or absent.
        parents: Ids of earlier stages of the job; derived from the application unless given.
        revealed_by: Id of the earlier stage whose completion reveals this one; derived unless given.
    """

    model_config = STRICT

    stage: str
    id: str | None = None
    present: bool = True
    tasks: tuple[TaskRecord, ...] = ()
    parents: tuple[str, ...] | None = None
    revealed_by: str | None = None


class JobRecord(BaseModel):
    """One job; optional stages that it does not list are absent.

    Attributes:
        application: Name of its application.
        arrival_s: When it arrives.
        stages: Its stages, in any order but for plans, whose stages stand after those they follow.
    """

    model_config = STRICT

    application: str
    arrival_s: float = Field(ge=0.0, le=MAX_ARRIVAL_S)
    stages: tuple[JobStageRecord, ...]


class HistoryRecord(BaseModel):
    """Historical means of one stage; see `llmsched_gym.workloads.workload.HISTORY`."""

    model_config = STRICT

    presence: _Share
    n_tasks: _Share
    prefill_tokens: _Share
    output_tokens: _Share
    context_tokens: _Share
    seconds: _Share
    path_share: _Share


class ApplicationRecord(TemplateRecord):
    """One application.

    Attributes:
        prefixes: Names of the prompt prefixes that all its jobs share.
        history: Historical means, one record per stage; from the trace's own jobs unless given.
    """

    prefixes: tuple[str, ...] = ()
    history: tuple[HistoryRecord, ...] | None = None


class JobTrace(BaseModel):
    """A whole job trace.

    Attributes:
        format: Names this kind of file.
        version: Version of this schema.
        name: Workload name.
        models: Models that LLM tasks may ask for; tasks that name none ask for the first.
        applications: The templates.
        jobs: The jobs, in any order.
    """

    model_config = STRICT

    format: Literal["llmsched-gym/job-trace"]
    version: Literal[1]
    name: str = Field(default="job-trace", min_length=1, max_length=200)
    models: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(default=("default",), min_length=1)
    applications: tuple[ApplicationRecord, ...] = Field(min_length=1)
    jobs: tuple[JobRecord, ...] = Field(min_length=1)
