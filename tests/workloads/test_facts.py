"""Fitted distributions."""

from __future__ import annotations

from llmsched_gym.workloads.facts import Quantiles


def test_quantiles_are_linear_between_levels() -> None:
    table = Quantiles.of({"levels": [0, 0.5, 1], "values": [10, 20, 100]})
    assert table([0, 0.25, 0.5, 0.75, 1]).tolist() == [10, 15, 20, 60, 100]
