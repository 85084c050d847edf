"""A reverse proxy in front of a real vLLM server that misbehaves on command, for the fault drill and the tests.

It passes everything on, streams included, until `FaultProxy.fault` is set; then completions fail as it says. The server
behind it is real and works on: what is rehearsed is what a network, a load balancer or a dying server makes of its
replies.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from aiohttp import web

FaultKind = Literal["status", "drop", "hold", "cut", "end", "garble", "miscount"]


@dataclass
class Fault:
    """How requests for completions fail.

    Attributes:
        kind: ``status`` answers with an HTTP error; ``drop`` closes the connection without an answer; ``hold`` never
            answers; ``cut`` breaks the connection in the middle of the reply; ``end`` ends the reply in good order, but
            half way; ``garble`` spoils the reply's text; ``miscount`` changes the number of tokens that it claims.
        times: How many requests fail.
        status: The status of ``status``.
    """

    kind: FaultKind
    times: int = 1
    status: int = 503


class FaultProxy:
    """The proxy, on a thread of its own; use it in a ``with``.

    Attributes:
        fault: What happens to requests; None: nothing.
        active: Requests for completions under way.
        failed: Requests that failed so far.
        passed: Completions passed on unharmed so far.
        url: Where it listens.

    Args:
        target: Root of the real server.
    """

    def __init__(self, target: str) -> None:
        self.fault: Fault | None = None
        self.active = 0
        self.failed = 0
        self.passed = 0
        self.url = ""
        self._target = target
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault-proxy")

    def __enter__(self) -> Self:
        """Start it and wait until it listens."""
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection and end the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._released = asyncio.Event()
        application = web.Application(client_max_size=2**28)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as self._session:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            self._started.set()
            await self._stop.wait()
            self._released.set()
            await runner.cleanup()

    def _next_fault(self, path: str) -> Fault | None:
        fault = self.fault
        if fault is None or not path.endswith("/completions"):
            return None
        fault.times -= 1
        if fault.times <= 0:
            self.fault = None
        self.failed += 1
        return fault

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._next_fault(request.path)
        if fault is not None and fault.kind == "status":
            return web.json_response({"error": {"message": "rehearsed"}}, status=fault.status)
        if fault is not None and fault.kind == "hold":
            await self._released.wait()
        if fault is not None and fault.kind in ("drop", "hold"):
            return _broken(request)
        is_completion = request.path.endswith("/completions")
        self.active += is_completion
        try:
            return await self._forward(request, fault)
        finally:
            self.active -= is_completion

    async def _forward(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        body = await request.read()
        headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        url = self._target + request.path_qs
        try:
            async with self._session.request(request.method, url, data=body, headers=headers) as reply:
                return await self._pass_on(request, reply, fault)
        except aiohttp.ClientError:  # the real server is gone: so is the one that the proxy stands for
            return _broken(request)

    async def _pass_on(
        self, request: web.Request, reply: aiohttp.ClientResponse, fault: Fault | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
        with suppress(ConnectionError):  # the client has left: nobody to answer
            await response.prepare(request)
            if fault is None:
                async for piece in reply.content.iter_any():
                    await response.write(piece)
                self.passed += request.path.endswith("/completions")
            else:
                whole = await reply.read()
                half = len(whole) // 2
                if fault.kind == "miscount":
                    await response.write(whole.replace(b'"completion_tokens":', b'"completion_tokens":9'))
                elif fault.kind == "garble":
                    await response.write(whole[:half] + b"\x00}]\n" * 4 + whole[half:])
                else:
                    await response.write(whole[:half])
                if fault.kind == "cut":
                    await asyncio.sleep(0.05)  # the half that was written goes out first
                    return _broken(request, response)
            await response.write_eof()
        return response


def _broken(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Break the connection of a request, and return something for the server to give up on."""
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response(status=502)
