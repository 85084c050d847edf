"""Fit a latency profile to what a server's own request log measured, on a part of the log.

A profile from a table of iteration times lacks what surrounds the kernels, or has too much of it; a profile of another
model or GPU is off by more. Both have roughly the right shape, so few factors make them right, which are fitted to a
part of the requests; the error that is reported is that of the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.calibration.latency_fit import implausible
from llmsched_gym.calibration.log_errors import errors
from llmsched_gym.calibration.log_problem import FACTORS, PRIOR_OTHER, PRIOR_TABLE, LogProblem, changed
from llmsched_gym.calibration.log_settings import Setting, settle
from llmsched_gym.calibration.measured_log import MeasuredLog, replayed
from llmsched_gym.calibration.robust_fit import Fitted
from llmsched_gym.cluster.latency import LatencyProfile
from llmsched_gym.errors import InputError, Plain

Part = Literal["first", "spread"]

_LEAST_REQUESTS: Final = 10
"""Requests that either part of a log must have: fewer have no mean worth the name."""

_SLACK: Final = 1.1
"""Factor by which more requests may seem to decode at once than there are slots: clients see ends late."""

_HORIZON: Final = 1.25
"""Requests count as company of the first part if they arrive within this multiple of its time."""

_UNTOLD: Final = 0.7
"""Share of the prior's width that is left when a log says nothing of a factor, or hardly anything."""

_ENGINE: Final = (
    "async_scheduling",
    "max_num_seqs",
    "max_num_batched_tokens",
    "kv_blocks",
    "block_size",
    "watermark",
    "prefix_caching",
)
"""What a profile was fitted with: with other settings it is another profile."""

_GOOD_PCT: Final = 5.0
_POOR_PCT: Final = 10.0
_LATE_PCT: Final = 50.0
_FAR: Final = 1.5
_ODD: Final = 0.1
"""Share of the start's time of an iteration by which host overhead may be negative: a table's noise."""


class Plan(NamedTuple):
    """How to use a log.

    Attributes:
        share: Share of the measured requests to fit to, > 0 and < 1.
        part: `spread` evenly over the log, or the `first` by arrival: then the error is one of a forecast.
        own_table: Whether the start was fitted to a table of the same model and machine.
        free: Settings of the server that are not known: they are changed where the part argues for it.
    """

    share: float = 0.1
    part: Part = "spread"
    own_table: bool = False
    free: tuple[Setting, ...] = ("async_scheduling",)


class LogFit(NamedTuple):
    """What a log says.

    Attributes:
        config: The engine, its profile being the fitted one: named as the start, with a report of the fit in
            `provenance["log_fit"]`: how it was made, how far it is off on the part and on the rest, what is doubtful.
        replay: What this engine takes for the requests of the log.
        rest: Requests that were not fitted to, by arrival; intp (k,).
    """

    config: EngineConfig
    replay: MeasuredLog
    rest: NDArray[np.intp]


