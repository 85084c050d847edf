"""Datasets for offline learning: played again, they are the episodes that they say they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

minari = pytest.importorskip("minari", reason="Minari is not installed: pip install 'llmsched-gym[offline]'")
pytest.importorskip("h5py", reason="h5py is not installed: pip install 'llmsched-gym[offline]'")

from llmsched_gym.cli import main  # noqa: E402
from llmsched_gym.errors import InputError  # noqa: E402
from llmsched_gym.evaluation.episode import run_episode  # noqa: E402
from llmsched_gym.evaluation.offline import Recording, record  # noqa: E402
from llmsched_gym.evaluation.runner import Silent  # noqa: E402
from llmsched_gym.evaluation.setting import Setting  # noqa: E402


def setting(scenario: str, jobs: int) -> Setting:
    return replace(Setting.make(scenario, jobs), split="train")


@pytest.mark.parametrize(
    ("scenario", "jobs", "policy", "observation"),
    [
        ("mixed", 8, "srtf", "table"),
        ("mixed_burst", 6, "oracle_srtf?reserve_s=2", "graph"),  # sees the truth, and waits though it need not
        ("hetero8", 4, "srtf+mct", "table"),  # chooses executors
        ("planning", 6, "random", "table"),
    ],
)
def test_a_dataset_played_again_is_the_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, jobs: int, policy: str, observation: Any
) -> None:
    recording = Recording(setting(scenario, jobs), policy, (3, 5), observation)
    written = record(recording, recording.default_name, tmp_path, Silent())
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset(recording.default_name)
    assert (dataset.total_episodes, dataset.total_steps) == (2, written.decisions)
    env = dataset.recover_environment()
    metadata = [*dataset.storage.get_episode_metadata(dataset.episode_indices)]
    for episode, facts in zip(dataset.iterate_episodes(), metadata, strict=True):
        seed = int(facts["seed"])
        seen, _ = env.reset(seed=seed)
        over, info = False, {}
        for position, action in enumerate(episode.actions):
            assert not over
            assert all(np.array_equal(episode.observations[name][position], seen[name]) for name in seen)
            assert seen["action_mask"][action] == 1
            seen, reward, over, _, info = env.step(int(action))
            assert reward == episode.rewards[position]
            assert over == episode.terminations[position]
        assert over
        assert "truth" not in episode.observations
        assert all(np.array_equal(episode.observations[name][-1], seen[name]) for name in seen)
        alone = run_episode(recording.setting, policy, seed)
        assert info["result"]["digest"] == facts["episode_digest"] == alone["metrics"]["episode_digest"]
        assert facts["workload_digest"] == alone["workload_digest"]
        assert facts["mean_jct_s"] == alone["metrics"]["mean_jct_s"]
        assert bool(facts["privileged_policy"]) == policy.startswith("oracle")


def test_it_is_stored_compressed(tmp_path: Path) -> None:
    recording = Recording(setting("mixed", 8), "fcfs", (0,))
    written = record(recording, "small-v0", tmp_path, Silent())
    assert written.folder == tmp_path / "small-v0"
    assert written.megabytes < 0.3 * written.decisions * 10_221 / 1e6, "most rows are empty"
    assert [path.name for path in tmp_path.iterdir()] == ["small-v0"]


def test_a_stage_that_the_window_hides_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    recording = Recording(setting("mixed_burst", 30), "oracle_srtf", (0,), window=2)
    with pytest.raises(InputError, match=r"--window: got 2; expected a larger --window"):
        record(recording, "small-v0", tmp_path, Silent())
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "no version"], "--name: got 'no version'; expected letters, digits"),
        (["--name", "../../etc-v0"], "--name: got '../../etc-v0'; expected letters"),
        (["--policy", "fcsf"], "did you mean 'fcfs'"),
        (["--seeds", "x"], "--seeds: got 'x'"),
        (["--window", "0"], "--window: got 0; expected"),
        (["--scenario", "mixd"], "did you mean 'mixed'"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dataset", "--jobs", "3", "--seeds", "0", "-o", str(tmp_path / "sets"), *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not [*tmp_path.rglob("*.hdf5")]


def test_a_dataset_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset", "--jobs", "3", "--seeds", "0", "--name", "mine-v0", "-o", str(tmp_path), "--json"]
    assert main(words) == 0
    before = (tmp_path / "mine-v0" / "data" / "main_data.hdf5").read_bytes()
    capsys.readouterr()
    assert main(words) == 2
    assert "a folder that does not exist yet" in capsys.readouterr().err
    assert (tmp_path / "mine-v0" / "data" / "main_data.hdf5").read_bytes() == before
