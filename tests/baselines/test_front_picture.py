"""The picture of the front page is of what a scheduler may know, moment by moment."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import front_picture
import pytest

from llmsched_gym.envs.scheduling_env import SchedulingEnv


@pytest.fixture(scope="module")
def played() -> tuple[SchedulingEnv, list[front_picture.Moment]]:
    return front_picture.play()


def names(env: SchedulingEnv, moment: front_picture.Moment) -> list[str]:
    template = env.workload.templates[env.episode.state.jobs["app"][front_picture.FOLLOWED]]
    return [template.nodes[moment.stages["node"][row]].name for row in front_picture.visible(moment.stages)]


def test_each_moment_shows_what_is_known_by_then(played: tuple[SchedulingEnv, list[front_picture.Moment]]) -> None:
    """Before the plan a placeholder stands for the calls, after it the calls; the second plan stays hidden."""
    env, moments = played
    arrived, planned, again = (names(env, moment) for moment in moments)
    rest = ["join", "replan", "more_tasks", "final_join"]
    assert arrived == ["plan", "tasks", *rest]
    assert sorted(planned) == sorted(["plan", *4 * ["search"], *3 * ["math"], *rest])
    assert again == planned
    assert moments[0].time_s < moments[1].time_s < moments[2].time_s


def test_edges_are_not_implied_by_others(played: tuple[SchedulingEnv, list[front_picture.Moment]]) -> None:
    env, moments = played
    for moment in moments:
        shown = front_picture.visible(moment.stages)
        edges = front_picture.links(env.episode.state, shown)
        assert {row for edge in edges for row in edge} == set(shown)
        for parent, child in edges:
            others = [edge for edge in edges if edge != (parent, child)]
            reached = {parent}
            for _ in shown:
                reached |= {end for start, end in others if start in reached}
            assert child not in reached


def test_pictures_are_whole(played: tuple[SchedulingEnv, list[front_picture.Moment]], tmp_path: Path) -> None:
    env, moments = played
    front_picture.write(env, moments, tmp_path)
    made = sorted(tmp_path.iterdir())
    assert [path.name for path in made] == ["front_dark.svg", "front_light.svg"]
    assert all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in made)
