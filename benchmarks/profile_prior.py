"""Which weights of the prior make profiles predict other jobs best: the sweep behind the defaults.

    python benchmarks/profile_prior.py [--jobs 2000] [--seed 20]

Fits each application to jobs of the ``profile`` split and prints the mean −log P(job), in nats, of jobs drawn with the
next seed. Takes about a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from llmsched_gym.cli.console import print_table
from llmsched_gym.profiler.fit import EQUIVALENT_SAMPLE_SIZE, JOBS, fit_profile, log_loss, profiling_jobs
from llmsched_gym.profiler.structure import SCORE_SAMPLE_SIZE
from llmsched_gym.profiler.variables import observe, to_states
from llmsched_gym.workloads.applications import APPLICATIONS

WEIGHTS = (1, 5, 10, 20, 50, 100, 200)
SWEEPS = {
    "sample size of the score": [(EQUIVALENT_SAMPLE_SIZE, weight) for weight in WEIGHTS],
    "prior of the tables": [(weight, SCORE_SAMPLE_SIZE) for weight in WEIGHTS],
}


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
        for title, weights in SWEEPS.items():
            rows = [[name, *(f"{self._loss(name, *pair):.3f}" for pair in weights)] for name in APPLICATIONS]
            columns = ["application", *(f"{table}, {score}" for table, score in weights)]
            print_table(f"held-out log loss by {title}; columns: tables, score", columns, rows)

    def _loss(self, name: str, table: int, score: int) -> float:
        past, other = (profiling_jobs(name, self.jobs, seed) for seed in (self.seed, self.seed + 1))
        profile = fit_profile(name, [past], equivalent_sample_size=table, score_sample_size=score)
        return log_loss(profile, to_states(profile.variables, observe(other, 0, profile.latency)))


if __name__ == "__main__":
    tyro.cli(Sweep).run()
