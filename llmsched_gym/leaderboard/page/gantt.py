"""The schedule of one episode as a Gantt chart that can be zoomed: what ran where, when jobs came, what was loaded.

Tasks are boxes in seconds and lanes; a chart is zoomed by its ``viewBox`` alone. Applications differ by stripes, too:
these run along the lanes, so that zooming in time leaves them as they are.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.export.render import SECOND_NS, apart, application_colour
from llmsched_gym.export.timeline import executor_names, model_spans, timeline
from llmsched_gym.leaderboard.page.markup import Markup, element, joined, number
from llmsched_gym.leaderboard.page.tables import table
from llmsched_gym.workloads.workload import Workload

_LANE: Final = 10
"""Height of a lane, in units of the picture and pixels of the page; less where there are many."""

_MOST_PIXELS: Final = 560
_LABEL_PIXELS: Final = 13.0
_TICKS: Final = 5

_STRIPES: Final = (
    (),
    ((0.4, 0.6),),
    ((0.0, 0.3),),
    ((0.7, 1.0),),
    ((0.1, 0.35), (0.65, 0.9)),
    ((0.5, 1.0),),
    ((0.0, 0.5),),
    ((0.0, 0.15), (0.42, 0.58), (0.85, 1.0)),
)
"""Of each application, from where to where across a box."""

_SHADE: Final = 0.35
"""How bright a stripe is beside the rest of its box."""


def gantt_chart(state: ClusterState, workload: Workload, title: str) -> Markup:
    """Draw an episode.

    Args:
        state: The cluster at its end.
        workload: Its jobs.
        title: What it is of: scenario, policy, seed.
    """
    spans = timeline(state, used_lanes_only=True)
    lanes = int(spans.first_lane[-1]) + 1
    end_s = max(int(state.clock["now_ns"][0]), 1) / SECOND_NS
    pixels = min(lanes * _LANE, _MOST_PIXELS)
    told = (
        f"Gantt chart of {title}: {len(spans.task)} tasks of {len(state.jobs)} jobs on {len(state.executors)} "
        f"executors in {end_s:.1f} seconds. The table of jobs below has the times."
    )
    inside = element(
        "svg",
        *_bands(state, spans.first_lane.tolist(), end_s),
        *_loads(state, workload, spans.first_lane.tolist()),
        *_tasks(state, workload),
        *_arrivals(state, workload),
        viewBox=f"0 0 {number(end_s)} {lanes * _LANE}",
        preserveAspectRatio="none",
        class_="time",
        data_end=number(end_s),
        width="100%",
        height="100%",
    )
    plot = element("svg", inside, class_="plot", height=pixels, role="img", aria_label=told)
    parts = (_names(state, spans.first_lane.tolist(), lanes, pixels), plot, _ticks(end_s))
    chart = element("div", *parts, class_="chart fixed")
    keys = element(
        "p",
        "With the chart in focus: arrow keys move, + and - zoom, 0 shows all. It can be dragged, too.",
        id="gantt-keys",
        class_="note",
        hidden=True,
    )
    frame = element(
        "div", _controls(), chart, class_="gantt", tabindex=0, role="group", aria_label=f"Gantt chart of {title}"
    )
    about = f"{title}. A box is a task in its slot; rows are executors, the first one arrivals of jobs."
    return joined(
        gradients(workload),
        element("figure", frame, keys, _legend(state, workload), element("figcaption", about)),
        element("details", element("summary", "Jobs of this episode"), _jobs(state, workload, title)),
    )


def gradients(workload: Workload) -> Markup:
    """Return the fills of boxes, by application; they are referred to by the chart and its legend."""
    fills = []
    for app in range(len(workload.templates)):
        colour = application_colour(app)
        dark = "#" + "".join(f"{round(int(colour[at : at + 2], 16) * _SHADE):02x}" for at in (1, 3, 5))
        stops: list[Markup] = [_stop(0.0, colour)]
        for first, last in _STRIPES[app % len(_STRIPES)]:
            stops += [_stop(first, colour), _stop(first, dark), _stop(last, dark), _stop(last, colour)]
        fills.append(element("linearGradient", *stops, id=f"app{app}", x1="0", x2="0", y1="0", y2="1"))
    return element("svg", element("defs", *fills), width=0, height=0, class_="defs", aria_hidden="true")


def _stop(offset: float, colour: str) -> Markup:
    return element("stop", offset=number(offset), stop_color=colour)


def _tasks(state: ClusterState, workload: Workload) -> list[Markup]:
    spans, names = timeline(state, used_lanes_only=True), executor_names(state)
    boxes = []
    columns = (spans.task, spans.lane, spans.start_ns / SECOND_NS, spans.end_ns / SECOND_NS)
    for row, lane, start_s, end_s in zip(*(column.tolist() for column in columns), strict=True):
        task = state.tasks[row]
        stage = state.stages[task["stage"]]
        app = int(state.jobs["app"][stage["job"]])
        template = workload.templates[app]
        text = (
            f"job {stage['job']} ({template.name}), {template.nodes[stage['node']].name}: "
            f"{start_s:.2f} to {end_s:.2f} s on {names[task['executor']]}"
        )
        boxes.append(
            element(
                "rect",
                element("title", text),
                x=number(start_s),
                y=_LANE * (lane + 1) + 1,
                width=number(end_s - start_s),
                height=_LANE - 2,
                fill=f"url(#app{app})",
            )
        )
    return boxes


def _arrivals(state: ClusterState, workload: Workload) -> list[Markup]:
    found = []
    for number_, job in enumerate(state.jobs):
        at = number(job["arrival_ns"] / SECOND_NS)
        text = element("title", f"job {number_} ({workload.templates[job['app']].name}) arrives at {at} s")
        path = f"M{at} 0V{_LANE - 1}"
        found.append(element("path", text, d=path, stroke=application_colour(int(job["app"])), class_="arrival"))
    return found


def _bands(state: ClusterState, first_lane: list[int], end_s: float) -> list[Markup]:
    return [
        element(
            "rect",
            x="0",
            y=_LANE * (first_lane[e] + 1),
            width=number(end_s),
            height=_LANE * (first_lane[e + 1] - first_lane[e]),
            class_="odd" if e % 2 else "even",
        )
        for e in range(len(state.executors))
    ]


def _loads(state: ClusterState, workload: Workload, first_lane: list[int]) -> list[Markup]:
    """Return a box across all lanes of an executor for the time in which it loads a model."""
    found = []
    for e, model, start_ns, ready_ns, _ in zip(*(column.tolist() for column in model_spans(state)), strict=True):
        if ready_ns > start_ns:
            text = f"{workload.models[model]} is loaded: {start_ns / SECOND_NS:.2f} to {ready_ns / SECOND_NS:.2f} s"
            place = {"x": number(start_ns / SECOND_NS), "width": number((ready_ns - start_ns) / SECOND_NS)}
            height = _LANE * (first_lane[e + 1] - first_lane[e])
            box = {"y": _LANE * (first_lane[e] + 1), "height": height, "class_": "load"}
            found.append(element("rect", element("title", text), **place, **box))
    return found


def _names(state: ClusterState, first_lane: list[int], lanes: int, pixels: int) -> Markup:
    lane_pixels = pixels / lanes
    centres = np.array([0.5, *((a + b) / 2 + 1 for a, b in itertools.pairwise(first_lane))])
    names = ["arrivals", *executor_names(state)]
    shown = apart(centres, _LABEL_PIXELS / lane_pixels)
    texts = (element("text", names[at], x="100%", y=f"{number(100 * float(centres[at]) / lanes)}%") for at in shown)
    return element("svg", *texts, class_="ordinate", height=pixels, aria_hidden="true")


def _ticks(end_s: float) -> Markup:
    texts = (
        element("text", f"{end_s * at / _TICKS:.1f}", x=f"{100 * at // _TICKS}%", y="14", class_="tick")
        for at in range(_TICKS + 1)
    )
    return element(
        "svg",
        *texts,
        element("text", "time [s]", x="50%", y="32", class_="name"),
        class_="abscissa",
        aria_hidden="true",
    )


def _controls() -> Markup:
    words = (
        ("in", "+", "Zoom in"),
        ("out", "−", "Zoom out"),
        ("left", "←", "Earlier"),
        ("right", "→", "Later"),
        ("whole", "Whole episode", None),
    )
    buttons = (
        element("button", sign, type="button", data_does=does, aria_label=label, title=label)
        for does, sign, label in words
    )
    return element(
        "div", *buttons, element("output", aria_live="polite"), class_="controls", role="toolbar",
        aria_label="Part of the episode that is shown", hidden=True,
    )  # fmt: skip


def _legend(state: ClusterState, workload: Workload) -> Markup:
    apps = sorted(set(state.jobs["app"].tolist()))
    items = [
        element("li", _swatch(fill=f"url(#app{app})"), element("span", workload.templates[app].name)) for app in apps
    ]
    if len(model_spans(state).executor):
        items.append(element("li", _swatch(class_="load"), element("span", "a model is loaded")))
    return element("ul", *items, class_="legend")


def _swatch(**look: str) -> Markup:
    box = element("rect", width=24, height=12, y=1, **look)
    return element("svg", box, class_="swatch", width=24, height=14, aria_hidden="true")


def _jobs(state: ClusterState, workload: Workload, title: str) -> Markup:
    rows = [
        (
            number_,
            workload.templates[job["app"]].name,
            f"{job['arrival_ns'] / SECOND_NS:.2f}",
            f"{job['finish_ns'] / SECOND_NS:.2f}",
            f"{(job['finish_ns'] - job['arrival_ns']) / SECOND_NS:.2f}",
        )
        for number_, job in enumerate(state.jobs)
    ]
    return table(f"Jobs of {title}", ("Job", "Application", "Arrives [s]", "Done [s]", "Completion time [s]"), rows)
