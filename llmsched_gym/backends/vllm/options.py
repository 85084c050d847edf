"""How an episode on real servers is run: what a user chooses, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.numbers import real_number

ServerSpec = str | Mapping[str, Any]
"""A URL, ``dummy:<size>``, a model's path or name, or the fields of a `LaunchSpec`."""


@dataclass(frozen=True)
class ServedOptions:
    """Servers and how they are used.

    Attributes:
        servers: One per LLM executor, in cluster order: URLs of running vLLM servers, or what to launch.
        stream: Stream replies, so that the tokens generated so far reach the observation. Costs time per token, on both
            sides of the connection.
        request_timeout_s: Longest silence of a server before a request counts as lost. Without streaming a whole
            generation is silent.
        give_up_s: The run ends when no server has been usable for that long.
        tools: What runs instead of a timed wait, by stage name or ``application.stage``: ``module:function`` or
            ``path.py:function`` of an async function that takes a `ToolCall`.

    Raises:
        InputError: A value is not usable.
    """

    servers: tuple[ServerSpec, ...]
    stream: bool = True
    request_timeout_s: float = 120.0
    give_up_s: float = 120.0
    tools: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.tools, Mapping):
            raise InputError("servers", "tools", self.tools, "a mapping of stage names to functions")
        if not self.servers:
            raise InputError("servers", "", Plain("none"), "at least one URL, or dummy:tiny to launch one")
        for server in self.servers:
            if not isinstance(server, str | Mapping) or not server:
                allowed = "a URL, dummy:<size>, a model, or a mapping of launch fields"
                raise InputError("servers", "", server, allowed)
        urls = [server.rstrip("/") for server in self.servers if isinstance(server, str) and is_url(server)]
        repeated = next((url for i, url in enumerate(urls) if url in urls[:i]), None)
        if repeated is not None:
            raise InputError("servers", "", repeated, "every server once: each is one executor")
        if not isinstance(self.stream, bool):
            raise InputError("servers", "stream", self.stream, "True or False")
        for name in ("request_timeout_s", "give_up_s"):
            seconds = real_number(getattr(self, name))
            if seconds is None or seconds <= 0.0:
                raise InputError("servers", name, getattr(self, name), "a number of seconds > 0")

    @classmethod
    def make(cls, servers: ServerSpec | Sequence[ServerSpec] | None, **others: Any) -> ServedOptions:
        """Put options together; `servers` may be a list, or URLs and models separated by commas."""
        if isinstance(servers, str):
            servers = [part.strip() for part in servers.split(",")]
        elif isinstance(servers, Mapping):
            servers = [servers]
        elif not isinstance(servers, Sequence | None) or isinstance(servers, bytes):
            raise InputError("servers", "", servers, "URLs or what to launch, one per LLM executor")
        return cls(tuple(servers or ()), **others)

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> ServedOptions:
        """Read the fields by name, `servers` as in `make`.

        Raises:
            InputError: A field is unknown, or a value is not usable.
        """
        if not isinstance(given, Mapping):
            allowed = 'None, or ServedOptions or their fields, {"servers": [...]}'
            raise InputError("environment", "served", given, allowed)
        known = [one.name for one in fields(cls)]
        for name in given:
            if name not in known:
                raise InputError("environment", "served", name, suggest(str(name), known))
        others = {name: value for name, value in given.items() if name != "servers"}
        return cls.make(given.get("servers"), **others)


def is_url(server: str) -> bool:
    """Tell whether a server is given by its URL, and so not launched."""
    return server.startswith(("http://", "https://"))
