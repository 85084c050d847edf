"""Picture of a profile: its network, the times of its stages' states, and how the stages' times correlate.

Matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

import io
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from llmsched_gym.profiler.ancestral import correlations, mutual_information, shown_states
from llmsched_gym.profiler.profile import Profile
from llmsched_gym.workloads.files import write_atomic
from llmsched_gym.workloads.template import StageKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = {StageKind.LLM: "#5b8ff9", StageKind.REGULAR: "#f6bd16", StageKind.DYNAMIC: "#9270ca"}
_LABELS: Final = {StageKind.LLM: "LLM stage", StageKind.REGULAR: "regular stage", StageKind.DYNAMIC: "size of a plan"}
_SHORTEST_S: Final = 1e-4
"""Stages that take less, or nothing, have this one's colour on the logarithmic scale."""

_MOST_COLUMNS: Final = 12
"""Longest row of the network, in nodes, before it goes on in the next line."""


def draw_profile(profile: Profile, path: str | Path) -> None:
    """Draw a profile into a PNG file.

    Left: the network; a dashed outline marks stages that a job may lack, the width of an edge is the mutual
    information of the two variables. Middle: mean time of each state of each stage. Right: correlations of the stages'
    times, absent stages taking none.

    Raises:
        InputError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    states = shown_states(profile)
    figure = Figure(figsize=(19, max(4.0, 0.24 * len(profile.variables) + 1.6)), layout="constrained")
    network, heat, matrix = figure.subplots(1, 3, width_ratios=(1.5, 1.0, 1.1))
    _draw_network(network, profile, states)
    _draw_times(heat, profile, states)
    _draw_correlations(matrix, profile, states)
    figure.suptitle(f"{profile.application.replace('_', ' ')}: profile at {profile.latency.name}, batch size 1")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def _draw_network(axes: Axes, profile: Profile, states: NDArray[np.int64]) -> None:
    from matplotlib.lines import Line2D

    edges = [(parent, child) for child, parents in enumerate(profile.parents) for parent in parents]
    information = np.array([mutual_information(states[:, one], states[:, other]) for one, other in edges])
    place = _places(profile)
    for (parent, child), weight in zip(edges, information, strict=True):
        axes.annotate(
            "",
            place[child],
            place[parent],
            arrowprops={
                "arrowstyle": "-|>",
                "linewidth": 0.5 + 2.5 * weight / max(float(information.max()), 1e-9),
                "color": "#777777",
                "shrinkA": 9,
                "shrinkB": 9,
                "connectionstyle": "arc3,rad=0.15",
            },
        )
    for number, (variable, (x, y)) in enumerate(zip(profile.variables, place, strict=True)):
        axes.scatter(
            x,
            y,
            s=230,
            color=_COLOURS[variable.kind],
            edgecolors="black",
            linestyle="--" if variable.absent else "-",
            zorder=3,
        )
        axes.text(x, y, str(number), ha="center", va="center", fontsize=7, zorder=4)
        axes.text(x, y - 0.22, variable.name, ha="center", va="top", fontsize=6, zorder=4)
    kinds = sorted({variable.kind for variable in profile.variables})
    marks: list[Any] = [
        Line2D([], [], marker="o", linestyle="", color=_COLOURS[kind], label=_LABELS[kind]) for kind in kinds
    ]
    axes.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, fontsize=7, frameon=False)
    strongest = f"widest edge: {float(information.max()):.2f} nats" if len(edges) else "no edge"
    axes.set_title(f"network ({len(edges)} edges; {strongest})", fontsize=9)
    axes.margins(0.08)
    axes.set_axis_off()


def _places(profile: Profile) -> list[tuple[float, float]]:
    """Place variables by their depth in the network, left to right; equal stems of names share a row.

    Where the place is taken, the next free one to the right is used. What is beyond `_MOST_COLUMNS` goes on below.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(profile.variables)))
    graph.add_edges_from((parent, child) for child, parents in enumerate(profile.parents) for parent in parents)
    depth = {node: level for level, layer in enumerate(nx.topological_generations(graph)) for node in layer}
    stems = [re.sub(r"_?\d+$", "", variable.name) for variable in profile.variables]
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


def _draw_times(axes: Axes, profile: Profile, states: NDArray[np.int64]) -> None:
    """Draw mean seconds of each state; sizes of plans show their shares only."""
    from matplotlib.colors import LogNorm

    first = int(any(variable.absent for variable in profile.variables))
    columns = first + max(variable.states - variable.absent for variable in profile.variables)
    seconds = np.full((len(profile.variables), columns), np.nan)
    for row, variable in enumerate(profile.variables):
        shares = np.bincount(states[:, row], minlength=variable.states) / len(states)
        for state in range(variable.states):
            column = state + first - variable.absent
            text = f"{shares[state]:.0%}"
            if variable.kind is not StageKind.DYNAMIC and not (variable.absent and state == 0):
                seconds[row, column] = max(float(variable.means_s[state]), _SHORTEST_S)
                text = f"{variable.means_s[state]:.2g} s, {text}"
            axes.text(column, row, text, ha="center", va="center", fontsize=5.5)
    image = axes.imshow(seconds, aspect="auto", cmap="YlOrRd", norm=LogNorm(), alpha=0.8)
    axes.figure.colorbar(image, ax=axes, label="mean slot time [s]", shrink=0.7)
    names = ["absent"] * first + [f"bin {k}" for k in range(columns - first)]
    axes.set_xticks(range(columns), names, fontsize=7)
    axes.set_yticks(*_rows(profile), fontsize=7)
    axes.set_title("states: mean time, share of jobs", fontsize=9)


def _draw_correlations(axes: Axes, profile: Profile, states: NDArray[np.int64]) -> None:
    values = np.empty(states.shape)
    for column, variable in enumerate(profile.variables):
        size = variable.kind is StageKind.DYNAMIC
        worth = np.arange(variable.states, dtype=np.float64) if size else variable.means_s
        values[:, column] = worth[states[:, column]]
    image = axes.imshow(correlations(values), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.figure.colorbar(image, ax=axes, label="correlation", shrink=0.7)
    axes.set_xticks(
        range(len(profile.variables)), [str(number) for number in range(len(profile.variables))], fontsize=6
    )
    axes.set_yticks(*_rows(profile), fontsize=7)
    axes.set_title("correlation of times (sizes: of states)", fontsize=9)


def _rows(profile: Profile) -> tuple[range, list[str]]:
    return range(len(profile.variables)), [f"{v.name} {row}" for row, v in enumerate(profile.variables)]
