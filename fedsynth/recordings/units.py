"""Units of voltage: how files spell them, and what they are in microvolts."""

from typing import Literal

Unit = Literal["uV", "mV", "V"]
MICROVOLTS: dict[Unit, float] = {"uV": 1.0, "mV": 1e3, "V": 1e6}

# Micro sign and Greek mu as Latin-1, UTF-8, Shift-JIS, code page 437 and Greek code pages write them.
_MICRO = (b"u", b"\xb5", b"\xc2\xb5", b"\xce\xbc", b"\x83\xca", b"\xe6", b"\xec", b"micro")

VOLTS: dict[bytes, Unit] = {
    **{micro + volt: "uV" for micro in _MICRO for volt in (b"V", b"v", b"volt", b"Volt")},
    b"UV": "uV",
    b"mV": "mV",
    b"mv": "mV",
    b"V": "V",
    b"v": "V",
}
