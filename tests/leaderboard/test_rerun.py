"""Running a submission again: what is measured, what happens to policies that misbehave, sealed instances."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from submissions import change_manifest, put_file

from llmsched_gym.cli import main
from llmsched_gym.errors import InputError
from llmsched_gym.evaluation.episode import run_episode
from llmsched_gym.leaderboard import read_episodes, validate
from llmsched_gym.leaderboard.rerunning import rerun
from llmsched_gym.leaderboard.sandbox.launching import Limits, find_sandbox
from llmsched_gym.leaderboard.sealing import commitment, is_tag, new_key, read_key, sealed_seeds
from llmsched_gym.leaderboard.verification import Verified, load_verified
from llmsched_gym.suites.suite import Suite

SEEDS = {"crowd": [7], "plans": [7]}
HOSTILE = Path(__file__).with_name("hostile.py")


@pytest.fixture(scope="module", autouse=True)
def _sandbox() -> None:
    try:
        find_sandbox()
    except InputError as error:
        pytest.skip(str(error))


def test_the_same_jobs_give_the_same_episodes(mine: Path, suite: Suite) -> None:
    found = rerun(mine, suite, {"crowd": [7, 8], "plans": [7, 8]})
    claimed = [(one.scenario, one.metrics) for one in read_episodes(mine)]
    assert [(one.scenario, one.metrics) for one in found.episodes] == claimed
    assert all((one.late, one.ended) == (0, None) for one in found.episodes)
    assert all(0 < one.decision_us_p50 <= one.decision_us_p99 < 1e6 for one in found.episodes)
    reference = run_episode(suite.scenario("plans").setting, "srtf", 8)["metrics"]["makespan_s"]
    assert found.episodes[3].reference == reference
    assert (found.instances, found.commitment, found.tag) == ("open", None, None)


def test_sealed_instances_by_the_verbs(
    mine: Path, place: Path, tmp_path: Path, suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    assert main(["leaderboard", "key", "new", str(key)]) == 0
    assert key.stat().st_mode & 0o777 == 0o600
    assert main(["leaderboard", "key", "publish", str(key), "-o", str(tmp_path / "published.json")]) == 0
    published = json.loads((tmp_path / "published.json").read_text())
    assert set(published) == {"commitment"}
    capsys.readouterr()
    where = ["--suite", str(place / "tiny")]
    assert (
        main(["leaderboard", "rerun", str(mine), "--instances", "sealed", "--key", str(key), "--count", "1", *where])
        == 0
    )
    secret = read_key(key)
    seeds = sealed_seeds(secret, "tiny-v1", "crowd", 1)
    told = capsys.readouterr()
    written = (mine / "verified.json").read_text()
    assert not any(str(seeds[0]) in text or secret.hex() in text for text in (told.out, told.err, written))
    found = load_verified(mine)
    assert (found.instances, found.commitment) == ("sealed", published["commitment"])
    assert found.tag is not None
    assert is_tag(secret, found.signed(), found.tag)
    better = found.model_copy(update={"decision_limit_s": 9.0})
    assert not is_tag(secret, better.signed(), found.tag)
    assert validate(mine, suite).valid, "a submission may hold it"

    assert main(["leaderboard", "key", "reveal", str(key), "--commitment", "0" * 64]) == 2
    assert main(["leaderboard", "key", "reveal", str(key), "--commitment", published["commitment"]]) == 0
    assert f"key: {secret.hex()}" in capsys.readouterr().out


def test_seeds_follow_from_the_key(tmp_path: Path) -> None:
    for name in "ab":
        new_key(tmp_path / name)
    one, other = read_key(tmp_path / "a"), read_key(tmp_path / "b")
    seeds = [
        *sealed_seeds(one, "s-v1", "x", 50),
        *sealed_seeds(one, "s-v1", "y", 50),
        *sealed_seeds(other, "s-v1", "x", 50),
    ]
    assert len(set(seeds)) == 150
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sealed_seeds(one, "s-v1", "x", 3) == tuple(seeds[:3])
    assert commitment(one) != commitment(other)
    with pytest.raises(InputError, match="file exists"):
        new_key(tmp_path / "a")
    (tmp_path / "a").chmod(0o644)
    with pytest.raises(InputError, match="a key that others can read"):
        read_key(tmp_path / "a")


@pytest.fixture
def hostile(mine: Path) -> Path:
    """A submission whose policy misbehaves."""
    put_file(mine, "policy.py", HOSTILE.read_bytes())
    return mine


def misbehave(folder: Path, suite: Suite, how: str, decision_s: float = 5.0) -> Verified:
    """Run it on one instance."""
    change_manifest(folder, lambda said: said["policy"].update(specs=[f"policy.py:Misbehaving?how={how}"]))
    limits = Limits(decision_s=decision_s, memory_bytes=2 << 30, patience=4.0)
    return rerun(folder, suite, {"crowd": [], "plans": [7]}, limits=limits)


@pytest.fixture(scope="module")
def decisions() -> int:
    """How many decisions FCFS, which the misbehaving policy follows, takes on the instance."""
    from llmsched_gym.evaluation.setting import Setting

    setting = Setting.make("planning_heavy", 5)
    return int(run_episode(setting, "fcfs", 7)["metrics"]["decisions"])


def test_printing_harms_nothing(hostile: Path, suite: Suite) -> None:
    (one,) = misbehave(hostile, suite, "printing").episodes
    assert (one.late, one.ended) == (0, None)


def test_late_decisions_are_counted_and_replaced(hostile: Path, suite: Suite) -> None:
    (one,) = misbehave(hostile, suite, "sleeping_now_and_then", decision_s=0.3).episodes
    assert one.ended is None
    assert one.late == 2


@pytest.mark.parametrize(
    ("how", "ended"),
    [
        ("sleeping_for_ever", "it did not answer"),
        ("leaving", "it has ended by itself"),
        ("killed", "it has ended by itself"),
        ("exiting", "SystemExit: 0"),
        ("raising", "ValueError: \x1b[31mlost\nxxx"),
        ("babbling", "it says more than it was asked"),
        ("returning_nonsense", "Error: "),
        ("eating", "MemoryError: "),
    ],
)
def test_an_end_is_told_and_the_oldest_dispatch_goes_on(how: str, ended: str, hostile: Path, suite: Suite) -> None:
    found = misbehave(hostile, suite, how, decision_s=0.5)
    (one,) = found.episodes
    assert one.ended is not None
    assert ended in one.ended
    assert len(one.ended) <= 500
    assert one.metrics["decisions"] is not None
    assert one.late == one.metrics["decisions"] - 4
    fcfs = run_episode(suite.scenario("plans").setting, "fcfs", 7)["metrics"]
    assert one.metrics["mean_jct_s"] == fcfs["mean_jct_s"], "the oldest legal dispatch is what FCFS does"
    assert Verified.model_validate_json(found.model_dump_json()) == found


def test_numbers_that_are_no_actions_are_illegal_ones(hostile: Path, suite: Suite) -> None:
    (one,) = misbehave(hostile, suite, "returning_huge_numbers").episodes
    assert (one.late, one.ended) == (0, None)
    assert one.metrics["illegal_actions"] == one.metrics["decisions"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--instances", "sealed"], "--key: got None; expected a key with --instances sealed"),
        (["--instances", "seeds.json"], "seeds.json: scenarios: got"),
        (["--instances", "absent.json"], "absent.json: got no such file"),
        (["--instances", "sealed", "--key", "absent"], "absent: got no such file"),
        (["--instances", "sealed", "--key", "mine/key"], "a key inside"),
    ],
)
def test_bad_input_is_refused(
    words: list[str],
    told: str,
    mine: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(mine.parent)
    Path("seeds.json").write_text('{"crowd": [1]}')
    new_key(mine / "key")
    assert main(["leaderboard", "rerun", str(mine), "--suite", str(place / "tiny"), *words]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (mine / "verified.json").exists()


def test_what_does_not_validate_is_not_run(mine: Path, suite: Suite, tmp_path: Path) -> None:
    other = shutil.copytree(mine, tmp_path / "other")
    (other / "policy.py").write_text("open('/tmp/ran', 'w')")
    with pytest.raises(InputError, match="digest: got"):
        rerun(other, suite, SEEDS)
    change_manifest(mine, lambda said: (said.update(track="oracle"), said["policy"].update(privileged=True)))
    with pytest.raises(InputError, match="a policy that does not see the truth"):
        rerun(mine, suite, SEEDS)
