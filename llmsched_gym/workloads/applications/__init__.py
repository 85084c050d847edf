"""The six applications of the benchmark, by name.

An application's own module imports ``Application`` from ``applications.base``, because this one imports all of them.
"""

from __future__ import annotations

from typing import Final

from llmsched_gym.workloads.applications import (
    code_generation,
    document_merging,
    llm_compiler,
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

__all__ = ["APPLICATIONS", "Application"]
