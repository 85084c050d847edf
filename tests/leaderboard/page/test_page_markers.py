"""Every policy has a marker that the page can draw, and no two draw the same."""

from __future__ import annotations

from llmsched_gym.evaluation.policy_styles import policy_styles
from llmsched_gym.leaderboard.page.markers import marker
from llmsched_gym.policies.registry import joint_names, learned_names, placement_names, policy_names


def test_markers_of_all_policies_are_drawn() -> None:
    names = dict.fromkeys((*policy_names(), *learned_names(), *joint_names(), *placement_names()))
    styles = policy_styles([*names, *(f"mine{number}" for number in range(40))])
    drawn = {style.marker: marker(style.marker) for style in styles.values()}
    assert len({*drawn.values()}) == len(drawn)
    assert all(path.startswith("M") for path, _ in drawn.values())
