"""The fault drill: whatever one of two servers does in the middle of an episode, no job is lost."""

from __future__ import annotations

import pytest
from fault_drill import DRILLS, rehearse, show

from llmsched_gym.backends.vllm.launch import Server


@pytest.mark.parametrize("fault", DRILLS)
def test_nothing_is_lost(servers: list[Server], fault: str, capsys: pytest.CaptureFixture[str]):
    report = rehearse(fault, servers, 12, "srtf")
    assert report.problems == ()
    assert report.jobs == (12, 12)
    assert report.tasks[0] == report.tasks[1] > 12
    show([report])
    assert capsys.readouterr().out.split()[-1] == "ok"
