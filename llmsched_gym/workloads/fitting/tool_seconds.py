"""Durations of one call of each candidate tool of task automation, from measured models and named assumptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmsched_gym.workloads import detmath
from llmsched_gym.workloads.fitting.tables import (
    LEVELS,
    Facts,
    column,
    provenance,
    quantile_table,
    read_summary,
    read_table,
    significant,
)

MODEL_SECONDS = "tools/model_tool_seconds.csv"
SUMMARY = "tools/summary.json"
REPLIES = "websearch/taubench_airline_calls.csv"
TAIL_LEVELS = (*LEVELS[:-1], 0.985, 0.995, 1.0)


def tool_seconds(data_dir: Path, reply_tokens: NDArray[np.float64]) -> dict[str, Facts]:
    """Quantile tables of seconds, one per candidate.

    Args:
        data_dir: Folder of measured tables.
        reply_tokens: Lengths of measured replies, which stand in for what a text tool writes.
    """
    rows = read_table(data_dir, MODEL_SECONDS)
    summary = read_summary(data_dir, SUMMARY)
    overhead = _call_overhead(summary["swe_agent_demo_execution_s"])
    overhead_reason = "plus the call: run times of small commands (SWE-agent demonstrations)"
    detection = column((row for row in rows if row["source"] == "detectron2"), "seconds")
    whisper = [row for row in rows if row["source"] == "faster-whisper" and "GPU" in row["task"]]
    factors = column(whisper, "seconds") / (13 * 60)
    audio = 10.0 * 78.0 ** ((np.arange(100) + 0.5) / 100)
    token = summary["wikipedia_api_plus_llm_fever"]["values"]["s_per_token"]
    texts = token * reply_tokens

    commands = {"source": "SWE-agent demonstration trajectories, execution time of an action"}
    detectron = _origin(data_dir, "detectron2")
    speech = _origin(data_dir, "faster-whisper")
    replies = provenance(data_dir, REPLIES)

    def table(values: ArrayLike, origin: Facts, reason: str) -> Facts:
        return quantile_table(values, origin, TAIL_LEVELS) | {"assumed": True, "reason": reason}

    return {
        "text_analysis": table(overhead + 0.02, commands, f"a small encoder takes 20 ms (assumed), {overhead_reason}"),
        "text_generation": table(
            texts, replies, "reply lengths of a tool-using agent (tau-bench) at FEVER's seconds per token"
        ),
        "image_recognition": table(
            np.add.outer(detection, overhead),
            detectron,
            f"measured: detectron2 models, V100, batch 1; assumed: {overhead_reason}",
        ),
        "image_to_text": _log_normal(1.0, 0.5, "a caption or short answer of about 30 tokens"),
        "image_generation": _log_normal(4.0, 0.5, "latent diffusion, 20 to 50 denoising steps"),
        "video_generation": _log_normal(20.0, 0.5, "video diffusion, several times an image"),
        "speech_synthesis": _log_normal(2.0, 0.7, "one to a few spoken sentences"),
        "speech_recognition": table(
            np.multiply.outer(factors, audio),
            speech,
            "measured: real-time factors of Whisper large-v2 on a GPU; assumed: audio of 10 s to 13 min, log-uniform",
        ),
        "audio_processing": _log_normal(0.6, 0.5, "a classifier or separator on a short clip"),
        "other": _any_tool(summary["tracelab_published"]),
    }


def _origin(data_dir: Path, name: str) -> Facts:
    """Provenance of one of the several sources of the model durations."""
    sources = read_summary(data_dir, f"{MODEL_SECONDS}.meta.json")["sources"]
    return dict(next(source for source in sources if name in source["source"]))


def _call_overhead(measured: dict[str, float]) -> NDArray[np.float64]:
    levels = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]
    names = [*(f"p{round(100 * level):02d}" for level in levels[:-1]), "p100"]
    return np.interp((np.arange(200) + 0.5) / 200, levels, [measured[name] for name in names])


def _log_normal(median: float, sigma: float, reason: str) -> Facts:
    scores = detmath.normal_quantile(np.clip(TAIL_LEVELS, 0.005, 0.998))
    values = significant(median * np.exp(sigma * scores))
    reason = f"{reason}: log-normal, median {median:g} s, sigma {sigma:g}; no data"
    return {"levels": list(TAIL_LEVELS), "values": values, "assumed": True, "reason": reason}


def _any_tool(published: Facts) -> Facts:
    """Tool latency of coding agents as published in quantiles and shares; log-linear between them."""
    seconds = published["facts"]["tool_latency_s"]
    share = published["facts"]["tool_calls_share_by_duration"]
    known = {
        0.0: published["facts"]["by_tool"]["Read p50 s"],
        0.5: seconds["p50"],
        share["<1s"]: 1.0,
        share["<1s"] + share["1-10s"]: 10.0,
        0.9: seconds["p90"],
        1 - share[">1m"]: 60.0,
        1.0: 60.0,
    }
    levels = sorted({*LEVELS, *(round(level, 3) for level in known)})
    values = np.exp(np.interp(levels, list(known), np.log(list(known.values()))))
    return {
        "levels": levels,
        "values": significant(values),
        **{key: published[key] for key in ("source", "commit", "licence")},
        "assumed": True,
        "reason": "latency of any tool of a coding agent stands in for invented tools; the agent gives up after 60 s",
    }
