"""Tags of FIF files: their sizes are held against the file before a library takes memory for them.

A FIF file is a chain of tags: kind, type, size and place of the next, four whole numbers of 32 bits, most
significant byte first.
"""

import struct
from pathlib import Path

from fedsynth.errors import RecordingError

_CUT = "its parts are longer than the file, so it was cut short or damaged; copy or export it again"


def check_fif(path: Path) -> None:
    """Walk the chain of tags.

    Raises:
        RecordingError: a tag that ends behind the end of the file, or a chain that goes back.
        OSError: a file that cannot be opened.
    """
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 16 <= size:
            file.seek(place)
            _, _, length, following = struct.unpack(">iiii", file.read(16))
            end = place + 16 + length
            if length < 0 or end > size or (following > 0 and following < end):
                raise RecordingError(_CUT)
            if following < 0:
                return
            place = following or end
    if place != size:
        raise RecordingError(_CUT)
