"""What Decima's ablation tells of its episodes, and its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from decima_ablation import TRAINED, UNTRAINED, apart, compare, draw
from grid import ORACLE, WORKLOADS


def _rows() -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    factors = {"random": 2.0, "fcfs": 1.6, UNTRAINED: 1.25, TRAINED: 1.2, ORACLE: 1.0}
    rows: list[dict[str, object]] = []
    for workload in WORKLOADS:
        for _ in range(12):
            jobs = float(np.exp(rng.normal(3.0, 1.0)))
            for policy, factor in factors.items():
                noise = rng.uniform(0.9, 1.1) if policy in (TRAINED, UNTRAINED) else 1.0
                rows.append({"scenario": workload, "policy": policy, "mean_jct_s": factor * noise * jobs})
    return rows


def test_policies_are_told_apart_relative_to_the_oracle(tmp_path: Path) -> None:
    lines = {workload: compare(_rows(), workload, TRAINED) for workload in WORKLOADS}
    first = lines["mixed"]
    assert [one.policy for one in first] == [ORACLE, TRAINED, UNTRAINED, "fcfs", "random"]
    by_name = {one.policy: one for one in first}
    assert by_name["fcfs"].to_oracle.mid == pytest.approx(1.6)
    assert by_name["random"].below_fcfs.mid == pytest.approx(-25.0)
    assert by_name[TRAINED].above_trained.mid == 0.0
    assert apart(first, TRAINED, "fcfs")
    assert not apart(first, "fcfs", TRAINED)
    assert not apart(first, TRAINED, UNTRAINED)
    draw(lines, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
