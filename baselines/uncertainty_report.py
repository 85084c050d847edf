"""Tables and picture of ``docs/uncertainty_gnn.md``, from the frozen results of `evaluate_uncertainty_gnn.py`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from claims import below, per_seed
from grid import FULL, ORACLE, OURS, WORKLOADS
from page_tables import fill, interval, table

from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]

_DEFAULT: Final = {"jobs": 300.0, "load": 0.9}


def fill_page(page: str, rows: Rows, losses: Rows, facts: Mapping[str, Any]) -> str:
    """Return the page with every table made again.

    Args:
        page: Markdown with ``<!-- table: NAME -->`` and ``<!-- end -->`` around each table.
        rows: Episodes of all parts.
        losses: Held-out losses, by run (``part``) and application.
        facts: Commit and weights of each part.
    """
    makers: dict[str, Callable[[], list[str]]] = {
        "workloads": lambda: _workloads(_of(rows, "workloads")),
        "generalisation": lambda: _generalisation(rows),
        "ideas": lambda: _ideas(_of(rows, "ideas")),
        "losses": lambda: _losses(losses),
        "origin": lambda: _origin(facts),
    }
    return fill(page, makers)


def _of(rows: Rows, part: str) -> Rows:
    return [row for row in rows if row["part"] == part]


def _workloads(rows: Rows) -> list[str]:
    head = ["workload", "seeds", "llmsched, s", f"{OURS}, s", f"{ORACLE}, s", f"{OURS} below llmsched"]
    body = []
    for name in WORKLOADS:
        seconds = {policy: per_seed(rows, scenario=name, policy=policy) for policy in (FULL, OURS, ORACLE)}
        means = {policy: mean(values) for policy, values in seconds.items()}
        closed = (means[FULL] - means[OURS]) / (means[FULL] - means[ORACLE])
        body.append(
            [name, f"{len(seconds[OURS])}", *(f"{value:.2f}" for value in means.values())]
            + [interval(below(rows, policy, FULL, scenario=name)) for policy in (OURS, ORACLE)]
            + [f"{100 * closed:.0f} %"]
        )
    return table([*head, "oracle below llmsched", "share of that"], body)


def _generalisation(rows: Rows) -> list[str]:
    settings = _settings(rows)
    body, sure, unsure = [], [], []
    for name in WORKLOADS:
        cells = []
        for where, label in settings:
            found = _below(rows, name, where)
            cells.append(interval(found))
            (sure if found.low is not None and found.low > 0 else unsure).append(f"{name} at {label}")
        body.append([f"{name} ({_seeds(rows, name, 'load')} seeds)", *cells])
    lines = table(["workload", *(label for _, label in settings)], body)
    text = f"The interval lies above zero in {len(sure)} of {len(sure) + len(unsure)} settings"
    return [*lines, "", f"{text}; it does not for {', '.join(unsure)}." if unsure else f"{text}."]


def _settings(rows: Rows) -> list[tuple[dict[str, float], str]]:
    """Numbers of jobs, then loads, with their names; without the default."""
    counts = sorted({row["jobs"] for row in _of(rows, "jobs")})
    loads = sorted({row["load"] for row in _of(rows, "load")})
    return [
        *((_DEFAULT | {"jobs": n}, f"{n:g} jobs") for n in counts),
        *((_DEFAULT | {"load": x}, f"load {x:g}") for x in loads),
    ]


def _below(rows: Rows, name: str, where: Mapping[str, float]) -> Interval:
    """By how much ours is below LLMSched on a workload, on the ``eval`` split."""
    here = [row for row in rows if row["part"] != "ideas"]
    return below(here, OURS, FULL, **{"scenario": name, **where})


def _seeds(rows: Rows, name: str, part: str) -> int:
    """Number of seeds of a workload in a part."""
    return len({row["seed"] for row in rows if row["part"] == part and row["scenario"] == name})


def _ideas(rows: Rows) -> list[str]:
    if not rows:
        return ["Not measured with these weights: `python baselines/evaluate_uncertainty_gnn.py --part ideas` does."]
    names = [name for name in WORKLOADS if any(row["scenario"] == name for row in rows)]
    policies = list(dict.fromkeys(row["policy"] for row in rows if row["policy"] != FULL))
    seeds = {name: len(per_seed(rows, scenario=name, policy=FULL)) for name in names}
    body = [
        [f"`{policy}`", *(interval(below(rows, policy, FULL, scenario=name)) for name in names)] for policy in policies
    ]
    return table(["below llmsched by", *(f"{name} ({seeds[name]} seeds)" for name in names)], body)


def _losses(losses: Rows) -> list[str]:
    runs = list(dict.fromkeys(row["part"] for row in losses))
    apps = list(dict.fromkeys(row["application"] for row in losses))
    found = {(row["part"], row["application"]): row["quantiles"] for row in losses}
    body = [[run.replace("_", " "), *(f"{found[run, app]:.3f}" for app in apps)] for run in runs]
    return table(["", *(app.replace("_", " ") for app in apps)], body)


def _origin(facts: Mapping[str, Any]) -> list[str]:
    body = [[part, f"`{fact['commit']}`", f"`{fact['weights'][:12]}`"] for part, fact in facts.items()]
    return table(["part", "commit", "weights"], body)


def draw(rows: Rows) -> bytes:
    """Return a PNG: by how much mean JCT is below LLMSched's in every setting, a panel per workload."""
    from matplotlib.figure import Figure

    settings = [(_DEFAULT, "300 jobs, load 0.9"), *_settings(rows)]
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    panels = figure.subplots(1, len(WORKLOADS), sharey=True)
    for axes, name in zip(panels, WORKLOADS, strict=True):
        for position, (where, _) in enumerate(settings):
            _bar(axes, position, _below(rows, name, where))
        axes.axvline(0, color="black", linewidth=1)
        axes.set_title(f"{name} ({_seeds(rows, name, 'workloads')} and {_seeds(rows, name, 'load')} seeds)")
        axes.set_xlabel("mean JCT below LLMSched's [%]")
    panels[0].set_yticks(range(len(settings)), [label for _, label in settings])
    panels[0].invert_yaxis()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def _bar(axes: Axes, position: int, found: Interval) -> None:
    """A reduction with its interval; hollow where that holds zero."""
    colour = "C2" if found.mid > 0 else "C3"
    axes.barh(position, found.mid, color=colour, alpha=0.6 if found.excludes_zero else 0.2)
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [position, position], color="black", linewidth=1.2)
