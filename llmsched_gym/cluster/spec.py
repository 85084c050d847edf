"""Cluster specifications: which executors there are, read from YAML or a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.latency import LatencyProfile, load_profile, names_file
from llmsched_gym.complaints import from_validation, refused
from llmsched_gym.config import Config, Real, Whole, beside, read_mapping
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.template import ANY_MODEL, StageKind
from llmsched_gym.workloads.workload import Workload

MAX_MODELS = 63
"""Most models of a workload: a mask of 64 bits says which pools an executor serves, and one is the regular pool."""


class LLMExecutors(Config):
    """A group of equal LLM executors: replicas of one serving engine with continuous batching.

    Attributes:
        kind: "llm".
        count: Number of replicas.
        latency: Latency profile, by name (`llmsched-gym latency list`) or file.
        model: Resident model; serves the tasks that ask for it or for "default".
        max_num_seqs: Largest number of running sequences, as in vLLM.
        max_num_batched_tokens: Token budget of one iteration, as in vLLM.
        kv_tokens: Capacity of the KV cache in tokens; rounded down to whole blocks.
        block_size: Tokens per KV block.
        watermark: Share of the KV blocks that admissions leave free beside running sequences, as in vLLM.
        prefix_caching: Whether prompt prefixes are reused.
        async_scheduling: Whether each iteration is scheduled while the one before it runs, as vLLM does on GPUs.
        whole_prefixes: Whether the prefix cache keeps application and job prefixes as wholes and nothing else, as in
            the environments of version 0, and not every full block by itself, as vLLM.
        location: Where it is; for later use by locality-aware placement.
    """

    kind: Literal["llm"]
    count: Whole = Field(default=1, ge=1, le=10_000)
    latency: str
    model: str = Field(default=ANY_MODEL, min_length=1, max_length=200)
    max_num_seqs: Whole = Field(default=16, ge=1, le=4096)
    max_num_batched_tokens: Whole = Field(default=2048, ge=1, le=1_000_000)
    kv_tokens: Whole = Field(default=100_000, ge=1, le=100_000_000)
    block_size: Whole = Field(default=16, ge=1, le=1024)
    watermark: Real = Field(default=0.0, ge=0.0, lt=1.0)
    prefix_caching: bool = True
    async_scheduling: bool = False
    whole_prefixes: bool = False
    location: Whole = Field(default=0, ge=0, le=1_000_000)

    @field_validator("latency")
    @classmethod
    def _is_a_profile(cls, latency: str) -> str:
        try:
            load_profile(latency)
        except InputError as error:
            if error.value == latency:  # there is none of that name
                raise refused("", latency, error.allowed) from None
            raise
        return latency

    @property
    def kv_blocks(self) -> int:
        """Whole blocks of the KV cache."""
        return self.kv_tokens // self.block_size

    @property
    def usable_kv_tokens(self) -> int:
        """Most tokens of one sequence that fit in the KV cache."""
        return self.kv_blocks * self.block_size

    @model_validator(mode="after")
    def _decodes_fit_in_an_iteration(self) -> Self:
        if self.max_num_batched_tokens < self.max_num_seqs:
            allowed = f"at least max_num_seqs = {self.max_num_seqs}"
            raise refused("max_num_batched_tokens", self.max_num_batched_tokens, allowed)
        return self


class RegularExecutors(Config):
    """A group of equal regular executors, each running one tool task at a time.

    Attributes:
        kind: "regular".
        count: Number of executors.
        location: Where they are; for later use by locality-aware placement.
    """

    kind: Literal["regular"]
    count: Whole = Field(default=1, ge=1, le=100_000)
    location: Whole = Field(default=0, ge=0, le=1_000_000)


class ClusterSpec(Config):
    """The executors of a cluster.

    Attributes:
        name: For tables and manifests.
        executors: Groups of equal executors; their order is the order of executors in observations.
    """

    name: str = Field(default="cluster", min_length=1, max_length=200)
    executors: tuple[Annotated[LLMExecutors | RegularExecutors, Field(discriminator="kind")], ...] = Field(min_length=1)

    @property
    def llm(self) -> tuple[LLMExecutors, ...]:
        """The groups of LLM executors."""
        return tuple(group for group in self.executors if isinstance(group, LLMExecutors))

    @property
    def n_regular(self) -> int:
        """Number of regular executors."""
        return sum(group.count for group in self.executors if isinstance(group, RegularExecutors))

    @property
    def n_executors(self) -> int:
        """Number of executors of both kinds."""
        return sum(group.count for group in self.executors)

    @property
    def profile_files(self) -> list[Path]:
        """The latency profiles that are given as files."""
        return [Path(group.latency) for group in self.llm if names_file(group.latency)]

    @property
    def reference_profile(self) -> LatencyProfile | None:
        """The first group's profile, which turns tokens into expected times; None without LLM executors."""
        return load_profile(self.llm[0].latency) if self.llm else None

    def with_llm_settings(self, **settings: Any) -> ClusterSpec:
        """Return the cluster with some fields of all its LLM executors changed; they are not checked."""
        groups = tuple(
            group.model_copy(update=settings) if isinstance(group, LLMExecutors) else group for group in self.executors
        )
        return self.model_copy(update={"executors": groups})

    def with_llm_executors(self, count: int) -> ClusterSpec:
        """Return the cluster with that many LLM executors: as many as there are servers.

        Raises:
            InputError: There is not one group of LLM executors to change, nor are there groups of that many in all.
        """
        if sum(group.count for group in self.llm) == count:
            return self
        if len(self.llm) != 1:
            groups = Plain(f"{count} servers for {len(self.llm)} groups of LLM executors")
            allowed = f"{sum(group.count for group in self.llm)} servers, or a cluster with one such group"
            raise InputError(f"cluster {self.name}", "executors", groups, allowed)
        changed = self.llm[0].model_copy(update={"count": count})
        groups = tuple(changed if group is self.llm[0] else group for group in self.executors)
        return self.model_copy(update={"executors": groups})

    def pools_of(self, group: LLMExecutors | RegularExecutors, models: tuple[str, ...]) -> int:
        """Return the mask of the pools that a group serves: bit m for model m of the workload, the last for regular."""
        if isinstance(group, RegularExecutors):
            return 1 << len(models)
        return sum(1 << m for m, model in enumerate(models) if model in (group.model, ANY_MODEL))

    def check_serves(self, workload: Workload) -> None:
        """Check that every task of a workload can run here.

        Raises:
            InputError: There are too many models, a kind of executor or a model is missing, or a prompt with its
                output exceeds every KV cache.
        """
        source = f"cluster {self.name}"
        tasks, stages = workload.tasks, workload.stages
        if len(workload.models) > MAX_MODELS:
            raise InputError(f"workload {workload.name}", "models", len(workload.models), f"at most {MAX_MODELS}")
        regular = bool(np.any(stages["kind"] == StageKind.REGULAR))
        if regular and self.n_regular == 0:
            need_one = f"at least one: workload {workload.name} calls tools"
            raise InputError(source, "executors", Plain("no regular executor"), need_one)
        for m, model in enumerate(workload.models):
            longest = _longest_sequence(tasks, m)
            if longest < 0:
                continue
            serving = [group for group in self.llm if self.pools_of(group, workload.models) >> m & 1]
            if not serving:
                missing = Plain(f"no executor with model {model}")
                raise InputError(source, "executors.model", missing, f"one that serves workload {workload.name}")
            need = longest - 1
            room = min(group.usable_kv_tokens for group in serving)
            if need > room:
                what = f"the longest prompt with its output in workload {workload.name}"
                raise InputError(source, "executors.kv_tokens", room, f"at least {need} usable tokens: {what}")


