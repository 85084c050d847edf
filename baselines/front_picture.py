"""Draws the picture of README.md: one compound job as a scheduler sees it at three moments, and what ran where.

    python baselines/front_picture.py [-o docs/figures]

Plays eight jobs on a small cluster and follows one of them. Above, the job's graph in the environment's own words
(`StageStatus`) at three decisions; below, every task on its executor. Writes two files of the same picture, for light
and for dark pages.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch

from llmsched_gym.cluster.state import ClusterState, StageStatus
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.export.timeline import timeline
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.workloads.files import write_atomic
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind
from llmsched_gym.workloads.workload import Workload

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SCENARIO: Final = {
    "name": "picture",
    "applications": {"llm_compiler": 1, "web_search": 1, "code_generation": 1},
    "jobs": 8,
    "load": 1.0,
    "cluster": {
        "executors": [
            {"kind": "llm", "count": 2, "latency": "llama-2-7b-h100", "max_num_seqs": 3},
            {"kind": "regular", "count": 3},
        ]
    },
}
SEED: Final = 2
FOLLOWED: Final = 1
"""The job of the picture, by arrival."""
SHOWN_S: Final = 7.0
"""Where the time axis ends."""

LLM: Final = "#3f7fd0"
TOOL: Final = "#c4741a"


class Look(NamedTuple):
    """Colours that depend on the page."""

    ink: str
    pale: str
    other: str


LOOKS: Final = {"light": Look("#24292f", "#eef0f3", "#c3c9d0"), "dark": Look("#d5dbe1", "#20262d", "#4a535c")}


class Moment(NamedTuple):
    """What is known of the followed job at a decision.

    Attributes:
        time_s: When.
        what: What has just happened.
        stages: Copy of its rows of ``state.stages``.
    """

    time_s: float
    what: str
    stages: Any


def play() -> tuple[SchedulingEnv, list[Moment]]:
    """Play the episode; return it and three moments of the followed job."""
    env, policy = SchedulingEnv(SCENARIO, split="eval", profiler=False), load_policy("srtf")
    observation, info = env.reset(seed=SEED)
    policy.reset(info)
    job = env.episode.state.jobs[FOLLOWED]
    rows = slice(job["first_stage"], job["first_stage"] + job["n_stages"])
    template = env.workload.templates[job["app"]]
    awaited = [
        (None, "the job arrives: what it will need is unknown"),
        (template.index["search"], "its plan is made: calls are revealed, and run"),
        (template.index["join"], "the answer is not good enough: it plans again"),
    ]
    moments: list[Moment] = []
    done = False
    while not done:
        stages = env.episode.state.stages[rows]
        if awaited and info["time_s"] * 1e9 >= job["arrival_ns"]:
            node, what = awaited[0]
            if node is None or (stages["status"][stages["node"] == node] == StageStatus.DONE).any():
                moments.append(Moment(info["time_s"], what, stages.copy()))
                awaited.pop(0)
        observation, _, done, _, info = env.step(policy.act(observation))
    return env, moments


def visible(stages: Any) -> list[int]:
    """Return the stages that the scheduler may know of, as `llmsched_gym.envs.columns.Node` says, and that may run."""
    planned = {
        row
        for row, stage in enumerate(stages)
        if stage["kind"] == StageKind.DYNAMIC and stage["status"] not in (StageStatus.HIDDEN, StageStatus.BLOCKED)
    }
    unknown = (stages["status"] == StageStatus.HIDDEN) & (stages["planned"] == 1)
    gone = stages["status"] == StageStatus.SKIPPED
    return [row for row in range(len(stages)) if not unknown[row] and not gone[row] and row not in planned]


def links(state: ClusterState, shown: list[int]) -> list[tuple[int, int]]:
    """Return the edges between stages of the job that are shown, through those that are not; none that others imply."""
    job = state.jobs[FOLLOWED]
    first = int(job["first_stage"])
    follow: dict[int, set[int]] = {}  # the shown stages at the other ends of paths over stages that are not
    below: dict[int, set[int]] = {}  # all shown stages behind a stage
    for row in reversed(range(job["n_stages"])):  # children before parents
        stage = state.stages[first + row]
        begin = stage["first_child"]
        children = [int(child) - first for child in state.children[begin : begin + stage["n_children"]]]
        ends = [{child} if child in shown else follow[child] for child in children]
        follow[row] = set[int]().union(*ends)
        below[row] = set[int]().union(follow[row], *(below[end] for end in follow[row]))
    return [
        (row, child)
        for row in shown
        for child in sorted(follow[row])
        if not any(child in below[other] for other in follow[row])
    ]


def places(shown: list[int], edges: list[tuple[int, int]]) -> dict[int, tuple[float, float]]:
    """Return where to draw each stage: columns by the longest path to it, centred rows."""
    depth = dict.fromkeys(shown, 0)
    for row in shown:  # topological
        depth[row] = max((depth[parent] + 1 for parent, child in edges if child == row), default=0)
    found = {}
    for column in set(depth.values()):
        here = [row for row in shown if depth[row] == column]
        for position, row in enumerate(here):
            found[row] = (float(column), position - (len(here) - 1) / 2)
    return found


def draw_graph(axes: Axes, env: SchedulingEnv, moment: Moment, look: Look) -> None:
    """Draw the job's graph at a moment."""
    state = env.episode.state
    job = state.jobs[FOLLOWED]
    template = env.workload.templates[job["app"]]
    shown = visible(moment.stages)
    edges = links(state, shown)
    place = places(shown, edges)
    for parent, child in edges:
        (x0, y0), (x1, y1) = place[parent], place[child]
        axes.plot([x0 + 0.42, x1 - 0.42], [y0, y1], color=look.other, linewidth=0.8, zorder=1)
    for row, (x, y) in place.items():
        stage = moment.stages[row]
        _box(axes, template, stage, x, y, look)
    axes.set_xlim(-0.6, 7.6)
    axes.set_ylim(2.1, -2.1)
    axes.axis("off")


