"""How well a simulator agrees with real servers: errors per job and request, ranking of policies, and what is left.

Real values are medians over repetitions. Errors are relative to them: bias is the mean of (simulated - real) / real,
MAPE that of its absolute value.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.replay import RequestLog, serve
from llmsched_gym.backends.simulator.loop import engine_config
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.evaluation.validation import Run, Validation

_LEAST: Final = 1e-9


def agreement(validation: Validation) -> dict[str, Any]:
    """Summarise a validation.

    Returns:
        JSON-able. ``policies``: per policy `policy_agreement`. ``overall``: means of these, the largest error of a mean
        JCT, and what two identical runs on servers differ by. ``ranking``: `ranking`. ``residual``: `residual`.
    """
    rows = {policy: policy_agreement(validation, policy) for policy in validation.policies}
    overall: dict[str, Any] = {
        name: _mean([row[name] for row in rows.values()])
        for name in (
            "job_mape_pct",
            "job_bias_pct",
            "request_mape_pct",
            "request_bias_pct",
            "job_noise_pct",
            "noise_pct",
        )
    }
    overall["mean_jct_error_pct"] = _mean([abs(row["mean_jct_error_pct"]) for row in rows.values()])
    overall["worst_mean_jct_error_pct"] = max((row["mean_jct_error_pct"] for row in rows.values()), key=abs)
    simulated = {policy: row["simulated_mean_jct_s"] for policy, row in rows.items()}
    served = {policy: row["served_mean_jct_s"] for policy, row in rows.items()}
    return {
        "jobs": validation.workload.n_jobs,
        "requests": len(validation.llm_tasks),
        "policies": rows,
        "overall": overall,
        "ranking": ranking(simulated, served),
        "residual": residual(validation),
    }


def policy_agreement(validation: Validation, policy: str) -> dict[str, Any]:
    """Compare one policy's runs.

    Returns:
        ``simulated_mean_jct_s``; ``served_mean_jct_s``: one per repetition; ``mean_jct_error_pct``: against their
        median; ``job_mape_pct``, ``job_bias_pct``, ``request_mape_pct``, ``request_bias_pct``; ``noise_pct`` and
        ``job_noise_pct``: what the mean JCT, and the JCT of a job, differ by between two runs on the servers (None with
        a single one).
    """
    simulated, served = validation.simulated[policy], validation.served[policy]
    means = [run.mean_jct_s for run in served]
    jobs = np.median([run.jct_s for run in served], axis=0)
    llm = validation.llm_tasks
    requests = np.median([run.latency_s[llm] for run in served], axis=0)
    job_mape, job_bias = relative_errors(simulated.jct_s, jobs)
    request_mape, request_bias = relative_errors(simulated.latency_s[llm], requests)
    pairs = list(itertools.combinations(served, 2))
    return {
        "simulated_mean_jct_s": simulated.mean_jct_s,
        "served_mean_jct_s": means,
        "mean_jct_error_pct": 100.0 * (simulated.mean_jct_s / float(np.median(means)) - 1.0),
        "job_mape_pct": job_mape,
        "job_bias_pct": job_bias,
        "request_mape_pct": request_mape,
        "request_bias_pct": request_bias,
        "noise_pct": _mean([100.0 * abs(a.mean_jct_s / b.mean_jct_s - 1.0) for a, b in pairs]),
        "job_noise_pct": _mean([relative_errors(a.jct_s, b.jct_s)[0] for a, b in pairs]),
    }


def relative_errors(simulated: NDArray[np.float64], real: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean absolute and mean relative error of `simulated`, in per cent."""
    relative = simulated / np.maximum(real, _LEAST) - 1.0
    return 100.0 * float(np.abs(relative).mean()), 100.0 * float(relative.mean())


