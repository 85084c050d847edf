"""Which weight of the prior makes profiles predict other jobs best: the sweep behind the default.

    python benchmarks/profile_prior.py [--jobs 2000] [--seed 20]

Fits each application to jobs of the ``profile`` split and prints the mean −log P(job), in nats, of jobs drawn with the
next seed. Takes about half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from llmsched_gym.cli.console import print_table
from llmsched_gym.profiler.fit import JOBS, fit_profile, log_loss, profiling_jobs
from llmsched_gym.profiler.variables import observe, to_states
from llmsched_gym.workloads.applications import APPLICATIONS

WEIGHTS = (1, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Sweep:
    """Compare weights of the prior.

    Attributes:
        jobs: Jobs to fit to, and to predict.
        seed: Seed of the former; the latter have the next one.
    """

    jobs: int = JOBS
    seed: int = 20

    def run(self) -> None:
        """Fit and print the table."""
        rows = []
        for name in APPLICATIONS:
            past, other = (profiling_jobs(name, self.jobs, seed) for seed in (self.seed, self.seed + 1))
            losses = []
            for weight in WEIGHTS:
                profile = fit_profile(name, [past], equivalent_sample_size=weight)
                losses.append(log_loss(profile, to_states(profile.variables, observe(other, 0, profile.latency))))
            rows.append([name, *(f"{loss:.3f}" for loss in losses), WEIGHTS[losses.index(min(losses))]])
        print_table("log loss on held-out jobs, nats per job", ["application", *map(str, WEIGHTS), "best"], rows)


if __name__ == "__main__":
    tyro.cli(Sweep).run()
