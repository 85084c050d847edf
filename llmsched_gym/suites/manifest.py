"""The manifest of a suite, ``suite.yaml``: what is run, by which metric it is judged, and beside which reference."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from llmsched_gym.complaints import refused
from llmsched_gym.config import Config, Real, Whole
from llmsched_gym.errors import suggest
from llmsched_gym.scenario import SCENARIOS
from llmsched_gym.workloads.splits import MAX_SEED

FORMAT: Final = 1
"""Version of the files of a suite."""

METRICS: Final = ("mean_jct_s", "p95_jct_s", "p99_jct_s", "mean_slowdown", "makespan_s")
"""What a scenario may be judged by; smaller is better, and all are above 0."""

_NAME: Final = r"^[a-z][a-z0-9_]*(-[a-z0-9_]+)*-v[0-9]+$"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]


class Seeds(Config):
    """A range of seeds.

    Attributes:
        first: The least.
        count: How many, one after the other.
    """

    first: Whole = Field(ge=0, le=MAX_SEED)
    count: Whole = Field(ge=1, le=10_000)


class ScenarioEntry(Config):
    """A scenario as the suite has it.

    Attributes:
        name: In tables and folders; unique within the suite.
        scenario: Scenario that comes with the package.
        jobs: Jobs per episode; None keeps the scenario's.
        load: Offered work over capacity; None keeps the scenario's load or rate.
        metric: What is judged.
        reference: Policy that scores are relative to, on the same jobs.
    """

    name: Name
    scenario: str
    jobs: Whole | None = Field(default=None, ge=1, le=1_000_000)
    load: Real | None = Field(default=None, gt=0.0, le=100.0)
    metric: str = "mean_jct_s"
    reference: str = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.scenario not in SCENARIOS:
            raise refused("scenario", self.scenario, suggest(self.scenario, SCENARIOS))
        if self.metric not in METRICS:
            raise refused("metric", self.metric, suggest(self.metric, METRICS))
        return self


class Manifest(Config):
    """What ``suite.yaml`` holds.

    Attributes:
        format: `FORMAT`.
        name: Ends in a version; what is run never changes under one name.
        about: One sentence.
        split: Split that jobs are drawn from.
        seeds: The same for every scenario. Those of the eval split begin where nothing else of the project looks.
        scenarios: In the order of tables.
    """

    format: Literal[1]
    name: str = Field(pattern=_NAME, max_length=100)
    about: str = Field(min_length=1, max_length=500)
    split: Literal["eval", "train"] = "eval"
    seeds: Seeds
    scenarios: tuple[ScenarioEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_name_once(self) -> Self:
        names = [entry.name for entry in self.scenarios]
        repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if repeated is not None:
            raise refused("scenarios", repeated, "every name once")
        if self.seeds.first + self.seeds.count - 1 > MAX_SEED:
            raise refused("seeds", self.seeds.first, f"seeds up to {MAX_SEED}")
        return self
