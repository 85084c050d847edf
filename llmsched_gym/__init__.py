"""A Gymnasium benchmark for scheduling compound LLM applications.

Importing this package registers the environments ``LLMSched/Mixed-v0``, ``LLMSched/Predefined-v0``,
``LLMSched/Chain-v0``, ``LLMSched/Planning-v0``, ``LLMSched/Hetero8-v0``, ``LLMSched/Hetero4-v0``,
``LLMSched/RealDag-v0``, ``LLMSched/PrefixReuse-v0``, ``LLMSched/MixedHeavy-v0``, ``LLMSched/MixedBurst-v0``,
``LLMSched/MixedBursty-v0``, ``LLMSched/PlanningHeavy-v0``, ``LLMSched/Agents-v0``, ``LLMSched/AgentsBursty-v0``,
``LLMSched/MemoryBound-v0``, ``LLMSched/Probe-v0``, ``LLMSched/Toy-v0`` and ``LLMSched/TwoJobs-v0``.
"""

from __future__ import annotations

from llmsched_gym.interrupts import end_at_interrupts

end_at_interrupts()  # before Gymnasium and NumPy, which take the longer part of the time until a command begins

from llmsched_gym.registration import register_environments  # noqa: E402

__version__ = "0.1.0"

register_environments()
