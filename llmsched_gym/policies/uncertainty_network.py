"""The uncertainty network: how much of a job is left, from its graph. Compiled inference; training is in ``agents/``.

Every node of a job's graph is embedded: by what it is and holds, and by messages from its children, leaves first. The
node of a stage that can start, the sum over its job and the features of the stage and its job then give a prediction of
the job's remaining slot time at batch size 1: logarithms of its mean and of `LEVELS` of its distribution, relative to
the profiler's posterior mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym._jit import kernel
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.extras import install_hint
from llmsched_gym.policies.uncertainty_features import N_FEATURES, N_NODE_FEATURES, Floats, Ints

LEVELS: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Levels of the predicted quantiles."""

N_OUTPUTS: Final = 1 + len(LEVELS)
SLOPE: Final = 0.1
"""Of the leaky rectifier below zero."""

_SLOPE: Final = np.float32(SLOPE)


class Layer(NamedTuple):
    """Weights of a linear layer.

    Attributes:
        weight: float32 (inputs, outputs).
        bias: float32 (outputs,).
    """

    weight: Floats
    bias: Floats


class Weights(NamedTuple):
    """Weights of the network; d is the width of embeddings.

    Attributes:
        identity: float32 (template nodes, h). What a node is, added to the first layer of `own`.
        own_1: From the features of a node to h; its bias and `identity` tell what it is.
        own_2: To d.
        message: d to d, of a child.
        gather: d to d, of the sum of the messages of all children.
        part_1: d to d, of a node.
        part_2: d to d; summed over the nodes of a job.
        head_1: From the features of a stage, its node and its job.
        head_2: Hidden.
        head_3: To `N_OUTPUTS`.
    """

    identity: Floats
    own_1: Layer
    own_2: Layer
    message: Layer
    gather: Layer
    part_1: Layer
    part_2: Layer
    head_1: Layer
    head_2: Layer
    head_3: Layer


