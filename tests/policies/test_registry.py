"""Loading policies: every way to name one, and what is said about names that are wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.policies.base import Policy
from llmsched_gym.policies.registry import load_policy, policy_names

SOURCE = """
from llmsched_gym.policies.base import Policy


class Mine(Policy):
    name = "mine"

    def __init__(self, alpha: float = 0.5, label: str = "x") -> None:
        self.alpha, self.label = alpha, label

    def act(self, obs):
        return 0


def make(seed):
    return Mine(alpha=seed)


def not_a_policy():
    return 3


class Nameless(Mine):
    name = ""


class Pixels(Mine):
    observation = "pixels"


constant = 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("name", policy_names())
def test_short_names_load_the_policy_of_that_name(name: str) -> None:
    policy = load_policy(name)
    assert isinstance(policy, Policy)
    assert policy.name == name
    assert policy.privileged == name.startswith("oracle")


def test_a_policy_loads_from_a_module_and_from_a_file(file: Path) -> None:
    assert load_policy("llmsched_gym.policies.srtf:SRTF").name == "srtf"
    assert load_policy(f"{file}:Mine").name == "mine"


def test_parameters_come_from_the_name_and_from_the_call(file: Path) -> None:
    policy = load_policy(f"{file}:Mine?alpha=0.25&label=a%20b")
    assert (vars(policy)["alpha"], vars(policy)["label"]) == (0.25, "a b")
    assert vars(load_policy(f"{file}:Mine?alpha=0.25", alpha=2))["alpha"] == 2
    assert vars(load_policy(f"{file}:make?seed=3"))["alpha"] == 3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("srft", "did you mean 'srtf'"),
        ("", "one of"),
        ("no_such_module_x:Policy", "no_such_module_x"),
        (".relative:Policy", ".relative"),
        ("llmsched_gym.policies.srtf:SRFT", "did you mean 'SRTF'"),
        ("{folder}/missing.py:Mine", "a Python file that exists"),
        ("{file}:Mind", "did you mean 'Mine'"),
        ("{file}:constant", "constant"),
        ("{file}:not_a_policy", "got a int"),
        ("{file}:Nameless", "attribute name"),
        ("{file}:Pixels", "attribute observation"),
        ("{file}:Mine?beta=1", "alpha, label"),
        ("{file}:make", "seed"),
        ("{file}:Mine?alpha", "key=value"),
        ("{file}:Mine?alpha=1&alpha=2", "got 'alpha'; expected every parameter once"),
        ("{file}:", "factory: got nothing; expected a policy class or function after the colon"),
        ("{folder}/broken.py:Mine", "a Python file that imports"),
    ],
)
def test_a_wrong_name_gives_one_line_that_says_what_is_allowed(file: Path, spec: str, words: str) -> None:
    (file.parent / "broken.py").write_text("def :\n")
    with pytest.raises(InputError) as caught:
        load_policy(spec.format(folder=file.parent, file=file))
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert message.startswith("policy: ")


def test_listing_names_imports_no_policy() -> None:
    code = "import sys; import llmsched_gym.policies.registry as r; r.policy_names(); print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = answer.stdout.split()
    assert "llmsched_gym.policies.registry" in loaded
    assert "llmsched_gym.policies.srtf" not in loaded
