"""The verbs ``profile fit``, ``show`` and ``export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import note, print_json, print_table, say
from llmsched_gym.cli.flags import parse_names
from llmsched_gym.cli.options import MOST_JOBS, Json, Picture, Pictures, Range, RequiredOutput, Seed
from llmsched_gym.cli.overwriting import refuse_overwriting

if TYPE_CHECKING:
    from llmsched_gym.profiler.profile import Profile
    from llmsched_gym.workloads.workload import Workload

_Name = Annotated[Positional[str], tyro.conf.arg(metavar="NAME|FILE")]


@dataclass(frozen=True)
class Fit:
    """Fit the Bayesian networks of applications to finished jobs, and write them as JSON.

    Attributes:
        application: Names of applications, separated by commas; all: those of the workloads, else the benchmark's.
        workload: Workload files or job traces (.json) of finished jobs; default: jobs drawn from the profile split.
        output: Folder for NAME.json; made if it is missing.
        figures: Folder for one picture per application, as PNG and PDF; default: no pictures.
        bins: Most bins of a stage's duration.
        jobs: Number of jobs to draw.
        seed: Seed to draw them with.
        latency: Latency profile that turns tokens into time: name or file.
        as_json: Print one JSON object.
    """

    application: str = "all"
    workload: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...", help_behavior_hint="")] = ()
    output: RequiredOutput = Path("profiles")
    figures: Pictures = None
    bins: Annotated[int, Range(1, 15)] = 6
    jobs: Annotated[int, Range(1, MOST_JOBS)] = 10_000
    seed: Seed = 0
    latency: str = "llama-2-7b-h100"
    as_json: Json = False

    def run(self) -> int:
        """Fit, write and score."""
        from llmsched_gym.profiler.figures import draw_profile
        from llmsched_gym.profiler.fit import doubts, fit_profile
        from llmsched_gym.profiler.store import save_profile
        from llmsched_gym.workloads.files import make_folder
        from llmsched_gym.workloads.reading import read_workload

        workloads = [read_workload(path) for path in self.workload]
        names = self._names(workloads)
        files = {name: self.output / f"{name}.json" for name in names}
        refuse_overwriting("--output", files.values(), {"workload": self.workload, "latency": [Path(self.latency)]})
        profiles = {}
        for name in names:
            past = [workload for workload in workloads if name in {one.name for one in workload.templates}] or workloads
            options = {"bins": self.bins, "jobs": self.jobs, "seed": self.seed, "latency": self.latency}
            profiles[name] = fit_profile(name, past, **options)
        # All or nothing: so far nothing is written.
        for folder in (self.output, *([self.figures] if self.figures else [])):
            make_folder(folder)
        rows = []
        for name, profile in profiles.items():
            save_profile(profile, files[name])
            rows.append({"application": name, "file": str(files[name]), **_summary(profile)})
            if self.figures is not None:
                draw_profile(profile, self.figures / f"profile_{name}.png")
            if found := doubts(profile):
                note(f"warning: {name}: {'; '.join(found)}")
        if self.as_json:
            print_json({"profiles": [row | {"warnings": doubts(profiles[row["application"]])} for row in rows]})
        else:
            print_table("", [column.replace("_", " ") for column in rows[0]], [list(row.values()) for row in rows])
            note("loss: mean −log P(job) in nats, of the network, of independent stages, of the network on other jobs")
        return 0

    def _names(self, workloads: list[Workload]) -> tuple[str, ...]:
        from llmsched_gym.workloads.applications import APPLICATIONS

        if self.application != "all":
            return parse_names("--application", self.application)
        if not workloads:
            return tuple(APPLICATIONS)
        used = {
            workload.templates[app].name: None
            for workload in workloads
            for app in dict.fromkeys(sorted(workload.jobs["app"].tolist()))
        }
        return tuple(used)


@dataclass(frozen=True)
class Show:
    """Show one profile: its variables, their states and parents.

    Attributes:
        profile: Application whose profile comes with the package, or file.
        figure: Picture to write, as PNG and PDF: FILE.png names both; default: none.
        as_json: Print one JSON object.
    """

    profile: _Name
    figure: Picture = None
    as_json: Json = False

    def run(self) -> int:
        """Read, describe, and draw."""
        from llmsched_gym.profiler.figures import draw_profile
        from llmsched_gym.profiler.fit import doubts
        from llmsched_gym.profiler.store import load_profile

        profile = load_profile(self.profile)
        if self.figure is not None:
            draw_profile(profile, self.figure)
        rows, warnings = _describe(profile), doubts(profile)
        if warnings:
            note(f"warning: {'; '.join(warnings)}")
        if self.as_json:
            head = {"application": profile.application, "latency": profile.latency.name, **_summary(profile)}
            print_json(head | {"warnings": warnings, "provenance": profile.provenance, "variables": rows})
            return 0
        print_table(
            "", [name.replace("_", " ") for name in rows[0]], [[_cell(v) for v in row.values()] for row in rows]
        )
        jobs = profile.provenance.get("jobs", "unknown")
        say(f"{profile.application}, fitted to {jobs} jobs at {profile.latency.name}")
        return 0


@dataclass(frozen=True)
class Export:
    """Write one profile in the Bayesian interchange format (BIF), which other tools read.

    Attributes:
        profile: Application whose profile comes with the package, or file.
        output: File to write.
        as_json: Print one JSON object.
    """

    profile: _Name
    output: RequiredOutput
    as_json: Json = False

    def run(self) -> int:
        """Read one file and write the other."""
        from llmsched_gym.profiler.bif import export_bif
        from llmsched_gym.profiler.store import load_profile

        profile = load_profile(self.profile)
        export_bif(profile, self.output)
        if self.as_json:
            print_json({"application": profile.application, "file": str(self.output)})
        else:
            note(f"wrote {self.output}")
        return 0


def _summary(profile: Profile) -> dict[str, Any]:
    loss = profile.provenance.get("log_loss_nats_per_job", {})
    return {
        "jobs": profile.provenance.get("jobs"),
        "variables": len(profile.variables),
        "edges": sum(map(len, profile.parents)),
        "probabilities": sum(table.size for table in profile.tables),
        "loss": loss.get("network"),
        "loss_independent": loss.get("independent"),
        "loss_held_out": loss.get("held_out"),
    }


def _describe(profile: Profile) -> list[dict[str, Any]]:
    """One row per variable; shares and means are those of jobs drawn from the network."""
    from llmsched_gym.profiler.ancestral import shown_states

    drawn = shown_states(profile)
    rows = []
    for column, (variable, parents) in enumerate(zip(profile.variables, profile.parents, strict=True)):
        present = drawn[:, column] >= variable.absent
        seconds = variable.means_s[drawn[present, column]]
        rows.append(
            {
                "stage": variable.name,
                "kind": variable.kind.name.lower(),
                "states": variable.states,
                "present": round(float(present.mean()), 3),
                "mean_s": round(float(seconds.mean()), 4) if len(seconds) else None,
                "edges": [round(edge, 4) for edge in variable.edges_s[1:-1].tolist()],
                "parents": [profile.variables[parent].name for parent in parents],
            }
        )
    return rows


def _cell(value: Any) -> Any:
    return (
        ", ".join(f"{one:.3g}" if isinstance(one, float) else one for one in value)
        if isinstance(value, list)
        else value
    )
