"""Text, frames and figures show what the state holds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import AddRenderObservation, RenderCollection
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.errors import InputError
from llmsched_gym.export import render
from llmsched_gym.export.gantt import gantt_figure

MANY_LANES = {
    "name": "many lanes",
    "executors": [
        {"kind": "llm", "count": 12, "latency": "llama-2-7b-h100", "model": "llama-2-7b", "max_num_seqs": 64},
        {"kind": "regular", "count": 300},
    ],
}


def play(env: SchedulingEnv, decisions: int | None = None) -> SchedulingEnv:
    """Play first come, first served, to the end or for some decisions."""
    _, info = env.reset(seed=2)
    done, count = False, 0
    while not done and count != decisions:
        _, _, done, _, info = env.step(int(info["action_mask"].argmax()))
        count += 1
    return env


def text_after(env: SchedulingEnv, decisions: int) -> list[str]:
    play(env, decisions)
    return render.ansi(env.episode, env.workload).splitlines()


def frame_after(env: SchedulingEnv, decisions: int | None = None) -> np.ndarray[Any, Any]:
    play(env, decisions)
    return render.gantt_array(env.episode.state, env.workload)


def share(frame: np.ndarray[Any, Any], colour: str) -> float:
    return float(np.mean((frame == ImageColor.getrgb(colour)).all(axis=-1)))


def test_text_of_a_known_moment() -> None:
    # After the first job's 4 s on the LLM and the second's 1 s, the third job has the LLM until 9 s.
    text = text_after(SchedulingEnv("toy"), 4)
    assert text[0] == "toy  6.000 s  jobs: 4 in system, 1 done, 0 to come"
    assert text[1].split() == ["LLM", "0", "[#]", "1/1", "KV", "0%"]
    assert text[2].split() == ["regular", "[.]", "0/1"]
    assert text[3].split(maxsplit=1) == ["ready", "3 stages with 3 tasks to start: quick 3"]


def test_text_is_short_for_large_clusters() -> None:
    text = text_after(SchedulingEnv("mixed", jobs=20, cluster=MANY_LANES), 150)
    assert len(text) == 12
    assert max(map(len, text)) < 140
    assert sum("/" in line for line in text) == 10


def test_frame_shows_each_application_for_as_long_as_it_ran() -> None:
    # Lanes of 13 s on a 20 s axis: thorough has 8 s of the LLM and 4 s of the regular executor, quick 3 s and 3 s.
    frame = frame_after(SchedulingEnv("toy"))
    lane = frame[55, 76:-16]
    quick, thorough = (share(lane, colour) for colour in render.COLOURS[:2])
    assert quick == pytest.approx(3 / 20, abs=0.01)
    assert thorough == pytest.approx(8 / 20, abs=0.01)


def test_frames_are_of_one_size_and_change() -> None:
    env = SchedulingEnv("mixed", jobs=10, render_mode="rgb_array")
    frames = [frame_after(env, count) for count in (0, 1, 30, 120, None)]
    assert {frame.shape for frame in frames} == {frames[0].shape}
    assert all(side % 2 == 0 for side in frames[0].shape[:2])
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert all((a != b).any() for a, b in pairwise(frames))
    np.testing.assert_array_equal(frames[-1], env.render())


def test_more_lanes_than_pixels_still_fit() -> None:
    frame = frame_after(SchedulingEnv("mixed", jobs=20, cluster=MANY_LANES))
    assert frame.shape[0] < 700
    assert share(frame, render.COLOURS[1]) > 0.001


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
@pytest.mark.filterwarnings("ignore:.*observation space (minimum|maximum) value is (-)?infinity")
def test_gymnasium_accepts_rendering(mode: str) -> None:
    check_env(gym.make("LLMSched/Toy-v0", render_mode=mode).unwrapped, skip_render_check=False)


def test_gymnasiums_render_wrappers_work() -> None:
    env = RenderCollection(gym.make("LLMSched/Toy-v0", render_mode="rgb_array"))
    _, info = env.reset(seed=0)
    done, steps = False, 0
    while not done:
        _, _, done, _, info = env.step(np.int64(info["action_mask"].argmax()))
        steps += 1
    frames = env.render()
    assert isinstance(frames, list)
    assert len(frames) == steps + 1
    pixels = AddRenderObservation(gym.make("LLMSched/Toy-v0", render_mode="rgb_array"))
    assert pixels.observation_space.contains(pixels.reset(seed=0)[0])


def test_video(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="gymnasium's RecordVideo needs moviepy")
    env = gym.wrappers.RecordVideo(
        gym.make("LLMSched/Toy-v0", render_mode="rgb_array"), str(tmp_path), episode_trigger=lambda _: True
    )
    _, info = env.reset(seed=0)
    done = False
    while not done:
        _, _, done, _, info = env.step(np.int64(info["action_mask"].argmax()))
    env.close()
    (video,) = tmp_path.glob("*.mp4")
    assert video.stat().st_size > 1000


@pytest.mark.parametrize("decisions", [0, 60, None], ids=["reset", "unfinished", "finished"])
def test_figure(decisions: int | None, tmp_path: Path) -> None:
    env = play(SchedulingEnv("mixed", jobs=10), decisions)
    gantt_figure(env.episode.state, env.workload, tmp_path / "gantt.png", "mixed, FCFS, seed 2")
    with Image.open(tmp_path / "gantt.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    coloured = sum(share(pixels, colour) for colour in render.COLOURS[:6])
    assert coloured > (0.02 if decisions is None else 0.0)


def test_queues_have_a_scale_each_and_arrivals_a_strip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    env = play(SchedulingEnv("mixed", jobs=10))
    gantt_figure(env.episode.state, env.workload, tmp_path / "gantt.png", "mixed")
    _, arrivals, jobs, tasks = drawn[0].axes
    assert sum(len(ticks.get_paths()) for ticks in arrivals.collections) == 10
    assert (jobs.get_ylabel(), tasks.get_ylabel()) == ("jobs in system", "ready tasks")
    assert jobs.get_ylim()[1] != tasks.get_ylim()[1]


def test_a_figure_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    env = play(SchedulingEnv("toy"))
    with pytest.raises(InputError, match=r"missing/gantt\.png"):
        gantt_figure(env.episode.state, env.workload, tmp_path / "missing" / "gantt.png", "toy")
