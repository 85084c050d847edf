"""The policies of a comparison, loaded once before anything runs, and what their decisions depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.episode import check_served, find_policy
from llmsched_gym.policies.registry import Loaded, is_learned, loads_told
from llmsched_gym.user_code.containment import contained
from llmsched_gym.user_code.dependencies import Dependencies, dependencies

_LEARNED_ON: Final = ("torch", "safetensors")
"""Packages whose version matters to learned policies."""


@dataclass(frozen=True)
class Contestant:
    """A policy as a comparison sees it.

    Attributes:
        spec: What `load_policy` takes.
        label: Name in tables and figures.
        privileged: Whether it reads the truth.
        source: Digest of what its decisions depend on besides the setting: `dependencies`.
        files: Digest of each file in `source`, by module or file name.
        packages: Version of each installed package in `source`.
        doubt: Why `source` may lack something, so that its results are never taken over; empty if it lacks nothing.
    """

    spec: str
    label: str
    privileged: bool
    source: str
    files: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    doubt: str = ""


@contained()
def find_contestants(specs: Sequence[str], *, served: bool = False) -> tuple[Contestant, ...]:
    """Load every policy once, to know that all of them exist before the first episode runs.

    A policy of this package is labelled by its spec, any other one by its ``name``, or, where names coincide, its spec.

    Args:
        specs: What `load_policy` takes.
        served: Whether they meet real servers.

    Raises:
        InputError: None is given, one is given twice, one cannot be found, or one cannot run on real servers.
        RunError: One fails while it is loaded.
    """
    if not specs:
        raise InputError("policies", "", "none", "at least one policy")
    repeated = next((spec for i, spec in enumerate(specs) if spec in specs[:i]), None)
    if repeated is not None:
        raise InputError("policies", "", repeated, "every policy once")
    found = []
    for spec in specs:
        with loads_told() as loads:
            policy = find_policy(spec)
        if served:
            check_served(spec, policy.placement)
        found.append((spec, policy, _dependencies(loads)))
    labels = [policy.name if ":" in spec else spec for spec, policy, _ in found]
    return tuple(
        Contestant(
            spec,
            label if labels.count(label) == 1 else spec,
            bool(policy.privileged),
            needs.digest,
            needs.files,
            needs.packages,
            needs.doubt,
        )
        for (spec, policy, needs), label in zip(found, labels, strict=True)
    )


def never_resumed(contestant: Contestant) -> str:
    """Say that earlier results of a policy that has a `doubt` do not count, and why."""
    why = "what its decisions depend on cannot be told"
    return f"policy {contestant.label}: its results are not resumed, {why}: {contestant.doubt} (docs/policies.md)"


def _dependencies(loads: Sequence[Loaded]) -> Dependencies:
    """Find what a policy depends on.

    Args:
        loads: Itself, and before it the policies that it loaded, or is joined of.
    """
    modules: dict[str, None] = {}
    files: dict[Path, None] = {}
    packages: set[str] = set()
    for policy, module, arguments, _ in loads:
        modules |= {module: None} | {above.__module__: None for above in type(policy).__mro__}
        files |= {Path(source): None for source in policy.sources} | dict.fromkeys(_named_files(arguments))
        packages |= set(_LEARNED_ON) if is_learned(policy) else set()
    return dependencies(modules, files, packages, nested=len(loads) > 1 + loads[-1].halves)


def _named_files(value: Any) -> Iterator[Path]:
    """Yield the files that arguments of a policy name; folders may hold much that has nothing to do with it."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _named_files(one)
    elif isinstance(value, str | Path) and value:
        path = Path(value)
        try:
            there = path.is_file()
        except (OSError, ValueError):  # too long for a path, or with characters that none can have
            return
        if there:
            yield path
