"""The verbs ``workload generate``, ``inspect``, ``convert``, ``import`` and ``fit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import note, print_json, print_table, say
from llmsched_gym.cli.flags import parse_renames
from llmsched_gym.cli.options import (
    File,
    Jobs,
    Json,
    Load,
    Pictures,
    Range,
    Rate,
    RequiredOutput,
    Seed,
    Text,
    Written,
    optional,
)
from llmsched_gym.errors import InputError

if TYPE_CHECKING:
    from llmsched_gym.workloads.workload import Workload


@dataclass(frozen=True)
class Generate:
    """Draw the jobs of a scenario and write them to a file.

    It is a job trace if its name ends in .json, an OpenTelemetry trace if it ends in .jsonl, else a workload file.

    Attributes:
        output: File to write.
        scenario: Scenario name or YAML file.
        jobs: Number of jobs; default: the scenario's.
        load: Offered work over capacity of the busiest pool of executors; default: the scenario's.
        rate: Jobs per second, instead of a load.
        cluster: YAML file of the cluster that the load is relative to; default: the scenario's.
        split: train, eval or profile; the splits never share a job.
        seed: Seed from 0.
        as_json: Print one JSON object.
    """

    output: RequiredOutput
    scenario: str = "mixed"
    jobs: Jobs = None
    load: Load = None
    rate: Rate = None
    cluster: File = None
    split: str = "train"
    seed: Seed = 0
    as_json: Json = False

    def run(self) -> int:
        """Draw, write and describe the jobs."""
        from llmsched_gym.cluster.spec import load_cluster
        from llmsched_gym.scenario import load_scenario
        from llmsched_gym.workloads.splits import check_split

        scenario = load_scenario(self.scenario).replaced(self.jobs, self.load, self.rate)
        check_split(self.split, "llmsched-gym workload generate")
        cluster = scenario.cluster if self.cluster is None else load_cluster(self.cluster)
        workload = scenario.build(self.split, self.seed, scenario.rate_for(cluster))
        _write(workload, self.output)
        _describe(workload, self.output, self.as_json)
        return 0


@dataclass(frozen=True)
class Inspect:
    """Say what a workload file or job trace holds.

    Attributes:
        workload: Workload file, or job trace (.json).
        as_json: Print one JSON object.
    """

    workload: Annotated[Positional[Path], tyro.conf.arg(metavar="FILE")]
    as_json: Json = False

    def run(self) -> int:
        """Read and describe the jobs."""
        from llmsched_gym.workloads.reading import read_workload

        _describe(read_workload(self.workload), self.workload, self.as_json)
        return 0


@dataclass(frozen=True)
class Convert:
    """Turn a job trace (.json) or a workload file into the other, or into an OpenTelemetry trace.

    Attributes:
        workload: File to read: job trace (.json) or workload file.
        output: File to write: job trace (.json), OpenTelemetry trace (.jsonl) or workload file.
        history: Job trace that schedulers learn historical means from; default: the trace itself.
        as_json: Print one JSON object.
    """

    workload: Annotated[Positional[Path], tyro.conf.arg(metavar="FILE")]
    output: RequiredOutput
    history: File = None
    as_json: Json = False

    def run(self) -> int:
        """Read one file and write the other."""
        from llmsched_gym.workloads.jobtrace import read_job_trace
        from llmsched_gym.workloads.reading import read_workload

        if self.history is None:
            workload = read_workload(self.workload)
        elif self.workload.suffix == ".json":
            workload = read_job_trace(self.workload, self.history)
        else:
            raise InputError("--history", "", str(self.history), "nothing: a workload file has its history inside")
        _write(workload, self.output)
        _describe(workload, self.output, self.as_json)
        return 0


@dataclass(frozen=True)
class Import:
    """Make a workload of recorded agents and workflows, and say what had to be assumed.

    Files are OpenTelemetry traces (OTLP/JSON, JSON lines; generative AI conventions), WfCommons instances (JSON) or
    step logs (CSV, JSON lines), plain or gzip.

    Attributes:
        recordings: Files; together they are one workload.
        output: File to write: job trace (.json), OpenTelemetry trace (.jsonl) or workload file.
        past: File for the earlier runs of each application, for historical means and profiles; default: none is parted.
        past_share: With past: share of the runs that are earlier.
        format: What the files hold: otel, wfcommons or steps; default: told by their content.
        runs: One job of an OpenTelemetry trace: a whole trace, or each outermost agent.
        application: Name of the application that all runs are of; default: as recorded.
        every: Seconds from one arrival to the next; default: as recorded.
        models: Models to ask for instead of those recorded, as gpt-4o=qwen3-32b,*=default (default: any executor).
        as_json: Print one JSON object.
    """

    recordings: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE ...")]
    output: RequiredOutput
    past: Written = None
    past_share: Annotated[float, Range(0, 1, above=True, below=True)] = 0.5
    format: Text = None
    runs: str = "trace"
    application: Text = None
    every: Annotated[float | None, optional("FLOAT"), Range(0, 1e6)] = None
    models: Text = None
    as_json: Json = False

    def run(self) -> int:
        """Read, write and describe the jobs."""
        from llmsched_gym.workloads.importing.workload import Choices, import_workload
        from llmsched_gym.workloads.template import ANY_MODEL

        if self.past is not None and self.past == self.output:
            raise InputError("--past", "", self.past, "another file than --output")
        choices = Choices(
            format=self.format,
            runs=self.runs,
            application=self.application,
            every_s=self.every,
            models=parse_renames("--models", self.models),
            past_share=0.0 if self.past is None else self.past_share,
        )
        found = import_workload(self.recordings, choices)
        if self.past is not None and found.past is not None:
            _write(found.past, self.past)
        _write(found.workload, self.output)
        for line in () if self.as_json else found.assumptions:
            say(f"assumed: {line}")
        _describe(found.workload, self.output, self.as_json, {"assumed": list(found.assumptions)})
        if named := [model for model in found.workload.models if model != ANY_MODEL]:
            note(f"asks for {', '.join(named)}: executors must serve these; with --models '*=default' any may")
        return 0


@dataclass(frozen=True)
class Fit:
    """Fit the facts behind the applications to measured data, and write them as JSON.

    Attributes:
        data: Folder of the measured tables.
        output: Folder for the fitted facts.
        figures: Folder for one picture per application, measured beside generated; default: no pictures.
        as_json: Print one JSON object.
    """

    data: Path
    output: RequiredOutput
    figures: Pictures = None
    as_json: Json = False

    def run(self) -> int:
        """Fit, write, and compare generated jobs with the measured ones."""
        from llmsched_gym.workloads.files import make_folder
        from llmsched_gym.workloads.fitting import FITTED, fit_all
        from llmsched_gym.workloads.fitting.check import check, picture, rows

        written = fit_all(self.data, self.output)
        table = [{"application": name, **row} for name in FITTED for row in rows(check(name, self.data))]
        if self.figures is not None:
            make_folder(self.figures)
            for name in FITTED:
                picture(name, self.data, self.figures / f"facts_{name}.png")
        if self.as_json:
            print_json({"written": [str(path) for path in written], "comparisons": table})
        else:
            columns = ("application", "quantity", "unit", "n_measured", "measured mean", "generated mean", "distance")
            print_table("measured and generated", columns, [[row.get(name) for name in columns] for row in table])
            say(f"wrote {len(written)} files to {self.output}")
        return 0


def _write(workload: Workload, path: Path) -> None:
    if not path.name:
        raise InputError("--output", "", str(path), "a file to write")
    from llmsched_gym.workloads import store
    from llmsched_gym.workloads.importing.otel_exact import write_otel
    from llmsched_gym.workloads.jobtrace import write_job_trace

    {".json": write_job_trace, ".jsonl": write_otel}.get(path.suffix, store.save)(workload, path)


def _describe(workload: Workload, path: Path, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    from llmsched_gym.workloads.summary import summarize

    rows = summarize(workload)
    seconds = (int(workload.jobs["arrival_ns"][-1]) - int(workload.jobs["arrival_ns"][0])) * 1e-9
    if as_json:
        head = {"file": str(path), "name": workload.name, "digest": workload.digest, "arrivals_s": seconds}
        print_json({**head, "provenance": workload.provenance, **(more or {}), "applications": rows})
        return
    names = [name for name in rows[0] if name != "application"]
    columns = ["application", *(name.replace("_mean", "/job").replace("_", " ") for name in names)]
    print_table("", columns, [[row["application"], *(row[name] for name in names)] for row in rows])
    say(f"{path}: {workload.name}, {workload.n_jobs} jobs over {seconds:.1f} s, digest {workload.digest}")
