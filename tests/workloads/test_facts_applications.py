"""What every application's sampler keeps to, whatever its facts say."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmsched_gym.workloads import applications, detmath, variates
from llmsched_gym.workloads.applications import APPLICATIONS, Application
from llmsched_gym.workloads.applications.base import MAX_CONTEXT_TOKENS
from llmsched_gym.workloads.block import JobBlock
from llmsched_gym.workloads.template import StageKind

JOBS = 500


def digest(block: JobBlock) -> str:
    """Hash of every array of a block."""
    state = hashlib.blake2b(digest_size=16)
    for value in block:
        state.update(np.ascontiguousarray(value).tobytes())
    return state.hexdigest()


@pytest.fixture(scope="module", params=sorted(APPLICATIONS))
def application(request: pytest.FixtureRequest) -> Application:
    return APPLICATIONS[request.param]


@pytest.fixture(scope="module")
def block(application: Application) -> JobBlock:
    return application.sample(JOBS, np.random.default_rng(11))


def used_tasks(block: JobBlock) -> np.ndarray:
    """(n, S, T) tasks that will run."""
    tasks = np.arange(block.prompt_tokens.shape[2]) < block.n_tasks[:, :, None]
    return tasks & (block.exists & block.present)[:, :, None]


def kinds(application: Application, block: JobBlock) -> np.ndarray:
    """(n, S) stage kinds."""
    return application.template.kinds[block.node]


def test_template_is_valid_and_named(application: Application) -> None:
    application.template.validate("test")
    assert APPLICATIONS[application.name] is application
    assert len(set(application.prefixes)) == len(application.prefixes)


def test_same_generator_state_gives_the_same_jobs(application: Application, block: JobBlock) -> None:
    assert digest(application.sample(JOBS, np.random.default_rng(11))) == digest(block)
    assert digest(application.sample(JOBS, np.random.default_rng(12))) != digest(block)


def test_parents_come_before_children_and_exist(block: JobBlock) -> None:
    _, child, parent = np.nonzero(block.parents & block.exists[:, :, None] & block.exists[:, None, :])
    assert np.all(parent < child)


def test_every_stage_is_reachable_from_a_root(block: JobBlock) -> None:
    roots = block.exists & ~np.any(block.parents & block.exists[:, None, :], axis=2)
    assert np.all(roots.sum(axis=1) >= 1)
    job, slot = np.nonzero(roots)
    assert np.all(block.revealer[job, slot] == -1), "a root waits for no revealer"


def test_revealers_are_present_earlier_stages(block: JobBlock) -> None:
    job, slot = np.nonzero(block.exists & (block.revealer >= 0))
    revealer = block.revealer[job, slot]
    assert np.all(revealer < slot)
    assert np.all(block.exists[job, revealer] & block.present[job, revealer])
    assert np.all(block.present | (block.revealer >= 0)), "an absent stage needs a stage that tells"


def test_present_stages_have_tasks(application: Application, block: JobBlock) -> None:
    dynamic = kinds(application, block) == StageKind.DYNAMIC
    runs = block.exists & block.present & ~dynamic
    assert np.all(block.n_tasks[runs] >= 1)
    assert np.all(block.n_tasks[runs] <= block.prompt_tokens.shape[2])
    assert np.all(block.n_tasks[block.exists & dynamic] == 0)


def test_llm_tasks_have_tokens_within_the_context(application: Application, block: JobBlock) -> None:
    llm = used_tasks(block) & (kinds(application, block) == StageKind.LLM)[:, :, None]
    prompt, output = block.prompt_tokens[llm], block.output_tokens[llm]
    assert prompt.min() >= 1
    assert output.min() >= 1
    assert (prompt + output).max() <= MAX_CONTEXT_TOKENS


def test_regular_tasks_take_time(application: Application, block: JobBlock) -> None:
    regular = used_tasks(block) & (kinds(application, block) == StageKind.REGULAR)[:, :, None]
    assert np.all(block.duration_ns[regular] > 0)
    assert np.all(block.duration_ns[regular] <= 600 * 10**9)


def test_prefixes_lie_inside_prompts(application: Application, block: JobBlock) -> None:
    llm = block.exists & block.present & (kinds(application, block) == StageKind.LLM)
    prompt = np.where(used_tasks(block), block.prompt_tokens, MAX_CONTEXT_TOKENS).min(axis=2)
    assert np.all(block.app_prefix_tokens[llm] <= block.job_prefix_tokens[llm])
    assert np.all(block.job_prefix_tokens[llm] <= prompt[llm])
    assert np.all(block.app_prefix[llm] < len(application.prefixes))
    assert np.all((block.app_prefix >= 0) | (block.app_prefix_tokens == 0) | ~llm)


PLATFORM_DEPENDENT = {
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "power", "float_power"),
    *("sin", "cos", "tan", "tanh", "arctan", "dot", "matmul", "einsum", "inner"),
}
"""NumPy functions whose last bit differs between processors."""

EXACT = {"sqrt", "frexp", "ldexp"}
"""Functions of ``math`` whose last bit does not."""

SAMPLERS = [*sorted(Path(applications.__file__).parent.glob("*.py")), Path(variates.__file__), Path(detmath.__file__)]


@pytest.mark.parametrize("path", SAMPLERS, ids=lambda path: path.stem)
def test_samplers_use_no_function_that_differs_between_processors(path: Path) -> None:
    """Rounding to tokens hides a last bit almost always, so drawing jobs cannot show this."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    used: dict[str, set[str]] = {"np": set(), "math": set()}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in used:
            used[node.value.id].add(node.attr)
    assert not used["np"] & PLATFORM_DEPENDENT
    assert used["math"] <= EXACT
    powers = [node for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
    assert all(isinstance(node.left, ast.Constant) and isinstance(node.right, ast.UnaryOp) for node in powers)
    assert not any(isinstance(node, ast.MatMult) for node in nodes)


def test_jobs_do_not_depend_on_the_processor_or_the_hash_seed() -> None:
    """The same seed draws the same jobs with NumPy's SIMD kernels switched off and another hash seed.

    For samplers compiled for another processor, `test_determinism.py` shows it.
    """
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np\n"
        "from test_facts_applications import digest\n"
        "from llmsched_gym.workloads.applications import APPLICATIONS\n"
        "print(*(digest(APPLICATIONS[a].sample(200, np.random.default_rng(5))) for a in sorted(APPLICATIONS)))\n"
    )
    umath = np._core._multiarray_umath  # pyright: ignore[reportAttributeAccessIssue]
    disabled = " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name])
    environment = os.environ | {
        "PYTHONHASHSEED": "77",
        "NPY_DISABLE_CPU_FEATURES": disabled,
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-c", program, os.path.dirname(__file__)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert found == [digest(APPLICATIONS[a].sample(200, np.random.default_rng(5))) for a in sorted(APPLICATIONS)]
