"""Comparisons run for real: same jobs for all, resumed without loss, equal in one process and in several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmsched_gym.errors import InputError, RunError
from llmsched_gym.evaluation.contestants import find_contestants
from llmsched_gym.evaluation.runner import Silent, compare
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.workloads import store

PICKY = """
from llmsched_gym.policies.fcfs import FCFS
class Picky(FCFS):
    name = "picky"
    def act(self, obs):
        if obs["system"][0] > {limit}:
            raise RuntimeError("too late for me")
        return super().act(obs)
"""


class Recorder(Silent):
    """Remembers what it is told; may interrupt the comparison, as Ctrl-C does."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.advanced: list[str] = []
        self.done = 0
        self._interrupt_after = interrupt_after

    def begin(self, total: int, done: int) -> None:
        """Remember how much was there."""
        self.done = done

    def advance(self, text: str) -> None:
        """Remember a result; interrupt when it is time."""
        self.advanced.append(text)
        if len(self.advanced) == self._interrupt_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def toy() -> Setting:
    return Setting.make("toy")


def test_all_policies_meet_the_same_jobs(tmp_path: Path):
    setting = Setting.make("mixed", jobs=6)
    result = compare(setting, ["fcfs", "srtf"], [0, 1], tmp_path, workers=1)
    digests = {seed: {result.episodes[spec, seed]["workload_digest"] for spec in ("fcfs", "srtf")} for seed in (0, 1)}
    assert all(len(seen) == 1 for seen in digests.values())
    assert digests[0] != digests[1]
    assert digests[0] == {setting.workload(0).digest} == {result.bounds[0]["workload_digest"]}
    metrics = result.episodes["srtf", 0]["metrics"]
    assert metrics["hidden_candidates"] == metrics["illegal_actions"] == 0
    assert metrics["mean_jct_s"] >= result.bounds[0]["lower_bound_mean_jct_s"] > 0


def test_interrupted_comparison_goes_on_where_it_stopped(toy: Setting, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        compare(toy, ["fcfs", "random"], [0, 1], tmp_path, workers=1, progress=Recorder(interrupt_after=4))
    rest = Recorder()
    resumed = compare(toy, ["fcfs", "random"], [0, 1], tmp_path, workers=1, progress=rest)
    assert rest.done == 4
    assert len(rest.advanced) == 2
    fresh = compare(toy, ["fcfs", "random"], [0, 1], tmp_path / "fresh", workers=1)
    for key, episode in fresh.episodes.items():
        assert resumed.episodes[key]["metrics"]["episode_digest"] == episode["metrics"]["episode_digest"]
    again = Recorder()
    compare(toy, ["fcfs"], [1], tmp_path, workers=1, progress=again)
    assert again.advanced == []


def test_worker_processes_give_what_one_process_gives(toy: Setting, tmp_path: Path):
    one = compare(toy, ["fcfs", "random"], [0, 1], tmp_path / "one", workers=1)
    two = compare(toy, ["fcfs", "random"], [0, 1], tmp_path / "two", workers=2)
    assert one.episodes.keys() == two.episodes.keys()
    for key, episode in one.episodes.items():
        assert two.episodes[key]["jct_s"] == episode["jct_s"]
        assert two.episodes[key]["metrics"]["episode_digest"] == episode["metrics"]["episode_digest"]


def test_folder_of_another_comparison_is_refused(toy: Setting, tmp_path: Path):
    compare(toy, ["fcfs"], [0], tmp_path, workers=1)
    with pytest.raises(InputError, match=r"setting\.json: .*another comparison"):
        compare(Setting.make("two_jobs"), ["fcfs"], [0], tmp_path, workers=1)


def test_edited_policy_runs_again(toy: Setting, tmp_path: Path):
    file = tmp_path / "picky.py"
    spec = f"{file}:Picky"
    file.write_text(PICKY.format(limit=1000))
    first = Recorder()
    result = compare(toy, [spec], [0], tmp_path / "out", workers=1, progress=first)
    assert result.contestants[0].label == "picky"
    assert len(first.advanced) == 2
    file.write_text(PICKY.format(limit=2000))
    second = Recorder()
    compare(toy, [spec], [0], tmp_path / "out", workers=1, progress=second)
    assert len(second.advanced) == 1


def test_edited_factory_of_a_class_from_elsewhere_runs_again(toy: Setting, tmp_path: Path):
    file = tmp_path / "mine.py"
    make = "from llmsched_gym.policies.registry import load_policy\ndef make(): return load_policy('{}')\n"
    spec, counts = f"{file}:make", []
    for name in ("random?", "random"):
        file.write_text(make.format(name))
        recorder = Recorder()
        compare(toy, [spec], [0], tmp_path / "out", workers=1, progress=recorder)
        counts.append(len(recorder.advanced))
    assert counts == [2, 1]  # the lower bound and the episode, then the episode again


@pytest.mark.parametrize("workers", [1, 2])
def test_failing_policy_is_named_with_the_place(toy: Setting, tmp_path: Path, workers: int):
    file = tmp_path / "picky.py"
    file.write_text(PICKY.format(limit=3))
    message = r"picky\.py:Picky, seed 0, decision \d+: RuntimeError: too late for me \(picky\.py, line 7\)"
    with pytest.raises(RunError, match=message):
        compare(toy, [f"{file}:Picky", "fcfs"], [0], tmp_path / "out", workers=workers)


def test_workload_file_with_changed_jobs_is_refused(tmp_path: Path):
    file = tmp_path / "jobs.workload"
    store.save(Setting.make("mixed", jobs=4).workload(0), file)
    setting = Setting.make("mixed", workload=file)
    result = compare(setting, ["fcfs"], [0], tmp_path / "out", workers=1)
    assert setting.n_jobs == 4
    assert setting.load is None
    episode = next((tmp_path / "out" / "episodes").iterdir())
    content = json.loads(episode.read_text())
    content["result"]["workload_digest"] = "0" * 32
    episode.write_text(json.dumps(content))
    with pytest.raises(InputError, match="the jobs that the other policies met"):
        compare(setting, ["fcfs"], [0], tmp_path / "out", workers=1)
    assert result.episodes["fcfs", 0]["metrics"]["mean_jct_s"] > 0


def test_contestants_are_labelled_apart(tmp_path: Path):
    file = tmp_path / "picky.py"
    file.write_text(PICKY.format(limit=1))
    (tmp_path / "other.py").write_text(PICKY.format(limit=2))
    specs = ["fcfs", "oracle_srtf", f"{file}:Picky", f"{tmp_path / 'other.py'}:Picky"]
    contestants = find_contestants(specs)
    assert [contestant.label for contestant in contestants] == specs
    assert [contestant.privileged for contestant in contestants] == [False, True, False, False]
    with pytest.raises(InputError, match="every policy once"):
        find_contestants(["fcfs", "fcfs"])