def _box(axes: Axes, template: ApplicationTemplate, stage: Any, x: float, y: float, look: Look) -> None:
    """Draw a stage: filled when done, half so while it runs, outlined when known, dashed while it may never be."""
    status, kind = stage["status"], stage["kind"]
    colour = {StageKind.LLM: LLM, StageKind.REGULAR: TOOL}.get(StageKind(kind), look.ink)
    maybe = status == StageStatus.HIDDEN or kind == StageKind.DYNAMIC
    alpha = {StageStatus.DONE: 1.0, StageStatus.RUNNING: 0.5, StageStatus.READY: 0.22}.get(StageStatus(status), 0.0)
    box = (x - 0.42, y - 0.32), 0.84, 0.64
    shape = "round,pad=0,rounding_size=0.16"
    if alpha and not maybe:
        axes.add_patch(FancyBboxPatch(*box, boxstyle=shape, facecolor=colour, alpha=alpha, linewidth=0, zorder=2))
    style = (0, (2.2, 1.8)) if maybe else "-"
    edge = look.other if maybe else colour
    axes.add_patch(
        FancyBboxPatch(*box, boxstyle=shape, facecolor="none", edgecolor=edge, linestyle=style, linewidth=1.0, zorder=3)
    )
    name = "?" if kind == StageKind.DYNAMIC else template.nodes[stage["node"]].name.replace("_", "\n")
    text = "white" if status == StageStatus.DONE else look.ink
    axes.text(x, y, name, ha="center", va="center", color=text, fontsize=6.5, linespacing=0.85, zorder=4)


