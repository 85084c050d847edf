"""PEFT: HEFT that looks ahead, by what the rest after a stage would take at best from each executor.

Arabnejad and Barbosa (IEEE TPDS 25(3), 2014; doi 10.1109/TPDS.2013.57): an optimistic cost table tells how long the
rest of the graph takes if every later task runs where it is quickest, as if all processors were free. Tasks go by the
mean of their row, each to the processor with the smallest sum of its finish there and its entry. It is the classical
way to look ahead, to hold planning by state against. The rest as in `llmsched_gym.policies.heft`.
"""

from __future__ import annotations

from llmsched_gym.policies import list_schedules
from llmsched_gym.policies.list_policy import ListPolicy
from llmsched_gym.policies.list_schedules import Problem, Schedule


class PEFT(ListPolicy):
    """By the optimistic cost table; parameters as `ListPolicy`."""

    name = "peft"

    def schedule(self, problem: Problem) -> Schedule:
        """Schedule by PEFT."""
        return list_schedules.peft(problem)
