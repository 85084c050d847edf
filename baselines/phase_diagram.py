"""What looking first is worth, by how much there is to learn and how busy the cluster is; fills in docs/scenarios.md.

    python baselines/phase_diagram.py [--seeds N] [--workers N] [-o FOLDER]
    python baselines/phase_diagram.py --report           # the table and the picture again from the frozen results

The jobs are those of the scenario `probe`, in which a short first stage tells short jobs from long ones; long ones take
`spread` times as much. LLMSched that explores whenever it can, and a Gittins index, each against LLMSched that never
explores, which ranks by posterior means alone. Results are frozen in baselines/reference/phase_diagram.csv, the picture
is docs/figures/phase_diagram.png.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from campaign import commits, freeze, run_cells, thaw
from claims import per_seed
from grid import Cell
from page_tables import fill, table

from llmsched_gym.cli.console import EpisodeProgress, note
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.statistics import Interval, relative
from llmsched_gym.evaluation.store import write_text
from llmsched_gym.pictures import new_figure
from llmsched_gym.profiler.fit import fit_profile
from llmsched_gym.profiler.store import save_profile
from llmsched_gym.scenario import load_scenario
from llmsched_gym.training import commit
from llmsched_gym.workloads.applications.probe import KNOWN_NAME, NAME, SPREADS, USUAL_SPREAD
from llmsched_gym.workloads.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT: Final = Path(__file__).resolve().parents[1]
FROZEN: Final = ROOT / "baselines" / "reference" / "phase_diagram.csv"
PAGE: Final = ROOT / "docs" / "scenarios.md"
PICTURE: Final = ROOT / "docs" / "figures" / "phase_diagram.png"

JOBS: Final = 80
SEEDS: Final = 30
LOADS: Final = (0.6, 0.9, 1.2, 1.5, 3.0, 20.0)
"""Offered work over capacity; at the last all jobs are there at once."""
ALL_SPREADS: Final = tuple(sorted((*SPREADS, USUAL_SPREAD)))
BASE: Final = "llmsched?epsilon=0.0"
SHOWN: Final = {"llmsched?epsilon=1.0&interval=0.9": "LLMSched that always explores", "gittins": "Gittins index"}
"""With its usual interval of 0.3 LLMSched finds no jobs here whose remaining times overlap, and explores nothing."""

Rows = Sequence[Mapping[str, Any]]


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds of the eval split; default: {SEEDS}")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("--report", action="store_true", help="only the table and the picture, from what is frozen")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/phase_diagram"), metavar="FOLDER")
    arguments = parser.parse_args(argv)
    source = commit()
    try:
        if not arguments.report:
            cells = make_cells(arguments.output, arguments.seeds)
            with EpisodeProgress() as progress:
                freeze(FROZEN, run_cells(cells, arguments.output, arguments.workers, progress), source)
            note(f"results are frozen in {FROZEN}")
        rows = thaw(FROZEN)
        image = io.BytesIO()
        draw(rows).savefig(image, format="png", dpi=110, metadata={"Software": None})
        write_atomic(PICTURE, image.getvalue())
        page = fill(PAGE.read_text(encoding="utf-8"), {"phase_diagram": partial(phase_table, rows)})
        write_text(PAGE, page)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def make_cells(folder: Path, seeds: int) -> list[Cell]:
    """Return the comparisons; profiles of the applications are fitted into the folder, unless they are there.

    Raises:
        InputError: A profile cannot be written.
    """
    scenario = load_scenario(NAME)
    found = []
    for spread in ALL_SPREADS:
        name = NAME if spread == USUAL_SPREAD else f"{NAME}_{spread}"
        profiles = folder / f"spread_{spread}"
        for app in (name, KNOWN_NAME):
            if not (profiles / f"{app}.json").exists():
                profiles.mkdir(parents=True, exist_ok=True)
                save_profile(fit_profile(app), profiles / f"{app}.json")
        shares = {name: scenario.applications[NAME], KNOWN_NAME: scenario.applications[KNOWN_NAME]}
        for load in LOADS:
            chosen = scenario.model_copy(update={"applications": shares}).replaced(jobs=JOBS, load=load)
            setting = replace(Setting.make(chosen), profiler=str(profiles))
            found.append(Cell("spread", str(spread), f"{load:g}", setting, (BASE, *SHOWN), tuple(range(seeds))))
    return found


def worth(rows: Rows, policy: str, spread: int, load: float) -> Interval:
    """Return a policy's mean JCT over that of LLMSched that never explores, geometric mean over the seeds."""
    here = [row for row in rows if row["factor"] == str(spread) and row["value"] == f"{load:g}"]
    return relative(per_seed(here, policy=policy), per_seed(here, policy=BASE))


def phase_table(rows: Rows) -> Iterable[str]:
    """Yield the lines of the table."""
    body = [
        (SHOWN[policy], str(spread), *(_cell(worth(rows, policy, spread, load)) for load in LOADS))
        for policy in SHOWN
        for spread in ALL_SPREADS
    ]
    yield from table(("mean JCT over never exploring", "spread", *(f"load {load:g}" for load in LOADS)), body)
    yield ""
    seeds = len({row["seed"] for row in rows})
    made = f"*`python baselines/phase_diagram.py`, commit `{commits(FROZEN.parent)[FROZEN.name]}`.*"
    yield f"{JOBS} jobs, {seeds} seeds. {made}"


def _cell(found: Interval) -> str:
    return f"{found.mid:.2f} [{found.low:.2f}, {found.high:.2f}]"


def draw(rows: Rows) -> Figure:
    """Return the diagram: a panel per policy, spread over load; what cannot be told from 1 is in brackets."""
    figure = new_figure(10.5, 4.2)
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    for axes, (policy, label) in zip(panels, SHOWN.items(), strict=True):
        found = [[worth(rows, policy, spread, load) for load in LOADS] for spread in ALL_SPREADS]
        values = np.log2([[one.mid for one in line] for line in found])
        axes.imshow(values, cmap="RdBu_r", vmin=-0.6, vmax=0.6, origin="lower", aspect="auto")
        for y, line in enumerate(found):
            for x, one in enumerate(line):
                same = one.low is None or one.high is None or one.low <= 1.0 <= one.high
                text = f"{100 * (one.mid - 1):+.0f} %"
                axes.text(x, y, f"({text})" if same else text, ha="center", va="center", fontsize=9)
        axes.set_xticks(range(len(LOADS)), [*(f"{load:g}" for load in LOADS[:-1]), "all at once"])
        axes.set_yticks(range(len(ALL_SPREADS)), [f"×{spread}" for spread in ALL_SPREADS])
        axes.set_xlabel("load: offered work over capacity")
        axes.set_title(label, fontsize=11)
    panels[0].set_ylabel("work of long jobs over short ones")
    figure.suptitle("Mean JCT against LLMSched that never explores, made-up jobs of two kinds", fontsize=12)
    figure.text(
        0.5, 0.01, f"{JOBS} jobs, 30 seeds; in brackets: cannot be told from no difference", ha="center", fontsize=9
    )
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


if __name__ == "__main__":
    sys.exit(main())
