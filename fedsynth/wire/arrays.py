"""Arrays on the wire: named tensors to bytes and back, by safetensors, with limits and no pickle."""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedsynth.errors import WireError
from fedsynth.wire.packed import LARGEST_BYTES


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Write named tensors as bytes; they come back on the CPU."""
    data: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return data


def unpack(data: bytes) -> dict[str, Tensor]:
    """Read what `pack` wrote.

    Raises:
        WireError: too large, or not safetensors.
    """
    if len(data) > LARGEST_BYTES:
        raise WireError(f"a message of {len(data)} bytes exceeds the limit of {LARGEST_BYTES}")
    try:
        tensors: dict[str, Tensor] = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise WireError(f"a message of {len(data)} bytes is not safetensors ({type(error).__name__})") from error
    return tensors


def check_like(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, sender: str) -> None:
    """Refuse tensors whose names, shapes or types differ from those wanted, or that are not finite.

    Raises:
        WireError: naming the sender and the kind of difference.
    """
    if set(tensors) != set(wanted):
        raise WireError(f"{sender} sent {len(tensors)} arrays, not the {len(wanted)} asked for")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != wanted[name].dtype:
            raise WireError(
                f"{sender} sent {name} as {tuple(tensor.shape)} {tensor.dtype}, "
                f"not {tuple(wanted[name].shape)} {wanted[name].dtype}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise WireError(f"{sender} sent {name} with values that are not finite")
