"""Policies by name: one loader for the built-in schedulers, learned agents and users' own files.

A policy is named by

- a short name: ``srtf``;
- a module and a factory in it: ``my_package.my_module:MyPolicy``;
- a Python file and a factory in it: ``schedulers/mine.py:MyPolicy``;
- an order and a placement, each named in one of these ways: ``srtf+mct``;

optionally followed by parameters, as in a URL: ``mine.py:MyPolicy?alpha=0.5&groups=3``. A value is read as JSON where
that is possible, else as text. A factory is anything that, called with those parameters, returns a `Policy`, or a
`PlacementRule` where a placement is meant: the class itself or a function. A placement named alone takes candidates in
order of arrival. Of ``ORDER+PLACE`` the placement gets the parameters that it knows, and the order all others.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args
from urllib.parse import parse_qsl

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.policies.base import ObservationMode, PlacementMode, Policy, PriorityPolicy
from llmsched_gym.policies.fcfs import FCFS
from llmsched_gym.policies.placement import PlacementRule
from llmsched_gym.policies.placing import Placing
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
    "justitia": "justitia:Justitia",
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

_JOINT: Final = {
    "min_min": "min_min:MinMin",
    "max_min": "max_min:MaxMin",
    "sufferage": "sufferage:Sufferage",
    "etf": "etf:ETF",
    "heft": "heft:HEFT",
    "cpop": "cpop:CPOP",
    "peft": "peft:PEFT",
    "plas": "plas:PLAS",
    "halo": "halo:Halo",
    "fate": "fate:Fate",
    "foresight": "foresight:Foresight",
}
"""The same for policies that choose a stage and its executor at once."""

_PLACEMENTS: Final = {
    "least_loaded": "placements.least_loaded:LeastLoaded",
    "round_robin": "placements.round_robin:RoundRobin",
    "static": "placements.static:Static",
    "sticky": "placements.sticky:Sticky",
    "mct": "placements.mct:MCT",
    "prefix_aware": "placements.prefix_aware:PrefixAware",
    "kv_router": "placements.kv_router:KVRouter",
    "admit": "placements.admit:Admit",
}
"""The same for placements."""

_NAMED: Final = _POLICIES | _JOINT | _LEARNED
_ALL: Final = _NAMED | _PLACEMENTS


def policy_names() -> tuple[str, ...]:
    """Return the short names of the policies that always run, in the order in which tables list them."""
    return tuple(_POLICIES)


def learned_names() -> tuple[str, ...]:
    """Return the short names of the learned policies, which need the extra ``learn``."""
    return tuple(_LEARNED)


def joint_names() -> tuple[str, ...]:
    """Return the short names of the policies that choose a stage and its executor at once."""
    return tuple(_JOINT)


def placement_names() -> tuple[str, ...]:
    """Return the short names of the placements."""
    return tuple(_PLACEMENTS)


def policy_class(name: str) -> type[Policy]:
    """Return the class behind a short name; learned ones too, without what they need to run."""
    return _class(_NAMED[name])


def rule_class(name: str) -> type[PlacementRule]:
    """Return the class behind the short name of a placement."""
    return _class(_PLACEMENTS[name])


def _class(place: str) -> Any:
    module_name, attribute = place.split(":")
    return getattr(importlib.import_module(f"{_PACKAGE}.{module_name}"), attribute)


def is_built_in(spec: str) -> bool:
    """Tell whether a policy, or both halves of one, come with the package."""
    return all(name in _ALL for name in spec.partition("?")[0].split("+"))


def shows_graph(spec: str) -> bool:
    """Tell whether a policy that comes with the package needs graphs."""
    names = spec.partition("?")[0].split("+")
    return any(name in _NAMED and policy_class(name).observation == "graph" for name in names)


def is_learned(policy: Policy | PlacementRule) -> bool:
    """Tell whether a policy is one of the learned ones, or built on one."""
    modules = {f"{_PACKAGE}.{place.partition(':')[0]}" for place in _LEARNED.values()}
    return any(above.__module__ in modules for above in type(policy).__mro__)


class Loaded(NamedTuple):
    """A policy or placement that was made.

    Attributes:
        policy: The policy.
        module: Name of the module that its factory was found in.
        arguments: What its factory was called with.
        halves: How many of those told just before it are what it is joined of.
    """

    policy: Policy | PlacementRule
    module: str
    arguments: dict[str, Any]
    halves: int = 0


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
        spec: Short name, ``module:factory`` or ``path.py:factory``, or two of these as ``ORDER+PLACE``, optionally with
            ``?key=value&key=value``.
        params: Further parameters for the factory; they override those in `spec`.

    Returns:
        The policy; call its ``reset`` before every episode.

    Raises:
        InputError: The name, file, attribute or a parameter is unknown, or the factory does not give a policy.
    """
    target, _, query = spec.partition("?")
    arguments = {**_parse_parameters(spec, query), **params}
    if halves := _halves(target):
        return _join(spec, *halves, arguments)
    made = _make(spec, target, _ALL, arguments)
    return _placing(FCFS(), made, made.name) if isinstance(made, PlacementRule) else made


