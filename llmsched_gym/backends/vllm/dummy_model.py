"""Models without weights: a folder with the config of a small Llama, for which vLLM makes up weights.

Nothing is downloaded, and the real engine runs: what is scheduled, batched, cached and streamed does not depend on what
the tokens mean. The small ones suit a CPU; ``7b`` has the shape of Llama-2-7B, for timing on a GPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmsched_gym._code.store import CACHE_VARIABLE, cache_root
from llmsched_gym.errors import InputError, suggest
from llmsched_gym.workloads.files import make_folder, write_atomic


@dataclass(frozen=True)
class DummySize:
    """Shape of a Llama.

    Attributes:
        layers: Transformer layers.
        width: Hidden size.
        inner: Width of the feed-forward layers.
        heads: Attention heads.
        kv_heads: Key and value heads.
        vocabulary: Number of tokens.
        context: Longest prompt and output together, in tokens.
        eager: Runs without compiling or capturing graphs, which a model this small does not repay.
    """

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int = 1024
    context: int = 16384
    eager: bool = True


SIZES: Final = {
    "tiny": DummySize(layers=2, width=128, inner=352, heads=4, kv_heads=2),
    "small": DummySize(layers=8, width=512, inner=1376, heads=8, kv_heads=4),
    "medium": DummySize(layers=16, width=1024, inner=2752, heads=16, kv_heads=8),
    "7b": DummySize(layers=32, width=4096, inner=11008, heads=32, kv_heads=32, vocabulary=32000, eager=False),
}
"""Shapes by name."""


def model_config(size: DummySize) -> dict[str, object]:
    """Return the ``config.json`` of a shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": size.layers,
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.width // size.heads,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": size.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def dummy_size(name: str) -> DummySize:
    """Return a shape.

    Raises:
        InputError: There is none of this name.
    """
    if name not in SIZES:
        raise InputError("model", "dummy", name, suggest(name, SIZES))
    return SIZES[name]


def dummy_model(name: str, folder: Path | None = None) -> Path:
    """Return the folder of a dummy model, written if it is not there yet.

    Args:
        name: Name of a shape.
        folder: Where models are kept; by default beside the compiled code in the user's cache.

    Raises:
        InputError: There is no such shape, or the folder cannot be written.
    """
    content = json.dumps(model_config(dummy_size(name)), indent=1).encode()
    root = cache_root()
    if folder is None and root is None:
        raise InputError(CACHE_VARIABLE, "", "nothing, and no home folder", "a folder that can be made")
    target = (folder or Path(root or "") / "models") / f"dummy-{name}"
    make_folder(target)
    file = target / "config.json"
    if not file.exists() or file.read_bytes() != content:
        write_atomic(file, content)
    return target
