"""What a server says about itself: alive, served models, version, counters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from llmsched_gym.errors import InputError, Plain, RunError

_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>[^\s{}]+)(?:\s+-?\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class ServerFacts:
    """A server, as it describes itself.

    Attributes:
        url: Its root.
        model: First model that it serves.
        max_model_len: Longest prompt and output together, in tokens; None where it does not tell.
        version: Version of vLLM; empty where it does not tell.
    """

    url: str
    model: str
    max_model_len: int | None
    version: str


@dataclass(frozen=True)
class Sample:
    """One value of a metric.

    Attributes:
        name: Name of the metric, with suffixes such as ``_total`` or ``_bucket``.
        labels: Labels and their values.
        value: The value.
    """

    name: str
    labels: Mapping[str, str]
    value: float


async def healthy(session: aiohttp.ClientSession, url: str, *, timeout_s: float = 5.0) -> bool:
    """Whether ``/health`` answers 200 within `timeout_s`."""
    try:
        async with session.get(f"{url}/health", timeout=aiohttp.ClientTimeout(total=timeout_s)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def server_facts(session: aiohttp.ClientSession, url: str, *, timeout_s: float = 10.0) -> ServerFacts:
    """Ask a server what it serves.

    Raises:
        InputError: No OpenAI-compatible server answers at `url`.
    """
    allowed = "the URL of a running vLLM server, such as http://127.0.0.1:8000"
    try:
        models = await _get_json(session, f"{url}/v1/models", timeout_s)
        first = models["data"][0]
        model, length = str(first["id"]), first.get("max_model_len")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise InputError("server", url, Plain(f"{type(error).__name__}: {error}"), allowed) from None
    except (AttributeError, KeyError, IndexError, TypeError):
        raise InputError("server", url, Plain("no list of models at /v1/models"), allowed) from None
    try:
        version = str((await _get_json(session, f"{url}/version", timeout_s))["version"])
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError):
        version = ""  # other OpenAI-compatible servers have no such page
    return ServerFacts(url, model, length if isinstance(length, int) else None, version)


async def read_metrics(session: aiohttp.ClientSession, url: str, *, timeout_s: float = 10.0) -> dict[str, float]:
    """Return the metrics of a server, as `total_by_name` adds them up.

    Raises:
        RunError: The server does not answer.
    """
    return total_by_name(await read_samples(session, url, timeout_s=timeout_s))


async def read_samples(session: aiohttp.ClientSession, url: str, *, timeout_s: float = 10.0) -> list[Sample]:
    """Return the samples of all metrics of a server, with their labels.

    Raises:
        RunError: The server does not answer.
    """
    try:
        async with session.get(f"{url}/metrics", timeout=aiohttp.ClientTimeout(total=timeout_s)) as response:
            response.raise_for_status()
            return parse_metrics(await response.text())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RunError(f"{url}/metrics: {type(error).__name__}: {error}") from None


def parse_metrics(text: str) -> list[Sample]:
    """Read the samples of a page in Prometheus' text format; comments and lines that are no samples are passed over."""
    samples: list[Sample] = []
    for line in text.splitlines():
        found = None if line.startswith("#") else _SAMPLE.match(line.strip())
        if found is None:
            continue
        try:
            value = float(found["value"])
        except ValueError:
            continue
        labels = {name: re.sub(r"\\(.)", _unescape, text) for name, text in _LABEL.findall(found["labels"] or "")}
        samples.append(Sample(found["name"], labels, value))
    return samples


def total_by_name(samples: list[Sample]) -> dict[str, float]:
    """Add up the samples of each metric, over the engines of a server.

    Buckets of histograms are cumulative and left out. vLLM's prefix ``vllm:`` is dropped: ``num_requests_running``.
    """
    totals: dict[str, float] = {}
    for sample in samples:
        if "le" not in sample.labels:
            name = sample.name.removeprefix("vllm:")
            totals[name] = totals.get(name, 0.0) + sample.value
    return totals


def _unescape(match: re.Match[str]) -> str:
    return {"n": "\n"}.get(match[1], match[1])


async def _get_json(session: aiohttp.ClientSession, url: str, timeout_s: float) -> Any:
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=timeout_s)) as response:
        response.raise_for_status()
        return await response.json(content_type=None)
