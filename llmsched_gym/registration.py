"""The table of environments: one id per scenario."""

from __future__ import annotations

from typing import Final

import gymnasium as gym

ENVIRONMENTS: Final = {
    "LLMSched/Mixed-v0": "mixed",
    "LLMSched/Predefined-v0": "predefined",
    "LLMSched/Chain-v0": "chain",
    "LLMSched/Planning-v0": "planning",
    "LLMSched/Hetero8-v0": "hetero8",
    "LLMSched/Hetero4-v0": "hetero4",
    "LLMSched/RealDag-v0": "real_dag",
    "LLMSched/PrefixReuse-v0": "prefix_reuse",
    "LLMSched/MixedHeavy-v0": "mixed_heavy",
    "LLMSched/MixedBurst-v0": "mixed_burst",
    "LLMSched/MixedBursty-v0": "mixed_bursty",
    "LLMSched/PlanningHeavy-v0": "planning_heavy",
    "LLMSched/Agents-v0": "agents",
    "LLMSched/AgentsBursty-v0": "agents_bursty",
    "LLMSched/MemoryBound-v0": "memory_bound",
    "LLMSched/Probe-v0": "probe",
    "LLMSched/Toy-v0": "toy",
    "LLMSched/TwoJobs-v0": "two_jobs",
}
"""Environment id → scenario name."""

PLACED: Final = frozenset({"hetero8", "hetero4", "real_dag", "prefix_reuse"})
"""Scenarios where choosing the executor is part of the decision: ``placement="agent"`` unless asked otherwise."""


def register_environments() -> None:
    """Register every id with Gymnasium; doing it again changes nothing."""
    for name, scenario in ENVIRONMENTS.items():
        if name not in gym.registry:
            gym.register(
                id=name,
                entry_point="llmsched_gym.envs.scheduling_env:SchedulingEnv",
                vector_entry_point="llmsched_gym.envs.vector_env:SchedulingVectorEnv",
                kwargs={"scenario": scenario} | ({"placement": "agent"} if scenario in PLACED else {}),
            )
