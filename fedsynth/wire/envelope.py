"""An envelope: a short JSON header and an array payload as one byte string, with limits."""

import json
import struct
from typing import Any

from fedsynth.errors import WireError

_MAGIC = b"fedsynth1"
_LARGEST_HEADER = 2**20


def seal(header: dict[str, Any], payload: bytes) -> bytes:
    """Write header and payload as bytes."""
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    return _MAGIC + struct.pack(">I", len(text)) + text + payload


def unseal(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Read what `seal` wrote.

    Raises:
        WireError: not an envelope, or a header beyond 1 MiB.
    """
    start = len(_MAGIC) + 4
    if len(data) < start or not data.startswith(_MAGIC):
        raise WireError(f"a message of {len(data)} bytes is not from fedsynth 1")
    (length,) = struct.unpack(">I", data[len(_MAGIC) : start])
    if length > _LARGEST_HEADER or start + length > len(data):
        raise WireError(f"a message header of {length} bytes is too long")
    try:
        header = json.loads(data[start : start + length])
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WireError("a message header is not JSON") from error
    if not isinstance(header, dict):
        raise WireError("a message header is not an object")
    return header, data[start + length :]
