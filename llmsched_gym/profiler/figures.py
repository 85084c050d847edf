"""Picture of a profile: its network, the times of its stages' states, and how the stages' times correlate.

Matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from llmsched_gym.pictures import caption, in_picture, new_figure, plain, write_figure
from llmsched_gym.profiler.ancestral import correlations, mutual_information, shown_states
from llmsched_gym.profiler.profile import Profile
from llmsched_gym.workloads.template import StageKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS: Final = {StageKind.LLM: "#5b8ff9", StageKind.REGULAR: "#f6bd16", StageKind.DYNAMIC: "#9270ca"}
_LABELS: Final = {StageKind.LLM: "LLM stage", StageKind.REGULAR: "regular stage", StageKind.DYNAMIC: "size of a plan"}
_MOST_COLUMNS: Final = 32
"""Longest row of the network, in nodes, before it goes on in the next line."""

_CELL_INCHES: Final = (0.8, 0.3)
"""Width and height of a cell with a time and a share in it; rows of both tables have this height."""

_CHARACTER_INCHES: Final = 0.078
"""At least the mean width of a character of a node's name."""

_NO_STATE: Final = "#eeeeee"

_DARK: Final = 0.65
"""From this part of the colour scale on, text is white."""

_NODE_INCHES: Final = 0.33
_LINE_INCHES: Final = 0.5
"""Height of a node, and of a row of nodes."""


def draw_profile(profile: Profile, path: str | Path) -> None:
    """Draw a profile and write it, as `write_figure` does.

    Above: the network; a dashed outline marks stages that a job may lack, the width of an edge is the mutual
    information of the two variables. Below, with a row for each variable: mean time of each state of each stage, and
    correlations of the stages' times, absent stages taking none.

    Raises:
        InputError: The file cannot be written.
    """
    write_figure(profile_figure(profile), path)


def profile_figure(profile: Profile) -> Figure:
    """Return the picture that `draw_profile` writes, as large as its contents need."""
    states = shown_states(profile)
    places = _places(profile)
    n_variables = len(profile.variables)
    first, columns = _state_columns(profile)
    times, correlated = (first + columns) * _CELL_INCHES[0], n_variables * _CELL_INCHES[1]
    rows = n_variables * _CELL_INCHES[1]
    node_width = _CHARACTER_INCHES * max(len(variable.name) for variable in profile.variables) + 0.16
    column_width = node_width * 1.1 / _least_gap(places)
    needed = column_width * max(x for x, _ in places) + node_width
    width = max(times + correlated + 3.6, needed + 0.5)  # with names and colour bars
    network_height = _LINE_INCHES * (max(-y for _, y in places) + 1)
    figure = new_figure(width, network_height + rows + 2.4)
    grid = figure.add_gridspec(2, 2, width_ratios=(times, correlated), height_ratios=(network_height + 0.4, rows))
    _draw_network(figure.add_subplot(grid[0, :]), profile, states, places, node_width, width - 0.5)
    _draw_times(figure.add_subplot(grid[1, 0]), profile, states)
    _draw_correlations(figure.add_subplot(grid[1, 1]), profile, states)
    application, latency = in_picture(profile.application.replace("_", " ")), in_picture(profile.latency.name)
    jobs = profile.provenance.get("jobs")
    fitted = "" if jobs is None else f" fitted to {jobs:,} jobs"
    figure.suptitle(f"{application}: profile{fitted} at {latency}, batch size 1")
    caption(figure, f"Edges, shares, times and correlations: of {len(states):,} jobs drawn from the fitted network.")
    return figure


