"""What every reader returns, the units it knows, and how a channel is found by name."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsynth.montage import canonical_channel

RATE_TOLERANCE = 1e-4  # relative

# Micro sign and Greek mu as Latin-1, UTF-8, Shift-JIS, code page 437 and Greek code pages write them.
_MICRO = (b"u", b"\xb5", b"\xc2\xb5", b"\xce\xbc", b"\x83\xca", b"\xe6", b"\xec", b"micro")

VOLTS = {micro + volt: "uV" for micro in _MICRO for volt in (b"V", b"v", b"volt", b"Volt")} | {
    b"UV": "uV",
    b"mV": "mV",
    b"mv": "mV",
    b"V": "V",
    b"v": "V",
}


def find_channel(places: dict[str, list[int]], channel: str) -> list[int]:
    """Return where the labels of a channel stand: its own spelling, or else that with "ECG " before it.

    Args:
        places: of the file's labels, by their canonical spelling.
        channel: as the study names it.

    >>> find_channel({"ECG II": [0], "C3": [1]}, "ii")
    [0]
    """
    return places.get(canonical_channel(channel)) or places.get(canonical_channel(f"ECG {channel}")) or []


@dataclass(frozen=True)
class Samples:
    """What was read of a recording: microvolts, shape (channel, time), the digest of all its data, and remarks."""

    signal: NDArray[np.float32]
    digest: str
    remarks: tuple[str, ...]
