"""Draws the two-job example: SJF on historical means reaches a mean JCT of 6.5 s, LLMSched that looks first 5 s.

    python baselines/two_jobs.py [-o docs/figures/two_jobs.png]

Fits profiles to 500 jobs of each of the two toy applications (`llmsched_gym.workloads.toy`; needs pgmpy), plays the
scenario ``two_jobs`` with both policies, and draws who held which executor when. ``epsilon=1`` makes LLMSched explore
at every decision: with its default it would take a coin's luck to look first.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.policies.registry import load_policy
from llmsched_gym.profiler.fit import fit_profile, profiling_jobs
from llmsched_gym.profiler.store import save_profile
from llmsched_gym.workloads import toy
from llmsched_gym.workloads.workload import Workload

POLICIES = {"sjf": "SJF (historical means)", "llmsched?epsilon=1": "LLMSched with epsilon = 1 (always explores)"}
COLOURS = {"certain": "#4878a8", "uncertain": "#d1813f"}


def fit_toys(folder: Path) -> None:
    """Write the profiles of both applications, on an engine that takes a second per token."""
    for name in toy.TOY_APPLICATIONS:
        jobs = profiling_jobs(name, 500, applications=toy.TOY_APPLICATIONS)
        save_profile(fit_profile(name, [jobs], latency="one-second-per-token"), folder / f"{name}.json")


def play(spec: str, profiles: Path) -> tuple[SchedulingEnv, dict[str, Any]]:
    """Play the example with one policy."""
    env, policy = SchedulingEnv("two_jobs", profiler=profiles), load_policy(spec)
    obs, info = env.reset(seed=0)
    policy.reset(info)
    done = False
    while not done:
        obs, _, done, _, info = env.step(policy.act(obs))
    return env, info["result"]


def draw(axes: Axes, state: ClusterState, workload: Workload) -> None:
    """Draw one bar per task: above on the LLM executor, below on the regular one."""
    for task in state.tasks:
        stage = state.stages[task["stage"]]
        template = workload.templates[state.jobs["app"][stage["job"]]]
        lane = int(state.executors["kind"][task["executor"]])
        start, end = task["start_ns"] * 1e-9, task["finish_ns"] * 1e-9
        axes.barh(lane, end - start, left=start, height=0.7, color=COLOURS[template.name], edgecolor="white")
        name = template.nodes[stage["node"]].name
        axes.text((start + end) / 2, lane, name, ha="center", va="center", fontsize=8, color="white")
    axes.set_yticks([0, 1], ["LLM", "regular"])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Fit, play, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/figures/two_jobs.png"))
    output: Path = parser.parse_args().output
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    panels = figure.subplots(len(POLICIES), 1, sharex=True)
    with tempfile.TemporaryDirectory() as folder:
        fit_toys(Path(folder))
        for axes, (spec, label) in zip(panels, POLICIES.items(), strict=True):
            env, result = play(spec, Path(folder))
            draw(axes, env.episode.state, env.workload)
            jcts = ", ".join(
                f"{env.workload.templates[app].name} {jct:g} s"
                for app, jct in zip(result["app"], result["jct_s"].round(3), strict=True)
            )
            axes.set_title(f"{label}: mean JCT {result['jct_s'].mean():.1f} s ({jcts})", loc="left", fontsize=9)
    panels[-1].set_xlabel("seconds")
    figure.savefig(output, dpi=150)
    print(output)


if __name__ == "__main__":
    main()