@kernel
def _longest_sequence(tasks: Any, model: int) -> int:
    """Return the most tokens, prompt and output, of a task that asks for a model; -1 if none does."""
    longest = -1
    for t in range(len(tasks)):
        if tasks[t].model == model:
            longest = max(longest, np.int64(tasks[t].prompt_tokens) + tasks[t].output_tokens)
    return longest


def with_located_profiles(path: str | Path, field: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return what a file says about a cluster, with the paths of latency profiles relative to the file resolved.

    Args:
        path: The file.
        field: What stands before ``executors`` in the names of its fields.
        content: What it says, not yet checked.

    Raises:
        InputError: There is no such file.
    """
    groups = content.get("executors")
    if not isinstance(groups, list):
        return content
    located = [
        {**group, "latency": beside(path, f"{field}executors.{i}.latency", group["latency"])}
        if isinstance(group, dict) and isinstance(group.get("latency"), str) and names_file(group["latency"])
        else group
        for i, group in enumerate(groups)
    ]
    return {**content, "executors": located}


def load_cluster(given: str | Path | Mapping[str, Any] | ClusterSpec) -> ClusterSpec:
    """Read a cluster from a YAML file or a mapping.

    Latency profiles that are files are relative to the cluster file, in a mapping to the working directory.

    Raises:
        InputError: The file cannot be read, or a field is wrong.
    """
    if isinstance(given, ClusterSpec):
        return given
    source: object = "cluster"
    content: Any = given
    if isinstance(given, str | Path):
        source = given
        content = with_located_profiles(given, "", read_mapping(given, "a cluster file: a mapping (YAML)"))
    try:
        return ClusterSpec.model_validate(content)
    except ValidationError as error:
        raise from_validation(source, error, ClusterSpec, content) from None
