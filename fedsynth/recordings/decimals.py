"""Decimals: from a cell of a text to a finite number, or to nothing.

Python's own reading of numbers also takes underscores between digits and the digits of other scripts, and `nan`.
"""

import math
import re

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LONGEST = 400


def decimal(text: str) -> float | None:
    """Return the finite number that a text holds, None where it holds anything else.

    >>> decimal("-1.5e3"), decimal("1_0"), decimal("inf"), decimal("")
    (-1500.0, None, None, None)
    """
    if len(text) > _LONGEST or not _DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None
