"""What environments may be given: every argument, action and seed by one rule, before anything is drawn or compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from llmsched_gym.envs.reward import REWARDS
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.numbers import real_number, whole_number
from llmsched_gym.workloads.splits import MAX_SEED, SPLITS, check_seed
from llmsched_gym.workloads.workload import Workload, check_time_scale

SOURCE: Final = "environment"
"""What errors name as the place of an argument."""

OBSERVATIONS: Final = ("table", "graph")
PLACEMENTS: Final = ("least_loaded", "agent")
BACKENDS: Final = ("simulator", "vllm")
"""Where completions come from."""

RENDER_MODES: Final = ("ansi", "rgb_array")

MAX_ROWS: Final = 1_000_000
"""Most rows of ``candidates`` and ``jobs``: as many as a scenario may have jobs."""

MAX_ENVS: Final = 65_536
"""Most sub-environments of a vector environment."""

MAX_THREADS: Final = 1024
"""Most threads that step them."""

MAX_BYTES: Final = 2**30
"""Most bytes of an observation, of all sub-environments together (1 GiB)."""


# Arguments of one environment


def check_arguments(**given: Any) -> dict[str, Any]:
    """Check arguments of `SchedulingEnv`, each by itself and those that exclude each other.

    Args:
        given: Arguments by name; only those named here are checked.

    Returns:
        The arguments, NumPy's numbers as Python's.

    Raises:
        InputError: The first that is not usable.
    """
    checked = {name: _CHECKS[name](name, value) for name, value in given.items()}
    check_fixed_jobs(SOURCE, checked.get("workload"), checked)
    return checked


def check_fixed_jobs(source: object, workload: object, given: Mapping[str, Any]) -> None:
    """Check that nothing asks for other jobs than those of a fixed workload.

    Args:
        source: Where the arguments were given, for the message.
        workload: The workload, or its file; None: none.
        given: Arguments by name, of which ``jobs``, ``load`` and ``rate`` are looked at.

    Raises:
        InputError: One is given beside the workload.
    """
    if workload is None:
        return
    name = workload.name if isinstance(workload, Workload) else workload
    for option in ("jobs", "load", "rate"):
        if given.get(option) is not None:
            raise InputError(source, option, given[option], f"no value: the jobs are those of {name}")


def check_served(backend: str, servers: object, options: Mapping[str, tuple[Any, Any]]) -> None:
    """Check that nothing is said of servers where there are none.

    Args:
        backend: Where completions come from.
        servers: The servers; None: none.
        options: How servers are used: by name, what was given and what is usual.

    Raises:
        InputError: Something is.
    """
    if backend != "simulator":
        return
    for name, (value, usual) in {"servers": (servers, None), **options}.items():
        if type(value) is not type(usual) or value != usual:
            raise InputError(SOURCE, name, value, 'none, or backend="vllm" with servers')


def check_observation_bytes(shapes: Iterable[tuple[int, ...]], actions: int, count: int) -> None:
    """Check that observations have room in memory, before they are made.

    Args:
        shapes: Those of the tables, of four bytes per number.
        actions: Length of the action mask, of a byte each.
        count: Number of sub-environments.

    Raises:
        InputError: They take more than `MAX_BYTES`.
    """
    size = count * (sum(4 * math.prod(shape) for shape in shapes) + actions)
    if size > MAX_BYTES:
        what = "max_candidates, max_jobs" if count == 1 else "num_envs, max_candidates, max_jobs"
        found = Plain(f"observations of {size / 2**30:.3g} GiB")
        raise InputError(SOURCE, what, found, f"numbers whose observations take at most {MAX_BYTES / 2**30:g} GiB")


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Return one of several names.

    Raises:
        InputError: It is none of them.
    """
    if not isinstance(value, str) or value not in allowed:
        raise InputError(SOURCE, name, value, suggest(value if isinstance(value, str) else "", allowed))
    return value


