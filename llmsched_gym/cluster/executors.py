"""What an executor is: groups of LLM and regular executors, models that take turns, links, as files say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

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

from llmsched_gym.cluster.latency import load_profile
from llmsched_gym.complaints import refused
from llmsched_gym.config import Config, Real, Whole
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.template import ANY_MODEL


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

    @property
    def kv_bytes(self) -> int:
        """KV cache per token, in bytes."""
        return round(self.kv_kib_per_token * 1024)


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


class Rate(Config):
    """How long sending takes.

    Attributes:
        gb_per_s: GB per second.
        latency_s: Seconds, whatever the size.
    """

    gb_per_s: Real = Field(ge=1e-6, le=1e6)
    latency_s: Real = Field(default=0.0, ge=0.0, le=1e4)


class Link(Rate):
    """What lies between two locations, both ways.

    Attributes:
        between: The two.
    """

    between: tuple[Location, Location]


@dataclass(frozen=True)
class Host:
    """A model on one executor, with its own engine.

    Attributes:
        model: Name.
        latency: Latency profile.
        kv_tokens: KV room.
        bytes: Memory that it takes up while it is resident, weights and KV room; 0 where memory is of no concern.
        load_ns: How long loading it takes.
        kv_bytes: KV cache per token; 0 where it is of no concern.
    """

    model: str
    latency: str
    kv_tokens: int
    bytes: int = 0
    load_ns: int = 0
    kv_bytes: int = 0


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
            facts = catalogue.get(self.model)
            return [Host(self.model, self.latency, self.kv_tokens, kv_bytes=facts.kv_bytes if facts else 0)]
        return [self._host(name, served, catalogue[name]) for name, served in self.serves.items()]

    def _host(self, name: str, served: Served, facts: ModelFacts) -> Host:
        assert self.load is not None
        room = round(served.kv_tokens * facts.kv_kib_per_token * 1024)
        load_s = self.load.overhead_s + facts.weights_gb / (self.gpus * self.load.gb_per_s)
        size = round(facts.weights_gb * 1e9) + room
        return Host(name, served.latency, served.kv_tokens, size, round(load_s * 1e9), facts.kv_bytes)

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


def _known_profile(latency: str) -> str:
    """Return the name of a latency profile, or refuse it."""
    try:
        load_profile(latency)
    except InputError as error:
        if error.value == latency:  # there is none of that name
            raise refused("", latency, error.allowed) from None
        raise
    return latency
