"""Compiled inference beside pgmpy's variable elimination: the same networks, the same evidence, the same run.

    python benchmarks/inference.py [--jobs 200] [--pgmpy-jobs 10] [--json]

Jobs are drawn from the networks themselves and stopped at a random stage: the stages before it are finished, the
others unknown. An update is what a scheduler needs when a stage has finished: the posterior of every stage, mean and
interval of the remaining time, and entropy and uncertainty reduction of the next stage. A posterior is that of
one unfinished variable: pgmpy is asked for them one by one, its fastest way; one calibration gives them all. A lone
query is one call from Python that calibrates and reads a single posterior, for each of the same posteriors, so that
all others which it gives besides count for nothing. Times are process CPU time; of ours, the best of the repeats.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from llmsched_gym._jit import bind, kernel
from llmsched_gym.profiler.bank import ProfileBank, Workspace, make_bank, make_workspace
from llmsched_gym.profiler.cache import EvidenceCache, claim, find, make_cache
from llmsched_gym.profiler.inference import calibrate
from llmsched_gym.profiler.information import entropy, reduction
from llmsched_gym.profiler.profile import Profile
from llmsched_gym.profiler.sampling import remaining
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.workloads.applications import APPLICATIONS

Masks = NDArray[np.uint16]


@kernel
def calibrate_all(bank: ProfileBank, app: int, evidence: Masks, work: Workspace) -> None:
    """Posteriors only."""
    for masks in evidence:
        calibrate(bank, app, masks, work)


@kernel
def update_all(
    bank: ProfileBank,
    app: int,
    evidence: Masks,
    following: NDArray[np.int64],
    unfinished: NDArray[np.uint16],
    zeros: NDArray[np.float64],
    work: Workspace,
) -> None:
    """Posteriors and all features of the next stage."""
    for job in range(len(evidence)):
        calibrate(bank, app, evidence[job], work)
        remaining(bank, app, unfinished[job], zeros, 0.9, work)
        entropy(bank, app, following[job], work)
        reduction(bank, app, following[job], 0.05, 0.01, 2048, work)


@kernel
def fill(cache: EvidenceCache, app: int, evidence: Masks) -> None:
    """Remember all evidence."""
    for masks in evidence:
        claim(cache, app, masks)


@kernel
def find_all(cache: EvidenceCache, app: int, evidence: Masks) -> int:
    """Look all evidence up."""
    total = 0
    for masks in evidence:
        total += find(cache, app, masks)
    return total


def stopped_jobs(profile: Profile, n: int, rng: np.random.Generator) -> tuple[Masks, NDArray[np.int64]]:
    """Draw jobs, each stopped before a stage that it has; return evidence and those stages."""
    evidence, following = [], []
    while len(evidence) < n:
        states: list[int] = []
        for parents, table in zip(profile.parents, profile.tables, strict=True):
            row = np.cumsum(table[tuple(states[p] for p in parents)])
            states.append(int(np.searchsorted(row, rng.random() * row[-1], side="right")))
        present = [
            v for v, one in enumerate(profile.variables) if one.states > 1 and not (one.absent and not states[v])
        ]
        if not present:
            continue
        stop = present[int(rng.integers(len(present)))]
        evidence.append([1 << state if v < stop else 0xFFFF for v, state in enumerate(states)])
        following.append(stop)
    return np.array(evidence, dtype=np.uint16), np.array(following)


def ask_alone(bank: ProfileBank, app: int, asked: list[tuple[Masks, int]], work: Workspace) -> None:
    """Calibrate anew for each posterior that is asked for."""
    query = bind(calibrate, bank, app, others=(asked[0][0], work))
    for masks, variable in asked:
        query(masks, work)
        work.marginals[variable]


def pgmpy_network(profile: Profile) -> Any:
    """Rebuild a network in pgmpy."""
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.models import DiscreteBayesianNetwork

    model = DiscreteBayesianNetwork()
    sizes = profile.states.tolist()
    model.add_nodes_from(range(len(sizes)))
    model.add_edges_from((p, v) for v, parents in enumerate(profile.parents) for p in parents)
    for v, (parents, table) in enumerate(zip(profile.parents, profile.tables, strict=True)):
        values = np.moveaxis(table, -1, 0).reshape(sizes[v], -1)
        model.add_cpds(TabularCPD(v, sizes[v], values, list(parents), [sizes[p] for p in parents]))
    return model


def microseconds(call: Any, repeats: int, count: int) -> float:
    """Best time per item over several repeats of a call on `count` items."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best / count * 1e6


def measure(profiles: list[Profile], app: int, jobs: int, jobs_of_pgmpy: int) -> dict[str, Any]:
    """Time one application, and compare every answer that both give."""
    from pgmpy.inference import VariableElimination

    profile, bank = profiles[app], make_bank(profiles)
    work = make_workspace(bank)
    evidence, following = stopped_jobs(profile, jobs, np.random.default_rng(app))
    unfinished = ((evidence & (evidence - 1)) != 0).astype(np.uint16)
    zeros = np.zeros(evidence.shape[1])
    cache = make_cache(evidence.shape[1], 8)
    fill(cache, app, evidence)
    find_all(cache, app, evidence)
    update_all(bank, app, evidence[:1], following, unfinished, zeros, work)
    calibrate_all(bank, app, evidence[:1], work)
    row: dict[str, Any] = {
        "application": profile.application,
        "variables": len(profile.variables),
        "entries": int(bank.first_entry[bank.first_clique[app + 1]] - bank.first_entry[bank.first_clique[app]]),
        "calibrate_us": microseconds(lambda: calibrate_all(bank, app, evidence, work), 5, jobs),
        "update_us": microseconds(lambda: update_all(bank, app, evidence, following, unfinished, zeros, work), 5, jobs),
        "cached_us": microseconds(lambda: find_all(cache, app, evidence), 20, jobs),
    }
    elimination: Any = VariableElimination(pgmpy_network(profile))
    start, error, spent = bank.first_variable[app], 0.0, 0.0
    asked: list[tuple[Masks, int]] = []
    for masks in evidence[:jobs_of_pgmpy]:
        known = {v: int(mask).bit_length() - 1 for v, mask in enumerate(masks) if mask != 0xFFFF}
        calibrate(bank, app, masks, work)
        for variable in set(range(len(masks))) - set(known):
            begin = time.process_time()
            answer = elimination.query([variable], evidence=known, show_progress=False).values
            spent += time.process_time() - begin
            asked.append((masks, start + variable))
            error = max(error, float(np.abs(work.marginals[start + variable, : len(answer)] - answer).max()))
    compared = evidence[:jobs_of_pgmpy]
    row["posterior_us"] = microseconds(lambda: calibrate_all(bank, app, compared, work), 20, len(asked))
    row["lone_query_us"] = microseconds(lambda: ask_alone(bank, app, asked, work), 20, len(asked))
    row["pgmpy_posterior_us"] = spent / len(asked) * 1e6
    row["times_faster"] = row["pgmpy_posterior_us"] / row["posterior_us"]
    row["times_faster_alone"] = row["pgmpy_posterior_us"] / row["lone_query_us"]
    row["largest_difference"] = error
    return row


def main() -> None:
    """Measure all applications and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--pgmpy-jobs", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    profiles = [load_profile(name) for name in APPLICATIONS]
    begin = time.process_time()
    rows = [measure(profiles, app, options.jobs, options.pgmpy_jobs) for app in range(len(profiles))]
    if options.json:
        print(json.dumps({"rows": rows, "seconds": time.process_time() - begin}))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
