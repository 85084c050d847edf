"""CPOP (critical path on a processor): the critical path on one executor, all else where it finishes first.

Topcuoglu, Hariri and Wu (IEEE TPDS 13(3), 2002; doi 10.1109/71.993206): tasks by the length of the longest path through
them; those of the longest of all on the processor that runs them soonest together. Assumed, since no executor here
serves models and tools alike: that processor is the one that serves most stages of the path, and the others go where
they finish first (`llmsched_gym.policies.list_schedules`). Of several jobs, the one with the longest path has the
critical path. The rest as in `llmsched_gym.policies.heft`.
"""

from __future__ import annotations

from llmsched_gym.policies import list_schedules
from llmsched_gym.policies.list_policy import ListPolicy
from llmsched_gym.policies.list_schedules import Problem, Schedule


class CPOP(ListPolicy):
    """The critical path on one executor; parameters as `ListPolicy`."""

    name = "cpop"

    def schedule(self, problem: Problem) -> Schedule:
        """Schedule by CPOP."""
        return list_schedules.cpop(problem)