def flag(name: str, value: Any) -> bool:
    """Return a truth value.

    Raises:
        InputError: It is neither True nor False.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(SOURCE, name, value, "True or False")
    return bool(value)


def whole(name: str, value: Any, most: int) -> int:
    """Return a whole number from 1.

    Raises:
        InputError: It is something else, or more than `most`.
    """
    number = whole_number(value)
    if number is None or not 1 <= number <= most:
        raise InputError(SOURCE, name, value, f"a whole number from 1 to {most}")
    return number


def real(name: str, value: Any) -> float:
    """Return a number > 0.

    Raises:
        InputError: It is something else.
    """
    number = real_number(value)
    if number is None or number <= 0.0:
        raise InputError(SOURCE, name, value, "a number > 0")
    return number


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    def checked(name: str, value: Any) -> Any:
        try:
            return None if value is None else check(name, value)
        except InputError as error:
            raise InputError(SOURCE, name, value, f"None, or {error.allowed}") from None

    return checked


def _profiler(name: str, value: Any) -> bool | str | Path:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if not isinstance(value, str | Path) or not Path(value).is_dir():
        raise InputError(SOURCE, name, value, "True, False, or a folder with profiles (*.json)")
    return value


def _workload(name: str, value: Any) -> Workload | str | Path:
    if not isinstance(value, Workload | str | Path):
        raise InputError(SOURCE, name, value, "a Workload, or the path of a workload file or job trace (.json)")
    return value


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "jobs": _or_none(lambda name, value: whole(name, value, MAX_ROWS)),
    "load": _or_none(real),
    "rate": _or_none(real),
    "split": lambda name, value: choice(name, value, tuple(SPLITS)),
    "workload": _or_none(_workload),
    "observation": lambda name, value: choice(name, value, OBSERVATIONS),
    "privileged": flag,
    "placement": lambda name, value: choice(name, value, PLACEMENTS),
    "max_candidates": _or_none(lambda name, value: whole(name, value, MAX_ROWS)),
    "max_jobs": _or_none(lambda name, value: whole(name, value, MAX_ROWS)),
    "reward": lambda name, value: choice(name, value, REWARDS),
    "profiler": _profiler,
    "soft_evidence": flag,
    "render_mode": _or_none(lambda name, value: choice(name, value, RENDER_MODES)),
    "time_scale": lambda _, value: check_time_scale(value, SOURCE),
    "backend": lambda name, value: choice(name, value, BACKENDS),
}
"""What each argument may be: checks that return it or raise `InputError`."""


# Arguments of a vector environment


def autoreset_mode(given: Any) -> AutoresetMode:
    """Return an autoreset mode by itself, its name or its value.

    Raises:
        InputError: There is no such mode.
    """
    if isinstance(given, AutoresetMode):
        return given
    known = {mode.value: mode for mode in AutoresetMode}
    names = known | {mode.name: mode for mode in AutoresetMode}
    if not isinstance(given, str) or given not in names:
        raise InputError(SOURCE, "autoreset_mode", given, suggest(given if isinstance(given, str) else "", known))
    return names[given]


# Actions and seeds


def read_action(given: Any) -> int:
    """Return an action: an integer of Python or NumPy, or an array of one without dimensions.

    Integers that are no legal action are another matter: they are counted and replaced.

    Raises:
        InputError: It is anything else: a truth value, a float, text.
    """
    if type(given) is int or type(given) is np.int64:
        return int(given)
    action = whole_number(given)
    if action is None:
        raise InputError(SOURCE, "action", given, "a whole number")
    return action


def read_actions(given: Any, count: int) -> NDArray[np.int64]:
    """Return the actions of several sub-environments; integers too large for 64 bits become -1, which is illegal.

    Args:
        given: One per sub-environment, each as `read_action` takes it.
        count: Number of sub-environments.

    Raises:
        InputError: There are more or fewer, or one is no integer.
    """
    if isinstance(given, np.ndarray) and given.shape == (count,) and given.dtype.kind in "iu":
        return given
    if isinstance(given, np.ndarray):
        found: object = Plain(f"{given.dtype} of shape {given.shape}")
    elif isinstance(given, list | tuple):
        if len(given) == count:
            actions = (read_action(one) for one in given)
            return np.array([one if 0 <= one <= MAX_SEED else -1 for one in actions], np.int64)
        found = Plain(f"{len(given)} actions")
    else:
        found = given
    raise InputError(SOURCE, "actions", found, f"integers of shape ({count},)")


def read_seeds(given: Any, count: int) -> list[int | None]:
    """Return a seed for each of several sub-environments.

    Args:
        given: None, a seed for the first of them and one more for each that follows, or a seed or None for each.
        count: Number of sub-environments.

    Raises:
        InputError: It is something else, or a seed is out of range.
    """
    if given is None:
        return [None] * count
    first = whole_number(given)
    if first is not None and not 0 <= first <= MAX_SEED - count + 1:
        raise InputError(SOURCE, "seed", given, f"a whole number from 0 to {MAX_SEED - count + 1}")
    if first is not None:
        return list(range(first, first + count))
    if not isinstance(given, list | tuple | np.ndarray) or np.ndim(given) != 1:
        raise InputError(SOURCE, "seed", given, f"a whole number >= 0, or {count} of them, one per sub-environment")
    if len(given) != count:
        raise InputError(SOURCE, "seed", Plain(f"{len(given)} seeds"), f"{count}, one per sub-environment")
    return [None if seed is None else check_seed(seed, SOURCE) for seed in given]


def reset_mask(options: Any, count: int) -> NDArray[np.bool_]:
    """Return which sub-environments the options of a reset name: all, unless there is a ``reset_mask``.

    Raises:
        InputError: The options are no mapping, or the mask is no truth value per sub-environment or names none.
    """
    if options is not None and not isinstance(options, Mapping):
        raise InputError(SOURCE, "options", options, "a mapping, or None")
    mask = (options or {}).get("reset_mask")
    if mask is None:
        return np.ones(count, np.bool_)
    fits = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (count,)
    if not fits or not mask.any():
        raise InputError(SOURCE, "reset_mask", mask, f"bool array of shape ({count},), not all False")
    return mask
