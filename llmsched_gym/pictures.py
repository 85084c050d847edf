"""What all pictures have alike: two files each, plain numbers on logarithmic axes, and a caption that explains them.

Matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llmsched_gym.errors import InputError, Plain, escaped
from llmsched_gym.workloads.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

FORMATS: Final[Mapping[str, Mapping[str, Any]]] = {
    ".png": {"dpi": 120, "metadata": {"Software": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}
"""Every picture is written as both: one to look at, and one for a page, whose lines and letters stay sharp. Without
dates in them, equal pictures are equal files."""

_FONTS: Final = 42
"""Letters in the PDF are TrueType: journals refuse Matplotlib's default, and programs can edit these."""

_NARROW: Final = 5.0
"""A logarithmic axis whose ends differ by a smaller factor is labelled like a linear one."""

_WIDE: Final = 2000.0
"""One whose ends differ by a larger factor is labelled at powers of ten only, others at 1, 2, 5, 10, ..."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes in inches."""
    # Figure without pyplot: no display, no global state, nothing to close.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG and, beside it under the same name, as PDF; each appears whole or not at all.

    Args:
        figure: The figure.
        path: Name of either file.

    Raises:
        InputError: The name ends otherwise, or cannot be written.
    """
    check_name(path)
    from matplotlib import rc_context

    for suffix, options in FORMATS.items():
        content = io.BytesIO()
        with rc_context({"pdf.fonttype": _FONTS}):
            figure.savefig(content, format=suffix[1:], **options)
        write_atomic(Path(path).with_suffix(suffix), content.getvalue())


def check_name(path: str | Path) -> None:
    """Make sure that a path can be that of a picture.

    Raises:
        InputError: It ends in something else than .png or .pdf.
    """
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise InputError(
            path, "", suffix or Plain("no suffix"), f"{' or '.join(FORMATS)}: a picture is written as both"
        )


def make_logarithmic(axis: XAxis | YAxis, label: str) -> None:
    """Make an axis of what is drawn logarithmic, say so, and label it in plain numbers.

    Args:
        axis: Axis whose data are all there.
        label: Quantity and unit.
    """
    from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_data_interval()
    if high < _NARROW * low:
        axis.set_major_locator(AutoLocator())
    else:
        axis.set_major_locator(LogLocator(subs=(1.0,) if high > _WIDE * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_label_text(f"{label}, logarithmic")


def plain(value: float) -> str:
    """Return a number without an exponent."""
    import numpy as np

    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def caption(figure: Figure, text: str) -> None:
    """Put a small line of text below a figure."""
    figure.supxlabel(text, x=0.01, ha="left", fontsize="small", color="#444444")


def in_picture(name: str) -> str:
    """Return a name as a label: no formula between dollars, no line break, and never left out of a legend."""
    text = escaped(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
