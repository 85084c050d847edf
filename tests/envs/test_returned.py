"""Arrays are written to again only if nobody else holds them."""

from __future__ import annotations

import numpy as np
import pytest

from llmsched_gym.envs.returned import ReturnedArrays

EXAMPLE = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.int8)}


def test_forgotten_arrays_are_taken_again() -> None:
    returned = ReturnedArrays(EXAMPLE)
    arrays, used = returned.take()
    assert not used
    assert {name: (array.shape, array.dtype) for name, array in arrays.items()} == {
        name: (array.shape, array.dtype) for name, array in EXAMPLE.items()
    }
    arrays["a"][:] = 7.0
    again, used = returned.take()
    assert used
    assert again is arrays
    assert (again["a"] == 7.0).all()


@pytest.mark.parametrize(
    "hold", [lambda d: d["a"], lambda d: d["b"][1:], lambda d: dict(d), lambda d: memoryview(d["b"])]
)
def test_arrays_that_are_held_are_left_alone(hold) -> None:
    returned = ReturnedArrays(EXAMPLE)
    held = hold(returned.take()[0])
    others = [returned.take() for _ in range(3)]
    assert not others[0][1]
    for _, used in others[1:]:
        assert used
    assert all(arrays is others[0][0] for arrays, _ in others)
    del held
    assert returned.take()[1]


def test_many_may_be_held() -> None:
    returned = ReturnedArrays(EXAMPLE)
    held = [dict(returned.take()[0]) for _ in range(20)]
    assert len({id(arrays["a"]) for arrays in held}) == 20
