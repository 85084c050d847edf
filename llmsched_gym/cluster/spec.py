"""Cluster specifications: which executors there are, read from YAML or a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError, to_jsonable_python

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.latency import LatencyProfile, load_profile, names_file
from llmsched_gym.complaints import from_validation, refused
from llmsched_gym.config import Config, Real, Whole, beside, read_mapping
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.workloads.template import ANY_MODEL, StageKind
from llmsched_gym.workloads.workload import Workload

MAX_MODELS = 63
"""Most models of a workload: a mask of 64 bits says which pools an executor serves, and one is the regular pool."""


def _one_complaint(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Complain once about a location, not once about each kind that it could be of."""
    try:
        return check(given)
    except ValidationError:
        raise PydanticCustomError("no_location", "not a location") from None


Location = Annotated[
    Annotated[Whole, Field(ge=0, le=1_000_000)] | Annotated[str, Field(min_length=1, max_length=200)],
    WrapValidator(_one_complaint),
]
"""A place between which links run: a number or a name."""


class ModelFacts(Config):
    """What a model takes up in the memory of an executor.

    Attributes:
        weights_gb: Its weights, in GB (1e9 bytes).
        kv_kib_per_token: KV cache per token, in KiB.
    """

    weights_gb: Real = Field(gt=0.0, le=1e5)
    kv_kib_per_token: Real = Field(gt=0.0, le=1e6)


class Served(Config):
    """A model on an executor that serves several.

    Attributes:
        latency: Latency profile, by name or file.
        kv_tokens: Its KV room in tokens while it is resident; rounded down to whole blocks.
    """

    latency: str
    kv_tokens: Whole = Field(ge=1, le=100_000_000)

    @field_validator("latency")
    @classmethod
    def _is_a_profile(cls, latency: str) -> str:
        return _known_profile(latency)


class Loading(Config):
    """How long it takes until a model is resident.

    Attributes:
        overhead_s: Seconds, whatever the size.
        gb_per_s: GB of weights per second and GPU.
    """

    overhead_s: Real = Field(default=0.0, ge=0.0, le=1e5)
    gb_per_s: Real = Field(ge=1e-3, le=1e6)


class Link(Config):
    """What lies between two locations, both ways.

    Attributes:
        between: The two.
        gb_per_s: GB per second.
        latency_s: Seconds, whatever the size.
    """

    between: tuple[Location, Location]
    gb_per_s: Real = Field(ge=1e-6, le=1e6)
    latency_s: Real = Field(default=0.0, ge=0.0, le=1e4)


@dataclass(frozen=True)
class Host:
    """A model on one executor, with its own engine.

    Attributes:
        model: Name.
        latency: Latency profile.
        kv_tokens: KV room.
        bytes: Memory that it takes up while it is resident, weights and KV room; 0 where memory is of no concern.
        load_ns: How long loading it takes.
    """

    model: str
    latency: str
    kv_tokens: int
    bytes: int = 0
    load_ns: int = 0


_OF_ONE: Final = ("latency", "model", "kv_tokens")
_OF_SEVERAL: Final = ("memory_gb", "gpus", "resident", "load", "activate_s")