def _halves(target: str) -> tuple[str, str] | None:
    """Return the names of an order and a placement that are joined; None if there is but one name."""
    location, _, attribute = target.rpartition(":")
    in_path = "+" not in attribute and Path(location).is_file()
    if "+" not in target or in_path:
        return None
    names = target.split("+")
    if len(names) != 2 or not all(names):
        raise InputError("policy", "name", target, "one order and one placement, as in srtf+mct")
    return names[0], names[1]


def _join(spec: str, order_name: str, rule_name: str, arguments: dict[str, Any]) -> Policy:
    """Make a policy of an order and a placement."""
    finders = _find_factory(spec, order_name, _NAMED)[0], _find_factory(spec, rule_name, _PLACEMENTS)[0]
    ordering, placing = (inspect.signature(one).parameters for one in finders)
    _check_names(spec, {**placing, **ordering}, arguments)
    known = {name: value for name, value in arguments.items() if name in placing}
    order = _make(spec, order_name, _NAMED, {name: arguments[name] for name in arguments if name not in known})
    if not isinstance(order, PriorityPolicy):
        ranking = [name for name in _NAMED if issubclass(policy_class(name), PriorityPolicy)]
        raise InputError("policy", f"{spec}, order", order_name, f"a PriorityPolicy, {suggest(order_name, ranking)}")
    rule = _make(spec, rule_name, _PLACEMENTS, known)
    if not isinstance(rule, PlacementRule):
        raise InputError("policy", f"{spec}, placement", rule_name, f"a PlacementRule, {suggest('', _PLACEMENTS)}")
    return _placing(order, rule)


def _placing(order: PriorityPolicy, rule: PlacementRule, name: str = "") -> Policy:
    policy = Placing(order, rule, name)
    _tell(Loaded(policy, Placing.__module__, {}, halves=1 if name else 2))
    return policy


def _make(spec: str, target: str, known: Mapping[str, str], arguments: dict[str, Any]) -> Policy | PlacementRule:
    """Call the factory of a policy or a placement."""
    factory, module = _find_factory(spec, target, known)
    _check_parameters(spec, factory, arguments)
    made = factory(**arguments)
    _check_made(spec, made)
    _tell(Loaded(made, module, arguments))
    return made


def _tell(loaded: Loaded) -> None:
    for told in _listeners:
        told.append(loaded)


def _check_made(spec: str, made: Any) -> None:
    if not isinstance(made, Policy | PlacementRule):
        allowed = f"a factory that returns a {_PACKAGE}.base.Policy"
        raise InputError("policy", spec, Plain(f"a {type(made).__name__}"), allowed)
    name = getattr(made, "name", None)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError("policy", f"{spec}, attribute name", name, "a text that is not empty, in one line")
    if isinstance(made, Policy):
        _check_attribute(spec, "observation", made.observation, get_args(ObservationMode))
        _check_attribute(spec, "placement", made.placement, get_args(PlacementMode))
        if not isinstance(made.privileged, bool):
            raise InputError("policy", f"{spec}, attribute privileged", made.privileged, "True or False")
    sources = made.sources
    if isinstance(sources, str) or not all(isinstance(file, str | Path) and Path(file).exists() for file in sources):
        raise InputError("policy", f"{spec}, attribute sources", sources, "a tuple of paths to files that exist")


def _check_attribute(spec: str, attribute: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError("policy", f"{spec}, attribute {attribute}", value, suggest(str(value), allowed))


def _find_factory(spec: str, target: str, known: Mapping[str, str]) -> tuple[Callable[..., Any], str]:
    """Return the factory, and the name of the module that it was found in.

    Args:
        spec: The whole name, for messages.
        target: Name without parameters, of one half.
        known: Short names that it may be.
    """
    if target in known:
        factory = _class(known[target])
        return factory, factory.__module__
    location, separator, attribute = target.rpartition(":")
    if not separator:
        allowed = f"module:factory, path.py:factory, or {suggest(target, known)}"
        half = target != spec.partition("?")[0]
        raise InputError("policy", f"{spec}, name" if half else "name", target, allowed)
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
    _check_names(spec, known, arguments)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError("policy", f"{spec}, parameters", Plain(error), f"all of {', '.join(known)}") from error


def _check_names(spec: str, known: Mapping[str, inspect.Parameter], arguments: dict[str, Any]) -> None:
    any_name = any(one.kind is one.VAR_KEYWORD for one in known.values())
    unknown = next((name for name in arguments if name not in known and not any_name), None)
    if unknown is not None:
        allowed = suggest(unknown, known) if known else "no parameter"
        raise InputError("policy", f"{spec}, parameters", unknown, allowed)
