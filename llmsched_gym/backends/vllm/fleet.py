"""The servers behind the LLM executors of a cluster: found by their URLs, or launched and looked after."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmsched_gym.backends.vllm.health import ServerFacts, healthy, server_facts
from llmsched_gym.backends.vllm.io_thread import IoThread
from llmsched_gym.backends.vllm.launch import Server, launch_all
from llmsched_gym.backends.vllm.launch_spec import LaunchSpec
from llmsched_gym.backends.vllm.options import ServerSpec, is_url
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.errors import InputError
from llmsched_gym.workloads.workload import Workload


@dataclass(frozen=True)
class Replica:
    """One server.

    Attributes:
        facts: What it says of itself.
        server: Its process; None if it was found running.
    """

    facts: ServerFacts
    server: Server | None = None

    @property
    def url(self) -> str:
        """Root of the server."""
        return self.facts.url

    @property
    def model(self) -> str:
        """Name under which it serves its model."""
        return self.facts.model

    def describe(self) -> dict[str, Any]:
        """Return what results depend on, JSON-able: ports and process numbers do not count."""
        content: dict[str, Any] = {
            "model": self.model,
            "max_model_len": self.facts.max_model_len,
            "version": self.facts.version,
        }
        if self.server is None:
            return content | {"url": self.url}
        return content | {"launched": self.server.spec.model_dump(mode="json", exclude={"port"})}


class Fleet:
    """Servers in use by this process; `close` stops those that it launched, and every connection.

    Args:
        servers: One per LLM executor.
        cluster: Says how many sequences and tokens per iteration launched servers handle, where `servers` does not.
        log_dir: Folder for the logs of launched servers; by default temporary ones.

    Attributes:
        io: Where all connections live.
        replicas: In the order of `servers`.

    Raises:
        InputError: A URL does not answer, or something cannot be launched as described.
        RunError: A server does not start.
    """

    def __init__(self, servers: Sequence[ServerSpec], cluster: ClusterSpec, log_dir: Path | None = None) -> None:
        self.replicas: list[Replica] = []
        self._epochs = itertools.count(secrets.randbelow(256))
        self._closing = False
        self.io = IoThread()
        launched: list[Server] = []
        try:
            found = {
                url: self._ask(url)
                for server in servers
                if isinstance(server, str) and is_url(server)
                for url in [server.rstrip("/")]
            }
            specs = launch_specs(servers, cluster)
            launched += launch_all(specs, log_dir) if specs else []
            started = iter(launched)
            for server in servers:
                if isinstance(server, str) and is_url(server):
                    self.replicas.append(Replica(found[server.rstrip("/")]))
                else:
                    process = next(started)
                    self.replicas.append(Replica(self._ask(process.url), process))
        except BaseException:  # Ctrl-C as well
            for process in launched:
                process.stop()
            self.io.close()
            raise

    def _ask(self, url: str) -> ServerFacts:
        return self.io.call(server_facts(self.io.session, url))

    def describe(self) -> list[dict[str, Any]]:
        """Return what results depend on, one JSON-able mapping per server."""
        return [replica.describe() for replica in self.replicas]

    def check_fits(self, workload: Workload) -> None:
        """Check that every prompt with its output fits into the context of every server.

        Raises:
            InputError: One does not.
        """
        need = int((workload.tasks["prompt_tokens"].astype("i8") + workload.tasks["output_tokens"]).max())
        for replica in self.replicas:
            room = replica.facts.max_model_len
            if room is not None and need > room:
                longest = f"the longest prompt with its output in workload {workload.name}"
                raise InputError(f"server {replica.url}", "max_model_len", room, f"at least {need} tokens: {longest}")

    def next_epoch(self) -> int:
        """Return a number for the prompts of an episode, so that it finds nothing of earlier ones in prefix caches."""
        return next(self._epochs)

    async def is_healthy(self, engine: int) -> bool:
        """Whether a server answers; to be awaited in the I/O thread."""
        return await healthy(self.io.session, self.replicas[engine].url)

    async def restart_if_dead(self, engine: int) -> bool:
        """Start a launched server anew whose process is gone; to be awaited in the I/O thread.

        Returns:
            Whether it was.

        Raises:
            RunError: It does not start.
        """
        server = self.replicas[engine].server
        if server is None or server.alive():
            return False
        await asyncio.to_thread(self._restart, server)
        return True

    def _restart(self, server: Server) -> None:
        if not self._closing:
            server.restart()

    def close(self) -> None:
        """Stop launched servers, connections and the I/O thread; doing it again changes nothing."""
        self._closing = True
        servers = [replica.server for replica in self.replicas if replica.server is not None]
        for server in servers:
            server.stop()  # whoever waits for it to start fails now
        self.io.close()
        for server in servers:
            server.stop()  # it may have been started anew in the meantime

    def __enter__(self) -> Self:
        """Use it in a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def launch_specs(servers: Sequence[ServerSpec], cluster: ClusterSpec) -> list[LaunchSpec]:
    """Return the specs of the servers that are to be launched, completed by what the cluster says of its executors.

    Raises:
        InputError: A spec is wrong.
    """
    executors = [group for group in cluster.llm for _ in range(group.count)]
    specs: list[LaunchSpec] = []
    for server, group in zip(servers, executors, strict=True):
        if isinstance(server, str) and is_url(server):
            continue
        given = {"model": server} if isinstance(server, str) else dict(server)
        batch = {"max_num_seqs": group.max_num_seqs, "max_num_batched_tokens": group.max_num_batched_tokens}
        specs.append(LaunchSpec.of(batch | given))
    return specs
