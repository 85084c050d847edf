"""Calibration: the latency profile of running servers, from probes at the iterations that a scenario makes them run.

Probes cover batches, contexts and prompt chunks as far as the scenario's requests reach; several rounds of them are
spread over time, and the median of each counts, so that a busy moment of the host spoils no point. The fit is that of
`latency_fit`: on the iterations that an engine visits while it serves the scenario under first-come first-served.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.replay import RequestLog
from llmsched_gym.backends.simulator import loop
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.backends.vllm.client import open_session
from llmsched_gym.backends.vllm.health import ServerFacts, read_samples, server_facts
from llmsched_gym.calibration.latency_fit import fit_to_table
from llmsched_gym.calibration.latency_table import IterationTable, design, least_squares
from llmsched_gym.calibration.probes import Probe, Prober, context_near
from llmsched_gym.calibration.readings import Progress, Readings, summarise, take_readings
from llmsched_gym.cluster.executors import LLMExecutors
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.cluster.spec import ClusterSpec
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.scenario import Scenario
from llmsched_gym.workloads.contents import COLUMNS
from llmsched_gym.workloads.workload import Workload

_BATCHES: Final = 6
"""Most batch sizes that are probed."""

_KV_SHARE: Final = 0.9
"""Share of the KV cache that the sequences of a probe may need."""

_VISITED_JOBS: Final = 60
"""Jobs whose service tells which iterations are visited."""

_NOISY_PCT: Final = 10.0
"""Spread of repeated readings from which a profile warns."""

_MARGIN: Final = (0.9, 2.5)
"""Time to read the weights, relative to their size over the memory bandwidth, that is plausible. Serving engines on
GPUs come to 1.06 to 1.47."""


@dataclass(frozen=True)
class EngineLimits:
    """What a server's engine was started with; the first two it tells nobody.

    Attributes:
        max_num_seqs: Most running sequences.
        max_num_batched_tokens: Most tokens per iteration.
        max_model_len: Longest prompt and output together.
        block_size: Tokens per KV block.
        kv_tokens: Capacity of the KV cache in tokens.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    block_size: int
    kv_tokens: int

    def executors(self, count: int, latency: str, model: str) -> LLMExecutors:
        """Return the group of `count` such servers as the simulator knows it."""
        return LLMExecutors(
            kind="llm",
            count=count,
            latency=latency,
            model=model,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            kv_tokens=self.kv_tokens,
            block_size=self.block_size,
        )


def limits_of(profile: LatencyProfile) -> EngineLimits:
    """Return the limits of the servers that a profile was calibrated on.

    Raises:
        InputError: It does not say.
    """
    given = profile.provenance.get("limits")
    names = [field.name for field in fields(EngineLimits)]
    if not isinstance(given, Mapping) or not all(type(given.get(name)) is int for name in names):
        allowed = "a profile that llmsched-gym calibrate wrote: it knows the servers' limits"
        raise InputError(f"latency profile {profile.name}", "provenance.limits", given, allowed)
    return EngineLimits(**{name: given[name] for name in names})


