"""Whether the jobs of a suite are drawn here as they were when it was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llmsched_gym.suites.suite import Suite, SuiteScenario


class Drawn(NamedTuple):
    """The jobs of one scenario and seed.

    Attributes:
        scenario: Its name in the suite.
        seed: Seed.
        digest: Workload digest as drawn here.
        expected: As the suite has it.
    """

    scenario: str
    seed: int
    digest: str
    expected: str

    @property
    def same(self) -> bool:
        """Whether they are the suite's jobs."""
        return self.digest == self.expected


def draw_all(suite: Suite) -> Iterator[Drawn]:
    """Draw the jobs of every scenario and seed again, in the order of the suite."""
    for scenario in suite.scenarios:
        for seed in scenario.seeds:
            yield Drawn(scenario.name, seed, drawn_digest(scenario, seed), scenario.digests[seed])


def first_difference(suite: Suite) -> Drawn | None:
    """Return the first jobs that are not those of the suite; None if all are."""
    return next((drawn for drawn in draw_all(suite) if not drawn.same), None)


def drawn_digest(scenario: SuiteScenario, seed: int) -> str:
    """Return the digest of the jobs of a seed as they are drawn here."""
    return scenario.setting.workload(seed).digest