def _draw_network(
    axes: Axes,
    profile: Profile,
    states: NDArray[np.int64],
    places: list[tuple[float, float]],
    node_width: float,
    width: float,
) -> None:
    """Draw the network in coordinates that are about inches, its columns spread over the whole width."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch

    edges = [(parent, child) for child, parents in enumerate(profile.parents) for parent in parents]
    information = np.array([mutual_information(states[:, one], states[:, other]) for one, other in edges])
    column_width = (width - node_width) / max([1.0, *(x for x, _ in places)])
    centres = [(node_width / 2 + x * column_width, y * _LINE_INCHES) for x, y in places]
    nodes = []
    for number, (variable, (x, y)) in enumerate(zip(profile.variables, centres, strict=True)):
        node = FancyBboxPatch(
            (x - node_width / 2, y - _NODE_INCHES / 2),
            node_width,
            _NODE_INCHES,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=_COLOURS[variable.kind],
            edgecolor="black",
            linestyle="--" if variable.absent else "-",
            zorder=3,
        )
        nodes.append(axes.add_patch(node))
        axes.text(x, y, f"{in_picture(variable.name)}\n{number}", ha="center", va="center", fontsize=8, zorder=4)
    for (parent, child), weight in zip(edges, information, strict=True):
        arrow = FancyArrowPatch(
            centres[parent],
            centres[child],
            patchA=nodes[parent],
            patchB=nodes[child],
            shrinkA=0,
            shrinkB=0,
            arrowstyle="-|>",
            mutation_scale=10,
            linewidth=0.5 + 2.5 * weight / max(float(information.max()), 1e-9),
            color="#777777",
            connectionstyle="arc3,rad=0.15",
            zorder=2,  # behind all nodes, so that no edge strikes a name through
        )
        axes.add_patch(arrow)
    kinds = sorted({variable.kind for variable in profile.variables})
    marks = [Patch(facecolor=_COLOURS[kind], label=_LABELS[kind]) for kind in kinds]
    if any(variable.absent for variable in profile.variables):
        marks.append(Patch(facecolor="white", edgecolor="black", linestyle="--", label="a job may lack it"))
    axes.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=9, frameon=False)
    widths = f"width: mutual information, at most {float(information.max()):.2f} nats" if len(edges) else "none"
    axes.set_title(f"network of the stages, with their numbers ({len(edges)} edges, {widths})", fontsize=10)
    axes.set_xlim(-0.05, width + 0.05)
    axes.set_ylim(min(y for _, y in centres) - _LINE_INCHES / 2, _LINE_INCHES / 2)
    axes.set_axis_off()


def _least_gap(places: list[tuple[float, float]]) -> float:
    """Return the fewest columns between two nodes of a row, 2 at most: nodes of other rows may stand as near."""
    along_rows = itertools.pairwise(sorted(places, key=lambda place: (place[1], place[0])))
    return min([2.0, *(b[0] - a[0] for a, b in along_rows if a[1] == b[1])])


def _places(profile: Profile) -> list[tuple[float, float]]:
    """Place variables by their depth in the network, left to right; equal stems of names share a row.

    Where the place is taken, the next free one to the right is used. What is beyond `_MOST_COLUMNS` goes on below.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(profile.variables)))
    graph.add_edges_from((parent, child) for child, parents in enumerate(profile.parents) for parent in parents)
    depth = {node: level for level, layer in enumerate(nx.topological_generations(graph)) for node in layer}
    stems = [re.sub(r"_?\d+$", "", in_picture(variable.name)) for variable in profile.variables]
    rows = {stem: row for row, stem in enumerate(dict.fromkeys(stems))}
    taken: set[tuple[int, int]] = set()
    places = []
    for node, stem in enumerate(stems):
        row = rows[stem]
        level = next(level for level in itertools.count(depth[node]) if (row, level) not in taken)
        taken.add((row, level))
        line, column = divmod(level, _MOST_COLUMNS)
        places.append((float(column), -float(row + line * (len(rows) + 0.5))))
    return places


def _state_columns(profile: Profile) -> tuple[int, int]:
    """Return the number of columns for absence, 0 or 1, and the largest number of other states."""
    first = int(any(variable.absent for variable in profile.variables))
    return first, max(variable.states - variable.absent for variable in profile.variables)


def _draw_times(axes: Axes, profile: Profile, states: NDArray[np.int64]) -> None:
    """Draw mean seconds of each state; sizes of plans show their shares only."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator

    first, columns = _state_columns(profile)
    seconds = np.full((len(profile.variables), first + columns), np.nan)
    texts = {}
    for row, variable in enumerate(profile.variables):
        shares = np.bincount(states[:, row], minlength=variable.states) / len(states)
        for state in range(variable.states):
            column = state + first - variable.absent
            share = f"{shares[state]:.0%}" if shares[state] == 0 or shares[state] >= 0.005 else "<1%"
            texts[row, column] = share
            if variable.kind is not StageKind.DYNAMIC and not (variable.absent and state == 0):
                seconds[row, column] = variable.means_s[state]
                texts[row, column] = f"{plain(float(f'{variable.means_s[state]:.2g}'))} s, {share}"
    positive = seconds[seconds > 0]  # stages that take nothing have no place on a logarithmic scale
    shortest, longest = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
    norm = LogNorm(shortest, max(longest, 1.1 * shortest), clip=True)
    image = axes.imshow(np.maximum(seconds, shortest), aspect="auto", cmap="YlOrRd", norm=norm)
    for (row, column), text in texts.items():
        dark = seconds[row, column] > 0 and norm(seconds[row, column]) > _DARK
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    ticks = LogLocator(subs=(1.0, 2.0, 5.0))
    label = "mean slot time [s], logarithmic"
    bar = axes.figure.colorbar(image, ax=axes, label=label, ticks=ticks, format="{x:g}", pad=0.01)
    bar.minorticks_off()
    axes.set_xticks(range(first + columns), ["absent"] * first + [f"bin {k}" for k in range(columns)], fontsize=9)
    names = [f"{in_picture(variable.name)} {row}" for row, variable in enumerate(profile.variables)]
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_facecolor(_NO_STATE)
    axes.set_xlabel("state: bin of the slot time, or size of the plan (grey: no time)", fontsize=9)
    axes.set_title("mean slot time in each state, share of jobs in it", fontsize=10)


def _draw_correlations(axes: Axes, profile: Profile, states: NDArray[np.int64]) -> None:
    values = np.empty(states.shape)
    for column, variable in enumerate(profile.variables):
        size = variable.kind is StageKind.DYNAMIC
        worth = np.arange(variable.states, dtype=np.float64) if size else variable.means_s
        values[:, column] = worth[states[:, column]]
    image = axes.imshow(correlations(values), aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1)
    axes.figure.colorbar(image, ax=axes, label="correlation", pad=0.01)
    for ticks in (axes.set_xticks, axes.set_yticks):  # the names stand at the rows of the times
        ticks(range(len(values.T)), [str(number) for number in range(len(values.T))], fontsize=9)
    axes.set_xlabel("number of the stage, as on the left", fontsize=9)
    axes.set_title("correlation of slot times (plans: of sizes)", fontsize=10)