def plan_probes(workload: Workload, limits: EngineLimits) -> list[Probe]:
    """Choose the points to measure, by the lengths of a workload's requests.

    Returns:
        Probes; the first ones are enough to tell the four coefficients apart.
    """
    tasks = workload.tasks[(workload.tasks["model"] >= 0) & (workload.stages["present"][workload.tasks["stage"]] == 1)]
    if not len(tasks):
        raise InputError(f"workload {workload.name}", "tasks", Plain("no LLM task"), "some to calibrate for")
    prompt, output = tasks["prompt_tokens"].astype(float), tasks["output_tokens"].astype(float)
    cached = np.where(tasks["job_prefix"] >= 0, tasks["job_prefix_tokens"], 0).astype(float)
    cached = np.maximum(cached, np.where(tasks["app_prefix"] >= 0, tasks["app_prefix_tokens"], 0))
    most = limits.max_num_seqs
    batches = sorted({round(size) for size in np.geomspace(1, most, min(most, _BATCHES))})
    contexts = np.quantile(prompt + output / 2, (0.02, 0.5, 0.95))
    fresh = np.quantile(np.maximum(prompt - cached, 1.0), (0.1, 0.5, 0.9))
    chunks = sorted({16, *(max(8, min(round(size), limits.max_num_batched_tokens - most)) for size in fresh)})
    prefixes = sorted(
        {0, *(context_near(size, limits.max_model_len // 2) - 1 for size in np.quantile(cached, (0.5, 0.9)))}
    )
    decodes: list[Probe] = []
    for size, tokens in zip(contexts, (128, 64, 32), strict=True):
        for batch in batches:
            room = min(limits.max_model_len, int(_KV_SHARE * limits.kv_tokens) // batch) - tokens
            probe = Probe(batch, context_near(size, room), output_tokens=tokens)
            if probe.point[:3] not in [other.point[:3] for other in decodes]:
                decodes.append(probe)
    prefills = [Probe(0, 0, chunk, prefix) for prefix in prefixes for chunk in chunks]
    beside = [Probe(max(1, most // part), decodes[0].decode_context, chunks[-1], prefixes[-1]) for part in (2, 4)]
    first = [decodes[0], prefills[-1], prefills[0], *decodes[-len(batches) :], decodes[len(batches) - 1]]
    return list(dict.fromkeys([*first, *prefills, *decodes, *beside]))


def fit_server(
    table: IterationTable,
    scenario: Scenario,
    limits: EngineLimits,
    count: int,
    name: str,
    provenance: Mapping[str, Any],
) -> LatencyProfile:
    """Fit a profile on the iterations that servers visit under a scenario.

    Args:
        table: Measured iteration times.
        scenario: Jobs and load; its LLM executors are replaced by the servers.
        limits: What each server can hold.
        count: Number of servers.
        name: Name of the profile.
        provenance: Goes into the profile.
    """
    rough = LatencyProfile.from_ms(name, _coefficients(table))
    log = visiting_log(scenario, limits, count, rough)
    config = EngineConfig(
        rough,
        limits.max_num_seqs,
        limits.max_num_batched_tokens,
        limits.kv_tokens // limits.block_size,
        limits.block_size,
        0.0,
    )
    return fit_to_table(table, log, config, name, dict(provenance), attention=True)


def _coefficients(table: IterationTable) -> tuple[float, ...]:
    a, b, c, d = least_squares(design(table.points), table.times_ms, np.ones(len(table.points)))
    return max(float(a), 1e-6), float(b), float(c), float(d)


def visiting_log(scenario: Scenario, limits: EngineLimits, count: int, profile: LatencyProfile) -> RequestLog:
    """Return what the first of `count` servers is asked for while a scenario's training jobs are served by arrival."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rough.json"
        profile.save(path)
        cluster = served_cluster(scenario, limits, count, str(path))
        smaller = scenario.replaced(**_fewer(scenario))
        workload = smaller.build("train", 0, smaller.rate_for(cluster))
        cluster.check_serves(workload)
        state, simulation = loop.start(workload, cluster)
    loop.run_fcfs(state, simulation)
    first = int(np.flatnonzero(state.executors["engine"] == 0)[0])
    rows: NDArray[Any] = state.tasks[
        (state.tasks["executor"] == first) & (state.tasks["start_ns"] < state.clock["now_ns"])
    ]
    rows = rows[np.argsort(rows["start_ns"], kind="stable")]
    contents = np.stack([rows[column].astype(np.int64) for column in COLUMNS], axis=1)
    start_ns, prompt, output = (
        rows[column].astype(np.int64) for column in ("start_ns", "prompt_tokens", "output_tokens")
    )
    return RequestLog([str(index) for index in range(len(rows))], start_ns, prompt, output, contents)


def served_cluster(scenario: Scenario, limits: EngineLimits, count: int, latency: str) -> ClusterSpec:
    """Return a scenario's cluster with its LLM executors replaced by `count` servers.

    Raises:
        InputError: The scenario's LLM executors serve several models.
    """
    models = {group.model for group in scenario.cluster.llm}
    if len(models) != 1:
        allowed = "one model: the servers are replicas of each other"
        raise InputError(
            f"scenario {scenario.name}", "cluster.executors.model", ", ".join(sorted(models)) or Plain("none"), allowed
        )
    regular = [group for group in scenario.cluster.executors if group.kind == "regular"]
    group = limits.executors(count, latency, models.pop())
    return scenario.cluster.model_copy(update={"executors": (group, *regular)})


def _fewer(scenario: Scenario) -> dict[str, int]:
    return {} if scenario.fixed is not None else {"jobs": min(scenario.jobs, _VISITED_JOBS)}


@dataclass(frozen=True)
class Hardware:
    """What is known of the device, to check a profile against; None: not known.

    Attributes:
        weights_gb: Size of the model's weights in GB (10^9 bytes).
        bandwidth_gb_s: Memory bandwidth in GB/s.
    """

    weights_gb: float | None = None
    bandwidth_gb_s: float | None = None


def doubts(profile: LatencyProfile, spread: Mapping[str, float], hardware: Hardware) -> list[str]:
    """Say what is not plausible about a calibrated profile, beside what its fit warns of."""
    found: list[str] = []
    a, b, c, _ = profile.coefficients_ms
    if spread["noise_pct"] > _NOISY_PCT:
        found.append(f"repeated readings differ by {spread['noise_pct']:.0f} %: the host was busy; measure again")
    if c > a + b:
        found.append("a prompt token costs more than a whole iteration of one sequence")
    if hardware.weights_gb and hardware.bandwidth_gb_s:
        ratio = a / (1e3 * hardware.weights_gb / hardware.bandwidth_gb_s)
        low, high = _MARGIN
        if not low <= ratio <= high:
            found.append(f"a is {ratio:.2f} times the time to read the weights; {low:g} to {high:g} would be plausible")
    return found


@dataclass(frozen=True)
class Calibration:
    """What a calibration is asked to do.

    Attributes:
        urls: Servers, replicas of each other; probed all at once.
        scenario: Whose requests tell what to measure and how to weigh it.
        name: Name of the profile.
        max_num_seqs: Most running sequences of each server.
        max_num_batched_tokens: Most tokens per iteration of each server.
        rounds: How often everything is measured.
        budget_s: No measurement starts later than this.
        hardware: What is known of the device.
    """

    urls: tuple[str, ...]
    scenario: Scenario
    name: str
    max_num_seqs: int
    max_num_batched_tokens: int
    rounds: int = 5
    budget_s: float = 300.0
    hardware: Hardware = Hardware()


def calibrate(asked: Calibration, readings_file: Path, progress: Progress) -> LatencyProfile:
    """Measure servers and fit a latency profile to them.

    Args:
        asked: What to do.
        readings_file: Keeps the readings; the same calibration goes on from there.
        progress: Told about every reading.

    Returns:
        The profile; its provenance holds fit error, engine version, limits, host, and what is doubtful.

    Raises:
        InputError: A server does not answer, or is not like the others; the file is of another calibration.
        RunError: A server failed, or the time was too short.
    """
    return asyncio.run(_calibrate(asked, readings_file, progress))


async def _calibrate(asked: Calibration, readings_file: Path, progress: Progress) -> LatencyProfile:
    async with open_session() as session:
        facts, limits = await look_at(session, asked.urls, asked.max_num_seqs, asked.max_num_batched_tokens)
        workload = asked.scenario.replaced(**_fewer(asked.scenario)).build("train", 0)
        probes = plan_probes(workload, limits)
        setting = {
            "servers": [asdict(fact) for fact in facts],
            "limits": asdict(limits),
            "probes": [asdict(probe) for probe in probes],
        }
        readings = Readings(readings_file, setting)
        run = f"calibration {time.time_ns()}"
        probers = [Prober(session, fact.url, fact.model, run) for fact in facts]
        await take_readings(probers, probes, readings, rounds=asked.rounds, budget_s=asked.budget_s, progress=progress)
    table, spread = summarise(probes, readings.rows)
    provenance = {
        "model": facts[0].model,
        "engine": f"vLLM {facts[0].version}".rstrip(),
        "servers": len(facts),
        "limits": asdict(limits),
        "host": host(),
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "scenario": asked.scenario.name,
        "readings": len(readings.rows),
        **spread,
    }
    profile = fit_server(table, asked.scenario, limits, len(facts), asked.name, provenance)
    fit = profile.provenance["fit"]
    warnings = [*fit["warnings"], *doubts(profile, spread, asked.hardware)]
    return replace(profile, provenance={**profile.provenance, "fit": {**fit, "warnings": warnings}})


def served_model(url: str) -> str:
    """Return the name of the model that a server serves.

    Raises:
        InputError: It does not answer.
    """

    async def ask() -> str:
        async with open_session() as session:
            return (await server_facts(session, url)).model

    return asyncio.run(ask())


async def look_at(
    session: aiohttp.ClientSession, urls: Sequence[str], max_num_seqs: int, max_num_batched_tokens: int
) -> tuple[list[ServerFacts], EngineLimits]:
    """Ask servers what they are.

    Raises:
        InputError: One does not answer, serves something else than the first, or has its prefix cache off.
        RunError: A server tells no metrics.
    """
    facts = [await server_facts(session, url) for url in urls]
    found: list[EngineLimits] = []
    for fact in facts:
        samples = await read_samples(session, fact.url)
        labels = next((sample.labels for sample in samples if sample.name == "vllm:cache_config_info"), {})
        blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
        if not (blocks.isdecimal() and size.isdecimal()):
            raise InputError("server", fact.url, Plain("no vllm:cache_config_info at /metrics"), "a vLLM V1 server")
        if labels.get("enable_prefix_caching") == "False":
            allowed = "prefix caching on: calibration sets contexts with it; the coefficients hold without it, too"
            raise InputError("server", fact.url, Plain("prefix caching off"), allowed)
        kv_tokens = (int(blocks) - 1) * int(size)  # vLLM keeps one block for padding
        longest = fact.max_model_len or kv_tokens
        found.append(EngineLimits(max_num_seqs, max_num_batched_tokens, longest, int(size), kv_tokens))
    for fact, limits in zip(facts, found, strict=True):
        here, there = (fact.model, fact.version, limits), (facts[0].model, facts[0].version, found[0])
        if here != there:
            raise InputError("server", fact.url, str(here), f"{there}, as {facts[0].url}: replicas of each other")
    return facts, found[0]


def host() -> dict[str, Any]:
    """Describe the machine that measures, in words without names of users or machines."""
    return {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform(terse=True)}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
