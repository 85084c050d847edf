"""Picture of a validation: job completion times and schedules on both backends."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.envs.gantt import plot_lanes
from llmsched_gym.evaluation.validation import Run, Validation, final_state
from llmsched_gym.pictures import in_picture
from llmsched_gym.workloads.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GANTT_INCHES: Final = 2.6


def validation_figure(validation: Validation, policy: str, path: Path) -> None:
    """Draw the distributions of job completion times under every policy, and the schedules of one, on both backends.

    On the servers the schedule is that of the repetition with the median mean JCT.

    Args:
        validation: The runs.
        policy: Whose schedules to show.
        path: PNG file to write.

    Raises:
        InputError: `path` cannot be written.
    """
    # Figure without pyplot: no display, no global state, nothing to close.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    served = sorted(validation.served[policy], key=lambda run: run.mean_jct_s)
    shown = {"simulator": validation.simulated[policy], "vLLM": served[(len(served) - 1) // 2]}
    image = io.BytesIO()
    with rc_context({"hatch.linewidth": 0.6}):
        figure = Figure(figsize=(12, 3.4 + 2 * _GANTT_INCHES), layout="constrained")
        upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.4, 2 * _GANTT_INCHES])[:, 0]
        _plot_distributions(upper.subplots(1, len(validation.policies), sharey=True, squeeze=False)[0], validation)
        panels = lower.subplots(2, 1, sharex=True)
        handles = []
        for axes, (name, run) in zip(panels, shown.items(), strict=True):
            state = final_state(validation, run)
            handles = plot_lanes(axes, state, validation.workload, _GANTT_INCHES)
            axes.set_title(
                f"{in_picture(policy)} on {name}: mean JCT {run.mean_jct_s:.2f} s", loc="left", fontsize="medium"
            )
        panels[0].set_xlim(0, max(float(_end_s(run)) for run in shown.values()))
        panels[-1].set_xlabel("time [s]")
        lower.legend(handles=handles, loc="outside lower center", ncols=6, fontsize="small", frameon=False)
        figure.savefig(image, format="png", dpi=110)
    write_atomic(path, image.getvalue())


def _plot_distributions(panels: Sequence[Axes], validation: Validation) -> None:
    for axes, policy in zip(panels, validation.policies, strict=True):
        for run in validation.served[policy]:
            axes.step(*_distribution(run), where="post", color="C0", alpha=0.5, linewidth=1)
        axes.step(*_distribution(validation.simulated[policy]), where="post", color="C1", linewidth=1.5)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter("")  # within one decade their labels would overlap
        axes.set_ylim(0, 1)
        axes.set_title(in_picture(policy), fontsize="medium")
        axes.set_xlabel("job completion time [s]")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share of jobs")
    panels[0].plot([], [], color="C0", alpha=0.5, label="vLLM, each run")
    panels[0].plot([], [], color="C1", label="simulator")
    panels[0].legend(loc="lower right", fontsize="small")


def _distribution(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.sort(run.jct_s), np.arange(1, len(run.jct_s) + 1) / len(run.jct_s)


def _end_s(run: Run) -> float:
    finished = run.finish_ns[run.finish_ns != np.iinfo(np.int64).max]
    return float(finished.max()) * 1e-9