def read_weights(path: Path) -> Weights:
    """Read the weights from a safetensors file.

    Args:
        path: Tensors named as in `Weights`: ``identity``, ``own_1.weight``, ``own_1.bias``, ...

    Raises:
        InputError: It is no such file, or safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        allowed = f"safetensors to be installed: {install_hint('learn')}"
        raise InputError("policy", "uncertainty_gnn", Plain(f"{error}"), allowed) from error
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(path, "", Plain(f"{error}"), "a safetensors file") from error
    return weights_of(tensors, path)


def weights_of(tensors: Mapping[str, NDArray[Any]], source: object) -> Weights:
    """Return the weights that named arrays hold.

    Args:
        tensors: See `read_weights`.
        source: For messages.

    Raises:
        InputError: An array is missing, or its shape does not fit the others.
    """
    sizes = {name: _shape(tensors, name, source) for name in ("identity", "own_2.weight", "head_2.weight")}
    hidden, width, (inner, outer) = sizes["identity"][1], sizes["own_2.weight"][1], sizes["head_2.weight"]
    shapes = {
        "own_1": (N_NODE_FEATURES, hidden),
        "own_2": (hidden, width),
        "message": (width, width),
        "gather": (width, width),
        "part_1": (width, width),
        "part_2": (width, width),
        "head_1": (N_FEATURES + 2 * width, inner),
        "head_2": (inner, outer),
        "head_3": (outer, N_OUTPUTS),
    }
    layers: dict[str, Layer] = {}
    for name, shape in shapes.items():
        for part, expected in (("weight", shape), ("bias", shape[1:])):
            found = _shape(tensors, f"{name}.{part}", source)
            if found != expected:
                raise InputError(source, f"{name}.{part}", Plain(f"{found}"), f"the shape {expected}")
        layers[name] = Layer(_floats(tensors[f"{name}.weight"]), _floats(tensors[f"{name}.bias"]))
    return Weights(_floats(tensors["identity"]), **layers)


def _shape(tensors: Mapping[str, NDArray[Any]], name: str, source: object) -> tuple[int, ...]:
    if name not in tensors:
        raise InputError(source, name, Plain("nothing"), "an array of that name")
    return tensors[name].shape


def _floats(array: NDArray[Any]) -> Floats:
    return np.ascontiguousarray(array, np.float32)


@kernel
def predict(
    weights: Weights,
    nodes: Floats,
    numbers: Ints,
    jobs: Ints,
    edges: NDArray[np.int32],
    at: Ints,
    features: Floats,
    embedded: Floats,
    received: Floats,
    sums: Floats,
    scratch: Floats,
    out: Floats,
) -> None:
    """Predict for stages that can start.

    Args:
        weights: The network.
        nodes: float32 (n, N_NODE_FEATURES).
        numbers: int64 (n,). Template node of each; -1 where it is not known.
        jobs: int64 (n,). Job of each.
        edges: int32 (m, 2). Parent and child, by parent; a parent stands before its children.
        at: int64 (c, 2). Row of the stage (not used) and of its node.
        features: float32 (c, N_FEATURES).
        embedded: float32 (n, d). Filled with the embeddings.
        received: float32 (n, d), zeros. Filled with sums of messages.
        sums: float32 (jobs, d), zeros. Filled with the summaries of jobs.
        scratch: float32 (4, s); s at least as long as any layer.
        out: float32 (c, N_OUTPUTS). Filled; 0 for stages of applications that are not known.
    """
    first, second = scratch[0], scratch[1]
    edge = len(edges) - 1
    for v in range(len(nodes) - 1, -1, -1):
        if numbers[v] < 0:
            continue
        while edge >= 0 and edges[edge, 0] >= v:
            child = edges[edge, 1]
            if edges[edge, 0] == v and numbers[child] >= 0:
                _layer(weights.message, embedded[child], first, True)
                for k in range(len(received[v])):
                    received[v, k] += first[k]
            edge -= 1
        _linear(weights.own_1, nodes[v], first)
        for k in range(len(weights.identity[0])):
            first[k] += weights.identity[numbers[v], k]
        _rectify(first, len(weights.identity[0]))
        _layer(weights.own_2, first, embedded[v], False)
        _layer(weights.gather, received[v], first, True)
        for k in range(len(embedded[v])):
            embedded[v, k] += first[k]
        _layer(weights.part_1, embedded[v], first, True)
        _layer(weights.part_2, first, second, False)
        for k in range(len(embedded[v])):
            sums[jobs[v], k] += second[k]
    width = len(weights.message.bias)
    joined = scratch[2]
    for c in range(len(at)):
        node = at[c, 1]
        if numbers[node] < 0:
            out[c] = 0.0
            continue
        for k in range(N_FEATURES):
            joined[k] = features[c, k]
        for k in range(width):
            total = sums[jobs[node], k]
            joined[N_FEATURES + k] = embedded[node, k]
            joined[N_FEATURES + width + k] = math.copysign(math.log1p(abs(total)), total)
        _layer(weights.head_1, joined, first, True)
        _layer(weights.head_2, first, second, True)
        _layer(weights.head_3, second, out[c], False)


@kernel
def _linear(layer: Layer, inputs: Floats, outputs: Floats) -> None:
    """One row of inputs after the other, so that the processor works on several outputs at once."""
    n_inputs, n_outputs = layer.weight.shape
    for k in range(n_outputs):
        outputs[k] = layer.bias[k]
    for i in range(n_inputs):
        value = inputs[i]
        for k in range(n_outputs):
            outputs[k] += value * layer.weight[i, k]


@kernel
def _rectify(values: Floats, count: int) -> None:
    for k in range(count):
        values[k] = max(values[k], _SLOPE * values[k])


@kernel
def _layer(layer: Layer, inputs: Floats, outputs: Floats, rectified: bool) -> None:
    _linear(layer, inputs, outputs)
    if rectified:
        _rectify(outputs, len(layer.bias))
