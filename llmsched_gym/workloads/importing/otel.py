"""OpenTelemetry traces of agents, by the semantic conventions for generative AI, as recorded runs.

Names are those of https://github.com/open-telemetry/semantic-conventions-genai (0.1.0; before it, semantic conventions
1.41), and what they replaced: ``gen_ai.usage.prompt_tokens``, ``gen_ai.usage.completion_tokens``,
``gen_ai.workflow.name``. Spans of other programs in between are callers: they hold what they called, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.importing.ordering import Item, predecessors
from llmsched_gym.workloads.importing.otlp import Span
from llmsched_gym.workloads.importing.recorded import LLM_NAME, Assumptions, Run, Step, in_order, whole

Grouping = Literal["trace", "agent"]
_Kind = Literal["llm", "tool", "agent", "caller", "setup"]

_KINDS: Final[dict[str, _Kind]] = {
    "chat": "llm",
    "text_completion": "llm",
    "generate_content": "llm",
    "execute_tool": "tool",
    "embeddings": "tool",
    "retrieval": "tool",
    "create_memory_store": "tool",
    "delete_memory_store": "tool",
    "create_memory": "tool",
    "update_memory": "tool",
    "upsert_memory": "tool",
    "search_memory": "tool",
    "delete_memory": "tool",
    "invoke_agent": "agent",
    "invoke_workflow": "agent",
    "plan": "caller",
    "create_agent": "setup",
}
"""What a span is by its ``gen_ai.operation.name``. Embeddings take no decoding, and run beside the engines: tools."""

_INPUT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT: Final = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_CACHED: Final = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
_MODEL: Final = ("gen_ai.request.model", "gen_ai.response.model")
_AGENT: Final = ("gen_ai.agent.name", "gen_ai.workflow.name", "gen_ai.agent.id")


def read_runs(spans: Iterable[Span], grouping: Grouping, assumed: Assumptions) -> list[Run]:
    """Make runs of spans: one per trace, or one per outermost agent.

    Raises:
        InputError: Spans are inside each other in a circle, have no step, or hold what is no number of tokens.
    """
    traces: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda one: (one.start_ns, one.end_ns, one.id)):  # whatever order they stand in
        traces.setdefault(span.trace, []).append(span)
    runs = [run for members in traces.values() for run in _TraceReader(members, assumed).runs(grouping)]
    return sorted(runs, key=lambda run: (run.start_ns or 0, run.place))


@dataclass(eq=False, slots=True)
class _Node:
    """A span among those of its trace.

    Attributes:
        span: The span, its times mended.
        kind: What it is.
        children: What it called.
        parent: What called it.
        agent: The nearest agent around it.
        calls_llm: Whether an LLM call stands inside with nothing but callers between.
    """

    span: Span
    kind: _Kind
    children: list[_Node] = field(default_factory=list)
    parent: _Node | None = None
    agent: _Node | None = None
    calls_llm: bool = False


class _TraceReader:
    """Makes runs of one trace."""

    def __init__(self, spans: list[Span], assumed: Assumptions) -> None:
        self._assumed = assumed
        self._steps: list[Step] = []
        self._where = f"trace {spans[0].trace}"
        self._source = spans[0].source
        nodes = self._linked(self._distinct(spans))
        for node in nodes:
            self._close(node.span)
        for node in nodes:  # from the outside in
            self._mend_clocks(node)
        for node in reversed(nodes):  # from the inside out
            self._tell_doubles(node)
        self._tops = [node for node in nodes if node.parent is None]

    def runs(self, grouping: Grouping) -> Iterator[Run]:
        """Yield the runs; a trace without a step has none."""
        found = False
        for name, tops in self._groups(grouping):
            self._steps = []
            top_span = tops[0].span
            items = self._items(tops)
            if not self._steps:
                continue
            found = True
            root = Item(min(item.start_ns for item in items), max(item.end_ns for item in items), -1, items)
            after = predecessors(root, len(self._steps), self._source, self._where)
            self._assumed.count("steps that follow others by when they ran", sum(map(bool, after)))
            steps = in_order(self._steps, after, self._source, self._where)
            start = min(top.span.start_ns for top in tops)
            yield Run(name, f"{self._where}, span {top_span.id}", start, steps)
        if not found:
            self._assumed.count("traces without a call of an LLM or a tool: left out")

    def _groups(self, grouping: Grouping) -> Iterator[tuple[str, list[_Node]]]:
        """Yield what makes one run each, with the application's name."""
        agents = sorted(self._outermost_agents(), key=lambda node: node.span.start_ns)
        if grouping == "trace" or not agents:
            tops = sorted(self._tops, key=lambda node: node.span.start_ns)
            yield _agent_name(agents[0].span) if agents else _bare_name(tops[0].span), tops
            return
        for agent in agents:
            if agent.parent is not None:
                agent.parent.children.remove(agent)
            else:
                self._tops.remove(agent)
            yield _agent_name(agent.span), [agent]
        if self._tops:
            yield _bare_name(self._tops[0].span), self._tops

    def _outermost_agents(self) -> Iterator[_Node]:
        waiting = list(self._tops)
        while waiting:
            node = waiting.pop()
            if node.kind == "agent":
                yield node
            else:
                waiting.extend(node.children)

    # Spans and what holds them

    def _distinct(self, spans: list[Span]) -> dict[str, Span]:
        found: dict[str, Span] = {}
        for span in spans:
            other = found.setdefault(span.id, span)
            if other is not span:
                self._assumed.count("spans that stand twice: the one that ended later is taken")
                if span.end_ns > other.end_ns:
                    found[span.id] = span
        return found

    def _linked(self, spans: dict[str, Span]) -> list[_Node]:
        """Return the nodes of spans, callers before what they called."""
        nodes = {span.id: _Node(span, self._kind(span)) for span in spans.values()}
        for node in nodes.values():
            node.parent = nodes.get(node.span.parent)
            if node.parent is not None:
                node.parent.children.append(node)
            elif node.span.parent:
                self._assumed.count("spans whose caller is not in the file: called by the trace itself")
        ordered = [node for node in nodes.values() if node.parent is None]
        for node in ordered:  # grows as it is read
            for child in node.children:
                child.agent = node if node.kind == "agent" else node.agent
            ordered.extend(node.children)
        if len(ordered) < len(nodes):
            reached = {id(node) for node in ordered}
            stuck = next(node for node in nodes.values() if id(node) not in reached)
            found = Plain("spans that are inside each other in a circle")
            raise InputError(self._source, f"{stuck.span.place}: parentSpanId", found, "a caller of its own")
        return ordered

    def _kind(self, span: Span) -> _Kind:
        operation = span.attributes.get("gen_ai.operation.name")
        if isinstance(operation, str) and operation in _KINDS:
            return _KINDS[operation]
        if _first(span, _INPUT) is not None or _first(span, _OUTPUT) is not None:
            kind = "llm"
        elif _first(span, ("gen_ai.tool.name",)) is not None:
            kind = "tool"
        elif operation is None and _first(span, _MODEL) is not None:
            kind = "llm"
        else:
            kind = "caller"
        if operation is not None:
            what = {"llm": "calls of an LLM, by their tokens", "tool": "tools, by their name", "caller": "callers"}
            self._assumed.count(f"spans of the operation {str(operation)[:60]!r}, which is not known: {what[kind]}")
        return kind

    def _close(self, span: Span) -> None:
        if 0 < span.end_ns < span.start_ns:
            self._assumed.count("spans that end before they start: of unknown length")
            span.end_ns = 0

    def _mend_clocks(self, caller: _Node) -> None:
        """Bring calls by other processes that start before their caller does back into it, those of a process alike."""
        span = caller.span
        processes: dict[str, list[_Node]] = {}
        for child in caller.children:
            if child.span.resource != span.resource:
                processes.setdefault(repr(sorted(child.span.resource.items())), []).append(child)
        for children in processes.values():
            first = min(child.span.start_ns for child in children)
            if first >= span.start_ns:
                continue
            self._assumed.count(
                "calls by another process that start before their caller (clocks): moved", len(children)
            )
            last = max(max(child.span.end_ns, child.span.start_ns) for child in children)
            room = max(span.end_ns - span.start_ns - (last - first), 0)
            shift = span.start_ns + room // 2 - first
            waiting = list(children)
            while waiting:
                moved = waiting.pop()
                moved.span.start_ns += shift
                moved.span.end_ns += shift if moved.span.end_ns else 0
                same = [child for child in moved.children if child.span.resource == moved.span.resource]
                waiting.extend(same)

    def _tell_doubles(self, node: _Node) -> None:
        """Let a call that two libraries recorded, one inside the other, count once; what is inside comes first."""
        node.calls_llm = any(
            child.kind == "llm" or (child.kind in ("caller", "setup") and child.calls_llm) for child in node.children
        )
        if node.kind == "llm" and node.calls_llm:
            self._assumed.count("calls of an LLM that hold others: only those inside count")
            node.kind = "caller"
            inner = list(_calls_below(node))
            if len(inner) == 1:
                inner[0].span.attributes = node.span.attributes | inner[0].span.attributes
        if node.kind == "tool":
            for child in [child for child in node.children if child.kind == "tool"]:
                if _tool_name(child.span) == _tool_name(node.span):
                    self._assumed.count("tools inside the very same tool: only the outer ones count")
                    child.kind = "caller"

    # Steps

    def _items(self, tops: list[_Node]) -> list[Item]:
        """Return what of spans runs, with all they called."""
        ordered = list(tops)
        for node in ordered:  # grows as it is read
            ordered.extend(node.children)
        items: dict[int, Item] = {}
        for node in reversed(ordered):
            item = self._finished(node, [items[id(child)] for child in node.children if id(child) in items])
            if item is not None:
                items[id(node)] = item
        return [items[id(top)] for top in tops if id(top) in items]

    def _finished(self, node: _Node, inside: list[Item]) -> Item | None:
        span, step = node.span, self._step(node, inside)
        if step is None and len(inside) < 2 and node.kind != "agent":
            return inside[0] if inside else None
        if step is None and not inside:
            return None
        number = -1
        if step is not None:
            number = len(self._steps)
            self._steps.append(step)
        end = max([span.end_ns, span.start_ns, *(one.end_ns for one in inside)])
        return Item(min([span.start_ns, *(one.start_ns for one in inside)]), end, number, inside)

    def _step(self, node: _Node, inside: list[Item]) -> Step | None:
        span, kind = node.span, node.kind
        if kind == "setup":
            self._assumed.count("create_agent spans: left out")
        if kind == "agent" and not inside:
            tokens = _first(span, _INPUT) is not None and _first(span, _OUTPUT) is not None
            kind = "llm" if tokens else "tool"
            what = "one call of an LLM with their tokens" if tokens else "a tool of their duration"
            self._assumed.count(f"agents of which nothing inside was recorded: {what}")
        if kind == "llm":
            return self._llm_step(node)
        if kind != "tool":
            return None
        own = None if not span.end_ns else span.end_ns - span.start_ns - _covered(span, inside)
        if inside:
            self._assumed.count("tools that call others: the time of their own comes before these")
        name = _agent_name(span) if node.kind == "agent" else _tool_name(span)
        return Step(self._label(node, name), False, span.start_ns, duration_ns=own)

    def _llm_step(self, node: _Node) -> Step | None:
        span = node.span
        tokens = [_tokens(span, names) for names in (_INPUT, _OUTPUT, _CACHED)]
        if span.failed and not tokens[1]:
            self._assumed.count("calls of an LLM that failed without output: left out")
            return None
        agent = node if node.kind == "agent" else node.agent
        model = _first(span, _MODEL)
        conversation = _first(span, ("gen_ai.conversation.id",))
        holder = "" if agent is None else agent.span.id if conversation is None else _agent_name(agent.span)
        return Step(
            self._label(node, LLM_NAME),
            True,
            span.start_ns,
            model="" if model is None else str(model),
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cached_tokens=tokens[2] or 0,
            conversation=f"{holder}/{conversation or ''}/{model or ''}",
        )

    def _label(self, node: _Node, name: str) -> str:
        """Name a step: with its agent, unless that is the outermost."""
        agent = node.agent
        return name if agent is None or agent.agent is None else f"{_agent_name(agent.span)}.{name}"


