"""What every policy of a comparison meets: jobs, cluster and load; and the exact code that produces them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np

import llmsched_gym
from llmsched_gym.backends.vllm.options import ServedOptions
from llmsched_gym.cluster.latency import load_profile
from llmsched_gym.cluster.spec import ClusterSpec, load_cluster
from llmsched_gym.envs.arguments import check_fixed_jobs
from llmsched_gym.errors import InputError
from llmsched_gym.numbers import whole_number
from llmsched_gym.scenario import Scenario, load_scenario
from llmsched_gym.user_code.dependencies import dependencies
from llmsched_gym.workloads.arrivals import Trace
from llmsched_gym.workloads.files import read_bytes
from llmsched_gym.workloads.reading import read_workload
from llmsched_gym.workloads.workload import Workload, check_time_scale

_NO_PART_OF_RESULTS: Final = ("cli", "export", "suites", "leaderboard")
"""Packages that no result of an episode depends on."""


@dataclass(frozen=True)
class Setting:
    """One scenario at one load, ready to draw the workload of any seed.

    Attributes:
        scenario: Scenario with number of jobs, load, rate and cluster as asked for.
        workload_file: A fixed workload, or job trace (``.json``), instead of drawn jobs; seeds then only reach the
            policies' own randomness.
        split: Split that jobs are drawn from. Results to be compared with others' are those of "eval"; parameters of
            policies are chosen on "train".
        profiler: Profiles behind the observation, as `SchedulingEnv` takes them.
        soft_evidence: Whether what running stages have received so far is evidence.
        time_scale: Arrivals and regular tasks are that many times as fast; LLM tasks are not.
        serving: Real servers that serve the LLM tasks; None for the simulator. The scenario's cluster then has one LLM
            executor per server.
        repeats: How often every episode is run; real servers never repeat themselves.
    """

    scenario: Scenario
    workload_file: Path | None = None
    split: str = "eval"
    profiler: bool | str = True
    soft_evidence: bool = True
    time_scale: float = 1.0
    serving: ServedOptions | None = None
    repeats: int = 1

    @classmethod
    def make(
        cls,
        scenario: str | Path | Scenario = "mixed",
        jobs: int | None = None,
        load: float | None = None,
        rate: float | None = None,
        cluster: ClusterSpec | str | Path | None = None,
        workload: str | Path | None = None,
        time_scale: float = 1.0,
        serving: ServedOptions | None = None,
        repeats: int = 1,
    ) -> Setting:
        """Put a setting together; None keeps what the scenario says.

        Raises:
            InputError: A value is out of range, a file cannot be read, or the cluster cannot serve the workload.
        """
        given = {"jobs": jobs, "load": load, "rate": rate}
        check_fixed_jobs("workload", workload, given)
        time_scale = check_time_scale(time_scale, "setting")
        chosen = load_scenario(scenario).replaced(**given)
        if cluster is not None:
            chosen = chosen.model_copy(update={"cluster": load_cluster(cluster)})
        if serving is not None:
            served = chosen.cluster.with_llm_executors(len(serving.servers))
            chosen = chosen.model_copy(update={"cluster": served})
        if whole_number(repeats) is None or repeats < 1:
            raise InputError("repeats", "", repeats, "a whole number >= 1")
        if serving is None and repeats != 1:
            raise InputError("repeats", "", repeats, "1: the simulator repeats itself exactly")
        file = None if workload is None else Path(workload)
        setting = cls(chosen, file, time_scale=time_scale, serving=serving, repeats=repeats)
        if setting.workload_file is not None:
            chosen.cluster.check_serves(setting.workload(0))
        return setting

    def workload(self, seed: int) -> Workload:
        """Return the jobs of a seed; the last ones asked for are kept."""
        if self.workload_file is not None:
            return _load(self.workload_file, self.time_scale)
        return _draw(self.scenario.model_dump_json(), self.split, seed, self.time_scale)

    @property
    def name(self) -> str:
        """Name of the scenario, or of the workload file."""
        return self.scenario.name if self.workload_file is None else self.workload_file.stem

    @property
    def n_jobs(self) -> int:
        """Number of jobs per episode."""
        return self.scenario.n_jobs if self.workload_file is None else self.workload(0).n_jobs

    @property
    def fixed(self) -> bool:
        """Whether every seed has the same jobs."""
        return self.workload_file is not None or self.scenario.fixed is not None

    @property
    def load(self) -> float | None:
        """Offered work over capacity; None where the scenario gives a rate or a fixed workload."""
        return self.scenario.load if self.workload_file is None else None

    @property
    def history(self) -> str:
        """Which jobs the historical means, which many schedulers go by, were taken from.

        "profile": jobs of that split. "self": the very jobs that are scheduled, so that such schedulers know more of
        them than they could. "past": past jobs that come with the scenario. "file": records in the job trace, as
        whoever wrote it made them; else the path of the trace of past jobs.
        """
        if not self.fixed:
            return "profile"
        return str(self.workload(0).provenance.get("history", "profile"))

    def realised_rates(self, seeds: Sequence[int]) -> list[float] | None:
        """Return the jobs per second of each seed's window of a trace, from the first arrival to the last.

        None where arrivals are drawn, whose rate is the nominal one but for chance.
        """
        if self.workload_file is not None or not isinstance(self.scenario.arrivals, Trace) or self.n_jobs < 2:
            return None
        last_ns = [max(int(self.workload(seed).jobs["arrival_ns"].max()), 1) for seed in seeds]
        return [(self.n_jobs - 1) * 1e9 / each for each in last_ns]

    def tool_sources(self) -> dict[str, str]:
        """Return, for each stage that has a tool, the digest of the files that the tool depends on."""
        given = {} if self.serving is None else self.serving.tools
        begins = {stage: tool.rpartition(":")[0] for stage, tool in sorted(given.items())}
        return {stage: dependencies([location]).digest for stage, location in begins.items()}

    def describe(self) -> dict[str, Any]:
        """Return everything that results depend on besides policy and seed, JSON-able."""
        arrivals = self.scenario.arrivals
        recorded = {"arrivals_file": _digest(Path(arrivals.path))} if isinstance(arrivals, Trace) else {}
        return recorded | {
            "scenario": self.scenario.model_dump(mode="json"),
            "workload": None if self.workload_file is None else self.workload(0).digest,
            "latency_ps": {name: self._coefficients(name) for name in self.scenario.cluster.latencies},
            "split": self.split,
            "profiler": self.profiler if isinstance(self.profiler, bool) else _files_digest(Path(self.profiler)),
            "soft_evidence": self.soft_evidence,
            "time_scale": self.time_scale,
            "backend": "simulator" if self.serving is None else "vllm",
            "repeats": self.repeats,
            "versions": {
                "llmsched_gym": llmsched_gym.__version__,
                "sources": _package_digest(),
                "numpy": np.__version__,
                "numba": numba.__version__,
            },
        }

    @staticmethod
    def _coefficients(profile: str) -> list[int]:
        found = load_profile(profile)
        own = [found.iteration_ps, found.decode_ps, found.prefill_ps, found.context_ps]
        return [*own, found.attention_ps] if found.attention_ps else own

    @property
    def digest(self) -> str:
        """Short hex digest of `describe`."""
        text = json.dumps(self.describe(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@lru_cache(maxsize=2)
def _draw(scenario: str, split: str, seed: int, time_scale: float) -> Workload:
    return Scenario.model_validate_json(scenario).build(split, seed).scaled(time_scale)


@lru_cache(maxsize=1)
def _load(path: Path, time_scale: float) -> Workload:
    return read_workload(path).scaled(time_scale)


def _digest(file: Path) -> str:
    return hashlib.blake2b(read_bytes(file), digest_size=8).hexdigest()


def _files_digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.glob("*.json")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@lru_cache
def _package_digest() -> str:
    """Digest of the code and shipped data that results can depend on: not how they are shown, gathered or handed in."""
    digest = hashlib.blake2b(digest_size=8)
    package = Path(llmsched_gym.__file__).parent
    for path in sorted(package.rglob("*")):
        inside = path.relative_to(package)
        if path.suffix in (".py", ".json", ".yaml") and inside.parts[0] not in _NO_PART_OF_RESULTS:
            digest.update(inside.as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
