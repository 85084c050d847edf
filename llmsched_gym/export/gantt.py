"""The schedule of an episode as a figure for a page: what ran where, when jobs arrived, and how many waited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.state import FAR, ClusterState
from llmsched_gym.export.render import INK, NOW, PALE, SECOND_NS, apart, application_colour
from llmsched_gym.export.timeline import executor_names, jobs_in_system, model_spans, ready_tasks, timeline
from llmsched_gym.pictures import in_picture, new_figure, write_figure
from llmsched_gym.workloads.workload import Workload

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_HATCH: Final = "/////"

_NAME_SHARE: Final = 0.005
"""Share of the width that a letter of a model's name takes up."""

_ROOM_INCHES: Final = 3.5
"""Lanes as high as this have room for a long name beside them."""


def gantt_figure(state: ClusterState, workload: Workload, path: str | Path, title: str) -> None:
    """Write a figure of an episode, finished or not: lanes above, then arrivals, then jobs and ready tasks.

    Args:
        state: The episode.
        workload: Its jobs.
        path: File to write, as `write_figure` does.
        title: What it is of: scenario, policy, seed.

    Raises:
        InputError: `path` cannot be written.
    """
    from matplotlib import rc_context

    height = min(max(int(timeline(state, used_lanes_only=True).first_lane[-1]) * 0.14, 1.0), 9.0)
    with rc_context({"hatch.linewidth": 0.6}):
        figure = new_figure(11, height + 3.0)
        lanes, arrivals, queue = figure.subplots(3, sharex=True, height_ratios=[height, 0.2, 1.3])
        lanes.set_title(in_picture(title), loc="left")
        handles = plot_lanes(lanes, state, workload, height)
        _plot_arrivals(arrivals, state, workload)
        handles += _plot_queues(queue, state)
        figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize="small", frameon=False)
        write_figure(figure, path)


def plot_lanes(axes: Axes, state: ClusterState, workload: Workload, height: float) -> list[Artist]:
    """Draw a box per task.

    Args:
        axes: Where.
        state: The episode.
        workload: Its jobs.
        height: About how high the axes are, in inches.

    Returns:
        What the legend shows.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    spans = timeline(state, used_lanes_only=True)
    lane_inches = height / max(int(spans.first_lane[-1]), 1)

    app = state.jobs["app"][state.stages["job"][state.tasks["stage"][spans.task]]]
    regular = state.executors["n_engines"][state.tasks["executor"][spans.task]] == 0
    running = state.tasks["finish_ns"][spans.task] == FAR
    left, right = spans.start_ns / SECOND_NS, spans.end_ns / SECOND_NS
    low, high = spans.lane + 0.08, spans.lane + 0.92
    boxes = np.stack([left, low, right, low, right, high, left, high], axis=1).reshape(-1, 4, 2)
    n_apps = len(workload.templates)
    for a, tool, unfinished in np.ndindex(n_apps, 2, 2):
        chosen = (app == a) & (regular == bool(tool)) & (running == bool(unfinished))
        axes.add_collection(
            PolyCollection(
                list(boxes[chosen]),
                facecolor=application_colour(a),
                alpha=0.45 if unfinished else 1.0,
                hatch=_HATCH if tool else None,
                edgecolor=INK if unfinished else "white",
                linewidth=0.3 if lane_inches >= 0.05 else 0.0,  # edges would cover thin boxes
            )
        )
    bounds = spans.first_lane
    switching = _plot_models(axes, state, workload, bounds)
    for e in range(len(bounds) - 1):
        axes.axhspan(bounds[e], bounds[e + 1], color=PALE if e % 2 else "#e6e6e6", linewidth=0, zorder=0)
    centres, names = (bounds[:-1] + bounds[1:]) / 2, executor_names(state)
    named = apart(centres, 0.14 / lane_inches)
    axes.set_yticks(centres[named], [names[e] for e in named], fontsize="x-small")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(int(bounds[-1]), 0)
    axes.set_xlim(0, max(int(state.clock["now_ns"][0]), 1) / SECOND_NS)
    axes.set_ylabel("executors (number: row in observations)" if height >= _ROOM_INCHES else "executors")
    grey = "#777777"
    handles: list[Artist] = [
        Patch(facecolor=application_colour(a), label=in_picture(workload.templates[a].name)) for a in range(n_apps)
    ]
    handles.append(Patch(facecolor=grey, label="LLM task (a lane per slot)"))
    handles.append(Patch(facecolor=grey, hatch=_HATCH, edgecolor="white", linewidth=0, label="regular task"))
    if switching:
        handles.append(Patch(facecolor=INK, alpha=0.8, label="a model is loaded; its name behind"))
    if running.any():
        handles.append(Patch(facecolor=grey, edgecolor=INK, alpha=0.45, label="still running"))
    return handles


def _plot_models(axes: Axes, state: ClusterState, workload: Workload, bounds: NDArray[np.int64]) -> bool:
    """Plot when models are loaded, with the name of each behind; tells whether any executor serves several."""
    from matplotlib.patches import Rectangle

    spans = model_spans(state)
    whole_s = max(int(state.clock["now_ns"][0]), 1) / SECOND_NS
    for e, model, start_ns, ready_ns, end_ns in zip(*(column.tolist() for column in spans), strict=True):
        start, ready, end = (ns / SECOND_NS for ns in (start_ns, ready_ns, end_ns))
        low, lanes = int(bounds[e]), int(bounds[e + 1] - bounds[e])
        axes.add_patch(Rectangle((start, low), ready - start, lanes, facecolor=INK, alpha=0.8, linewidth=0))
        axes.plot([start, start], [low, low + lanes], color=INK, linewidth=0.6)
        name = in_picture(workload.models[model])
        if (end - start) / whole_s > _NAME_SHARE * len(name):
            foot = (ready + 0.002 * whole_s, low + lanes - 0.3)
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
            axes.text(*foot, name, fontsize=6, color=INK, va="bottom", clip_on=True, bbox=box)
    return len(spans.executor) > 0


def _plot_arrivals(axes: Axes, state: ClusterState, workload: Workload) -> None:
    """Plot a tick per arrival, in the colour of the job's application."""
    arrived = state.jobs[: state.clock["arrived"][0]]
    for a in range(len(workload.templates)):
        arrival_s = arrived["arrival_ns"][arrived["app"] == a] / SECOND_NS
        axes.vlines(arrival_s, 0, 1, color=application_colour(a), linewidth=1.8, clip_on=False)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.5], ["arrivals"], fontsize="x-small")
    axes.tick_params(length=0)


def _plot_queues(axes: Axes, state: ClusterState) -> list[Artist]:
    """Plot jobs in the system and, on a scale of their own, ready tasks; return what the legend shows."""
    now_ns = int(state.clock["now_ns"][0])
    tasks_axes = axes.twinx()
    handles: list[Artist] = []
    for panel, label, steps, colour, width in (
        (axes, "jobs in system", jobs_in_system(state), INK, 2.0),  # wide enough to be seen below the other line
        (tasks_axes, "ready tasks", ready_tasks(state), NOW, 0.9),
    ):
        time_s = np.append(steps.time_ns, now_ns) / SECOND_NS
        value = np.append(steps.value, steps.value[-1])
        handles += panel.step(time_s, value, where="post", color=colour, linewidth=width, label=label)
        panel.set_ylim(bottom=0)
        panel.set_ylabel(label, color=colour)
        panel.tick_params(axis="y", labelcolor=colour)
        panel.locator_params(axis="y", integer=True)
    axes.set_xlabel("time [s]")
    axes.grid(alpha=0.3)
    return handles