def draw_schedule(axes: Axes, state: ClusterState, workload: Workload, moments: list[Moment], look: Look) -> None:
    """Draw a bar per task in the lane of its slot, those of the followed job in colour."""
    spans = timeline(state)
    for e in range(len(state.executors)):
        axes.axhspan(spans.first_lane[e] + 0.04, spans.first_lane[e + 1] - 0.04, color=look.pale, linewidth=0, zorder=0)
    for task, lane, start_ns, end_ns in zip(spans.task, spans.lane, spans.start_ns, spans.end_ns, strict=True):
        start, end = start_ns * 1e-9, min(end_ns * 1e-9, SHOWN_S)
        if start >= SHOWN_S:
            continue
        stage = state.stages[state.tasks["stage"][task]]
        mine = stage["job"] == FOLLOWED
        colour = (LLM if stage["kind"] == StageKind.LLM else TOOL) if mine else look.other
        bar = axes.barh(lane + 0.5, end - start, left=start, height=0.78, color=colour, zorder=2)
        bar.patches[0].set(edgecolor=look.pale, linewidth=1.0)
        if mine and end - start > 0.24:
            template = workload.templates[state.jobs["app"][FOLLOWED]]
            name = template.nodes[stage["node"]].name.replace("more_", "").replace("final_", "")
            axes.text(
                (start + end) / 2, lane + 0.5, name, ha="center", va="center", color="white", fontsize=6, zorder=4
            )
    for number, moment in enumerate(moments, 1):
        axes.axvline(moment.time_s, color=look.ink, linewidth=0.9, linestyle=(0, (3, 2)), zorder=3)
        axes.text(
            moment.time_s, -0.15, f"{number}", ha="center", va="bottom", color=look.ink, fontsize=8, fontweight="bold"
        )
    names = [
        f"LLM executor,\nup to {row['slots']} at once" if row["engine"] >= 0 else "tool executor"
        for row in state.executors
    ]
    axes.set_yticks((spans.first_lane[:-1] + spans.first_lane[1:]) / 2, names, fontsize=7.5, color=look.ink)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", colors=look.ink, labelsize=7.5, length=2)
    axes.set_ylim(int(spans.first_lane[-1]), 0)
    axes.set_xlim(0, SHOWN_S)
    axes.set_xlabel("time [s]", color=look.ink, fontsize=8, labelpad=1)
    axes.spines[:].set_visible(False)


def legend(look: Look) -> list[Artist]:
    """Return what the legend shows."""
    return [
        Patch(facecolor=LLM, label="LLM stage"),
        Patch(facecolor=TOOL, label="tool stage"),
        Patch(facecolor=look.ink, label="done"),
        Patch(facecolor=look.ink, alpha=0.35, label="running, ready (paler)"),
        Patch(facecolor="none", edgecolor=look.ink, label="known to come"),
        Line2D([], [], color=look.other, linestyle=(0, (2.2, 1.8)), label="hidden: what, and whether at all"),
        Patch(facecolor=look.other, label="tasks of other jobs"),
    ]


def draw(env: SchedulingEnv, moments: list[Moment], look: Look) -> Figure:
    """Return the picture, on no ground of its own."""
    figure = Figure(figsize=(10.4, 4.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.5, 2.6])
    above, below = parts
    for part in (figure, above, below):
        part.patch.set_alpha(0.0)
    for number, (axes, moment) in enumerate(zip(above.subplots(1, len(moments)), moments, strict=True), 1):
        draw_graph(axes, env, moment, look)
        axes.set_title(f"{number}  {moment.what}", loc="left", fontsize=8, color=look.ink)
    axes = below.subplots()
    axes.patch.set_alpha(0.0)
    draw_schedule(axes, env.episode.state, env.workload, moments, look)
    below.legend(
        handles=legend(look), loc="outside lower center", ncols=7, fontsize=7, frameon=False, labelcolor=look.ink
    )
    return figure


def write(env: SchedulingEnv, moments: list[Moment], folder: Path) -> list[Path]:
    """Write the picture for light and for dark pages; return the files."""
    paths = []
    for name, look in LOOKS.items():
        path, image = folder / f"front_{name}.svg", io.BytesIO()
        with rc_context({"svg.hashsalt": "llmsched_gym"}):  # equal pictures give equal bytes
            draw(env, moments, look).savefig(image, format="svg", metadata={"Date": None})
        write_atomic(path, image.getvalue())
        paths.append(path)
    return paths


def main() -> None:
    """Play, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/figures"), metavar="FOLDER")
    folder: Path = parser.parse_args().output
    print(*write(*play(), folder), sep="\n")


if __name__ == "__main__":
    main()