class LLMExecutors(Config):
    """A group of equal LLM executors: replicas of one serving engine with continuous batching.

    Either each has one model for good (`latency`, `model`, `kv_tokens`), or it serves several in turn (`serves` and
    the fields after it): then tasks name the model that they want, one model is active at a time, and another one can
    follow when no task is left. Models that are not resident are loaded; the least recently used ones make room.

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
        location: Where it is, for the links of the cluster.
        serves: By model of the cluster's catalogue: latency profile and KV room.
        memory_gb: Memory for weights and KV rooms, in GB per GPU.
        gpus: GPUs of each executor: a tensor-parallel group.
        resident: Models that are resident at time 0, most recently used first; the first is active.
        load: How long it takes until another is.
        activate_s: Seconds until a resident model is active.
    """

    kind: Literal["llm"]
    count: Whole = Field(default=1, ge=1, le=10_000)
    latency: str | None = None
    model: str = Field(default=ANY_MODEL, min_length=1, max_length=200)
    max_num_seqs: Whole = Field(default=16, ge=1, le=4096)
    max_num_batched_tokens: Whole = Field(default=2048, ge=1, le=1_000_000)
    kv_tokens: Whole = Field(default=100_000, ge=1, le=100_000_000)
    block_size: Whole = Field(default=16, ge=1, le=1024)
    watermark: Real = Field(default=0.0, ge=0.0, lt=1.0)
    prefix_caching: bool = True
    async_scheduling: bool = False
    whole_prefixes: bool = False
    location: Location = 0
    serves: dict[Annotated[str, Field(min_length=1, max_length=200)], Served] = Field(default_factory=dict)
    memory_gb: Real | None = Field(default=None, gt=0.0, le=1e6)
    gpus: Whole = Field(default=1, ge=1, le=1024)
    resident: tuple[str, ...] = ()
    load: Loading | None = None
    activate_s: Real = Field(default=0.0, ge=0.0, le=1e5)

    @field_validator("latency")
    @classmethod
    def _is_a_profile(cls, latency: str | None) -> str | None:
        return None if latency is None else _known_profile(latency)

    def usable_kv_tokens(self, host: Host) -> int:
        """Most tokens of one sequence that fit in the KV room of a model."""
        return host.kv_tokens // self.block_size * self.block_size

    @property
    def memory_bytes(self) -> int:
        """Memory of one executor."""
        return round((self.memory_gb or 0.0) * 1e9) * self.gpus

    def hosts(self, catalogue: Mapping[str, ModelFacts]) -> list[Host]:
        """Return the models of each of these executors."""
        if not self.serves:
            assert self.latency is not None
            return [Host(self.model, self.latency, self.kv_tokens)]
        return [self._host(name, served, catalogue[name]) for name, served in self.serves.items()]

    def _host(self, name: str, served: Served, facts: ModelFacts) -> Host:
        assert self.load is not None
        kv_bytes = round(served.kv_tokens * facts.kv_kib_per_token * 1024)
        load_s = self.load.overhead_s + facts.weights_gb / (self.gpus * self.load.gb_per_s)
        return Host(
            name, served.latency, served.kv_tokens, round(facts.weights_gb * 1e9) + kv_bytes, round(load_s * 1e9)
        )

    @model_validator(mode="after")
    def _one_model_or_several(self) -> Self:
        if not self.serves:
            if self.latency is None:
                raise refused("latency", Plain("nothing"), "a latency profile, or serves")
            for name in _OF_SEVERAL:
                if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].get_default():
                    allowed = "no value: only executors that serve several models have it"
                    raise refused(name, to_jsonable_python(getattr(self, name)), allowed)
            return self
        for name in _OF_ONE:
            if name in self.model_fields_set:
                raise refused(name, getattr(self, name), "no value beside serves, which says it for each model")
        if self.whole_prefixes:
            raise refused("whole_prefixes", True, "no value: only the environments of version 0 have it")
        if ANY_MODEL in self.serves:
            raise refused("serves", ANY_MODEL, f"names of models: {ANY_MODEL} stands for any of them")
        for name in ("memory_gb", "load"):
            if getattr(self, name) is None:
                raise refused(name, Plain("nothing"), "a value: executors that serve several models have it")
        for name, served in self.serves.items():
            if served.kv_tokens < self.block_size:
                allowed = f"at least block_size = {self.block_size}"
                raise refused(f"serves.{name}.kv_tokens", served.kv_tokens, allowed)
        for position, name in enumerate(self.resident):
            if name not in self.serves:
                raise refused("resident", name, f"models that it serves: {', '.join(self.serves)}")
            if name in self.resident[:position]:
                raise refused("resident", name, "each model once")
        return self

    @model_serializer(mode="wrap")
    def _as_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the fields that such executors may not have, so that what is written can be read."""
        left_out = _OF_ONE if self.serves else ("serves", *_OF_SEVERAL)
        return {name: value for name, value in dump(self).items() if name not in left_out}

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
        location: Where they are, for the links of the cluster.
    """

    kind: Literal["regular"]
    count: Whole = Field(default=1, ge=1, le=100_000)
    location: Location = 0


