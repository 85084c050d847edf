"""The verbs ``workload generate``, ``inspect``, ``convert`` and ``fit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import print_json, print_table, say
from llmsched_gym.cli.options import File, Jobs, Json, Load, Pictures, Rate, RequiredOutput, Seed
from llmsched_gym.errors import InputError

if TYPE_CHECKING:
    from llmsched_gym.workloads.workload import Workload


@dataclass(frozen=True)
class Generate:
    """Draw the jobs of a scenario and write them to a workload file (or a job trace, if the name ends in .json).

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
    """Turn a job trace (.json) into a workload file, or a workload file into a job trace.

    Attributes:
        workload: File to read: job trace (.json) or workload file.
        output: File to write: job trace (.json) or workload file.
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
    from llmsched_gym.workloads.jobtrace import write_job_trace

    (write_job_trace if path.suffix == ".json" else store.save)(workload, path)


def _describe(workload: Workload, path: Path, as_json: bool) -> None:
    from llmsched_gym.workloads.summary import summarize

    rows = summarize(workload)
    seconds = (int(workload.jobs["arrival_ns"][-1]) - int(workload.jobs["arrival_ns"][0])) * 1e-9
    if as_json:
        head = {"file": str(path), "name": workload.name, "digest": workload.digest, "arrivals_s": seconds}
        print_json({**head, "provenance": workload.provenance, "applications": rows})
        return
    names = [name for name in rows[0] if name != "application"]
    columns = ["application", *(name.replace("_mean", "/job").replace("_", " ") for name in names)]
    print_table("", columns, [[row["application"], *(row[name] for name in names)] for row in rows])
    say(f"{path}: {workload.name}, {workload.n_jobs} jobs over {seconds:.1f} s, digest {workload.digest}")
