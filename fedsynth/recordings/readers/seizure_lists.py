"""Lists of seizures beside recordings, as the Siena, CHB-MIT and SeizeIT data sets write them, to marks.

A list that contradicts itself is typing errors of people: where an end cannot be right, nothing near it is
labelled, and no end is guessed.
"""

import re
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.recordings.decimals import decimal
from fedsynth.recordings.folder import check_beside
from fedsynth.recordings.lines import lines_of
from fedsynth.recordings.recording import DOUBTFUL, Mark

SEIZURE = "seizure"
"""The text of the marks, for `labels.rename`."""
LARGEST_LIST = 1 << 22  # bytes
_DAY = 24 * 3600
_LONGEST = 4 * 3600
"""Seconds from which an end counts as a typing error."""
_CLOCK = re.compile(r"(\d{1,2})\s*[.:]\s*(\d{2})\s*[.:]\s*(\d{2})")


def siena_marks(path: Path, *, sfreq: float, n_times: int, root: Path | None) -> list[Mark]:
    """Read the `Seizures-list-*.txt` beside a recording of the Siena Scalp EEG Database (doi:10.13026/5d4a-j060).

    Times are of the day; a seizure is counted from the registration's start, past midnight where it is before it.

    Raises:
        RecordingError: no list, or a seizure of this recording without its three times.
    """
    text = _beside(path, "Seizures-list-*.txt", root)
    marks = []
    for block in re.split(r"(?im)^\s*seizure\s+n\b", text)[1:]:
        named = re.search(r"(?im)^\s*file\s*name\s*:\s*(.+?)\s*$", block)
        if named is None or _stem(named[1]) != _stem(path.name):
            continue
        start = _clock(block, r"(?:registration\s+)?start\s+time")
        first = _clock(block, r"seizure\s+start\s+time|start\s+time\s+of\s+seizure")
        last = _clock(block, r"seizure\s+end\s+time|end\s+time\s+of\s+seizure")
        end = _clock(block, r"registration\s+end\s+time")
        if start is None or first is None or last is None:
            raise RecordingError("the list of seizures gives no usable times for it; correct the list")
        onset, length = (first - start) % _DAY, (last - first) % _DAY
        recorded = (end - start) % _DAY if end is not None else n_times / sfreq
        marks.append(_mark(onset, length, recorded=recorded, sfreq=sfreq))
    return marks


def chb_mit_marks(path: Path, *, sfreq: float, n_times: int, root: Path | None) -> list[Mark]:
    """Read the `*-summary.txt` beside a recording of CHB-MIT (doi:10.13026/C2K01R); times are seconds in the file.

    Raises:
        RecordingError: no list, a recording that is not in it, or as many starts as announced are not there.
    """
    text = _beside(path, "*-summary.txt", root)
    blocks = re.split(r"(?im)^\s*file\s+name\s*:", text)[1:]
    mine = [block for block in blocks if _stem(block.split("\n", 1)[0].strip()) == _stem(path.name)]
    if not mine:
        raise RecordingError("the list of seizures does not name it; correct the list, or move the file away")
    starts = [int(x) for x in re.findall(r"(?im)^\s*seizure\s*\d*\s+start\s+time\s*:\s*(\d{1,6})\s*sec", mine[0])]
    ends = [int(x) for x in re.findall(r"(?im)^\s*seizure\s*\d*\s+end\s+time\s*:\s*(\d{1,6})\s*sec", mine[0])]
    announced = re.search(r"(?im)^\s*number\s+of\s+seizures\s+in\s+file\s*:\s*(\d{1,4})", mine[0])
    if announced is None or len(starts) != int(announced[1]) or len(ends) != len(starts):
        raise RecordingError("the list of seizures gives other starts or ends than it announces; correct the list")
    recorded = n_times / sfreq
    return [
        _mark(start, end - start, recorded=max(recorded, end), sfreq=sfreq)
        for start, end in zip(starts, ends, strict=True)
    ]


def seizeit_marks(path: Path, *, sfreq: float, root: Path | None) -> list[Mark]:
    """Read the `<recording>_a1.tsv` beside a recording of SeizeIT1: onset and end in seconds, or None, a line.

    Raises:
        RecordingError: no list, or a line whose times are no numbers.
    """
    text = _beside(path, f"{path.stem}_a*.tsv", root)
    marks: list[Mark] = []
    for line in lines_of(text):
        cells = line.split("\t")
        if line.startswith("#") or len(cells) < 2 or not line.strip():
            continue
        unknown = cells[1].strip().lower() in ("none", "n/a", "nan", "")
        start, end = decimal(cells[0].strip()), -1e9 if unknown else decimal(cells[1].strip())
        if start is None or end is None or not (abs(start) <= 1e9 and abs(end) <= 1e9):
            if marks or not re.match(r"[A-Za-z]", cells[0]):
                raise RecordingError("a line of the list of seizures has no usable times; correct it")
            continue
        marks.append(_mark(start, end - start, recorded=end, sfreq=sfreq))
    return marks


def _mark(onset: float, length: float, *, recorded: float, sfreq: float) -> Mark:
    start = round(onset * sfreq)
    if not 0 < length <= _LONGEST or onset + length > recorded + 1:
        return Mark(start, None, DOUBTFUL)
    return Mark(start, round(length * sfreq), SEIZURE)


def _beside(path: Path, pattern: str, root: Path | None) -> str:
    found = sorted(path.parent.glob(pattern))
    if len(found) != 1:
        raise RecordingError(f"{len(found)} lists of seizures lie beside it, and one is needed; put it there")
    check_beside(found[0], root=root)
    return (
        found[0]
        .read_bytes()[:LARGEST_LIST]
        .decode("utf-8", errors="replace")
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )


def _clock(block: str, key: str) -> int | None:
    found = re.search(rf"(?im)^\s*(?:{key})\s*:?\s*({_CLOCK.pattern})", block)
    clock = _CLOCK.search(found[1]) if found else None
    if clock is None:
        return None
    hours, minutes, seconds = (int(part) for part in clock.groups())
    return hours * 3600 + minutes * 60 + seconds if hours < 24 and minutes < 60 and seconds < 60 else None


def _stem(name: str) -> str:
    """Return a name without its suffix and its typing: `PN01.edf`, `PN00-1.edf ` and `pn00-1` are told apart so."""
    return re.sub(r"\.edf\s*$", "", name.strip(), flags=re.IGNORECASE).lower().replace(" ", "")
