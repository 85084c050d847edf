"""One request to an OpenAI-compatible vLLM server: exact lengths in, exact counts out, and every failure by name."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from llmsched_gym.errors import RunError

CONNECT_S: Final = 10.0
"""A server that does not accept a connection within this time refuses it."""

KEEP_ALIVE_S: Final = 2.0
"""Idle connections are given up well before the server does (uvicorn: 5 s): a request on a connection that the server
is just closing would look like a server that died."""


class RequestError(RunError):
    """A request to a server failed; the subclass says how."""


class ServerRefused(RequestError):
    """The server accepts no connection, or dropped it before the reply was complete."""


class ServerHung(RequestError):
    """The server sent nothing for longer than the time-out."""


class ServerError(RequestError):
    """The server answered with an HTTP error.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[ServerError], tuple[str, int]]:
        """Pickle by the arguments."""
        return type(self), (str(self), self.status)

    @property
    def final(self) -> bool:
        """Whether the server understood the request and will never serve it (a prompt that is too long, say)."""
        return self.status in (400, 413, 422)


class MalformedReply(RequestError):
    """The reply is no completion of the request: not JSON, cut short, or with other token counts than asked for."""


@dataclass(frozen=True)
class Completion:
    """What a server did for one request. Times are of ``time.perf_counter``, in seconds.

    Attributes:
        prompt_tokens: Tokens of the prompt, as the server counted them.
        output_tokens: Tokens generated, as the server counted them.
        cached_tokens: Prompt tokens found in the prefix cache; None where the server does not tell
            (``--enable-prompt-tokens-details``).
        token_ids: The generated ids.
        sent_s: Just before the request went out.
        first_token_s: When the first token arrived; None without streaming.
        finish_s: When the reply was complete.
    """

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    token_ids: tuple[int, ...]
    sent_s: float
    first_token_s: float | None
    finish_s: float


def open_session() -> aiohttp.ClientSession:
    """Return a session for any number of servers and requests; call it inside the event loop, close it in the end."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    return aiohttp.ClientSession(connector=connector)


async def complete(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    prompt_ids: Sequence[int],
    output_tokens: int,
    *,
    timeout_s: float,
    on_token: Callable[[int], None] | None = None,
) -> Completion:
    """Have a server generate exactly `output_tokens` tokens after a prompt.

    Args:
        session: From `open_session`.
        url: Root of the server ("http://127.0.0.1:8000").
        model: Name under which the server serves its model.
        prompt_ids: The prompt.
        output_tokens: Number of tokens to generate, at least 1.
        timeout_s: Longest silence of the server. Without streaming the whole generation is silent.
        on_token: Streams the reply, and is called in the event loop with the number of tokens so far whenever there
            are more.

    Raises:
        ServerRefused: No connection, or it broke.
        ServerHung: Silence for longer than `timeout_s`.
        ServerError: An HTTP status other than 200.
        MalformedReply: Anything but the completion that was asked for.
    """
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(prompt_ids),
        "min_tokens": output_tokens,
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "return_token_ids": True,
    }
    if on_token is not None:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_S, timeout_s), sock_read=timeout_s)
    sent_s = time.perf_counter()
    try:
        async with session.post(f"{url}/v1/completions", json=body, timeout=timeout) as response:
            if response.status != 200:
                detail = " ".join((await response.text(errors="replace")).split())[:300]
                raise ServerError(f"{url}: HTTP {response.status}: {detail}", response.status)
            if on_token is None:
                first_s = None
                token_ids, usage = _whole_reply(await response.read())
            else:
                first_s, token_ids, usage = await _streamed_reply(response.content, on_token)
    except aiohttp.ConnectionTimeoutError as error:
        raise ServerRefused(f"{url}: no connection within {timeout.sock_connect:g} s") from error
    except aiohttp.SocketTimeoutError as error:
        raise ServerHung(f"{url}: silent for {timeout_s:g} s") from error
    except _Malformed as error:
        raise MalformedReply(f"{url}: {error}") from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError) as error:
        raise ServerRefused(f"{url}: {error or type(error).__name__}") from error
    except aiohttp.ClientError as error:
        raise MalformedReply(f"{url}: {error}") from error
    finish_s = time.perf_counter()
    counts = _counts(usage)
    if counts[:2] != (len(prompt_ids), output_tokens) or len(token_ids) != output_tokens:
        found = f"{counts[0]} + {counts[1]} tokens counted, {len(token_ids)} sent"
        raise MalformedReply(f"{url}: {found}; asked for {len(prompt_ids)} + {output_tokens}")
    return Completion(*counts, tuple(token_ids), sent_s, first_s, finish_s)


class _Malformed(Exception):
    """What is wrong with a reply; becomes a `MalformedReply` that names the server."""


def _json(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _Malformed(f"expected a JSON object, got {text[:80]!r}")
    if "error" in found:
        raise _Malformed(f"the reply holds an error: {str(found['error'])[:200]}")
    return found


def _token_ids(reply: Mapping[str, Any]) -> list[int]:
    """Return the ids of a reply or chunk; a chunk without choices (the last, with the usage) has none."""
    try:
        choices = reply["choices"]
        ids = choices[0]["token_ids"] if choices else []
        return [int(token) for token in ids or []]
    except (KeyError, IndexError, TypeError, ValueError):
        raise _Malformed(f"no token ids in {str(reply)[:80]!r}") from None


def _whole_reply(text: bytes) -> tuple[list[int], Any]:
    reply = _json(text)
    return _token_ids(reply), reply.get("usage")


async def _streamed_reply(
    content: aiohttp.StreamReader, on_token: Callable[[int], None]
) -> tuple[float | None, list[int], Any]:
    """Return the time of the first token, the ids, and the usage of a stream."""
    first_s: float | None = None
    token_ids: list[int] = []
    usage: Any = None
    async for data in _events(content):
        if data == b"[DONE]":
            return first_s, token_ids, usage
        chunk = _json(data)
        fresh = _token_ids(chunk)
        if fresh:
            first_s = time.perf_counter() if first_s is None else first_s
            token_ids += fresh
            on_token(len(token_ids))
        usage = chunk.get("usage") or usage
    raise _Malformed(f"the stream ends after {len(token_ids)} tokens without [DONE]")


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the data of server-sent events; vLLM sends one line of data per event."""
    pending = bytearray()
    async for piece in content.iter_any():
        pending += piece
        *lines, rest = pending.split(b"\n")
        pending = rest
        for line in lines:
            line = line.strip()
            if line.startswith(b"data:"):
                yield bytes(line[5:].strip())
            elif line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise _Malformed(f"no server-sent event: {bytes(line[:80])!r}")
    if pending.strip():
        raise _Malformed(f"the stream ends inside an event: {bytes(pending[:80])!r}")


def _counts(usage: Any) -> tuple[int, int, int | None]:
    """Return prompt, output and cached tokens of a usage object."""
    try:
        details = usage.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens")
        return int(usage["prompt_tokens"]), int(usage["completion_tokens"]), None if cached is None else int(cached)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise MalformedReply(f"no usage in the reply: {str(usage)[:80]!r}") from None
