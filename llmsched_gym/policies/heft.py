"""HEFT: the stage with the longest path to the end first, where a schedule of all stages has it finish first.

Topcuoglu, Hariri and Wu (IEEE TPDS 13(3), 2002; doi 10.1109/71.993206): tasks by their upward rank, each on the
processor of the earliest finish, in an idle gap if it fits. The algorithm is in `llmsched_gym.policies.list_schedules`.
How an observation becomes its problem, with what is assumed, is in `llmsched_gym.policies.window_problem`; how its
schedule is followed as jobs arrive, in `llmsched_gym.policies.list_policy`. Equal ranks in the order of the graph.
"""

from __future__ import annotations

from llmsched_gym.policies import list_schedules
from llmsched_gym.policies.list_policy import ListPolicy
from llmsched_gym.policies.list_schedules import Problem, Schedule


class HEFT(ListPolicy):
    """By upward rank, at the earliest finish; parameters as `ListPolicy`."""

    name = "heft"

    def schedule(self, problem: Problem) -> Schedule:
        """Schedule by HEFT."""
        return list_schedules.heft(problem)
