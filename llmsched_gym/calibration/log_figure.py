"""Picture of a fit to a request log: replayed against measured times, and their distributions.

Matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from llmsched_gym.calibration.log_fit import LogFit
from llmsched_gym.calibration.measured_log import Floats, MeasuredLog
from llmsched_gym.pictures import caption, in_picture, make_logarithmic, new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAND: Final = 0.05


def log_figure(log: MeasuredLog, fit: LogFit, path: str | Path) -> None:
    """Draw every request that was not fitted to: end to end and, where it was measured, to the first token.

    Args:
        log: What the server measured.
        fit: The fit.
        path: File to write, as `write_figure` does.

    Raises:
        InputError: `path` cannot be written.
    """
    profile = fit.config.profile
    off = profile.provenance["log_fit"]["rest"]
    figure = new_figure(4.6 * len(off), 4.8)
    times = {
        "end_to_end": (log.end_to_end_s, fit.replay.end_to_end_s),
        "first_token": (log.first_token_s, fit.replay.first_token_s),
    }
    for axes, (name, told) in zip(figure.subplots(1, len(off), squeeze=False)[0], off.items(), strict=True):
        measured, ours = (each[fit.rest] for each in times[name])
        known = np.isfinite(measured)
        _plot(axes, measured[known], ours[known], name.replace("_", " "))
        axes.set_title(f"mean error {told['mean_pct']:.1f} %, signed {told['bias_pct']:+.1f} %", fontsize="medium")
    figure.suptitle(in_picture(profile.name))
    caption(figure, f"Each point: one of the {len(fit.rest)} requests that were not fitted to. Band: 5 %.")
    write_figure(figure, path)


def _plot(axes: Axes, measured: Floats, ours: Floats, what: str) -> None:
    axes.plot(measured, ours, ".", markersize=3, color="C0", alpha=0.6)
    ends = np.array([min(measured.min(), ours.min()), max(measured.max(), ours.max())])
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.fill_between(ends, (1 - _BAND) * ends, (1 + _BAND) * ends, color="black", alpha=0.12, linewidth=0)
    make_logarithmic(axes.xaxis, f"{what} measured [s]")
    make_logarithmic(axes.yaxis, f"{what} replayed [s]")
    axes.grid(alpha=0.3)
