"""Weights of learned policies: where they are, what is known of them, and how they are read.

A learned policy consists of two files: ``NAME.safetensors`` holds the weights, ``NAME.json`` beside it is their card
(`Card`), which says how the network is built, what it was trained on, and the digest of the weights. Neither can hold
code. Those that come with the package are in ``llmsched_gym/policies/weights``; a recipe in ``agents/`` writes others.

Torch is not needed to install or import this package: it comes with the extra ``learn``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from llmsched_gym.complaints import from_validation
from llmsched_gym.errors import InputError, Plain, suggest
from llmsched_gym.extras import install_hint
from llmsched_gym.workloads.files import read_json, write_atomic

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS: Final = Path(__file__).parent / "weights"
"""Folder of the weights that come with the package."""

TRAINED: Final = "trained"


class Card(BaseModel):
    """What belongs to a file of weights.

    Attributes:
        policy: Short name of the policy.
        network: Arguments of the network's constructor.
        scales: Rules that its inputs were scaled by (`llmsched_gym.envs.normalise`); none if it scales them itself, by
            scales among its arguments.
        training: What the weights were trained on: split, seeds, commit and whatever else tells them apart.
        digest: blake2b digest of the weights' file.
    """

    model_config = ConfigDict(extra="forbid")

    policy: str
    network: dict[str, Any]
    scales: dict[str, Any] | None = None
    training: dict[str, Any]
    digest: str


def need_torch(policy: str) -> None:
    """Make sure that torch can be imported, and set it to one thread in this process.

    A decision is too small to be shared, and threads of several worker processes stand in each other's way.

    Args:
        policy: Name of the policy, for the message.

    Raises:
        InputError: Torch or safetensors is not installed.
    """
    try:
        import_module("safetensors")
        import torch
    except ImportError as error:
        allowed = f"torch and safetensors to be installed: {install_hint('learn')}"
        raise InputError("policy", policy, Plain(f"{error}"), allowed) from error
    torch.set_num_threads(1)


def weights_file(policy: str, weights: str) -> Path:
    """Return the file of weights that a name or path means.

    Args:
        policy: Short name of the policy.
        weights: "trained", the name of a variant that comes with the package ("untrained"), or a ``.safetensors`` file.

    Raises:
        InputError: There is no such file.
    """
    if str(weights).endswith(".safetensors"):
        path = Path(weights)
        if not path.is_file():
            raise InputError(f"policy {policy}", "weights", str(weights), "a .safetensors file that exists")
        return path
    variants = {TRAINED: WEIGHTS / f"{policy}.safetensors"}
    for path in sorted(WEIGHTS.glob(f"{policy}_*.safetensors")):
        variants[path.stem.removeprefix(f"{policy}_")] = path
    if str(weights) not in variants:
        allowed = f"a .safetensors file, or {suggest(str(weights), variants)}"
        raise InputError(f"policy {policy}", "weights", str(weights), allowed)
    return variants[str(weights)]


def card_file(path: Path) -> Path:
    """Return where the card of a file of weights is."""
    return path.with_suffix(".json")


def read_card(path: Path, policy: str) -> Card:
    """Read the card of a file of weights, and check that both belong together.

    Args:
        path: The weights.
        policy: Short name of the policy that wants them.

    Raises:
        InputError: There is no card, it is not one, it is another policy's, or the weights have changed.
    """
    place = card_file(path)
    content = read_json(place, f"the card of {path.name}: a JSON object")
    try:
        card = Card.model_validate(content)
    except ValidationError as error:
        raise from_validation(place, error, Card) from error
    if card.policy != policy:
        raise InputError(place, "policy", card.policy, policy)
    if card.digest != file_digest(path):
        raise InputError(path, "digest", file_digest(path), f"{card.digest}, as its card says: the file has changed")
    return card


def load_weights(network: nn.Module, path: Path) -> None:
    """Put weights into a network.

    Args:
        network: The network, built as the card says.
        path: The weights.

    Raises:
        InputError: The file does not hold this network's weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(path, "", Plain(f"{error}"), "a safetensors file") from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise InputError(path, name, Plain(f"{found.get(name)}"), f"the shape {expected.get(name)}")
    network.load_state_dict(tensors)


def save_weights(
    path: Path,
    policy: str,
    tensors: Mapping[str, Tensor],
    network: Mapping[str, Any],
    training: Mapping[str, Any],
    scales: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and their card; each file appears whole or not at all.

    Args:
        path: File of the weights, ``.safetensors``; the card goes beside it.
        policy: Short name of the policy.
        tensors: The network's ``state_dict()``.
        network: Arguments of its constructor.
        training: What it was trained on: at least ``split``, ``seeds`` and ``commit``.
        scales: Rules that its inputs were scaled by, as `llmsched_gym.envs.normalise.scales_to_json` gives them.
    """
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    content = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    card = Card(
        policy=policy,
        network=dict(network),
        scales=None if scales is None else dict(scales),
        training=dict(training),
        digest=digest,
    )
    write_atomic(path, content)
    write_atomic(card_file(path), (card.model_dump_json(indent=1) + "\n").encode())


def file_digest(path: Path) -> str:
    """Return the hex digest of a file, as cards hold it."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
