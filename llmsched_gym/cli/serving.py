"""The options of verbs that can run on real servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmsched_gym.errors import InputError, suggest

if TYPE_CHECKING:
    from llmsched_gym.backends.vllm.options import ServedOptions

BACKENDS: Final = ("simulator", "vllm")
"""Where completions come from."""


def served_options(
    backend: str,
    servers: str | None,
    no_stream: bool,
    request_timeout_s: float | None,
    give_up_s: float | None,
    tools: Path | None,
) -> ServedOptions | None:
    """Read the options of real servers; None for the simulator.

    Raises:
        InputError: One is not usable, or is given without servers.
    """
    if backend not in BACKENDS:
        raise InputError("--backend", "", backend, suggest(backend, BACKENDS))
    if backend == "simulator":
        for option, value in (
            ("--servers", servers),
            ("--no-stream", no_stream or None),
            ("--request-timeout-s", request_timeout_s),
            ("--give-up-s", give_up_s),
            ("--tools", tools),
        ):
            if value is not None:
                raise InputError(option, "", value, "none, or --backend vllm")
        return None
    from llmsched_gym.backends.vllm.options import ServedOptions

    times = {"request_timeout_s": request_timeout_s, "give_up_s": give_up_s}
    return ServedOptions.make(
        servers,
        stream=not no_stream,
        tools={} if tools is None else _read_tools(tools),
        **{name: value for name, value in times.items() if value is not None},
    )


def _read_tools(path: Path) -> dict[str, str]:
    from llmsched_gym.config import beside, read_mapping

    content = read_mapping(path, "a mapping of stage names to module:function (YAML)")
    for stage, tool in content.items():
        if not isinstance(tool, str):
            raise InputError(path, stage, tool, "module:function or path.py:function")
    located = {}
    for stage, tool in content.items():
        place, _, function = tool.rpartition(":")
        located[stage] = f"{beside(path, stage, place)}:{function}" if place.endswith(".py") else tool
    return located