class ClusterSpec(Config):
    """The executors of a cluster.

    Attributes:
        name: For tables and manifests.
        executors: Groups of equal executors; their order is the order of executors in observations.
        models: The catalogue: what each model that is served in turn with others takes up.
        links: Between any two locations. Without any, where something lies is of no concern.
    """

    name: str = Field(default="cluster", min_length=1, max_length=200)
    executors: tuple[Annotated[LLMExecutors | RegularExecutors, Field(discriminator="kind")], ...] = Field(min_length=1)
    models: dict[Annotated[str, Field(min_length=1, max_length=200)], ModelFacts] = Field(default_factory=dict)
    links: tuple[Link, ...] = ()

    @model_validator(mode="after")
    def _models_are_known_and_fit(self) -> Self:
        for i, group in enumerate(self.executors):
            if not isinstance(group, LLMExecutors):
                continue
            for name in group.serves:
                if name not in self.models:
                    known = suggest(name, self.models) if self.models else "models lists none"
                    raise refused(f"executors.{i}.serves", name, f"a model of the catalogue: {known}")
            sizes = {host.model: host.bytes for host in group.hosts(self.models)}
            room, most = group.memory_bytes, f"at most memory_gb * gpus = {group.memory_bytes / 1e9:g} GB"
            for name, size in sizes.items():
                if size > room:
                    found = Plain(f"{size / 1e9:g} GB of weights and KV room of {name}")
                    raise refused(f"executors.{i}.serves", found, most)
            together = sum(sizes[name] for name in group.resident)
            if together > room:
                found = Plain(f"{together / 1e9:g} GB of {', '.join(group.resident)}")
                raise refused(f"executors.{i}.resident", found, most)
        return self

    @model_validator(mode="after")
    def _links_join_all_locations(self) -> Self:
        if not self.links:
            return self
        found: set[frozenset[int | str]] = set()
        for i, link in enumerate(self.links):
            ends = frozenset(link.between)
            for end in link.between:
                if end not in self.locations:
                    names = ", ".join(map(str, self.locations))
                    raise refused(f"links.{i}.between", end, f"locations of executors: {names}")
            if len(ends) < 2 or ends in found:
                raise refused(f"links.{i}.between", list(link.between), "two locations that no other link is between")
            found.add(ends)
        for a, b in combinations(self.locations, 2):
            if frozenset((a, b)) not in found:
                raise refused("links", Plain(f"none between {a} and {b}"), "one between any two locations of executors")
        return self

    @property
    def locations(self) -> tuple[int | str, ...]:
        """Locations of executors, in the order in which the file names them."""
        return tuple(dict.fromkeys(group.location for group in self.executors))

    @property
    def engines(self) -> list[tuple[LLMExecutors, Host]]:
        """Every model on every LLM executor, each with the group of the executor: one engine each, in this order."""
        return [(group, host) for group in self.llm for _ in range(group.count) for host in group.hosts(self.models)]

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
        return [Path(name) for name in self.latencies if names_file(name)]

    @property
    def latencies(self) -> list[str]:
        """The latency profiles of its executors, each once."""
        return list(dict.fromkeys(host.latency for group in self.llm for host in group.hosts(self.models)))

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that executors serve, in the order in which the file names them."""
        return tuple(dict.fromkeys(host.model for group in self.llm for host in group.hosts(self.models)))

    @property
    def serves_several(self) -> bool:
        """Whether some executor serves several models in turn."""
        return any(group.serves for group in self.llm)

    def reference_profile(self, model: str) -> LatencyProfile | None:
        """Return the profile that turns tokens of a model into expected times; None without LLM executors.

        Where executors serve several models, it is that of the first one that serves this one; else, whatever the
        model, that of the first one.
        """
        if not self.llm:
            return None
        hosts = [host for group in self.llm for host in group.hosts(self.models)]
        serving = [host for host in hosts if host.model == model] if self.serves_several else []
        return load_profile((serving or hosts)[0].latency)

    def with_llm_settings(self, **settings: Any) -> ClusterSpec:
        """Return the cluster with some fields of all its LLM executors changed; they are not checked."""
        groups = tuple(
            group.model_copy(update=settings) if isinstance(group, LLMExecutors) else group for group in self.executors
        )
        return self.model_copy(update={"executors": groups})

    def with_llm_executors(self, count: int) -> ClusterSpec:
        """Return the cluster with that many LLM executors: as many as there are servers.

        Raises:
            InputError: There is not one group of LLM executors to change, nor are there groups of that many in all; or
                executors serve several models, or there are links, as no server knows of either.
        """
        if self.serves_several or self.links:
            field = "executors" if self.serves_several else "links"
            found = Plain(
                "executors that serve several models" if self.serves_several else f"{len(self.links)} of them"
            )
            allowed = "one model per executor, and no links: servers are real"
            raise InputError(f"cluster {self.name}", field, found, allowed)
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
        if group.serves:  # tasks say which model they want: one that any would do for would have no home
            return sum(1 << m for m, model in enumerate(models) if model in group.serves)
        return sum(1 << m for m, model in enumerate(models) if model in (group.model, ANY_MODEL))

    def serving(self, model: int, models: tuple[str, ...]) -> list[tuple[LLMExecutors, Host]]:
        """Return the groups that serve a model of a workload's models, each with what it serves it by."""
        return [
            (group, host)
            for group in self.llm
            if self.pools_of(group, models) >> model & 1
            for host in group.hosts(self.models)
            if not group.serves or host.model == models[model]
        ]

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
            serving = self.serving(m, workload.models)
            if not serving:
                missing = Plain(f"no executor with model {model}")
                field = "executors.serves" if self.serves_several else "executors.model"
                raise InputError(source, field, missing, f"one that serves workload {workload.name}")
            need = longest - 1
            group, host = min(serving, key=lambda one: one[0].usable_kv_tokens(one[1]))
            room = group.usable_kv_tokens(host)
            if need > room:
                what = f"the longest prompt with its output in workload {workload.name}"
                field = f"executors.serves.{model}.kv_tokens" if group.serves else "executors.kv_tokens"
                raise InputError(source, field, room, f"at least {need} usable tokens: {what}")


def _known_profile(latency: str) -> str:
    """Return the name of a latency profile, or refuse it."""
    try:
        load_profile(latency)
    except InputError as error:
        if error.value == latency:  # there is none of that name
            raise refused("", latency, error.allowed) from None
        raise
    return latency


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
    located = [_located(path, f"{field}executors.{i}", group) for i, group in enumerate(groups)]
    return {**content, "executors": located}


def _located(path: str | Path, field: str, given: Any) -> Any:
    """Return what a file says of a group, or of a model that it serves, with the paths of profiles resolved."""
    if not isinstance(given, dict):
        return given
    found = dict(given)
    if isinstance(found.get("latency"), str) and names_file(found["latency"]):
        found["latency"] = beside(path, f"{field}.latency", found["latency"])
    if isinstance(found.get("serves"), dict):
        found["serves"] = {name: _located(path, f"{field}.serves.{name}", one) for name, one in found["serves"].items()}
    return found


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
