"""Measured beside generated: how well an application's sampler reproduces the data it was fitted to."""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmsched_gym.workloads.fitting.tables import ks_distance

JOBS = 4000
"""Jobs drawn for a comparison."""


@dataclass(frozen=True)
class Comparison:
    """One quantity, measured and generated.

    Attributes:
        quantity: What it is ("code tokens, first round").
        unit: Unit of the values, for the axis ("tokens", "rounds", "s", "rank correlation").
        measured: Sample of values; or, for a statistic, one value per entry of `labels`.
        generated: The same for generated jobs; a sample may have another length.
        source: Where the measured values come from.
        labels: Empty for samples; for statistics (correlations, frequencies) the name of each value.
        discrete: A sample of few distinct whole numbers (rounds, plan sizes), drawn as bars.
        n: Measured observations behind a statistic; taken from the sample otherwise.
    """

    quantity: str
    unit: str
    measured: NDArray[np.float64]
    generated: NDArray[np.float64]
    source: str
    labels: tuple[str, ...] = ()
    discrete: bool = False
    n: int = 0

    @property
    def distance(self) -> float:
        """KS distance of two samples, or the largest absolute difference of statistics."""
        if self.labels:
            return float(np.max(np.abs(self.measured - self.generated)))
        return ks_distance(self.measured, self.generated)

    @property
    def observations(self) -> int:
        """Measured observations."""
        return self.n if self.labels else len(self.measured)


def samples(
    quantity: str, unit: str, measured: ArrayLike, generated: ArrayLike, source: str, discrete: bool = False
) -> Comparison:
    """Compare two samples."""
    m, g = np.ravel(np.asarray(measured, dtype=np.float64)), np.ravel(np.asarray(generated, dtype=np.float64))
    return Comparison(quantity, unit, m, g, source, discrete=discrete)


def statistics(
    quantity: str,
    unit: str,
    labels: Sequence[str],
    measured: ArrayLike,
    generated: ArrayLike,
    source: str,
    n: int,
) -> Comparison:
    """Compare named statistics of two samples (correlations, frequencies); `n` measured observations."""
    m, g = np.asarray(measured, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    return Comparison(quantity, unit, m, g, source, labels=tuple(labels), n=n)


def check(name: str, data_dir: Path, jobs: int = JOBS, seed: int = 0) -> list[Comparison]:
    """Draw `jobs` jobs of application `name` and compare them with the data."""
    from llmsched_gym.workloads.applications import APPLICATIONS  # needs the facts, which fitting must do without

    block = APPLICATIONS[name].sample(jobs, np.random.default_rng(seed))
    return import_module(f"llmsched_gym.workloads.fitting.{name}").compare(data_dir, block)


def rows(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Summarise comparisons as one flat record each: quantiles or statistics, and the distance."""
    records = []
    for item in comparisons:
        record: dict[str, Any] = {"quantity": item.quantity, "unit": item.unit, "n_measured": item.observations}
        for side, values in (("measured", item.measured), ("generated", item.generated)):
            if item.labels:
                shown = dict(zip(item.labels, values.tolist(), strict=True))
            else:
                shown = {f"p{level}": float(np.quantile(values, level / 100)) for level in (5, 25, 50, 75, 95)}
                shown["mean"] = float(np.mean(values))
            record |= {f"{side} {label}": round(value, 4) for label, value in shown.items()}
        records.append(record | {"distance": round(item.distance, 4), "source": item.source})
    return records


def picture(name: str, data_dir: Path, out: Path, jobs: int = JOBS, seed: int = 0) -> None:
    """Draw measured against generated, one panel per quantity, into the PNG file `out` (replaced atomically)."""
    from matplotlib.figure import Figure

    comparisons = check(name, data_dir, jobs, seed)
    columns = min(3, len(comparisons))
    lines = math.ceil(len(comparisons) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * lines + 0.5), layout="constrained")
    panels = np.ravel(np.asarray(figure.subplots(lines, columns, squeeze=False)))
    for panel, item in zip(panels, comparisons, strict=False):
        _draw(panel, item)
    for panel in panels[len(comparisons) :]:
        panel.set_axis_off()
    sources = textwrap.fill("data: " + "; ".join(dict.fromkeys(item.source for item in comparisons)), 150)
    figure.suptitle(f"{name.replace('_', ' ')}: measured and generated ({jobs:,} jobs)\n{sources}", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, out)


def _draw(panel: Any, item: Comparison) -> None:
    measured, generated = f"measured (n = {item.observations:,})", "generated"
    if item.labels or item.discrete:
        if item.labels:
            names, heights = list(item.labels), (item.measured, item.generated)
        else:
            values = np.union1d(item.measured, item.generated)
            names = [f"{value:g}" for value in values]
            heights = tuple(np.array([np.mean(side == v) for v in values]) for side in (item.measured, item.generated))
        at = np.arange(len(names))
        panel.bar(at - 0.2, heights[0], 0.4, label=measured, color="#444444")
        panel.bar(at + 0.2, heights[1], 0.4, label=generated, color="#e07b39")
        long = max(len(name) for name in names) > 4
        panel.set_xticks(at, names, fontsize=7, rotation=30 if long else 0, ha="right" if long else "center")
        panel.set_xlabel("" if item.labels else item.unit, fontsize=8)
        panel.set_ylabel(item.unit if item.labels else "fraction", fontsize=8)
    else:
        for values, label, style in (
            (item.measured, measured, {"color": "#444444", "linewidth": 2.2}),
            (item.generated, generated, {"color": "#e07b39", "linewidth": 1.2}),
        ):
            ordered = np.sort(values)
            at, below = np.append(ordered[0], ordered), np.arange(len(ordered) + 1) / len(ordered)
            panel.step(at, below, where="post", label=label, **style)
        low, high = np.min(item.measured), np.max(item.measured)
        if low > 0 and high > 30 * low:
            panel.set_xscale("log")
        panel.set_xlabel(item.unit, fontsize=8)
        panel.set_ylabel("fraction of values at or below", fontsize=8)
    name = "largest difference" if item.labels else "KS distance"
    panel.set_title(f"{item.quantity} ({name} {item.distance:.3g})", fontsize=8)
    panel.legend(fontsize=7)
    panel.tick_params(labelsize=7)
