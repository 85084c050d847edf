"""Small clusters whose executors serve models in turn, and a scenario on one of them."""

from __future__ import annotations

from typing import Any, Final

_SIZES: Final = {
    "qwen3-4b": (8.0, 144, "qwen3-4b-h100"),
    "qwen3-8b": (16.4, 144, "qwen3-8b-h100"),
    "qwen3-14b": (29.5, 160, "qwen3-14b-h100"),
    "qwen3-32b": (65.5, 256, "qwen3-32b-h100"),
    "llama-3.1-8b": (16.1, 128, "llama-3.1-8b-h100"),
    "qwen2.5-coder-14b": (29.5, 192, "qwen3-14b-h100"),
    "r1-distill-32b": (65.5, 256, "qwen3-32b-h100"),
}
"""Weights in GB, KiB of KV cache per token, latency profile."""

_SEVERAL: Final[dict[str, Any]] = {
    "kind": "llm",
    "count": 2,
    "location": "a",
    "max_num_seqs": 16,
    "memory_gb": 74.4,
    "serves": {name: {"latency": latency, "kv_tokens": 20000} for name, (_, _, latency) in _SIZES.items()},
    "resident": ["qwen3-8b", "qwen3-4b"],
    "load": {"overhead_s": 0.3, "gb_per_s": 50},
}

CLUSTER: Final[dict[str, Any]] = {
    "name": "several",
    "models": {name: {"weights_gb": gb, "kv_kib_per_token": kib} for name, (gb, kib, _) in _SIZES.items()},
    "executors": [
        _SEVERAL,
        _SEVERAL | {"count": 1, "location": "b", "max_num_seqs": 2, "resident": []},
        {"kind": "regular", "count": 2, "location": "a"},
        {"kind": "regular", "count": 1, "location": "b"},
    ],
    "links": [{"between": ["a", "b"], "gb_per_s": 2.5, "latency_s": 0.00005}],
}

SCENARIO: Final[dict[str, Any]] = {
    "name": "several",
    "applications": {"sequence_sorting": 1, "code_generation": 1, "task_automation": 1, "llm_compiler": 1},
    "jobs": 12,
    "rate": 0.4,
    "models": "stage_models",
    "cluster": CLUSTER,
}

LEAST: Final[dict[str, Any]] = {
    "name": "models",
    "models": {"small": {"weights_gb": 1, "kv_kib_per_token": 1}},
    "executors": [
        {
            "kind": "llm",
            "memory_gb": 4,
            "serves": {"small": {"latency": "llama-2-7b-h100", "kv_tokens": 1000}},
            "load": {"gb_per_s": 1},
        },
        {"kind": "regular", "location": "tools"},
    ],
    "links": [{"between": [0, "tools"], "gb_per_s": 1}],
    "kv_transfer": {"gb_per_s": 1},
}
"""As few fields as such a cluster can have."""
