"""Scenarios: a named setting of workload, cluster and load."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from llmsched_gym._code.ahead import announce
from llmsched_gym._code.parts import job_parts
from llmsched_gym.cluster.load import Part, saturation_rates
from llmsched_gym.cluster.spec import ClusterSpec, load_cluster, with_located_profiles
from llmsched_gym.complaints import from_validation, refused
from llmsched_gym.config import Config, Real, Whole, beside, read_mapping
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.workloads import toy
from llmsched_gym.workloads.applications import GROUPS, drawable, suggest_application, without_groups
from llmsched_gym.workloads.arrivals import Arrivals, Poisson, Trace
from llmsched_gym.workloads.generator import generate
from llmsched_gym.workloads.history import application_history
from llmsched_gym.workloads.shortening import shortened, shortened_history
from llmsched_gym.workloads.stage_models import (
    first_fault,
    names_path,
    read_assignment,
    stages_of,
    template_with_models,
    with_stage_models,
)
from llmsched_gym.workloads.template import ApplicationTemplate
from llmsched_gym.workloads.transfer import MAX_RATIO, with_transfer_ratio
from llmsched_gym.workloads.workload import Workload

SCENARIOS = (
    "mixed",
    "predefined",
    "chain",
    "planning",
    "hetero8",
    "hetero4",
    "real_dag",
    "prefix_reuse",
    "mixed_heavy",
    "mixed_burst",
    "mixed_bursty",
    "planning_heavy",
    "agents",
    "agents_bursty",
    "memory_bound",
    "probe",
    "toy",
    "two_jobs",
)
"""Names of the scenarios that come with the package."""

_Model = Annotated[str, Field(min_length=1, max_length=200)]

_FIXED = {"toy": toy.toy, "two_jobs": toy.two_jobs}


class Scenario(Config):
    """What is scheduled, on what, and how busy it is.

    Attributes:
        name: For tables and manifests.
        applications: Share of the jobs of each application, or of a group of them; empty for a fixed workload.
        fixed: Instead of applications: a built-in workload ("toy", "two_jobs") that is the same for every seed.
        jobs: Number of jobs to draw; says nothing of a fixed workload (`n_jobs`).
        load: Offered work over capacity of the busiest pool of executors; not with `rate`.
        rate: Jobs per second.
        models: Application → stage → model that serves it; what is not named, any LLM executor serves
            (`workloads.stage_models`). Applications that the scenario does not have are passed over.
        arrivals: Arrival process.
        cluster: Executors.
        token_divisor: Prompts and outputs are divided by it, for engines too slow for the real ones; results say so.
        transfer_ratio: Outputs are so large that moving them over a link of 2.5 GB/s takes so many times as long as
            making them (`workloads.transfer`); without, they are text.
    """

    name: str = Field(min_length=1, max_length=200)
    applications: dict[str, Annotated[Real, Field(gt=0.0, le=1e9)]] = Field(default_factory=dict)
    fixed: str | None = None
    jobs: Whole = Field(default=300, ge=1, le=1_000_000)
    load: Real | None = Field(default=None, gt=0.0, le=100.0)
    rate: Real | None = Field(default=None, gt=0.0, le=1e6)
    models: dict[str, dict[str, _Model]] = Field(default_factory=dict)
    arrivals: Arrivals = Field(default_factory=Poisson, discriminator="kind")
    cluster: ClusterSpec
    token_divisor: Whole = Field(default=1, ge=1, le=1000)
    transfer_ratio: Real | None = Field(default=None, ge=0.0, le=MAX_RATIO)

    @model_validator(mode="after")
    def _one_source_of_jobs(self) -> Self:
        if (self.fixed is None) == (not self.applications):
            both = Plain("both" if self.applications else "neither")
            raise refused("applications, fixed", both, "either applications or fixed")
        if self.fixed is not None and self.fixed not in _FIXED:
            raise refused("fixed", self.fixed, suggest(self.fixed, _FIXED))
        for name in self.applications:
            if name not in (known := [*drawable(), *GROUPS]):
                raise refused("applications", name, suggest_application(name, known))
        if self.fixed is None and (self.load is None) == (self.rate is None):
            both = Plain("neither" if self.load is None else "both")
            raise refused("load, rate", both, "either load or rate")
        fault = first_fault(self.models, self._templates()) if self.models else None
        if fault is not None:
            raise refused(*fault)
        return self

    def _templates(self) -> dict[str, ApplicationTemplate]:
        """Return the applications that `models` may name: all that there are, and those of a fixed workload."""
        fixed = () if self.fixed is None else _FIXED[self.fixed]().templates
        known = {name: application.template for name, application in drawable().items()}
        return known | {template.name: template for template in fixed}

    @property
    def n_jobs(self) -> int:
        """Number of jobs per episode."""
        return self.jobs if self.fixed is None else _FIXED[self.fixed]().n_jobs

    def replaced(self, jobs: int | None = None, load: float | None = None, rate: float | None = None) -> Scenario:
        """Return this scenario with another number of jobs, load or rate where given.

        Raises:
            InputError: A value is out of range, load and rate are both given, or the scenario's workload is fixed.
        """
        changes: dict[str, Any] = {} if jobs is None else {"jobs": jobs}
        if load is not None or rate is not None:
            if load is not None and rate is not None:
                raise InputError(f"scenario {self.name}", "rate", rate, "either a load or a rate, not both")
            changes |= {"load": load, "rate": rate}
        if not changes:
            return self
        if self.fixed is not None:
            field, value = next((k, v) for k, v in changes.items() if v is not None)
            raise InputError(f"scenario {self.name}", field, value, "no value: its workload is fixed")
        try:
            return Scenario.model_validate({**dict(self), **changes})
        except ValidationError as error:
            raise from_validation(f"scenario {self.name}", error, Scenario) from None

    def arrival_rate(self, cluster: ClusterSpec | None = None) -> float:
        """Return the arrival rate in jobs/s: as given, or such that `cluster` (default: its own) has the load given."""
        if self.rate is not None:
            return self.rate
        if self.load is None:
            raise InputError(f"scenario {self.name}", "load", None, "a load or a rate")
        announce(*job_parts(self.applications))
        parts: list[Part] = [
            (share, self._template(name), shortened_history(application_history(name), self.token_divisor))
            for name, share in without_groups(self.applications).items()
        ]
        return self.load * min(saturation_rates(cluster or self.cluster, parts).values())

    def _template(self, name: str) -> ApplicationTemplate:
        """Return an application whose stages ask for their models."""
        return template_with_models(drawable()[name].template, stages_of(self.models, name))

    def rate_for(self, cluster: ClusterSpec) -> float | None:
        """Return the rate to `build` with where jobs are to run on `cluster`; None where the workload is fixed."""
        return self.arrival_rate(cluster) if self.fixed is None else None

    def build(self, split: str, seed: int, rate_per_s: float | None = None) -> Workload:
        """Draw the jobs of one seed of a split.

        Args:
            split: "train", "eval" or "profile".
            seed: Integer from 0.
            rate_per_s: From `rate_for`; default: for the scenario's cluster. Says nothing of a fixed workload.

        Raises:
            InputError: Bad split or seed.
        """
        if self.fixed is not None:
            return self._as_set(_FIXED[self.fixed]())
        rate = self.arrival_rate() if rate_per_s is None else rate_per_s
        announce(*job_parts(self.applications))
        mix = without_groups(self.applications)
        drawn = generate(self.name, mix, self.arrivals, rate, self.jobs, split, seed, applications=drawable())
        return self._as_set(drawn)

    def _as_set(self, drawn: Workload) -> Workload:
        """Return jobs with what the scenario lays over them: models, a divisor of tokens, and sizes of outputs."""
        jobs = shortened(with_stage_models(drawn, self.models), self.token_divisor)
        return jobs if self.transfer_ratio is None else with_transfer_ratio(jobs, self.transfer_ratio)


def load_scenario(given: str | Path | Mapping[str, Any] | Scenario) -> Scenario:
    """Read a scenario by name, from a YAML file (any string with a dot or slash), or from a mapping.

    ``cluster`` may be a mapping or the path of a cluster file; ``models`` a mapping, the path of a file with one, or
    the name of one that comes with the package. Paths in a file are relative to its folder, paths in a mapping to the
    working directory.

    Raises:
        InputError: Unknown name, unreadable file, or a wrong field.
    """
    if isinstance(given, Scenario):
        return given
    if isinstance(given, Mapping):
        return _validated("scenario", given)
    if not isinstance(given, str | Path):
        raise InputError("scenario", "", given, f"a YAML file, a mapping, or {suggest('', SCENARIOS)}")
    text = str(given)
    if text in SCENARIOS:
        return _shipped(text)
    if not any(mark in text for mark in "./\\"):
        raise InputError("scenario", "", text, f"a YAML file, or {suggest(text, SCENARIOS)}")
    return _validated(given, _located(Path(text)))


def files_named_in(path: str | Path) -> list[Path]:
    """Return the files that a scenario file names: cluster, latency profiles, models and a trace of arrivals.

    Raises:
        InputError: The file, or one of those, cannot be read.
    """
    content = _located(Path(path))
    scenario = _validated(path, content)
    arrivals, cluster = scenario.arrivals, content["cluster"]
    named = [arrivals.path] if isinstance(arrivals, Trace) else []
    named += [cluster] if isinstance(cluster, str) else []
    named += [content["models"]] if names_path(content.get("models")) else []
    return [*scenario.cluster.profile_files, *map(Path, named)]


@lru_cache
def _shipped(name: str) -> Scenario:
    with resources.as_file(resources.files("llmsched_gym") / "scenarios") as folder:
        path = folder / f"{name}.yaml"
        return _validated(path, _located(path))


def _located(path: Path) -> dict[str, Any]:
    """Return the content of a scenario file, with the paths in it relative to the working directory."""
    content = read_mapping(path, "a scenario file: a mapping (YAML)")
    arrivals, cluster = content.get("arrivals"), content.get("cluster")
    if isinstance(arrivals, dict) and isinstance(arrivals.get("path"), str):
        content["arrivals"] = {**arrivals, "path": beside(path, "arrivals.path", arrivals["path"])}
    if names_path(models := content.get("models")):
        content["models"] = beside(path, "models", models)
    if isinstance(cluster, str):
        content["cluster"] = beside(path, "cluster", cluster)
    elif isinstance(cluster, dict):
        content["cluster"] = with_located_profiles(path, "cluster.", cluster)
    return content


def _validated(source: object, content: Mapping[str, Any]) -> Scenario:
    content = dict(content)
    if isinstance(content.get("cluster"), str | Path):
        content["cluster"] = load_cluster(content["cluster"])
    if isinstance(content.get("models"), str | Path):
        content["models"] = read_assignment(content["models"], source, "models")
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        raise from_validation(source, error, Scenario, content) from None
