"""Templates as they stand in files, shared by workload files and job traces."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from llmsched_gym.complaints import refused
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.template import ApplicationTemplate, ApplicationType, StageKind, TemplateNode

STRICT: Final = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
"""Unknown fields, other JSON types than documented, NaN and infinities are errors."""

MAX_STAGES: Final = 1000
"""Most stages of an application: tables of every two of its stages are kept while jobs run."""

HOW_TO_SPLIT: Final = (
    "stages of one kind that follow and precede the same ones can be tasks of one stage, those of a plan any number of "
    "times one candidate of a dynamic stage, and parts that run one after another applications of their own"
)


class StageRecord(BaseModel):
    """One stage of a template.

    Attributes:
        name: Unique within the application.
        kind: What the stage needs.
        parents: Names of earlier stages that must be done or skipped first.
        revealed_by: Earlier stage whose completion tells whether this optional one is present; for a dynamic stage its
            planner.
        candidate_of: The dynamic stage whose plan may contain this one.
        model: Model that all tasks of an LLM stage ask for.
    """

    model_config = STRICT

    name: str = Field(min_length=1, max_length=200)
    kind: Literal["llm", "regular", "dynamic"]
    parents: tuple[str, ...] = ()
    revealed_by: str | None = None
    candidate_of: str | None = None
    model: str | None = Field(default=None, min_length=1, max_length=200)

    @model_serializer(mode="wrap")
    def _without_needless_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the model out where there is none: such files are to the byte as before stages had models."""
        fields = serialize(self)
        if self.model is None:
            fields.pop("model", None)
        return fields


class TemplateRecord(BaseModel):
    """One application.

    Attributes:
        name: Unique within the file.
        type: Application type.
        stages: Its stages, in a topological order.
    """

    model_config = STRICT

    name: str = Field(min_length=1, max_length=200)
    type: ApplicationType = "predefined"
    stages: tuple[StageRecord, ...] = Field(min_length=1)

    @field_validator("stages")
    @classmethod
    def _not_too_many(cls, stages: tuple[StageRecord, ...]) -> tuple[StageRecord, ...]:
        if len(stages) > MAX_STAGES:
            raise refused("", Plain(f"{len(stages)} stages"), f"at most {MAX_STAGES} in an application: {HOW_TO_SPLIT}")
        return stages

    def template(self, source: object) -> ApplicationTemplate:
        """Return the validated template.

        Args:
            source: Where the record came from, for the message.

        Raises:
            InputError: Names, order or reveals are wrong.
        """
        nodes = tuple(
            TemplateNode(
                stage.name,
                StageKind[stage.kind.upper()],
                stage.parents,
                stage.revealed_by,
                stage.candidate_of,
                stage.model,
            )
            for stage in self.stages
        )
        template = ApplicationTemplate(self.name, self.type, nodes)
        template.validate(source)
        for node in nodes:
            if node.candidate_of is not None and node.kind is StageKind.DYNAMIC:
                field = f"application {self.name}, stage {node.name}"
                raise InputError(source, field, Plain("a dynamic candidate"), "an LLM or regular stage in a plan")
        return template

    @classmethod
    def from_template(cls, template: ApplicationTemplate) -> Self:
        """Return the record of a template."""
        return cls(name=template.name, type=template.type, stages=stage_records(template))


def stage_records(template: ApplicationTemplate) -> tuple[StageRecord, ...]:
    """Return the records of a template's stages."""
    kinds: dict[StageKind, Literal["llm", "regular", "dynamic"]] = {
        StageKind.LLM: "llm",
        StageKind.REGULAR: "regular",
        StageKind.DYNAMIC: "dynamic",
    }
    return tuple(
        StageRecord(
            name=node.name,
            kind=kinds[node.kind],
            parents=node.parents,
            revealed_by=node.revealed_by,
            candidate_of=node.candidate_of,
            model=node.model,
        )
        for node in template.nodes
    )
