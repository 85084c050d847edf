"""The schedule so far, as lines for a terminal and as a frame of a video; `gantt.py` has the figure for a page.

Time runs to the right; each slot of each executor has a lane (`llmsched_gym.export.timeline`); the colour of a bar
is the application of its job, and bars of regular tasks are hatched.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.errors import escaped
from llmsched_gym.export.timeline import Steps, Timeline, executor_names, jobs_in_system, timeline
from llmsched_gym.workloads.workload import Workload

COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#b8a800")
"""Colours of the applications, in the order of ``Workload.templates``; told apart by colour-blind readers too."""

INK: Final = "#303030"
PALE: Final = "#f2f2f2"
NOW: Final = "#c00000"
SECOND_NS: Final = 1_000_000_000


class Moment(Protocol):
    """What the text tells of; an episode of the environment is one."""

    @property
    def state(self) -> ClusterState:
        """The cluster."""
        ...

    def kv_share(self, executor: int) -> float:
        """Return the share of KV blocks in use on an LLM executor."""
        ...


# Text


def ansi(episode: Moment, workload: Workload) -> str:
    """Describe the present moment in a few lines: time and jobs, slots in use, what is ready."""
    state = episode.state
    clock = state.clock[0]
    to_come = len(state.jobs) - clock["arrived"]
    jobs = f"jobs: {clock['active']} in system, {clock['done']} done, {to_come} to come"
    lines = [f"{escaped(workload.name)}  {clock['now_ns'] / SECOND_NS:.3f} s  {jobs}"]
    llm = np.flatnonzero(state.executors["n_engines"] > 0)
    names = executor_names(state)
    lines += [
        f"{names[e]:<8} {_bar(state, np.array([e]))}  KV {episode.kv_share(e):4.0%}" for e in llm[:_LISTED].tolist()
    ]
    if len(llm) > _LISTED:
        lines.append(f"{'others':<8} {_bar(state, llm[_LISTED:])}")
    regular = np.flatnonzero(state.executors["n_engines"] == 0)
    if len(regular):
        lines.append(f"{'regular':<8} {_bar(state, regular)}")
    ready = state.stages[state.ready[: clock["ready"]]]
    tasks = ready["n_tasks"] - ready["started_tasks"]
    of_app = np.bincount(state.jobs["app"][ready["job"]], weights=tasks, minlength=len(workload.templates))
    queue = ", ".join(
        f"{escaped(template.name)} {count:.0f}"
        for template, count in zip(workload.templates, of_app, strict=True)
        if count
    )
    total = f"{len(ready)} stages with {tasks.sum()} tasks to start"
    lines.append(f"{'ready':<8} {total}{f': {queue}' if queue else ''}")
    return "\n".join(lines)


_LISTED: Final = 8
"""LLM executors that have a line of their own in the text."""


def _bar(state: ClusterState, executors: NDArray[np.intp]) -> str:
    """Draw the slots of executors in use, up to 16 characters."""
    running = int(state.executors["running"][executors].sum())
    slots = int(state.executors["slots"][executors].sum())
    width = min(slots, 16)
    filled = -(-running * width // slots)
    return f"[{'#' * filled}{'.' * (width - filled)}]{' ' * (16 - width)} {running}/{slots}"


# Frame


_WIDTH: Final = 960
_LEFT: Final = 76
_RIGHT: Final = 16
_PLOT_WIDTH: Final = _WIDTH - _LEFT - _RIGHT
_TOP: Final = 44
_LANES_HEIGHT: Final = 480
"""Room for the lanes; a lane is at most 24 pixels high, and more lanes than pixels are thinned out."""
_QUEUE_HEIGHT: Final = 56
_BOTTOM: Final = 46
"""Room for the time axis and the legend."""
_TICKS: Final = 10
_SPAN_WITH_EDGE: Final = 4
"""Bars narrower than this many pixels have no edge."""


def gantt_array(state: ClusterState, workload: Workload) -> NDArray[np.uint8]:
    """Draw the schedule from time 0 to now.

    Returns:
        uint8 (height, 960, 3). The height depends on the cluster only.
    """
    spans = timeline(state)
    now_ns = int(state.clock["now_ns"][0])
    axis_ns = _TICKS * _tick_ns(now_ns)
    rows = _rows(spans.first_lane)
    queue_top = _TOP + len(rows) + 8
    queue_bottom = queue_top + _QUEUE_HEIGHT
    height = queue_bottom + _BOTTOM
    height += height % 2  # video encoders want even sizes
    frame = np.full((height, _WIDTH, 3), 255, np.uint8)
    columns = slice(_LEFT, _WIDTH - _RIGHT)
    column_ns = ((np.arange(_PLOT_WIDTH) + 0.5) * (axis_ns / _PLOT_WIDTH)).astype(np.int64)
    frame[_TOP : _TOP + len(rows), columns] = _lanes_image(state, workload, spans, rows, column_ns)
    peak = _draw_jobs(frame[queue_top:queue_bottom, columns], jobs_in_system(state), column_ns, now_ns)

    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    _draw_header(draw, state, workload)
    _draw_names(draw, state, spans.first_lane, rows)
    middle = (queue_top + queue_bottom) // 2
    for y, text, anchor in ((queue_top, f"{peak}", "rt"), (middle, "jobs", "rm"), (queue_bottom, "0", "rb")):
        draw.text((_LEFT - 6, y), text, fill=INK, font=_font(11), anchor=anchor)
    for tick in range(_TICKS + 1):
        x = _LEFT + tick * (_PLOT_WIDTH - 1) // _TICKS
        draw.line([(x, queue_bottom), (x, queue_bottom + 3)], fill=INK)
        seconds = f"{tick * axis_ns // _TICKS // SECOND_NS}{' s' if tick == _TICKS else ''}"
        draw.text((x, queue_bottom + 5), seconds, fill=INK, font=_font(11), anchor="ra" if tick == _TICKS else "ma")
    now_x = _LEFT + now_ns * (_PLOT_WIDTH - 1) // axis_ns
    draw.line([(now_x, _TOP - 3), (now_x, queue_bottom)], fill=NOW)
    _draw_legend(draw, workload, queue_bottom + 26)
    return np.array(image)


def _tick_ns(now_ns: int) -> int:
    """Return the time between two ticks: the least of 1, 2, 3, 5, 10, 20, ... seconds of which ten reach up to now."""
    scale = SECOND_NS
    while True:
        for digit in (1, 2, 3, 5):
            if now_ns <= _TICKS * digit * scale:
                return digit * scale
        scale *= 10


def _rows(first_lane: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the lane that each row of pixels shows, int64 (height,); -1 between lanes."""
    n_lanes, n_executors = int(first_lane[-1]), len(first_lane) - 1
    lane_height = min(24, (_LANES_HEIGHT - 2 * n_executors) // n_lanes)
    if lane_height < 2:
        return np.arange(_LANES_HEIGHT) * n_lanes // _LANES_HEIGHT
    lane = np.repeat(np.arange(n_lanes), lane_height)
    if lane_height >= 4:
        lane[lane_height - 1 :: lane_height] = -1
    return np.insert(lane, first_lane[1:-1].repeat(2) * lane_height, -1)


def _lanes_image(
    state: ClusterState,
    workload: Workload,
    spans: Timeline,
    rows: NDArray[np.int64],
    column_ns: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Colour each pixel by the task that holds its lane at its time.

    Args:
        state: The episode.
        workload: Its jobs.
        spans: Its timeline.
        rows: Lane of each row of pixels.
        column_ns: Time of each column of pixels, ascending.

    Returns:
        uint8 (rows, columns, 3).
    """
    lanes, row = np.unique(rows, return_inverse=True)
    # One sorted key for (lane, time), so that a single search finds the last task begun in a lane before a time.
    stride = int(max(column_ns[-1], state.clock["now_ns"][0])) + 1
    keys = spans.lane * stride + spans.start_ns
    begun = np.searchsorted(keys, lanes[:, None] * stride + column_ns, side="right") - 1
    span = np.maximum(begun, 0)
    none = np.array([-1])
    held = (begun >= 0) & (lanes[:, None] >= 0)
    if len(keys):
        held &= (spans.lane[span] == lanes[:, None]) & (spans.end_ns[span] > column_ns)
    span = np.where(held, span, none)

    app = state.jobs["app"][state.stages["job"][state.tasks["stage"][spans.task]]]
    palette = np.array([_rgb(PALE), *(_rgb(application_colour(a)) for a in range(len(workload.templates)))], np.float64)
    image = palette[np.append(app, -1)[span] + 1]
    pixel_ns = max(int(column_ns[1] - column_ns[0]), 1)
    wide = np.append(spans.end_ns - spans.start_ns >= _SPAN_WITH_EDGE * pixel_ns, False)
    edge = np.zeros(span.shape, np.bool_)
    edge[:, 1:] = span[:, 1:] != span[:, :-1]
    image[edge & wide[span]] *= 0.55
    image = image[row]
    image[rows < 0] = 255.0
    regular = np.append(state.executors["n_engines"][state.tasks["executor"][spans.task]] == 0, False)
    stripe = (np.arange(len(rows))[:, None] + np.arange(len(column_ns))) % 5 == 0
    hatched = regular[span][row] & stripe & (rows >= 0)[:, None]
    image[hatched] = image[hatched] * 0.6 + 255.0 * 0.4
    return image.astype(np.uint8)


def _draw_jobs(area: NDArray[np.uint8], steps: Steps, column_ns: NDArray[np.int64], now_ns: int) -> int:
    """Fill the area below a step function, in place, and return its largest value."""
    value = np.append(steps.value, 0)[np.searchsorted(steps.time_ns, column_ns, side="right") - 1]
    peak = int(steps.value.max(initial=1))
    area[:] = _rgb(PALE)
    level = np.where(column_ns <= now_ns, value, 0) * len(area) // peak
    area[len(area) - 1 - np.arange(len(area))[:, None] < level] = _rgb("#8a8a8a")
    return peak


def _draw_header(draw: ImageDraw.ImageDraw, state: ClusterState, workload: Workload) -> None:
    clock = state.clock[0]
    ready = state.stages[state.ready[: clock["ready"]]]
    tasks = int((ready["n_tasks"] - ready["started_tasks"]).sum())
    numbers = (
        f"{clock['now_ns'] / SECOND_NS:.1f} s     {clock['active']} jobs in system     "
        f"{clock['done']} of {len(state.jobs)} done     {tasks} tasks ready"
    )
    draw.text((_LEFT, _TOP - 14), escaped(workload.name), fill=INK, font=_font(17), anchor="ls")
    draw.text((_WIDTH - _RIGHT, _TOP - 14), numbers, fill=INK, font=_font(14), anchor="rs")


def _draw_names(
    draw: ImageDraw.ImageDraw, state: ClusterState, first_lane: NDArray[np.int64], rows: NDArray[np.int64]
) -> None:
    """Name the executors beside their lanes."""
    shown = np.flatnonzero(rows >= 0)
    first = np.minimum(np.searchsorted(rows[shown], first_lane[:-1]), len(shown) - 1)
    last = np.searchsorted(rows[shown], first_lane[1:]) - 1
    centres = _TOP + (shown[first] + shown[last] + 1) / 2
    names = executor_names(state)
    for e in apart(centres, 12.0):
        draw.text((_LEFT - 6, centres[e]), names[e], fill=INK, font=_font(11), anchor="rm")


def apart(positions: NDArray[np.floating], least: float) -> list[int]:
    """Return which labels at ascending positions to show, so that two are at least so far apart."""
    chosen = [0]
    for e, position in enumerate(positions):
        if position - positions[chosen[-1]] >= least:
            chosen.append(e)
    return chosen


def _draw_legend(draw: ImageDraw.ImageDraw, workload: Workload, y: int) -> None:
    x = float(_LEFT)
    for app, template in enumerate(workload.templates):
        draw.rectangle([(x, y), (x + 10, y + 10)], fill=application_colour(app))
        name = escaped(template.name)
        draw.text((x + 15, y + 5), name, fill=INK, font=_font(12), anchor="lm")
        x += 34 + draw.textlength(name, font=_font(12))
    draw.text((_WIDTH - _RIGHT, y + 5), "hatched: regular tasks", fill=INK, font=_font(12), anchor="rm")


def application_colour(app: int) -> str:
    """Return the colour of an application of a workload."""
    return COLOURS[app % len(COLOURS)]


def _rgb(colour: str) -> tuple[int, ...]:
    return ImageColor.getrgb(colour)


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
