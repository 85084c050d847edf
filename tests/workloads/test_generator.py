"""Generated workloads depend on exactly what they should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_gym.errors import InputError
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.arrivals import Gamma, Poisson
from llmsched_gym.workloads.generator import MIXES, SPLITS, generate
from llmsched_gym.workloads.splits import stream
from llmsched_gym.workloads.summary import summarize
from llmsched_gym.workloads.toy import TOY_APPLICATIONS
from llmsched_gym.workloads.validate import validate_workload
from llmsched_gym.workloads.workload import Workload


@pytest.fixture(scope="module")
def three(assistant: Application) -> dict[str, Application]:
    return {**TOY_APPLICATIONS, "assistant": assistant}


def tokens_of(workload: Workload, app: str) -> list[int]:
    """Output tokens of the tasks of one application, job by job."""
    index = [template.name for template in workload.templates].index(app)
    of_app = workload.jobs["app"][workload.stages["job"][workload.tasks["stage"]]] == index
    return workload.tasks["output_tokens"][of_app].tolist()


def test_same_seed_same_digest_and_others_differ(three: dict[str, Application]) -> None:
    def digest(split: str, seed: int) -> str:
        mix = dict.fromkeys(three, 1.0)
        return generate("w", mix, Poisson(), 1.0, 60, split, seed, applications=three).digest

    assert digest("train", 7) == digest("train", 7)
    digests = {digest(split, seed) for split in SPLITS for seed in (0, 1, 5, 2**32, 2**32 + 5, 2**63 - 1)}
    assert len(digests) == 18


def test_arrivals_and_mix_have_streams_of_their_own(three: dict[str, Application]) -> None:
    mix = {"certain": 1.0, "uncertain": 1.0, "assistant": 2.0}
    plain = generate("w", mix, Poisson(), 1.0, 80, "train", 3, applications=three)
    bursty = generate("w", mix, Gamma(cv=3.0), 9.0, 80, "train", 3, applications=three)
    turned = generate("w", dict(reversed(mix.items())), Poisson(), 1.0, 80, "train", 3, applications=three)
    assert plain.digest == turned.digest
    assert plain.jobs["app"].tolist() == bursty.jobs["app"].tolist()
    assert plain.tasks["output_tokens"].tolist() == bursty.tasks["output_tokens"].tolist()
    assert not np.array_equal(plain.jobs["arrival_ns"], bursty.jobs["arrival_ns"])
    assert np.array_equal(
        plain.jobs["arrival_ns"],
        generate("w", {"certain": 1.0}, Poisson(), 1.0, 80, "train", 3, applications=three).jobs["arrival_ns"],
    )
    alone = generate("w", {"assistant": 1.0}, Poisson(), 1.0, 80, "train", 3, applications=three)
    n_with = int(np.count_nonzero(plain.jobs["app"] == 2))
    again = three["assistant"].sample(n_with, stream("train", 3, "application/assistant"))
    assert len(tokens_of(alone, "assistant")) > 0
    assert again.exists.sum() == np.count_nonzero(plain.jobs["app"][plain.stages["job"]] == 2)


def test_mix_is_proportional_and_history_comes_along(three: dict[str, Application]) -> None:
    mix = {"assistant": 3.0, "certain": 1.0}
    workload = generate("w", mix, Poisson(), 2.0, 4000, "train", 0, applications=three)
    validate_workload(workload)
    assert [template.name for template in workload.templates] == ["certain", "assistant"]
    assert np.mean(workload.jobs["app"] == 1) == pytest.approx(0.75, abs=0.03)
    assert workload.jobs["arrival_ns"][-1] / 1e9 == pytest.approx(2000.0, rel=0.06)
    assert workload.provenance["split"] == "train"


def test_streams_of_all_seeds_and_splits_differ() -> None:
    seeds = [0, 1, 2, 5, 2**32 - 1, 2**32, 2**32 + 1, 2**32 + 5, 2**63 - 1]
    draws = {
        tuple(stream(split, seed, name).integers(0, 2**63, 2).tolist())
        for split in SPLITS
        for seed in seeds
        for name in ("arrivals", "mix", "application/a")
    }
    assert len(draws) == 3 * 9 * 3


@pytest.mark.parametrize("name", MIXES)
def test_benchmark_mixes_are_valid(name: str) -> None:
    workload = generate(name, MIXES[name], Poisson(), 0.5, 60, "eval", 1)
    validate_workload(workload)
    assert [template.name for template in workload.templates] == [app for app in APPLICATIONS if app in MIXES[name]]


DIGEST = """
from llmsched_gym.workloads.arrivals import Gamma
from llmsched_gym.workloads.generator import MIXES, generate
print(generate("mixed", MIXES["mixed"], Gamma(cv=2.0), 0.5, 120, "eval", 11).digest)
"""


def test_digest_ignores_hash_seed_process_and_simd_level() -> None:
    here = generate("mixed", MIXES["mixed"], Gamma(cv=2.0), 0.5, 120, "eval", 11).digest
    config: Any = np.show_config(mode="dicts")
    simd = config["SIMD Extensions"]["found"]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "123",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "NPY_DISABLE_CPU_FEATURES": " ".join(simd),
        "PYTHONWARNINGS": "ignore",
    }
    run = subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_jobs": 0}, "n_jobs: got 0; expected a whole number from 1 to 1000000"),
        ({"n_jobs": True}, "n_jobs: got True"),
        ({"n_jobs": 2.5}, "n_jobs: got 2.5"),
        ({"rate_per_s": float("nan")}, "rate: got nan"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 2**63}, "seed: got 9223372036854775808"),
        ({"seed": True}, "seed: got True"),
        ({"seed": 1.0}, "seed: got 1.0"),
        ({"split": "test"}, "split: got 'test'; expected one of eval, profile, train"),
        ({"mix": {}}, "mix: got no application"),
        ({"mix": {"certian": 1.0}}, "mix: got 'certian'; expected one of assistant, certain, uncertain; did you mean"),
        ({"mix": {"certain": 0.0}}, "mix.certain: got 0.0; expected a weight > 0"),
        ({"mix": {"certain": float("inf")}}, "mix.certain: got inf"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(three: dict[str, Application], change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "mix": {"certain": 1.0},
        "arrivals": Poisson(),
        "rate_per_s": 1.0,
        "n_jobs": 5,
        "split": "train",
        "seed": 0,
    }
    with pytest.raises(InputError) as caught:
        generate("w", applications=three, **{**arguments, **change})  # pyright: ignore[reportArgumentType]
    assert message in str(caught.value)


def test_summary_adds_up(three: dict[str, Application]) -> None:
    workload = generate("w", dict.fromkeys(three, 1.0), Poisson(), 1.0, 90, "train", 0, applications=three)
    *rows, total = summarize(workload)
    assert [row["application"] for row in rows] == list(three)
    assert total["application"] == "all"
    for column in ("jobs", "stages", "planned_stages", "skipped_stages", "tasks"):
        assert sum(row[column] for row in rows) == total[column]
    assert total["jobs"] == 90
    assert total["stages"] + total["skipped_stages"] == len(workload.stages)
    assert total["tasks_mean"] == pytest.approx(len(workload.tasks) / 90)
    assert rows[0]["tool_s_mean"] == 1.0
    assert (rows[0]["rounds_max"], rows[2]["rounds_max"]) == (1, 3)
    assert rows[2]["planned_stages"] >= rows[2]["jobs"]
