"""Write the latency profiles of heterogeneous clusters: Qwen3 and Llama-3.1-8B on H100, A100 and L40S.

    python -m llmsched_gym.calibration.hetero_profiles FOLDER llmsched_gym/cluster/profiles

FOLDER holds `data/hetero`: `step_ms.csv`, step times that the SDK of aiconfigurator-core puts together from measured
kernels, and `step_fit.csv`, a, b, c and d fitted to them with the errors of each fit. The profiles are those fits; only
a small model's a is raised to what a running server needs for a step. No sampling, no scheduling and no gap between
kernels is in a composed step: each profile says how far such sums were from running servers.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any, Final

from llmsched_gym.cluster.latency import LatencyProfile

FLOOR_MS: Final = 4.0
"""Least a of a model whose weights are read faster than a server prepares a step: measured, 0.6B on A100."""

_GPUS: Final = {"h100": "h100_sxm", "a100": "a100_sxm", "l40s": "l40s"}
_WITH_FLOOR: Final = "host_overhead_missing"
_CHUNKS: Final = (512, 2048, 8192)

_WANTED: Final = (
    *((model, gpu, 1) for model in ("Qwen3-0.6B", "Qwen3-4B", "Qwen3-8B", "Qwen3-14B") for gpu in _GPUS),
    ("Qwen3-32B", "h100", 1),
    ("Qwen3-32B", "a100", 1),
    ("Qwen3-32B", "h100", 2),
    ("Qwen3-32B", "a100", 2),
    ("Qwen3-32B", "l40s", 2),
    ("Qwen3-14B", "l40s", 2),
    ("Llama-3.1-8B", "l40s", 1),
)

_SERVERS: Final = {
    "h100": [
        (
            "vLLM 0.12.0, Qwen3-32B bf16, 85 loads at tp 2, 4, 8: composed / measured time per output token 0.87, "
            "0.87, 0.83; 1.10 * composed + 1.0 ms has a mean error of 5.2 %"
        ),
        "vLLM 0.21, an 8B model: 6.48 ms measured, 6.2 composed",
    ],
    "a100": ["an 8B model on the 40 GB A100: 13.3 ms measured, 11.9 composed for the 80 GB A100"],
    "l40s": ["none on L40S; vLLM 0.19, Llama-3.1-8B on RTX PRO 6000: whole requests composed 14 % too short"],
}
_OF_ONE: Final = {
    "qwen3-32b-a100": "few contexts fit beside the weights: d is twice what the composed steps show per context token, "
    "and a 6 % too small; so steps are 6 % too short with little in the KV cache and, reckoned on, 8 % too long with "
    "all of it",
}
_PAIR_WITHOUT_LINK: Final = (
    "vLLM 0.19, Qwen3-32B tp2 on RTX PRO 6000, no peer-to-peer link either: composed 31 % too short, 2.5 % after its "
    "own host's link (16 GB/s, 20 us) had replaced the profiled one"
)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def step_ms(coefficients_ms: tuple[float, float, float, float], row: dict[str, str]) -> float:
    """Time that a profile gives the step of a row of `step_ms.csv`, in ms.

    Args:
        coefficients_ms: a, b, c and d.
        row: `batch` sequences decode with `context` tokens each, and `prefill` prompt tokens are computed.
    """
    a, b, c, d = coefficients_ms
    n_decode, context, prefill = (float(row[key]) for key in ("batch", "context", "prefill"))
    return a + b * n_decode + c * prefill + d * n_decode * context


def _profile(model: str, gpu: str, shards: int, fit: dict[str, str], steps: list[dict[str, str]]) -> LatencyProfile:
    """The profile of a row of `step_fit.csv`, and of the rows of `step_ms.csv` that it was fitted to."""
    a, b, c, d = (float(fit[f"{letter}_ms"]) for letter in "abcd")
    flags = fit["flag"].split(";") if fit["flag"] else []
    prefills = {int(row["prefill"]): row for row in steps if row["kind"] == "prefill"}
    misses = {chunk: step_ms((a, b, c, d), prefills[chunk]) / float(prefills[chunk]["ms"]) - 1.0 for chunk in _CHUNKS}
    name = f"{model.lower()}-{gpu}" + (f"-tp{shards}" if shards > 1 else "")
    version = fit["source"].removeprefix("A")
    provenance: dict[str, Any] = {
        "model": model,
        "gpu": gpu.upper(),
        "precision": fit["precision"],
        "tensor_parallel": shards,
        "status": "fitted",
        "sources": [
            {
                "source": "PyPI aiconfigurator-core (NVIDIA)",
                "version": "0.12.0",
                "licence": "Apache-2.0",
                "what": f"kernel times measured with vLLM {version}, put together into steps by its SDK",
            }
        ],
        "silicon_share": float(fit["silicon_share"]),
        "flags": flags,
        "notes": [
            "step times are composed: sampling, scheduling and the gaps between kernels are not included",
            "silicon_share of a step comes from measured kernels, the rest from the SDK's estimate",
            *[note for key, note in _OF_ONE.items() if key == name],
        ],
        "running_servers": [*_SERVERS[gpu], *[_PAIR_WITHOUT_LINK] * ("no_p2p_link" in flags)],
        "fit": {
            "error_mean_pct": float(fit["mape_visited"]),
            "error_p95_pct": float(fit["p95_visited"]),
            "error_decode_pct": float(fit["mape_decode"]),
            "error_prefill_pct": float(fit["mape_prefill"]),
            "of": "mean and p95: up to 64 sequences and 4096 prompt tokens; decode and prefill: all their steps",
            "bias_of_prefill_pct": {str(chunk): round(100.0 * miss, 1) for chunk, miss in misses.items()},
            "table_rows": len(steps),
        },
    }
    if _WITH_FLOOR in flags and a < FLOOR_MS:
        provenance["floor"] = {
            "iteration_ms": FLOOR_MS,
            "unfloored_iteration_ms": a,
            "status": "measured" if gpu == "a100" else "assumed, as measured on A100",
            "why": "0.6B on A100: a step of a running vLLM takes 4 ms, composed 2.0",
            "not_in": "fit, which is of the unfloored a; large batches are up to the difference too long",
        }
        a = FLOOR_MS
    return LatencyProfile.from_ms(name, (a, b, c, d), provenance)


def write_profiles(data_dir: str | Path, out_dir: str | Path) -> list[LatencyProfile]:
    """Write every profile of the heterogeneous clusters.

    Args:
        data_dir: Holds `data/hetero`.
        out_dir: Receives one JSON file per profile.

    Returns:
        The profiles.
    """
    folder = Path(data_dir) / "data" / "hetero"
    fits, steps = _read(folder / "step_fit.csv"), _read(folder / "step_ms.csv")
    profiles: list[LatencyProfile] = []
    for model, gpu, shards in _WANTED:
        wanted = {"gpu": _GPUS[gpu], "model": model, "precision": "bf16", "tp": str(shards)}
        (fit,) = [row for row in fits if wanted.items() <= row.items()]
        rows = [row for row in steps if wanted.items() <= row.items()]
        profiles.append(_profile(model, gpu, shards, fit, rows))
    for profile in profiles:
        profile.save(Path(out_dir) / f"{profile.name}.json")
    return profiles


def main() -> None:
    """Write the profiles and print them."""
    parser = argparse.ArgumentParser(description="Write the latency profiles of heterogeneous clusters.")
    parser.add_argument("data_dir", type=Path, help="folder that holds data/hetero")
    parser.add_argument("out_dir", type=Path, help="folder that receives the profiles")
    arguments = parser.parse_args()
    for profile in write_profiles(arguments.data_dir, arguments.out_dir):
        a, b, c, d = profile.coefficients_ms
        error = profile.provenance["fit"]["error_mean_pct"]
        print(f"{profile.name:22} a {a:7.3f}  b {b:.4f}  c {c:.5f}  d {d:.3e}  fit error {error:.1f} %")


if __name__ == "__main__":
    main()
