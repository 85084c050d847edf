"""The verb ``list``: everything that has a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmsched_gym.cli.console import print_json, print_table, say
from llmsched_gym.cli.options import Json

if TYPE_CHECKING:
    from llmsched_gym.policies.base import Policy


@dataclass(frozen=True)
class List:
    """List environments, scenarios, policies, placements, applications and latency profiles.

    Attributes:
        as_json: Print one JSON object.
    """

    as_json: Json = False

    def run(self) -> int:
        """Print the names."""
        from llmsched_gym.cluster.latency import list_profiles, load_profile
        from llmsched_gym.policies.registry import (
            joint_names,
            learned_names,
            placement_names,
            policy_class,
            policy_names,
            rule_class,
        )
        from llmsched_gym.registration import ENVIRONMENTS
        from llmsched_gym.scenario import SCENARIOS, load_scenario
        from llmsched_gym.workloads.applications import GROUPS, drawable

        policies = {name: policy_class(name) for name in (*policy_names(), *joint_names(), *learned_names())}
        placements = {name: _about(rule_class(name)) for name in placement_names()}
        scenarios = {name: load_scenario(name) for name in SCENARIOS}
        if self.as_json:
            print_json(
                {
                    "environments": ENVIRONMENTS,
                    "scenarios": {
                        name: {**one.model_dump(mode="json"), "jobs": one.n_jobs} for name, one in scenarios.items()
                    },
                    "policies": {
                        name: {
                            "privileged": p.privileged,
                            "observation": p.observation,
                            "placement": p.placement,
                            "needs": _needs(name),
                            "about": _about(p),
                        }
                        for name, p in policies.items()
                    },
                    "placements": placements,
                    "applications": {name: one.template.type for name, one in drawable().items()},
                    "application_groups": GROUPS,
                    "latency_profiles": list_profiles(),
                }
            )
            return 0
        print_table("environments", ("id", "scenario"), ENVIRONMENTS.items())
        say("")
        print_table(
            "scenarios",
            ("name", "jobs", "load", "cluster", "applications"),
            [
                (name, one.n_jobs, one.load, one.cluster.name, ", ".join(one.applications) or f"fixed: {one.fixed}")
                for name, one in scenarios.items()
            ],
        )
        say("")
        print_table(
            "policies",
            ("name", "sees", "needs", "about"),
            [(name, _sees(p), _needs(name) or "-", _about(p)) for name, p in policies.items()],
        )
        say("")
        print_table("placements (srtf+mct: that order, this placement)", ("name", "about"), placements.items())
        say("")
        print_table(
            "applications",
            ("name", "type", "stages"),
            [
                *((name, one.template.type, str(len(one.template.nodes))) for name, one in drawable().items()),
                *((name, f"{len(members)} of these", "-") for name, members in GROUPS.items()),
            ],
        )
        say("")
        print_table(
            "latency profiles",
            ("name", "a [ms/iteration]", "b [ms/sequence]", "c [ms/prompt token]", "d [ms/context token]"),
            [(name, *load_profile(name).coefficients_ms) for name in list_profiles()],
        )
        return 0


def _about(policy: type) -> str:
    return (policy.__doc__ or "").strip().split("\n")[0]


def _sees(policy: type[Policy]) -> str:
    extras = {"placements": policy.placement == "agent", "truth": policy.privileged}
    return ", ".join((policy.observation, *(name for name, seen in extras.items() if seen)))


def _needs(policy: str) -> str | None:
    """Return the extra that a policy needs."""
    from llmsched_gym.policies.registry import learned_names

    return "learn" if policy in learned_names() else None
