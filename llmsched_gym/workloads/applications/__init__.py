"""The six applications of the benchmark, by name, and further ones for studies of clusters.

An application's own module imports ``Application`` from ``applications.base``, because this one imports all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from llmsched_gym.errors import suggest
from llmsched_gym.workloads.applications import (
    code_generation,
    document_merging,
    llm_compiler,
    prefix_reuse,
    probe,
    real_dag,
    real_dag_revealed,
    sequence_sorting,
    task_automation,
    web_search,
)
from llmsched_gym.workloads.applications.base import Application

_ALL: Final[tuple[Application, ...]] = (
    sequence_sorting.APPLICATION,
    document_merging.APPLICATION,
    code_generation.APPLICATION,
    web_search.APPLICATION,
    task_automation.APPLICATION,
    llm_compiler.APPLICATION,
)

APPLICATIONS: Final[dict[str, Application]] = {application.name: application for application in _ALL}

FURTHER: Final[dict[str, Application]] = {
    application.name: application
    for application in (*real_dag.REAL_DAGS, real_dag_revealed.APPLICATION, *prefix_reuse.PREFIX_REUSES, *probe.PROBES)
}
"""Applications in no mixture of version 0: most of what they are like is assumed. Of these only `probe` and
`probe_known` have a shipped profile."""

GROUPS: Final[dict[str, tuple[str, ...]]] = {"real_dag": tuple(one.name for one in real_dag.REAL_DAGS)}
"""Names that stand for several applications, in equal shares."""


def drawable() -> dict[str, Application]:
    """Return all applications whose jobs scenarios can draw, also those added to `APPLICATIONS` by now."""
    return {**APPLICATIONS, **FURTHER}


def suggest_application(name: str, known: Iterable[str]) -> str:
    """Describe the known names as `suggest`; shapes and lengths that differ in a number only if such a one is meant."""
    alike = [one for one in FURTHER if one[-1].isdigit()]
    members = name.startswith(("real_dag_", "prefix_reuse_", "probe_"))
    return suggest(name, [one for one in known if members or one not in alike])


def without_groups(mix: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of a mixture with those of groups spread over their members."""
    shares: dict[str, float] = {}
    for name, share in mix.items():
        members = GROUPS.get(name, (name,))
        for member in members:
            shares[member] = shares.get(member, 0.0) + share / len(members)
    return shares


__all__ = ["APPLICATIONS", "FURTHER", "GROUPS", "Application", "drawable", "suggest_application", "without_groups"]
