"""The verbs ``latency fit``, ``show`` and ``list``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import note, print_json, print_table
from llmsched_gym.cli.options import (
    BatchedTokens,
    BlockSize,
    File,
    Json,
    Picture,
    Range,
    RequiredOutput,
    Text,
    Watermark,
    optional,
)
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.pictures import check_name

if TYPE_CHECKING:
    from llmsched_gym.backends.replay import RequestLog
    from llmsched_gym.backends.simulator.state import EngineConfig
    from llmsched_gym.calibration.log_settings import Setting
    from llmsched_gym.cluster.latency import LatencyProfile


@dataclass(frozen=True)
class Fit:
    """Fit a latency profile to a table of iteration times, to what a server's request log measured, or to both.

    A fit to a table weighs the iterations that an engine visits while it serves the requests. With --log the profile,
    of the table or one to start from, is then changed until a replay takes as long as the log says, on a part of it;
    the error is told on the rest.

    Attributes:
        table: CSV file of iteration times.
        requests: CSV file of requests: arrival_s, prompt_tokens, output_tokens; no measured time is looked at.
        log: A server's request log: as requests, with finish_s and better first_token_s, too.
        start: Latency profile, by name or file, to start from where there is a log and no table.
        share: Share of the log to fit to.
        part: Requests spread evenly over the log, or the first by arrival.
        output: Profile to write (JSON).
        name: Name of the profile; default: the output's.
        figure: Picture of replayed against measured times to write, as PNG and PDF: FILE.png names both.
        max_num_seqs: Most running sequences; default: 128, or what a log shows.
        max_num_batched_tokens: Most tokens per iteration.
        kv_blocks: KV cache capacity in blocks; default: no limit, or what a log shows.
        block_size: Tokens per block.
        watermark: Share of the blocks that admissions leave free beside running sequences.
        async_scheduling: Whether the server that wrote the log schedules asynchronously; default: what it shows.
        as_json: Print one JSON object.
    """

    output: RequiredOutput
    table: Annotated[Positional[Path | None], tyro.conf.arg(metavar="[TABLE.csv]", help_behavior_hint="")] = None
    requests: File = None
    log: File = None
    start: Text = None
    share: Annotated[float, Range(0, 1, above=True, below=True)] = 0.1
    part: Literal["spread", "first"] = "spread"
    name: Text = None
    figure: Picture = None
    max_num_seqs: Annotated[int | None, optional("INT"), Range(1, 2**20)] = None
    max_num_batched_tokens: BatchedTokens = 2048
    kv_blocks: Annotated[int | None, optional("INT"), Range(1, 2**31 - 1)] = None
    block_size: BlockSize = 16
    watermark: Watermark = 0.0
    async_scheduling: Annotated[Literal["on", "off"] | None, optional("{on,off}")] = None
    as_json: Json = False

    def run(self) -> int:
        """Fit, write, and show the profile."""
        self._check()
        profile, doubts = self._of_table(self.requests) if self.requests is not None else self._of_log()
        profile.save(self.output)
        if doubts:
            note(f"warning: {'; '.join(doubts)}")
        _show(profile, self.as_json)
        if not self.as_json:
            note(f"wrote {self.output}")
        return 0

    def _check(self) -> None:
        """Refuse combinations that leave open what is meant."""
        verb = "llmsched-gym latency fit"
        if (self.requests is None) == (self.log is None):
            given = Plain("neither --requests nor --log" if self.log is None else "--requests and --log")
            raise InputError(verb, "", given, "--log LOG with measured times, or TABLE.csv --requests LOG.csv")
        if (self.table is None) == (self.start is None):
            given = Plain("neither a table nor --start" if self.table is None else "a table and --start")
            raise InputError(verb, "", given, "TABLE.csv, or with --log another profile to --start from")
        for name, value in (("--start", self.start), ("--figure", self.figure)):
            if self.log is None and value is not None:
                raise InputError(verb, name, value, "--log beside it: without one no measured time is looked at")
        if self.figure is not None:
            check_name(self.figure)

    def _of_table(self, requests: Path) -> tuple[LatencyProfile, list[str]]:
        from llmsched_gym.calibration.latency_fit import fit_profile

        assert self.table is not None  # by _check
        profile = fit_profile(self.table, requests, self._engine(), self.name or self.output.stem)
        return profile, profile.provenance["fit"]["warnings"]

    def _of_log(self) -> tuple[LatencyProfile, list[str]]:
        """Fit to the log, from the table as an engine with the settings that are found in the log visits it."""
        from llmsched_gym.calibration.log_fit import Plan, fit_to_log
        from llmsched_gym.calibration.log_reading import read_measured

        assert self.log is not None  # by _check
        log, left_out = read_measured(self.log)
        if left_out:
            note(f"{left_out} requests without prompt or output are left out")
        plan = Plan(self.share, self.part, self.table is not None, self._free())
        config = self._engine()
        config = replace(config, profile=self._start(log.requests, config))
        fit = fit_to_log(log, config, plan, self.log)
        settled = replace(fit.config, profile=config.profile)
        if settled != config and self.table is not None:
            settled = replace(settled, profile=self._start(log.requests, settled))
            fit = fit_to_log(log, settled, plan, self.log)
        profile = fit.config.profile
        for line in _sentences(profile.provenance["log_fit"]):
            note(line)
        if self.figure is not None:
            from llmsched_gym.calibration.log_figure import log_figure

            log_figure(log, fit, self.figure)
        fits = [profile.provenance[name] for name in ("fit", "log_fit") if name in profile.provenance]
        return profile, [doubt for fit in fits for doubt in fit["warnings"]]

    def _start(self, requests: RequestLog, config: EngineConfig) -> LatencyProfile:
        from llmsched_gym.calibration.latency_fit import fit_to_table, read_full_table
        from llmsched_gym.cluster.latency import load_profile

        name = self.name or self.output.stem
        if self.table is None:
            start = load_profile(self.start or "")
            return replace(start, name=name, provenance={"start": {"profile": start.name, **start.provenance}})
        source = {"table": self.table.name, "requests": self.log.name if self.log else ""}
        return fit_to_table(read_full_table(self.table), requests, config, name, source)

    def _free(self) -> tuple[Setting, ...]:
        """Settings that nobody states."""
        stated = (self.async_scheduling, self.max_num_seqs, self.kv_blocks)
        names: tuple[Setting, ...] = ("async_scheduling", "max_num_seqs", "kv_blocks")
        return tuple(name for name, value in zip(names, stated, strict=True) if value is None)

    def _engine(self) -> EngineConfig:
        from llmsched_gym.backends.simulator.state import EngineConfig
        from llmsched_gym.cluster.latency import LatencyProfile

        return EngineConfig(
            LatencyProfile.from_ms("start", (1.0, 0.0, 0.0, 0.0)),  # replaced by what is fitted
            self.max_num_seqs or 128,
            self.max_num_batched_tokens,
            self.kv_blocks or 1 << 20,
            self.block_size,
            self.watermark,
            async_scheduling=self.async_scheduling == "on",
        )


def _sentences(report: dict[str, Any]) -> Iterator[str]:
    """Say how a fit to a log was made, and how good it is."""
    engine = ", ".join(f"{name} {report['engine'][name]}" for name in report["found"])
    yield f"fitted to {report['fitted_to']}" + (f"; settings that fit them best: {engine}" if engine else "")
    for name, told in report["rest"].items():
        low, high = told["interval_pct"]
        yield (
            f"{name.replace('_', ' ')}, other {told['requests']} requests: {told['mean_pct']:.1f} % off in the mean "
            f"(95 % interval {low:.1f} to {high:.1f}), signed {told['bias_pct']:+.1f} %"
        )


@dataclass(frozen=True)
class Show:
    """Show one latency profile: coefficients, source and fit error.

    Attributes:
        profile: Name (`llmsched-gym latency list`) or file.
        as_json: Print one JSON object.
    """

    profile: Annotated[Positional[str], tyro.conf.arg(metavar="NAME|FILE")]
    as_json: Json = False

    def run(self) -> int:
        """Print it."""
        from llmsched_gym.cluster.latency import load_profile

        _show(load_profile(self.profile), self.as_json)
        return 0


@dataclass(frozen=True)
class List:
    """List the latency profiles that come with the package.

    Attributes:
        as_json: Print one JSON object.
    """

    as_json: Json = False

    def run(self) -> int:
        """Print names and coefficients."""
        from llmsched_gym.cluster.latency import list_profiles, load_profile

        profiles = [load_profile(name) for name in list_profiles()]
        if self.as_json:
            print_json({"profiles": {profile.name: _coefficients(profile) for profile in profiles}})
        else:
            rows = [(profile.name, *profile.coefficients_ms) for profile in profiles]
            units = ("a [ms/iteration]", "b [ms/sequence]", "c [ms/prompt token]", "d [ms/context token]")
            print_table("", ("name", *units), rows)
        return 0


def _coefficients(profile: LatencyProfile) -> dict[str, float]:
    return dict(zip("abcd", profile.coefficients_ms, strict=True))


def _show(profile: LatencyProfile, as_json: bool) -> None:
    from llmsched_gym.cluster.latency import describe

    if as_json:
        coefficients = _coefficients(profile)
        print_json({"name": profile.name, "coefficients_ms": coefficients, "provenance": profile.provenance})
    else:
        print_table("", ("", ""), describe(profile))
