"""Packed arrays: safetensors as bytes, to NumPy arrays and back, for whoever moves them and computes nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedsynth.errors import WireError

LARGEST_BYTES = 512 * 2**20
MESSAGE = "message"
"""The name of the array that carries a message of secure aggregation."""


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write named arrays as bytes, the same as `fedsynth.wire.arrays.pack` writes of tensors."""
    data: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return data


def unpack_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Read what was packed.

    Raises:
        WireError: too large, or not safetensors.
    """
    if len(data) > LARGEST_BYTES:
        raise WireError(f"a message of {len(data)} bytes exceeds the limit of {LARGEST_BYTES}")
    try:
        arrays: dict[str, NDArray[Any]] = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise WireError(f"a message of {len(data)} bytes is not safetensors ({type(error).__name__})") from error
    return arrays


def pack_message(message: bytes) -> bytes:
    """Write a message of secure aggregation as packed arrays."""
    return pack_arrays({MESSAGE: np.frombuffer(message, dtype=np.uint8)})


def packed_message(data: bytes) -> bytes:
    """Return the message of secure aggregation among packed arrays.

    Raises:
        WireError: there is none.
    """
    arrays = unpack_arrays(data)
    message = arrays.get(MESSAGE)
    if message is None or message.dtype != np.uint8 or message.ndim != 1:
        raise WireError(f"{len(arrays)} tensors came without a message of secure aggregation")
    return message.tobytes()
