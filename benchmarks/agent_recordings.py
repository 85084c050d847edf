"""Made-up recordings of agents: spans in OTLP/JSON, written by hand or drawn at random (tests, `import_traces.py`)."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

S = 10**9
T0 = 1_767_225_600 * S
"""Time zero of hand-written spans."""

CHAT, TOOL, AGENT = "chat", "execute_tool", "invoke_agent"


def encoded(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return attributes as OTLP/JSON has them: integers as text."""

    def value(one: Any) -> dict[str, Any]:
        if isinstance(one, bool):
            return {"boolValue": one}
        if isinstance(one, int):
            return {"intValue": str(one)}
        return {"doubleValue": one} if isinstance(one, float) else {"stringValue": one}

    return [{"key": key, "value": value(one)} for key, one in attributes.items()]


def span(ids: str, operation: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    """Return a span.

    Args:
        ids: ``trace/span/parent``; the parent may be left out.
        operation: Operation name; empty: none.
        start: Seconds after `T0`.
        end: The same.
        more: Attributes of the conventions: ``input_tokens``, ``output_tokens``, ``cached``, ``model``, ``tool``,
            ``agent``, ``conversation``; others as fields of the span.
    """
    names = {
        "input_tokens": "gen_ai.usage.input_tokens",
        "output_tokens": "gen_ai.usage.output_tokens",
        "cached": "gen_ai.usage.cache_read.input_tokens",
        "model": "gen_ai.request.model",
        "tool": "gen_ai.tool.name",
        "agent": "gen_ai.agent.name",
        "conversation": "gen_ai.conversation.id",
    }
    trace, name, *parent = ids.split("/")
    attributes = {"gen_ai.operation.name": operation} if operation else {}
    attributes |= {names[key]: more.pop(key) for key in list(more) if key in names}
    return {
        "traceId": trace,
        "spanId": name,
        **({"parentSpanId": parent[0]} if parent else {}),
        "name": operation or "work",
        "startTimeUnixNano": str(T0 + round(start * S)),
        "endTimeUnixNano": str(T0 + round(end * S)),
        "attributes": encoded(attributes),
        **more,
    }


def chat(ids: str, start: float, end: float, tokens: tuple[int, int] = (100, 10), **more: Any) -> dict[str, Any]:
    """Return a span of an LLM call."""
    return span(ids, CHAT, start, end, input_tokens=tokens[0], output_tokens=tokens[1], **more)


def tool(ids: str, start: float, end: float, name: str = "search", **more: Any) -> dict[str, Any]:
    """Return a span of a tool."""
    return span(ids, TOOL, start, end, tool=name, **more)


def agent(ids: str, start: float, end: float, name: str = "helper", **more: Any) -> dict[str, Any]:
    """Return a span of an agent."""
    return span(ids, AGENT, start, end, agent=name, **more)


def document(spans: Iterable[dict[str, Any]], **resource: Any) -> dict[str, Any]:
    """Return an OTLP/JSON object of spans that one process recorded."""
    block = {"resource": {"attributes": encoded(resource)}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}
    return {"resourceSpans": [block]}


def write(path: Path, *documents: dict[str, Any]) -> Path:
    """Write OTLP/JSON objects, one per line."""
    path.write_text("\n".join(map(json.dumps, documents)) + "\n", encoding="utf-8")
    return path


def random_runs(seed: int, n_runs: int, agents: Sequence[str] = ("helper", "writer", "coder")) -> list[dict[str, Any]]:
    """Draw runs of up to three agents, in one object each, with all that recordings have; spans in any order.

    The longer an agent's first answer, the more rounds follow. Some calls lack tokens or a model, some prompts are cut.
    """
    rng = random.Random(seed)
    documents = []
    for run in range(n_runs):
        spans: list[dict[str, Any]] = []
        clock = _Clock(rng, f"{run + 1:032x}", spans)
        start = run * rng.uniform(0.0, 4.0)
        name = rng.choice(agents)
        end = clock.agent("", name, start, rng.randrange(1, 6), depth=0)
        assert end > start
        rng.shuffle(spans)
        documents.append(document(spans, **{"service.name": "made-up"}))
    return documents


class _Clock:
    """Writes the spans of one run."""

    def __init__(self, rng: random.Random, trace: str, spans: list[dict[str, Any]]) -> None:
        self._rng, self._trace, self._spans = rng, trace, spans
        self._count = 0

    def _ids(self, parent: str) -> tuple[str, str]:
        self._count += 1
        name = f"{self._count:016x}"
        return name, f"{self._trace}/{name}/{parent}" if parent else f"{self._trace}/{name}"

    def agent(self, parent: str, name: str, start: float, rounds: int, depth: int) -> float:
        """Write an agent's loop of calls and tools; returns when it ends."""
        rng = self._rng
        own, ids = self._ids(parent)
        model = rng.choice(["large", "small"])
        tokens, now = rng.randrange(200, 900), start + 0.01
        cached = rng.choice([0, 0, 128])
        for k in range(rounds):
            output = rng.randrange(1, 200) if k else rng.randrange(20 * rounds, 20 * rounds + 30)
            length = 0.01 * output
            more = {"model": model} if rng.random() < 0.9 else {}
            used = {"input_tokens": tokens, "output_tokens": output} if k == 0 or rng.random() < 0.95 else {}
            _, call = self._ids(own)
            self._spans.append(
                span(call, CHAT, now, now + length, **used, **({"cached": cached} if cached else {}), **more)
            )
            now += length + 0.001
            tokens += output + rng.randrange(0, 300) if rng.random() < 0.9 else -tokens // 3
            tools = rng.choice([["search"], ["search"] * 3, ["fetch", "search"], ["run"], []]) if k < rounds - 1 else []
            ends = [now]
            for one in tools:
                inner, called = self._ids(own)
                if depth < 2 and rng.random() < 0.15:
                    end = self.agent(inner, f"sub-{one}", now + 0.002, rng.randrange(1, 3), depth + 1)
                else:
                    end = now + rng.uniform(0.01, 2.0)
                self._spans.append(tool(called, now, end, one))
                ends.append(end)
            now = max(ends) + 0.002
        self._spans.append(agent(ids, start, now, name))
        return now


def lines_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return JSON lines."""
    return "\n".join(map(json.dumps, rows)) + "\n"
