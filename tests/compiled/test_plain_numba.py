"""What Numba compiles by itself does the same."""

from __future__ import annotations

import os
import subprocess
import sys

from llmsched_gym._jit import PLAIN_VARIABLE

PROGRAM = """
import numpy as np
from numba.core.registry import CPUDispatcher
from llmsched_gym._jit import bind
from llmsched_gym.cluster.latency import iteration_ps

coefficients = np.array([11, 7, 5, 3, 2])
bound = bind(iteration_ps, coefficients, others=(0, 0, 0, 0))
print(type(iteration_ps) is CPUDispatcher, iteration_ps(coefficients, 6, 7, 8, 9), bound(6, 7, 8, 9))
"""


def run(**variables: str) -> list[str]:
    """Say whether Numba compiled by itself, and what came out."""
    environment = {**os.environ, "LLMSCHED_GYM_QUIET": "1", **variables}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split(maxsplit=1)


def test_the_same_comes_out_without_our_compiler() -> None:
    (is_plain, ours), (is_plain_too, numbas) = run(), run(**{PLAIN_VARIABLE: "1"})
    assert (is_plain, is_plain_too) == ("False", "True")
    assert ours == numbas == f"{11 + 42 + 35 + 24 + 18} {11 + 42 + 35 + 24 + 18}\n"
