"""Actions as text, and back; and what is no such text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsched_gym.errors import InputError
from llmsched_gym.leaderboard.packing import pack, unpack


@given(st.integers(2, 70_000), st.lists(st.integers(-3, 70_010), max_size=50))
def test_actions_come_back(n_actions: int, actions: list[int]) -> None:
    given_actions = np.array(actions, np.int64)
    expected = [action if 0 <= action < n_actions else -1 for action in actions]
    assert unpack(pack(given_actions, n_actions), n_actions).tolist() == expected


def test_as_few_bytes_as_the_largest_needs() -> None:
    assert pack(np.array([0, 9, 4]), 10) == "b010005"
    assert pack(np.array([254]), 1000) == "bff"
    assert pack(np.array([255]), 1000) == "h0001"
    assert pack(np.array([65_535]), 70_000) == "w00000100"
    assert pack(np.array([-1]), 10) == "b0a", "illegal: one more than there are dispatches and waiting"


@pytest.mark.parametrize("text", ["", "x00", "b0", "h000", "bAA", "bzz", "b00 ", "b0\u0660", "w0000000"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^actions: got "):
        unpack(text, 10)
