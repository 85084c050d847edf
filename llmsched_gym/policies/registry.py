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

import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_args
from urllib.parse import parse_qsl

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.policies.base import ObservationMode, Policy

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


def policy_names() -> tuple[str, ...]:
    """Return the short names of the policies that always run, in the order in which tables list them."""
    return tuple(_POLICIES)


def learned_names() -> tuple[str, ...]:
    """Return the short names of the learned policies, which need the extra ``learn``."""
    return tuple(_LEARNED)


def policy_class(name: str) -> type[Policy]:
    """Return the class behind a short name; learned ones too, without what they need to run."""
    module_name, attribute = (_POLICIES | _LEARNED)[name].split(":")
    return getattr(importlib.import_module(f"{_PACKAGE}.{module_name}"), attribute)


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
    factory = _find_factory(spec, target)
    arguments = {**_parse_parameters(spec, query), **params}
    _check_parameters(spec, factory, arguments)
    policy = factory(**arguments)
    if not isinstance(policy, Policy):
        raise InputError(
            "policy", spec, Plain(f"a {type(policy).__name__}"), f"a factory that returns a {_PACKAGE}.base.Policy"
        )
    if not isinstance(getattr(policy, "name", None), str) or not policy.name:
        raise InputError("policy", f"{spec}, attribute name", getattr(policy, "name", None), "a text that is not empty")
    if policy.observation not in get_args(ObservationMode):
        allowed = suggest(str(policy.observation), get_args(ObservationMode))
        raise InputError("policy", f"{spec}, attribute observation", policy.observation, allowed)
    return policy


def _find_factory(spec: str, target: str) -> Callable[..., Any]:
    if target in _POLICIES or target in _LEARNED:
        return policy_class(target)
    location, separator, attribute = target.rpartition(":")
    if not separator:
        allowed = f"module:factory, path.py:factory, or {suggest(target, _POLICIES | _LEARNED)}"
        raise InputError("policy", "name", target, allowed)
    if not attribute:
        raise InputError("policy", f"{spec}, factory", Plain("nothing"), "a policy class or function after the colon")
    module = _load_file(spec, Path(location)) if location.endswith(".py") else _import_module(spec, location)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise InputError("policy", f"{spec}, factory in {location}", attribute, suggest(attribute, public))
    return factory


def _import_module(spec: str, name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError("policy", f"{spec}, module", name, "a dotted module name, or a file that ends in .py")
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise InputError("policy", f"{spec}, module", name, f"a module that imports ({error})") from error


def _load_file(spec: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError("policy", f"{spec}, file", str(path), "a Python file that exists")
    # Registered under a name of its own, so that dataclasses and pickles in the file find their module.
    name = f"llmsched_gym_policy_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()}"
    description = importlib.util.spec_from_file_location(name, path)
    if description is None or description.loader is None:
        raise InputError("policy", f"{spec}, file", str(path), "a Python file that can be imported")
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module
    try:
        description.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise InputError("policy", f"{spec}, file", str(path), f"a Python file that imports ({error})") from error
    return module


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
