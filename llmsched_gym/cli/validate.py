"""The verb ``validate``: the same jobs under the same policies on the simulator and on real servers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from llmsched_gym.cli.console import EpisodeProgress, print_json, print_table, say
from llmsched_gym.cli.flags import parse_names
from llmsched_gym.cli.options import Jobs, Json, Load, Output, Repeats, Seed, TimeScale
from llmsched_gym.cli.real_servers import needs_vllm_extra, parse_urls

if TYPE_CHECKING:
    from llmsched_gym.evaluation.setting import Setting


@dataclass(frozen=True)
class Validate:
    """Run the same jobs on the simulator and on real vLLM servers, and say how well they agree.

    The jobs are those of the eval split; calibration has seen only the train split. Every finished run is kept in the
    output folder: a validation that was interrupted goes on where it stopped when the same command is given again. The
    folder then holds summary.json, validation.png and validation.pdf.

    Attributes:
        server: URLs of the servers, separated by commas: one per LLM executor.
        profile: Their latency profile, as calibrate wrote it: name or file.
        scenario: Scenario name or YAML file; its LLM executors are replaced by the servers.
        policies: Policies separated by commas.
        jobs: Number of jobs; default: the scenario's.
        load: Offered work over capacity; default: the scenario's.
        seed: Seed of the jobs.
        repeats: Runs of each policy on the servers.
        time_scale: Arrivals and regular tasks are that many times as fast, on both backends. LLM tasks are not.
        stream: Stream replies, so that running tokens reach the observation.
        output: Folder for the results; default: results/validation.
        as_json: Print one JSON object.
    """

    writes: ClassVar = ("summary.json", "validation.png", "setting.json")

    server: Annotated[str, tyro.conf.arg(metavar="URL[,URL]")]
    profile: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")]
    scenario: str = "mixed"
    policies: str = "fcfs,fair,srtf,llmsched"
    jobs: Jobs = None
    load: Load = None
    seed: Seed = 0
    repeats: Repeats = 3
    time_scale: TimeScale = 1.0
    stream: bool = False
    output: Output = None
    as_json: Json = False

    def run(self) -> int:
        """Run everything, write and show what came of it."""
        urls = parse_urls(self.server)
        policies = parse_names("--policies", self.policies)
        from llmsched_gym.evaluation.runner import find_contestants
        from llmsched_gym.evaluation.store import write_json

        find_contestants(policies, served=True)
        with needs_vllm_extra():
            from llmsched_gym.backends.vllm.options import ServedOptions
            from llmsched_gym.envs.serving import Serving
        setting = self._setting(len(urls))
        from llmsched_gym.evaluation.agreement import agreement
        from llmsched_gym.evaluation.validation import validate
        from llmsched_gym.evaluation.validation_figure import validation_figure

        folder = self.output or Path("results/validation")
        serving = Serving(ServedOptions.make(self.server, stream=self.stream), setting.scenario.cluster)
        try:
            with EpisodeProgress("runs") as progress:
                validation = validate(setting, policies, self.seed, self.repeats, serving, folder, progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"finished runs are kept in {folder}; the same command goes on from there"
            ) from None
        finally:
            serving.close()
        content = {
            "scenario": setting.name,
            "seed": self.seed,
            "load": setting.load,
            "time_scale": self.time_scale,
            "workload_digest": validation.workload.digest,
            "latency_profile": self.profile,
            **agreement(validation),
        }
        write_json(folder / "summary.json", content)
        validation_figure(validation, policies[0], folder / "validation.png", f"{_title(content)}, seed {self.seed}")
        if self.as_json:
            print_json(content)
        else:
            _print(content)
            say(f"summary.json, validation.png and validation.pdf: {folder}")
        return 0

    def _setting(self, count: int) -> Setting:
        from llmsched_gym.calibration.server import limits_of, served_cluster
        from llmsched_gym.cluster.latency import load_profile
        from llmsched_gym.evaluation.setting import Setting
        from llmsched_gym.scenario import load_scenario

        limits = limits_of(load_profile(self.profile))
        scenario = load_scenario(self.scenario)
        cluster = served_cluster(scenario, limits, count, self.profile)
        return Setting.make(scenario, self.jobs, self.load, cluster=cluster, time_scale=self.time_scale)


def _title(content: dict[str, Any]) -> str:
    """Say what was run."""
    load = "" if content["load"] is None else f" at load {content['load']:g}"
    title = f"{content['scenario']}: {content['jobs']} jobs, {content['requests']} requests{load}"
    if content["time_scale"] != 1.0:
        title += f", arrivals and regular tasks {content['time_scale']:g} times as fast"
    return title


def _print(content: dict[str, Any]) -> None:
    columns = {
        "mean JCT simulated s": "simulated_mean_jct_s",
        "error %": "mean_jct_error_pct",
        "noise %": "noise_pct",
        "job MAPE %": "job_mape_pct",
        "job bias %": "job_bias_pct",
        "job noise %": "job_noise_pct",
        "request MAPE %": "request_mape_pct",
        "request bias %": "request_bias_pct",
    }
    table = []
    for policy, row in content["policies"].items():
        served = sorted(row["served_mean_jct_s"])
        middle = (served[(len(served) - 1) // 2] + served[len(served) // 2]) / 2
        table.append((policy, middle, *(row[name] for name in columns.values())))
    print_table(_title(content), ("policy", "mean JCT on vLLM s", *columns), table)
    order, left = content["ranking"], content["residual"]
    rank = "-" if order["spearman"] is None else f"{order['spearman']:.2f}"
    say(f"order on vLLM: {', '.join(order['order_served'])}; simulated: {', '.join(order['order_simulated'])}")
    say(
        f"rank correlation {rank}; of {order['pairs']} pairs of policies that differ by more than two identical runs, "
        f"{order['agreeing']} are ordered alike"
    )
    say(
        f"with the same dispatches: {left['engine_mape_pct']:.1f} % per request, bias {left['engine_bias_pct']:.1f} %, "
        f"median {left['outside_engine_ms']:.1f} ms more than in the engine"
    )
