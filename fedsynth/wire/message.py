"""Messages of secure aggregation inside orders and updates: bytes as one tensor, and back."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fedsynth.errors import WireError
from fedsynth.wire.packed import MESSAGE


def as_tensors(data: bytes) -> dict[str, Tensor]:
    """Return bytes as the tensors of an update or order."""
    return {MESSAGE: torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())}


def message_in(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the message among tensors.

    Raises:
        WireError: there is none.
    """
    message = tensors.get(MESSAGE)
    if message is None or message.dtype != torch.uint8 or message.ndim != 1:
        raise WireError(f"{len(tensors)} tensors came without a message of secure aggregation")
    return message.numpy().tobytes()


def without_message(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the other tensors."""
    return {name: tensor for name, tensor in tensors.items() if name != MESSAGE}
