"""Units of voltage: how files spell them, and what they are in microvolts."""

from typing import Literal

Unit = Literal["nV", "uV", "mV", "V"]
MICROVOLTS: dict[Unit, float] = {"nV": 1e-3, "uV": 1.0, "mV": 1e3, "V": 1e6}

# Micro sign and Greek mu as Latin-1, UTF-8, Shift-JIS, code page 437 and Greek code pages write them; and the first
# two in UTF-8 that was taken for Latin-1 and written as UTF-8 again.
_MICRO: tuple[bytes, ...] = (b"u", b"\xb5", b"\xc2\xb5", b"\xce\xbc", b"\x83\xca", b"\xe6", b"\xec")
_MICRO += (b"\xc3\x82\xc2\xb5", b"\xc3\x8e\xc2\xbc")
_PREFIXES: dict[Unit, tuple[bytes, ...]] = {"nV": (b"n",), "uV": _MICRO, "mV": (b"m",), "V": (b"",)}
_WORDS: dict[Unit, bytes] = {"nV": b"nano", "uV": b"micro", "mV": b"milli", "V": b""}
_VOLT = (b"V", b"v", b"volt", b"Volt", b"volts", b"Volts")


def _words(word: bytes) -> set[bytes]:
    said = {word + volt for volt in (*_VOLT, b"Volt")}
    return said | {one[:1].upper() + one[1:] for one in said} | {one.upper() for one in said if word}


# Of capitals, UV can be nothing else; MV may be a megavolt or a millivolt, and nobody knows.
VOLTS: dict[bytes, Unit] = {
    b"UV": "uV",
    **{prefix + volt: unit for unit, prefixes in _PREFIXES.items() for prefix in prefixes for volt in _VOLT},
    **{said: unit for unit, word in _WORDS.items() for said in _words(word)},
}
