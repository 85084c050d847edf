"""The workflow for pull requests that docs/leaderboard.md shows: it can only read, and checks with trusted code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def workflow() -> dict[object, object]:
    """What stands on the page."""
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "leaderboard.md").read_text(), re.DOTALL)
    return yaml.safe_load(text)


def test_its_token_can_only_read() -> None:
    content = workflow()
    assert content["permissions"] == {"contents": "read"}
    assert list(content[True]) == ["pull_request"], "YAML 1.1 takes `on` for true; pull_request_target has secrets"  # pyright: ignore
    steps = content["jobs"]["validate"]["steps"]  # pyright: ignore
    checkouts = [step["with"] for step in steps if step.get("uses", "").startswith("actions/checkout")]
    assert [one["persist-credentials"] for one in checkouts] == [False, False]
    assert "base.sha" in checkouts[0]["ref"]
    assert [step["run"] for step in steps if "pip" in step.get("run", "")] == ["pip install ./trusted"]


def test_it_picks_what_is_new_and_refuses_what_is_not_for_submitters(tmp_path: Path) -> None:
    steps = workflow()["jobs"]["validate"]["steps"]  # pyright: ignore
    script = steps[-1]["run"].replace("llmsched-gym leaderboard validate", "printf '%s\\n'")
    for place in ("trusted", "given"):
        (tmp_path / place / "leaderboard/submissions/s-v1/old").mkdir(parents=True)
        (tmp_path / place / "leaderboard/submissions/s-v1/changed").mkdir()
        (tmp_path / place / "leaderboard/submissions/s-v1/changed/a").write_text(place)
    odd = tmp_path / "given/leaderboard/submissions/s-v1/a b;touch x"
    odd.mkdir()

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", f"set -e\n{script}"], cwd=tmp_path, capture_output=True, text=True)

    found = run()
    assert found.returncode == 0, found.stderr
    prefix = "../given/leaderboard/submissions/s-v1"
    assert found.stdout.splitlines() == [f"{prefix}/a b;touch x/", f"{prefix}/changed/"]
    (odd / "verified.json").touch()
    assert run().returncode == 2