def ranking(simulated: Mapping[str, float], served: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Compare the order of policies by mean JCT.

    Args:
        simulated: Mean JCT per policy.
        served: Mean JCTs of the repetitions per policy.

    Returns:
        ``spearman``: rank correlation over all policies; None for fewer than two. ``pairs``: pairs of policies whose
        medians on the servers differ by more than two identical runs of either did; ``agreeing``: those that the
        simulator orders the same way; ``disagreeing``: the others, by name.
    """
    names = list(simulated)
    medians = {name: float(np.median(served[name])) for name in names}
    spread = {name: float(np.ptp(served[name])) for name in names}
    told_apart = [
        (a, b) for a, b in itertools.combinations(names, 2) if abs(medians[a] - medians[b]) > max(spread[a], spread[b])
    ]
    wrong = [(a, b) for a, b in told_apart if (simulated[a] - simulated[b]) * (medians[a] - medians[b]) <= 0]
    return {
        "spearman": spearman([simulated[name] for name in names], [medians[name] for name in names]),
        "pairs": len(told_apart),
        "agreeing": len(told_apart) - len(wrong),
        "disagreeing": [f"{a}, {b}" for a, b in wrong],
        "order_served": sorted(names, key=medians.__getitem__),
        "order_simulated": sorted(names, key=simulated.__getitem__),
    }


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the rank correlation of two sequences; equal values share their mean rank. None if it is not defined."""
    x, y = _ranks(np.asarray(first, np.float64)), _ranks(np.asarray(second, np.float64))
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    below = (values[:, None] > values).sum(axis=1)
    equal = (values[:, None] == values).sum(axis=1)
    return below + (equal - 1) / 2


def residual(validation: Validation) -> dict[str, Any]:
    """Say what the differences of single requests are made of, with the dispatches of the real runs given.

    The simulated engine serves each server's requests as they really came. What it misses then is not the scheduling
    that went another way, but the engine, the prefix cache, or the host.

    Returns:
        ``engine_mape_pct`` and ``engine_bias_pct`` of the requests' latencies; ``engine_bias_pct_by_batch``: the bias
        in the three thirds of the requests by mean batch, smallest first, with the mean batch; ``cached_tokens_error_
        pct``: prompt tokens found in the cache, all together, against what servers reported (None if they do not tell);
        ``outside_engine_ms``: median time by which requests took longer than in the simulated engine;
        ``dispatch_overhead_ms_p50``: median of the runs' median times between a free slot and the request on the wire.
    """
    parts = [part for runs in validation.served.values() for run in runs for part in _given_dispatches(validation, run)]
    predicted, real, batch, cached, reported = (np.concatenate(column) for column in zip(*parts, strict=True))
    mape, bias = relative_errors(predicted, real)
    relative = predicted / np.maximum(real, _LEAST) - 1.0
    thirds = np.array_split(np.argsort(batch, kind="stable"), 3)
    told = reported >= 0
    overheads = [
        run.served["dispatch_overhead_ms_p50"]
        for runs in validation.served.values()
        for run in runs
        if run.served.get("dispatch_overhead_ms_p50") is not None
    ]
    total = float(reported[told].sum())
    return {
        "engine_mape_pct": mape,
        "engine_bias_pct": bias,
        "engine_bias_pct_by_batch": [
            {"batch": float(batch[third].mean()), "bias_pct": 100.0 * float(relative[third].mean())}
            for third in thirds
            if len(third)
        ],
        "cached_tokens_error_pct": 100.0 * (float(cached[told].sum()) / total - 1.0) if total else None,
        "outside_engine_ms": 1e3 * float(np.median(real - predicted)),
        "dispatch_overhead_ms_p50": float(np.median(overheads)) if overheads else None,
    }


def _given_dispatches(validation: Validation, run: Run) -> list[tuple[NDArray[Any], ...]]:
    """Serve each server's requests as they came; per server: predicted and real seconds, batch, cached and reported."""
    configs = [engine_config(group, host) for group, host in validation.cluster.engines]
    llm = validation.llm_tasks
    first = {executor: index for index, executor in enumerate(_llm_executors(validation))}
    return [
        _serve_again(validation, run, llm[run.executor[llm] == executor], configs[first[executor]])
        for executor in first
        if (run.executor[llm] == executor).any()
    ]


def _llm_executors(validation: Validation) -> list[int]:
    """Return the rows of the LLM executors."""
    kinds = [group.kind for group in validation.cluster.executors for _ in range(group.count)]
    return [index for index, kind in enumerate(kinds) if kind == "llm"]


def _serve_again(
    validation: Validation, run: Run, rows: NDArray[np.intp], config: EngineConfig
) -> tuple[NDArray[Any], ...]:
    tasks = validation.workload.tasks[rows]
    start, finish = run.start_ns[rows], run.finish_ns[rows]
    log = RequestLog(
        [str(row) for row in rows],
        start,
        tasks["prompt_tokens"].astype(np.int64),
        tasks["output_tokens"].astype(np.int64),
        validation.workload.contents.columns(validation.workload.tasks)[rows],
    )
    again, _ = serve(log, config)
    # Seconds that each request shared with each other one, over its own: the mean batch that it was part of.
    shared = np.minimum(finish[:, None], finish) - np.maximum(start[:, None], start)
    batch = np.maximum(shared, 0).sum(axis=1) / np.maximum(finish - start, 1)
    predicted = (again["finish_ns"] - start) * 1e-9
    return predicted, (finish - start) * 1e-9, batch, again["cached_tokens"].astype(np.int64), run.cached_tokens[rows]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
