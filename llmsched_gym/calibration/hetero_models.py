"""Models and devices of the heterogeneous clusters: what a model needs of a device, and how long it takes to load.

    python -m llmsched_gym.calibration.hetero_models

prints the tables of docs/devices.md. Weights and KV cache follow from the shape that each model publishes; room and
seconds are formulas fitted to readings of servers, most of them on other devices than these: the page says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BYTES: Final = 2
"""Bytes of a number in bf16."""

USABLE: Final = 0.87
"""Share of a GPU's memory that vLLM has for weights and KV cache: fitted to seven servers."""

_BLANK: Final = "–"


@dataclass(frozen=True)
class Model:
    """A model in bf16.

    Attributes:
        parameters: Number of parameters; embeddings that are tied count once.
        layers: Number of layers.
        kv_heads: Heads of keys and values in each layer.
        head_dim: Numbers in a head.
        profile: Start of the names of the latency profiles of its steps.
        shape: Where the shape is published.
    """

    parameters: int
    layers: int
    kv_heads: int
    head_dim: int
    profile: str
    shape: str

    @property
    def weights_gb(self) -> float:
        """Weights in GB (1e9 bytes)."""
        return BYTES * self.parameters / 1e9

    @property
    def kv_kib_per_token(self) -> float:
        """Keys and values of one token in KiB."""
        return 2 * BYTES * self.layers * self.kv_heads * self.head_dim / 1024


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        memory_gb: Memory as the driver reports it, in GB (1e9 bytes).
        host_gb_s: GB/s from the host's memory.
        reload_gb_s: GB/s from the page cache into an engine that is kept.
        reload_s: Seconds of a reload that do not depend on the weights.
    """

    memory_gb: float
    host_gb_s: float
    reload_gb_s: float = 4.5
    reload_s: float = 0.3


MODELS: Final = {
    "qwen3-0.6b": Model(596_041_728, 28, 8, 128, "qwen3-0.6b", "Qwen3-0.6B"),
    "qwen3-4b": Model(4_022_456_320, 36, 8, 128, "qwen3-4b", "Qwen3-4B"),
    "qwen3-8b": Model(8_190_722_048, 36, 8, 128, "qwen3-8b", "Qwen3-8B"),
    "qwen3-14b": Model(14_768_291_840, 40, 8, 128, "qwen3-14b", "Qwen3-14B"),
    "qwen3-32b": Model(32_762_101_760, 64, 8, 128, "qwen3-32b", "Qwen3-32B"),
    "llama-3.1-8b": Model(8_030_257_152, 32, 8, 128, "llama-3.1-8b", "Llama-3.1-8B"),
    "qwen2.5-coder-14b": Model(14_769_684_480, 48, 8, 128, "qwen3-14b", "Qwen2.5-14B"),
    "r1-distill-32b": Model(32_763_412_480, 64, 8, 128, "qwen3-32b", "Qwen2.5-32B"),
}
"""Models by their names in cluster files."""

DEVICES: Final = {
    "h100": Device(85.5, host_gb_s=50.0),
    "a100": Device(85.9, host_gb_s=24.0, reload_gb_s=4.0, reload_s=0.5),
    "l40s": Device(48.3, host_gb_s=24.0),
}
"""Devices by their names in latency profiles."""

_WAKE_S: Final = 0.3
"""Seconds to wake an engine from the host's memory, beside those of copying."""


def kv_room_tokens(model: Model, memory_gb: float, shards: int = 1) -> int:
    """Tokens of KV cache that fit beside the weights; negative: the weights do not fit.

    Args:
        model: The model.
        memory_gb: Memory of each GPU, in GB.
        shards: GPUs that share weights and KV cache evenly.
    """
    free_gb = shards * USABLE * memory_gb - model.weights_gb
    return int(free_gb * 1e9 // (1024 * model.kv_kib_per_token))


def ram_s(model: Model, device: Device, shards: int = 1) -> float:
    """Seconds until weights that the host's memory holds are on a device, its engine kept."""
    return _WAKE_S + model.weights_gb / shards / device.host_gb_s


def reload_s(model: Model, device: Device, shards: int = 1) -> float:
    """Seconds until weights that the page cache holds are on a device, its engine kept."""
    return device.reload_s + model.weights_gb / shards / device.reload_gb_s


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _room(model: Model, device: str, shards: int) -> str:
    tokens = kv_room_tokens(model, DEVICES[device].memory_gb, shards)
    return f"{tokens:,}" if tokens > 0 else _BLANK


def needs_table() -> str:
    """Markdown: weights, KV cache per token, and room for it, of every model."""
    header = ["model", "weights GB", "KV KiB per token", "room: H100", "A100", "L40S", "2 x L40S"]
    rows: list[list[str]] = []
    for name, model in MODELS.items():
        room = [_room(model, *place) for place in (("h100", 1), ("a100", 1), ("l40s", 1), ("l40s", 2))]
        rows.append([f"`{name}`", f"{model.weights_gb:.2f}", f"{model.kv_kib_per_token:g}", *room])
    return _table(header, rows)


def load_table() -> str:
    """Markdown: seconds to load every model; of what one GPU cannot hold, on each of two."""
    header = ["model", "`reload`: H100", "A100", "L40S", "`ram`: H100", "A100", "L40S"]
    rows: list[list[str]] = []
    for name, model in MODELS.items():
        row = [f"`{name}`"]
        for seconds in (reload_s, ram_s):
            for device in DEVICES.values():
                shards = 1 if kv_room_tokens(model, device.memory_gb) > 0 else 2
                row.append(f"{seconds(model, device, shards):.2f}" + (" (each of 2)" if shards > 1 else ""))
        rows.append(row)
    return _table(header, rows)


def main() -> None:
    """Print the tables."""
    print(needs_table(), load_table(), sep="\n\n")


if __name__ == "__main__":
    main()
