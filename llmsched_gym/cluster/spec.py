"""Cluster specifications: which executors there are, read from YAML or a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from llmsched_gym._jit import kernel
from llmsched_gym.cluster.executors import Host, Link, LLMExecutors, ModelFacts, Rate, RegularExecutors
from llmsched_gym.cluster.latency import LatencyProfile, load_profile, names_file
from llmsched_gym.complaints import from_validation, refused
from llmsched_gym.config import Config, beside, read_mapping
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.workloads.template import ANY_MODEL, StageKind
from llmsched_gym.workloads.workload import Workload

MAX_MODELS = 63
"""Most models of a workload: a mask of 64 bits says which pools an executor serves, and one is the regular pool."""


class ClusterSpec(Config):
    """The executors of a cluster.

    Attributes:
        name: For tables and manifests.
        executors: Groups of equal executors; their order is the order of executors in observations.
        models: The catalogue: what each model that is served in turn with others takes up.
        links: Between any two locations. Without any, where something lies is of no concern.
        kv_transfer: How engines of one model get what another one has cached of a prompt; without it, they do not.
            Between locations with links, the links say how long it takes.
    """

    name: str = Field(default="cluster", min_length=1, max_length=200)
    executors: tuple[Annotated[LLMExecutors | RegularExecutors, Field(discriminator="kind")], ...] = Field(min_length=1)
    models: dict[Annotated[str, Field(min_length=1, max_length=200)], ModelFacts] = Field(default_factory=dict)
    links: tuple[Link, ...] = ()
    kv_transfer: Rate | None = None

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

    @model_validator(mode="after")
    def _what_is_sent_has_a_size(self) -> Self:
        if self.kv_transfer is None:
            return self
        for i, group in enumerate(self.executors):
            if not isinstance(group, LLMExecutors):
                continue
            if group.whole_prefixes:
                raise refused(f"executors.{i}.whole_prefixes", True, "false beside kv_transfer: blocks are sent")
            if not group.serves and group.model not in self.models:
                allowed = "a model that models lists, beside kv_transfer: it says how large KV is"
                raise refused(f"executors.{i}.model", group.model, allowed)
        return self

    @property
    def locations(self) -> tuple[int | str, ...]:
        """Locations of executors, in the order in which the file names them."""
        return tuple(dict.fromkeys(group.location for group in self.executors))

    @property
    def _hosts(self) -> list[Host]:
        """Every model of each group of LLM executors."""
        return [host for group in self.llm for host in group.hosts(self.models)]

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
        return list(dict.fromkeys(host.latency for host in self._hosts))

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that executors serve, in the order in which the file names them."""
        return tuple(dict.fromkeys(host.model for host in self._hosts))

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
        hosts = self._hosts
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
        simulated = {
            "executors": "executors that serve several models" if self.serves_several else "",
            "links": f"{len(self.links)} of them" if self.links else "",
            "kv_transfer": "a rate" if self.kv_transfer is not None else "",
        }
        for field, found in simulated.items():
            if found:
                allowed = "one model per executor, no links, no kv_transfer: servers are real"
                raise InputError(f"cluster {self.name}", field, Plain(found), allowed)
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
