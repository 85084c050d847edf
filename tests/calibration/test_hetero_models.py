"""Models and devices of heterogeneous clusters: facts, formulas against readings, and the page that has them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from llmsched_gym.calibration.hetero_models import (
    BYTES,
    DEVICES,
    MODELS,
    Model,
    kv_room_tokens,
    load_table,
    needs_table,
    ram_s,
    reload_s,
)
from llmsched_gym.cluster.latency import list_profiles

PAGE = Path(__file__).resolve().parents[2] / "docs" / "devices.md"
DRIVER_GB = {"H100 NVL 94GB": 95_830 * 2**20 / 1e9, "RTX 6000 Ada 48GB": 49_140 * 2**20 / 1e9}
NAMES = {model.shape: name for name, model in MODELS.items()}


def table(shared: Path, name: str) -> list[dict[str, str]]:
    path = shared / "data" / "hetero" / f"{name}.csv"
    if not path.is_file():
        pytest.skip("the facts on models and devices (../shared/data/hetero) are not beside this checkout")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_weights_and_kv_cache_are_those_of_the_published_shapes(shared: Path) -> None:
    rows = {row["model"]: row for row in table(shared, "models")}
    for model in MODELS.values():
        row = rows[model.shape]
        assert 1e9 * model.weights_gb == pytest.approx(int(row["weight_bytes_bf16"]))
        assert 1024 * model.kv_kib_per_token == int(row["kv_bytes_per_token_bf16"])
        assert (model.layers, model.kv_heads) == (int(row["layers"]), int(row["kv_heads"]))


def test_the_room_is_that_of_running_servers(shared: Path) -> None:
    rows = table(shared, "kv_capacity")
    assert len(rows) == 7
    for row in rows:
        tokens = kv_room_tokens(MODELS[NAMES[row["model"]]], DRIVER_GB[row["gpu"]])
        assert tokens == pytest.approx(int(row["kv_tokens"]), rel=0.06), row


@pytest.mark.parametrize(
    ("event", "gpu", "size_gb", "device", "tolerance"),
    [
        ("reload_weights_page_cache", "H200", 8.04, "h100", 0.11),
        ("reload_weights_page_cache", "H200", 16.38, "h100", 0.07),
        ("wake_l2_reload", "A100", 1.19, "a100", 0.15),
        ("wake_l2_reload", "A100", 8.3, "a100", 0.05),
        ("wake_l1", "A100", 1.19, "a100", 0.55),
        ("wake_l1", "A100", 8.3, "a100", 0.30),
        ("wake_l1", "A100", 61.0, "a100", 0.02),
    ],
)
def test_loading_takes_as_long_as_measured(
    shared: Path, event: str, gpu: str, size_gb: float, device: str, tolerance: float
) -> None:
    rows = [row for row in table(shared, "model_switch") if (row["event"], row["gpu"]) == (event, gpu)]
    (row,) = [
        row
        for row in rows
        if row["weight_bytes_per_gpu"] and abs(float(row["weight_bytes_per_gpu"]) / 1e9 - size_gb) < 0.01
        if "LoRA" not in row["engine_or_loader"]
    ]
    model = Model(round(size_gb * 1e9 / BYTES), 1, 1, 1, "", "")
    seconds = (ram_s if event == "wake_l1" else reload_s)(model, DEVICES[device])
    low, high = float(row["seconds_min"]), float(row["seconds_max"])
    assert low / (1 + tolerance) <= seconds <= high * (1 + tolerance)


def test_seconds_of_the_printed_table() -> None:
    """`reload`, and `ram` over PCIe 5 and 4, by model."""
    for name, reload, fast, slow in (
        ("qwen3-0.6b", 0.6, 0.32, 0.35),
        ("qwen3-4b", 2.1, 0.46, 0.65),
        ("qwen3-8b", 3.9, 0.63, 1.0),
        ("qwen3-14b", 6.9, 0.89, 1.6),
        ("qwen3-32b", 14.9, 1.61, 3.0),
    ):
        model = MODELS[name]
        assert reload_s(model, DEVICES["h100"]) == pytest.approx(reload, abs=0.051)
        assert ram_s(model, DEVICES["h100"]) == pytest.approx(fast, abs=0.0051)
        assert ram_s(model, DEVICES["a100"]) == pytest.approx(slow, abs=0.08)
    assert ram_s(MODELS["qwen3-32b"], DEVICES["l40s"], 2) == pytest.approx(0.3 + 32.76 / 24, abs=0.01)


def test_what_fits_where() -> None:
    room = {
        device: {name: kv_room_tokens(model, facts.memory_gb) for name, model in MODELS.items()}
        for device, facts in DEVICES.items()
    }
    assert {name for name, tokens in room["l40s"].items() if tokens <= 0} == {"qwen3-32b", "r1-distill-32b"}
    assert all(tokens > 30_000 for tokens in (*room["h100"].values(), *room["a100"].values()))
    assert kv_room_tokens(MODELS["qwen3-32b"], DEVICES["l40s"].memory_gb, 2) > 60_000


def test_steps_of_models_without_a_profile_of_their_own(shared: Path) -> None:
    """The shapes of Qwen2.5 take about as long as those of Qwen3 that stand for them."""
    fits = {
        (row["model"], row["gpu"], row["tp"]): row for row in table(shared, "step_fit") if row["precision"] == "bf16"
    }
    for name, limit in (("qwen2.5-coder-14b", 0.11), ("r1-distill-32b", 0.04)):
        model = MODELS[name]
        other = MODELS[model.profile].shape
        assert f"{model.profile}-h100" in list_profiles()
        compared = 0
        for gpu, shards in (("h100_sxm", "1"), ("a100_sxm", "1"), ("l40s", "1"), ("l40s", "2"), ("h100_sxm", "2")):
            if (model.shape, gpu, shards) not in fits:
                continue
            own, stand_in = (
                [float(fits[key, gpu, shards][f"{letter}_ms"]) for letter in "abcd"] for key in (model.shape, other)
            )
            for factors in ((1, 1, 0, 500), (1, 16, 0, 16_000), (1, 16, 512, 16_000), (1, 0, 2048, 0)):
                ratio = sum(x * y for x, y in zip(factors, own, strict=True)) / sum(
                    x * y for x, y in zip(factors, stand_in, strict=True)
                )
                assert ratio == pytest.approx(1.0, abs=limit), (name, gpu, shards, factors)
                compared += 1
        assert compared >= 16


def test_the_page_has_the_tables_of_the_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert needs_table() in text
    assert load_table() in text
