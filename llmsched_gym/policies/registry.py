"""Policies by name: one loader for the built-in schedulers, learned agents and users' own files.

A policy is named by

- a short name: ``srtf``;
- a module and a factory in it: ``my_package.my_module:MyPolicy``;
- a Python file and a factory in it: ``schedulers/mine.py:MyPolicy``;

optionally followed by parameters, as in a URL: ``mine.py:MyPolicy?alpha=0.5&groups=3``. A value is read as JSON where
that is possible, else as text. A factory is anything that, called with those parameters, returns a `Policy`: the
class itself or a function.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args
from urllib.parse import parse_qsl

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.policies.base import ObservationMode, Policy
from llmsched_gym.user_code.loading import load_module

_PACKAGE: Final = "llmsched_gym.policies"

_POLICIES: Final = {
    "random": "random:RandomPolicy",
    "fcfs": "fcfs:FCFS",
    "sjf": "sjf:SJF",
    "fair": "fair:Fair",
    "las": "las:LAS",
    "srtf": "srtf:SRTF",
    "critical_path": "critical_path:CriticalPath",
    "argus": "argus:Argus",
    "carbyne": "carbyne:Carbyne",
    "gittins": "gittins:Gittins",
    "llmsched": "llmsched:LLMSched",
    "llmsched_no_bn": "llmsched_no_bn:LLMSchedNoBN",
    "llmsched_no_uncertainty": "llmsched_no_uncertainty:LLMSchedNoUncertainty",
    "oracle_srtf": "oracle_srtf:OracleSRTF",
}
"""Short name -> module of this package and factory, imported only when it is asked for."""

_LEARNED: Final = {
    "decima": "decima:Decima",
    "maskable_ppo": "maskable_ppo:MaskablePPO",
    "uncertainty_gnn": "uncertainty_gnn:UncertaintyGNN",
}
"""The same for policies that need the extra ``learn``."""

_JOINT: Final = {"fate": "fate:Fate", "foresight": "foresight:Foresight"}
"""The same for policies that choose a stage and its executor at once."""


def policy_names() -> tuple[str, ...]:
    """Return the short names of the policies that always run, in the order in which tables list them."""
    return tuple(_POLICIES)


def learned_names() -> tuple[str, ...]:
    """Return the short names of the learned policies, which need the extra ``learn``."""
    return tuple(_LEARNED)


def policy_class(name: str) -> type[Policy]:
    """Return the class behind a short name; learned ones too, without what they need to run."""
    module_name, attribute = (_POLICIES | _LEARNED | _JOINT)[name].split(":")
    return getattr(importlib.import_module(f"{_PACKAGE}.{module_name}"), attribute)


def is_learned(policy: Policy) -> bool:
    """Tell whether a policy is one of the learned ones, or built on one."""
    modules = {f"{_PACKAGE}.{place.partition(':')[0]}" for place in _LEARNED.values()}
    return any(above.__module__ in modules for above in type(policy).__mro__)


class Loaded(NamedTuple):
    """A policy that was made.

    Attributes:
        policy: The policy.
        module: Name of the module that its factory was found in.
        arguments: What its factory was called with.
    """

    policy: Policy
    module: str
    arguments: dict[str, Any]


_listeners: list[list[Loaded]] = []


@contextmanager
def loads_told() -> Generator[list[Loaded]]:
    """Give a list that every policy is added to that is made in the ``with``, also those that other policies make."""
    told: list[Loaded] = []
    _listeners.append(told)
    try:
        yield told
    finally:
        _listeners.pop()


def load_policy(spec: str, **params: Any) -> Policy:
    """Make a policy from its name.

    Args:
        spec: Short name, ``module:factory`` or ``path.py:factory``, optionally with ``?key=value&key=value``.
        params: Further parameters for the factory; they override those in `spec`.

    Returns:
        The policy; call its ``reset`` before every episode.

    Raises:
        InputError: The name, file, attribute or a parameter is unknown, or the factory does not give a policy.
    """
    target, _, query = spec.partition("?")
    factory, module = _find_factory(spec, target)
    arguments = {**_parse_parameters(spec, query), **params}
    _check_parameters(spec, factory, arguments)
    policy = factory(**arguments)
    _check_policy(spec, policy)
    for told in _listeners:
        told.append(Loaded(policy, module, arguments))
    return policy


def _check_policy(spec: str, policy: Any) -> None:
    if not isinstance(policy, Policy):
        allowed = f"a factory that returns a {_PACKAGE}.base.Policy"
        raise InputError("policy", spec, Plain(f"a {type(policy).__name__}"), allowed)
    name = getattr(policy, "name", None)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError("policy", f"{spec}, attribute name", name, "a text that is not empty, in one line")
    if policy.observation not in get_args(ObservationMode):
        allowed = suggest(str(policy.observation), get_args(ObservationMode))
        raise InputError("policy", f"{spec}, attribute observation", policy.observation, allowed)
    if not isinstance(policy.privileged, bool):
        raise InputError("policy", f"{spec}, attribute privileged", policy.privileged, "True or False")
    sources = policy.sources
    if isinstance(sources, str) or not all(isinstance(file, str | Path) and Path(file).exists() for file in sources):
        raise InputError("policy", f"{spec}, attribute sources", sources, "a tuple of paths to files that exist")


def _find_factory(spec: str, target: str) -> tuple[Callable[..., Any], str]:
    """Return the factory, and the name of the module that it was found in."""
    if target in _POLICIES | _LEARNED | _JOINT:
        return policy_class(target), f"{_PACKAGE}.{target}"
    location, separator, attribute = target.rpartition(":")
    if not separator:
        allowed = f"module:factory, path.py:factory, or {suggest(target, _POLICIES | _LEARNED | _JOINT)}"
        raise InputError("policy", "name", target, allowed)
    if not attribute:
        raise InputError("policy", f"{spec}, factory", Plain("nothing"), "a policy class or function after the colon")
    is_file = location.endswith(".py")
    where = f"{spec}, {'file' if is_file else 'module'}"
    if is_file and not Path(location).is_file():
        raise InputError("policy", where, location, "a Python file that exists")
    if not is_file and not all(part.isidentifier() for part in location.split(".")):
        raise InputError("policy", where, location, "a dotted module name, or a file that ends in .py")
    try:
        module = load_module(location)
    except (ImportError, SyntaxError) as error:
        allowed = f"a {'Python file' if is_file else 'module'} that imports ({error})"
        raise InputError("policy", where, location, allowed) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise InputError("policy", f"{spec}, factory in {location}", attribute, suggest(attribute, public))
    return factory, module.__name__


def _parse_parameters(spec: str, query: str) -> dict[str, Any]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        raise InputError("policy", f"{spec}, parameters", query, "key=value&key=value") from error
    keys = [key for key, _ in pairs]
    repeated = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
    if repeated is not None:
        raise InputError("policy", f"{spec}, parameters", repeated, "every parameter once")
    return {key: _parse_value(value) for key, value in pairs}


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check_parameters(spec: str, factory: Callable[..., Any], arguments: dict[str, Any]) -> None:
    signature = inspect.signature(factory)
    known = signature.parameters
    any_name = any(one.kind is one.VAR_KEYWORD for one in known.values())
    unknown = next((name for name in arguments if name not in known and not any_name), None)
    if unknown is not None:
        allowed = suggest(unknown, known) if known else "no parameter"
        raise InputError("policy", f"{spec}, parameters", unknown, allowed)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError("policy", f"{spec}, parameters", Plain(error), f"all of {', '.join(known)}") from error
