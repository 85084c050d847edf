"""Picture of a validation: job completion times and schedules on both backends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.evaluation.validation import Run, Validation, final_state
from llmsched_gym.export.gantt import plot_lanes
from llmsched_gym.pictures import caption, in_picture, make_logarithmic, new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GANTT_INCHES: Final = 2.6


def validation_figure(validation: Validation, policy: str, path: Path, title: str) -> None:
    """Draw the distributions of job completion times under every policy, and the schedules of one, on both backends.

    On the servers the schedule is that of the repetition with the median mean JCT.

    Args:
        validation: The runs.
        policy: Whose schedules to show.
        path: File to write, as `write_figure` does.
        title: What was run: scenario, jobs, load, seed.

    Raises:
        InputError: `path` cannot be written.
    """
    from matplotlib import rc_context

    served = sorted(validation.served[policy], key=lambda run: run.mean_jct_s)
    shown = {"the simulator": validation.simulated[policy], "vLLM": served[(len(served) - 1) // 2]}
    n_runs = len(served)
    with rc_context({"hatch.linewidth": 0.6}):
        figure = new_figure(12, 4.2 + 2 * _GANTT_INCHES)
        upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.9, 2 * _GANTT_INCHES])[:, 0]
        upper.suptitle(title)
        panels = upper.subplots(1, len(validation.policies), sharex=True, sharey=True, squeeze=False)[0]
        _plot_distributions(panels, validation)
        lanes = lower.subplots(2, 1, sharex=True)
        handles = []
        for axes, (name, run) in zip(lanes, shown.items(), strict=True):
            state = final_state(validation, run)
            handles = plot_lanes(axes, state, validation.workload, _GANTT_INCHES)
            axes.set_title(
                f"{in_picture(policy)} on {name}: mean JCT {run.mean_jct_s:.2f} s", loc="left", fontsize="medium"
            )
        lanes[0].set_xlim(0, max(float(_end_s(run)) for run in shown.values()))
        lanes[-1].set_xlabel("time [s]")
        lower.legend(handles=handles, loc="outside lower center", ncols=6, fontsize="small", frameon=False)
        median = "" if n_runs == 1 else f" Schedule on vLLM: the run of the median mean JCT of {n_runs}."
        caption(figure, f"Each curve: the {validation.workload.n_jobs} jobs of one run.{median}")
        write_figure(figure, path)


def _plot_distributions(panels: Sequence[Axes], validation: Validation) -> None:
    for axes, policy in zip(panels, validation.policies, strict=True):
        runs = validation.served[policy]
        for number, run in enumerate(runs):
            label = f"vLLM ({len(runs)} {'run' if len(runs) == 1 else 'runs'})" if number == 0 else None
            axes.step(*_distribution(run), where="post", color="C0", alpha=0.5, linewidth=1, label=label)
        simulated = validation.simulated[policy]
        axes.step(*_distribution(simulated), where="post", color="C1", linewidth=1.5, label="simulator")
        axes.set_ylim(0, 1)
        axes.set_title(in_picture(policy), fontsize="medium")
        axes.grid(alpha=0.3)
    for axes in panels:
        make_logarithmic(axes.xaxis, "job completion time [s]")
    panels[0].set_ylabel("share of jobs completed within it")
    panels[0].legend(loc="upper left", fontsize="small")


def _distribution(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    jct_s = np.sort(run.jct_s)
    return np.append(jct_s[0], jct_s), np.arange(len(jct_s) + 1) / len(jct_s)


def _end_s(run: Run) -> float:
    finished = run.finish_ns[run.finish_ns != np.iinfo(np.int64).max]
    return float(finished.max()) * 1e-9