def _calls_below(node: _Node) -> Iterator[_Node]:
    """Yield the LLM calls inside a span with nothing but callers between."""
    waiting = list(node.children)
    while waiting:
        child = waiting.pop()
        if child.kind == "llm":
            yield child
        elif child.kind in ("caller", "setup"):
            waiting.extend(child.children)


def _covered(span: Span, inside: list[Item]) -> int:
    """Return for how much of a span's time something inside ran, in ns."""
    covered, reached = 0, span.start_ns
    for item in sorted(inside, key=lambda one: one.start_ns):
        start, end = max(item.start_ns, reached), min(item.end_ns, span.end_ns)
        covered += max(end - start, 0)
        reached = max(reached, end)
    return covered


def _first(span: Span, names: tuple[str, ...]) -> Any:
    """Return the first of several attributes that a span has."""
    return next((span.attributes[name] for name in names if span.attributes.get(name) not in (None, "")), None)


def _tokens(span: Span, names: tuple[str, ...]) -> int | None:
    value = _first(span, names)
    return None if value is None else whole(value, span.source, f"{span.place}: {names[0]}")


def _agent_name(span: Span) -> str:
    return str(_first(span, _AGENT) or _bare_name(span))


def _tool_name(span: Span) -> str:
    return str(_first(span, ("gen_ai.tool.name",)) or _bare_name(span))


def _bare_name(span: Span) -> str:
    """Return a span's name without the operation, which the conventions put before it."""
    operation = span.attributes.get("gen_ai.operation.name")
    name = span.name.removeprefix(f"{operation} ") if isinstance(operation, str) else span.name
    return name or str(span.resource.get("service.name") or "run")
