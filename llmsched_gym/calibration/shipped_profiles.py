"""Fit the latency profiles that ship, from measured kernel and layer times.

    python -m llmsched_gym.calibration.shipped_profiles FOLDER llmsched_gym/cluster/profiles

FOLDER holds `data/latency` and `reference`. Every profile is fitted on the iterations that a chat-like load visits,
from few requests to more than a batch can hold. What the sources lack is named in each profile: iteration times are
sums of measured kernel times, so sampling, scheduling and the gaps between kernels are not in them. Measured against
a running vLLM server, such sums came out 5.5 % short (Llama-3.1-8B on an RTX PRO 6000).
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from llmsched_gym.backends.replay import RequestLog
from llmsched_gym.backends.simulator.state import EngineConfig
from llmsched_gym.calibration.latency_fit import fit_to_table
from llmsched_gym.calibration.latency_table import Floats, IterationTable, read_table
from llmsched_gym.cluster.latency import LatencyProfile

_AIC: Final = {
    "source": "github.com/ai-dynamo/aiconfigurator aic-core/src/aiconfigurator_core/systems",
    "commit": "095f58a51c4ca8e61b66ec108d86f223f8d559ce",
    "licence": "Apache-2.0",
    "what": "measured vLLM kernel times (bf16): attention, lm_head, projections and MLP",
}
_VIDUR: Final = {
    "source": "github.com/microsoft/vidur data/profiling/compute/*/meta-llama/Llama-2-7b-hf/mlp.csv",
    "commit": "7d47513363ec447a741ac5e47241580b47724fbf",
    "licence": "MIT",
    "what": "measured layer times of Llama-2-7B (fp16)",
}
_SERVING_SIM: Final = {
    "source": "vLLM layer profile, published with github.com/casys-kaist/LLMServingSim",
    "commit": "5daddb21a545658d5150b535712d0494584b5278",
    "licence": "MIT",
    "what": "measured layer times, summed to iteration times",
}
_MISSING: Final = "sampling, scheduling and the gaps between kernels are not included"

_ANY: Final = LatencyProfile("any", 1, 0, 0, 0)
_ENGINE: Final = EngineConfig(_ANY, max_num_seqs=128, max_num_batched_tokens=2048)
_PREFILLS: Final = (0, 16, 32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class Recipe:
    """How the iteration times of one GPU and model are put together.

    Attributes:
        gpu: Name in the kernel data.
        model: Name in the kernel data.
        layers: GPU whose measured layer times give all but attention; empty: projections and MLP from the kernel data.
        elementwise: GPU whose measured norms, rotary and residuals are added where the kernel data lack them.
    """

    gpu: str
    model: str
    layers: str = ""
    elementwise: str = ""


_RECIPES: Final = {
    "llama-2-7b-a100": Recipe("a100_sxm", "Llama-2-7B", layers="a100"),
    "llama-2-7b-h200": Recipe("h200_sxm", "Llama-2-7B", elementwise="h100"),
    "llama-3.1-8b-a100": Recipe("a100_sxm", "Llama-3.1-8B", elementwise="a100"),
    "llama-3.1-8b-h100": Recipe("h100_sxm", "Llama-3.1-8B", elementwise="h100"),
    "llama-3.1-8b-h200": Recipe("h200_sxm", "Llama-3.1-8B", elementwise="h100"),
}
_TABLES: Final = {
    "llama-2-7b-h100": ("Llama-2-7B", "H100", "llama2_7b_h100_iteration_time.csv"),
    "llama-3.1-8b-rtx-pro-6000": ("Llama-3.1-8B", "RTX PRO 6000 Blackwell", "llama31_8b_rtxpro6000_iteration_time.csv"),
}


def chat_load(seed: int = 0) -> RequestLog:
    """Chat-like requests, 60 at each of 4, 8 and 16 a second, with about 300, then 1,000, then 2,000 prompt tokens.

    One mean context alone would not tell the cost of a sequence from that of its context.
    """
    rng = np.random.default_rng(seed)
    rates = np.tile(np.repeat([4.0, 8.0, 16.0], 60), 3)
    gaps = -np.log1p(-rng.random(len(rates))) / rates
    # A product of three uniform numbers is skewed like the lengths of chats: many short, few long.
    prompt = np.repeat([300.0, 1000.0, 2000.0], 180) * 8.0 * rng.random((len(rates), 3)).prod(axis=1)
    output = 10 + 1900.0 * rng.random((len(rates), 3)).prod(axis=1)
    ids = [str(index) for index in range(len(rates))]
    arrival_ns = np.round(1e9 * np.cumsum(gaps)).astype(np.int64)
    return RequestLog(ids, arrival_ns, 1 + prompt.astype(np.int64), output.astype(np.int64))


def _columns(path: Path, **equal: str) -> dict[str, Floats]:
    """Numeric columns of the rows whose columns `equal` have these values."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[key] == value for key, value in equal.items())]
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0] if key not in ("model", "gpu")}


