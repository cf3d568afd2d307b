"""Electrodes: from the label in a file's header to one spelling, and from a name to a place on the head.

Places follow the 10-20 system and its 10-10 extension (Oostenveld and Praamstra 2001,
doi:10.1016/S1388-2457(00)00527-7): rows of electrodes from front to back, each an arc from the midline down to a
ring round the head. One step of the 10-20 grid is 23 degrees on the sphere, so that the ring is nearly level
with the centre of the head, as in the spherical coordinates that EEG software commonly uses.
"""

import math
import re

Position = tuple[float, float, float]

_STEP = 23.0  # degrees for a tenth of the way from nasion to inion
_RING = 4 * _STEP  # degrees from the vertex
_LOWER_RING = 5 * _STEP
_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_REFERENCES = ("-REF", "-LE")
_NAME = re.compile(r"(FP|AF|F|FC|FT|C|T|CP|TP|P|PO|O|I)(Z|10|[1-9])")

# Each row: steps from the vertex to its midline electrode (negative: behind), and degrees round the ring from the
# front to its end.
_ROWS = {
    "FP": (4, 18.0),
    "AF": (3, 36.0),
    "F": (2, 54.0),
    "FC": (1, 72.0),
    "C": (0, 90.0),
    "CP": (-1, 108.0),
    "P": (-2, 126.0),
    "PO": (-3, 144.0),
    "O": (-4, 162.0),
    "I": (-5, 162.0),
}
_OUTER = {"FT": "FC", "T": "C", "TP": "CP"}  # what the ends of these rows are called
_FULL = {1: 0.25, 3: 0.5, 5: 0.75, 7: 1.0}  # odd number: share of the way from the midline to the ring
_BELOW = 9  # the end of the row on the ring below


def canonical_channel(label: str) -> str:
    """Return the one spelling under which two labels of the same channel are equal.

    Case, the prefix "EEG ", a reference "-Ref" or "-LE" and trailing dots are dropped; the old names T3, T4, T5
    and T6 become T7, T8, P7 and P8. A label that names no electrode comes back in capitals.

    >>> canonical_channel("EEG FP1-Ref"), canonical_channel("Cz.."), canonical_channel("T3")
    ('Fp1', 'Cz', 'T7')
    """
    name = label.strip().upper()
    name = name.removeprefix("EEG ").strip().rstrip(".")
    for reference in _REFERENCES:
        name = name.removesuffix(reference).rstrip(" .")
    name = _OLD_NAMES.get(name, name)
    if not _NAME.fullmatch(name):
        return name or label.strip().upper()
    return name.replace("FP", "Fp").replace("Z", "z")


def scalp_position(name: str) -> Position | None:
    """Return where an electrode of the 10-20 or 10-10 system sits on a unit sphere, or None for any other name.

    x points to the right, y to the front, z up. Odd numbers are left, even numbers right, "z" is the midline.

    >>> scalp_position("Cz")
    (0.0, 0.0, 1.0)
    >>> scalp_position("EOG") is None
    True
    """
    found = _NAME.fullmatch(canonical_channel(name).upper())
    if found is None:
        return None
    row, column = found.groups()
    number = 0 if column == "Z" else int(column)
    odd = number - 1 if number and number % 2 == 0 else number
    share = _share(row, odd)
    if share is None:
        return None
    midline, end = _ROWS[_OUTER.get(row, row)]
    middle = _on_sphere(_STEP * abs(midline), 0.0 if midline >= 0 else 180.0)
    lower = odd == _BELOW or row == "I"
    x, y, z = _between(middle, _on_sphere(_LOWER_RING if lower else _RING, end), share)
    return (x if odd == number else -x, y, z)


def _share(row: str, odd: int) -> float | None:
    """Return the share of the way from the midline to the end of the row, None where no electrode sits."""
    if odd == 0:
        return None if row in _OUTER else 0.0
    if odd == _BELOW:
        return 1.0 if row in ("AF", "F", "P", "PO", "O", *_OUTER) else None
    if row in ("FP", "O", "I"):
        return 1.0 if odd == 1 else None
    share = _FULL[odd]
    if row in _OUTER:
        return share if odd == 7 else None
    if row in _OUTER.values():
        return share if odd != 7 else None
    return share


def _on_sphere(polar: float, azimuth: float) -> Position:
    """Return the point `polar` degrees from the vertex, `azimuth` degrees from the front towards the left."""
    down, around = math.radians(polar), math.radians(azimuth)
    return (-math.sin(down) * math.sin(around), math.sin(down) * math.cos(around), math.cos(down))


def _between(start: Position, end: Position, share: float) -> Position:
    """Return the point a share of the way along the great circle."""
    angle = math.acos(max(-1.0, min(1.0, sum(a * b for a, b in zip(start, end, strict=True)))))
    if angle == 0.0:
        return start
    first, second = math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
    x, y, z = (first * a + second * b + 0.0 for a, b in zip(start, end, strict=True))
    return (x, y, z)