def fit_to_log(
    log: MeasuredLog,
    config: EngineConfig,
    plan: Plan,
    source: object = "log",
    tell: Callable[[str], None] = lambda _: None,
) -> LogFit:
    """Fit a profile to a part of a log.

    Args:
        log: What a server measured.
        config: Its engine; the profile is where the fit starts.
        plan: What to fit to, and how.
        source: What to name in errors.
        tell: Is told of settings that are found.

    Raises:
        InputError: Too few requests with times, more of them at once than the engine runs, or one that never fits.
    """
    part, rest = split(log, plan, source)
    at_once = log.decoding_at_once()
    if "max_num_seqs" not in plan.free and at_once > _SLACK * config.max_num_seqs:
        found = Plain(f"max_num_seqs {config.max_num_seqs}, and {at_once} requests that decode at once")
        raise InputError(source, "", found, f"max_num_seqs of the server that wrote it: at least {at_once}")
    prior = np.array(PRIOR_TABLE if plan.own_table else PRIOR_OTHER)
    problem = LogProblem(log, np.sort(part), _company(log, part, plan), prior)
    start = config.profile
    config, fit = settle(problem, config, plan.free, tell)
    fitted = replace(config, profile=changed(start, fit.at))
    replay = replayed(log.requests, fitted)
    report = {
        "requests": len(log.end_to_end_s),
        "fitted_to": f"{len(part)} requests: {plan.part} {100 * plan.share:g} % of those with a measured end",
        "seen_at_once": {"requests": at_once, "kv_blocks": -(-log.tokens_at_once() // config.block_size)},
        "engine": {name: getattr(config, name) for name in _ENGINE},
        "found": list(plan.free),
        **_factors(start, fit, prior),
        "part": _off(log, replay, part),
        "rest": _off(log, replay, rest),
        "rest_before": _off(log, replayed(log.requests, config), rest),
    }
    report["warnings"] = _warnings(report, fitted.profile, plan.own_table)
    profile = replace(fitted.profile, provenance={**start.provenance, "log_fit": report})
    return LogFit(replace(fitted, profile=profile), replay, rest)


def split(log: MeasuredLog, plan: Plan, source: object) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the requests to fit to and the rest, both by arrival.

    Raises:
        InputError: Either has too few.
    """
    order = np.argsort(log.requests.arrival_ns, kind="stable")
    order = order[log.measured[order]]
    n = len(order)
    count = max(round(plan.share * n), 1)
    chosen = np.zeros(n, np.bool_)
    places = np.arange(min(count, n))
    chosen[places if plan.part == "first" else ((places + 0.5) * n / count).astype(int)] = True
    for name, here in (("fit to", chosen), ("tell the error on", ~chosen)):
        if here.sum() < _LEAST_REQUESTS:
            found = Plain(f"{n} requests with a measured end: {here.sum()} to {name}")
            allowed = f"at least {_LEAST_REQUESTS} to fit to and as many to tell the error on: a longer log"
            raise InputError(source, "", found, f"{allowed}, or another share than {plan.share:g}")
    return order[chosen], order[~chosen]


def _company(log: MeasuredLog, part: NDArray[np.intp], plan: Plan) -> NDArray[np.intp]:
    """Requests to replay, so that those of the part meet whom they met: all, or those that arrived while they ran."""
    if plan.part == "spread":
        return np.arange(len(log.end_to_end_s))
    arrival = (log.requests.arrival_ns - log.requests.arrival_ns.min()) * 1e-9
    return np.flatnonzero(arrival <= _HORIZON * (arrival + log.end_to_end_s)[part].max())


def _factors(start: LatencyProfile, fit: Fitted, prior: NDArray[np.float64]) -> dict[str, Any]:
    scale, iteration, prompt, context = np.exp(fit.at)
    return {
        "scale": round(float(scale), 4),
        "scale_deviation": round(float(scale * fit.spread[0]), 4),
        "host_overhead_ms": round(float(scale * (iteration - 1.0)) * start.coefficients_ms[0], 4),
        "prompt_factor": round(float(prompt), 4),
        "context_factor": round(float(context), 4),
        "hardly_told": [name for name, left in zip(FACTORS, fit.spread / prior, strict=True) if left > _UNTOLD],
    }


def _off(log: MeasuredLog, replay: MeasuredLog, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Errors of a replay on some requests."""
    timed = rows[np.isfinite(log.first_token_s[rows])]
    told = {"end_to_end": errors(replay.end_to_end_s[rows] / log.end_to_end_s[rows] - 1.0)}
    if len(timed):
        told["first_token"] = errors(replay.first_token_s[timed] / log.first_token_s[timed] - 1.0)
    return told


def _warnings(report: dict[str, Any], profile: LatencyProfile, own_table: bool) -> list[str]:
    """What makes a fit doubtful."""
    warnings = implausible(profile)
    part, rest = (report[name]["end_to_end"]["mean_pct"] for name in ("part", "rest"))
    first, seen = report["part"].get("first_token"), report["seen_at_once"]
    if part > _POOR_PCT:
        at_once = f"it decoded up to {seen['requests']} requests, with {seen['kv_blocks']} blocks of KV"
        warnings.append(f"the replay is {part:.0f} % off even where it was fitted: other settings ({at_once})?")
    if first and first["bias_pct"] > _LATE_PCT:
        late = f"first tokens come {first['bias_pct']:.0f} % late in the replay"
        warnings.append(f"{late}: did the server find much of its prompts in its prefix cache? Logs do not tell")
    if rest > max(_GOOD_PCT, 2.0 * part):
        off = f"{rest:.1f} % off there, {part:.1f} % where it was fitted"
        warnings.append(f"the part does not stand for the rest ({off}): try --part spread or a larger --share")
    if seen["requests"] > _SLACK * report["engine"]["max_num_seqs"]:
        warnings.append(f"{seen['requests']} requests decode at once: state max_num_seqs")
    a, overhead = profile.coefficients_ms[0], report["host_overhead_ms"]
    by_itself = report["scale"] * a / max(a - overhead, 1e-9)
    for what, factor in (("all that an iteration does", report["scale"]), ("an iteration by itself", by_itself)):
        if own_table and not 1 / _FAR < factor < _FAR:
            warnings.append(f"{what} takes {factor:.2f} times what the table says: of another model or GPU?")
    if own_table and overhead < -_ODD * a:
        warnings.append("host overhead < 0: an iteration would take less by itself than the scaled table says")
    return warnings
