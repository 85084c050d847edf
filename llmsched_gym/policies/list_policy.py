"""Policies that follow a list schedule of all stages in sight: HEFT, CPOP and PEFT, online.

The algorithms schedule a whole graph before it starts. Here jobs arrive, stages are revealed, and times are expected
ones, so that the schedule is made anew at every decision, from the tables as they are now, over the stages that are
shown (`llmsched_gym.policies.window_problem`), those of all jobs as one graph. Of it, what is ready is followed: each
stage goes where the schedule has it and nowhere else, the highest priority first; the one whose executor cannot take it
now waits, and those after it do not. Nothing is held back for it, so that other stages may keep its executor busy.

If nothing would start that way, and nothing would come of waiting, the pair goes first that is over soonest.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from llmsched_gym.policies.base import Observation, ObservationMode, Policy
from llmsched_gym.policies.list_schedules import Problem, Schedule
from llmsched_gym.policies.parameters import choice, real
from llmsched_gym.policies.placement import STATES, State
from llmsched_gym.policies.plan_follower import soonest_dispatch
from llmsched_gym.policies.window_problem import window_problem


class ListPolicy(Policy):
    """Starts what a list schedule starts next.

    Args:
        state: "aware" or "blind": whether costs count what the state of executors adds.
        gb_per_s: Assumed rate of the links.
    """

    observation: ObservationMode = "graph"
    placement = "agent"

    def __init__(self, state: str = "aware", gb_per_s: float = 23.0) -> None:
        self.state: State = choice(self.name, "state", state, STATES)
        self.gb_per_s = real(self.name, "gb_per_s", gb_per_s, 1e-6, 1e6)

    @abstractmethod
    def schedule(self, problem: Problem) -> Schedule:
        """Schedule the stages in sight."""

    def act(self, obs: Observation) -> int:
        """Schedule, and start the first stage that may start."""
        mask, executors = obs["action_mask"], len(obs["executors"])
        wait = len(mask) - 1
        if not mask[:wait].any():
            return wait
        problem, candidate = window_problem(obs, self.state, self.gb_per_s)
        plan = self.schedule(problem)
        ready = np.flatnonzero(candidate >= 0)
        actions = candidate[ready] * executors + plan.processor[ready]
        startable = mask[actions] != 0
        if startable.any():
            return int(actions[np.where(startable, plan.priority[ready], -np.inf).argmax()])
        return wait if mask[wait] else soonest_dispatch(obs, self.state)