def compose(folder: Path, recipe: Recipe) -> IterationTable:
    """Iteration times as sums of measured parts: all sequences' layers in one batch, and each kind of attention.

    Args:
        folder: Holds the kernel and layer data.
        recipe: Which parts to take.
    """
    decode = _columns(folder / "composed_decode.csv", model=recipe.model, gpu=recipe.gpu)
    prefill = _columns(folder / "composed_prefill.csv", model=recipe.model, gpu=recipe.gpu)
    batches, first = np.unique(decode["batch"], return_index=True)
    if recipe.layers:
        measured = _columns(folder / "vidur_llama2_7b_linear.csv", gpu=recipe.layers)
        layers = (measured["num_tokens"], measured["all_non_attention_ms"])
    else:
        tokens = np.concatenate([batches, prefill["prompt_tokens"]])
        times = np.concatenate([decode["linear_ms"][first], prefill["linear_ms"]])
        tokens, kept = np.unique(tokens, return_index=True)
        layers = (tokens, times[kept])
    extra = _columns(folder / "vidur_llama2_7b_linear.csv", gpu=recipe.elementwise) if recipe.elementwise else None
    points: list[tuple[float, float, float, float]] = []
    times_ms: list[float] = []
    grid = [(0.0, 0.0, 0.0)]
    grid += list(zip(decode["batch"], decode["context_tokens"], decode["attention_ms"], strict=True))
    for n_decode, context, attention in grid:
        for chunk in _PREFILLS:
            if n_decode + chunk == 0:
                continue
            time = attention + np.interp(n_decode + chunk, *layers)
            time += np.interp(n_decode + (chunk > 0), batches, decode["lm_head_ms"][first])
            if chunk:
                time += np.interp(chunk, prefill["prompt_tokens"], prefill["attention_ms"])
            if extra is not None:
                time += np.interp(n_decode + chunk, extra["num_tokens"], extra["elementwise_ms_32_layers"])
            points.append((n_decode, chunk, context, 0.0))
            times_ms.append(time)
    return IterationTable(np.array(points), np.array(times_ms))


def fit_shipped(data_dir: str | Path, out_dir: str | Path) -> list[LatencyProfile]:
    """Fit and write every profile that ships with measured times.

    Args:
        data_dir: Holds `data/latency` and `reference`.
        out_dir: Receives one JSON file per profile.

    Returns:
        The profiles.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    load = chat_load()
    profiles: list[LatencyProfile] = []
    for name, recipe in _RECIPES.items():
        sources = [dict(_AIC)] + [dict(_VIDUR)] * bool(recipe.layers or recipe.elementwise)
        parts = f"all but attention and lm_head from Vidur's {recipe.layers.upper()} profile"
        if not recipe.layers:
            parts = f"norms, rotary and residuals as Vidur measured on {recipe.elementwise.upper()} for Llama-2-7B"
        gpu = recipe.gpu.split("_")[0].upper()
        provenance = _provenance(recipe.model, gpu, sources, [parts, _MISSING])
        table = compose(data_dir / "data" / "latency", recipe)
        profiles.append(fit_to_table(table, load, _ENGINE, name, provenance))
    for name, (model, gpu, file) in _TABLES.items():
        provenance = _provenance(model, gpu, [dict(_SERVING_SIM)], [_MISSING])
        profiles.append(fit_to_table(read_table(data_dir / "reference" / file), load, _ENGINE, name, provenance))
    for profile in profiles:
        profile.save(out_dir / f"{profile.name}.json")
    return profiles


def _provenance(model: str, gpu: str, sources: list[dict[str, str]], notes: list[str]) -> dict[str, Any]:
    """What a shipped profile says of itself, beside its fit."""
    load = chat_load()
    prompt, output = load.prompt_tokens.mean(), load.output_tokens.mean()
    visited = (
        f"{len(load.ids)} chat-like requests at 4, 8 and 16 per second, mean {prompt:.0f} prompt (in phases of about "
        f"300, 1000 and 2000) and {output:.0f} output tokens; {_ENGINE.max_num_seqs} sequences, "
        f"{_ENGINE.max_num_batched_tokens} tokens per iteration"
    )
    return {"model": model, "gpu": gpu, "sources": sources, "notes": notes, "visited": visited}


def main() -> None:
    """Fit the profiles and print them."""
    parser = argparse.ArgumentParser(description="Fit the latency profiles that ship.")
    parser.add_argument("data_dir", type=Path, help="folder that holds data/latency and reference")
    parser.add_argument("out_dir", type=Path, help="folder that receives the profiles")
    arguments = parser.parse_args()
    for profile in fit_shipped(arguments.data_dir, arguments.out_dir):
        a, b, c, d = profile.coefficients_ms
        error = profile.provenance["fit"]["error_mean_pct"]
        print(f"{profile.name:28} a {a:7.3f}  b {b:.4f}  c {c:.4f}  d {d:.3e}  fit error {error:.2f} %")


if __name__ == "__main__":
    main()
