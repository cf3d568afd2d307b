"""The gate: from what was read to the promise that it can be used, or a refusal that names no one.

Nothing here opens a file. Bounds are public constants, chosen wide: they catch wrong units, dead inputs and empty
exports, not unusual brains.
"""

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.signals.recording import Recording

LEAST_STD_UV = 0.01
LARGEST_STD_UV = 1e5
_LONGEST_NUMBER = 40  # characters


class MissingChannelError(RecordingError):
    """A recording lacks a channel of the study, which may say that such recordings are left out."""


def samples_of_text(data: bytes) -> NDArray[np.float32]:
    """Read one number a line, in microvolts, shape (time,); lines end in LF or CRLF.

    Raises:
        RecordingError: empty, binary, a line that is not one number, or a number that is not finite.

    >>> samples_of_text(b"12\\r\\n-3.5\\r\\n").tolist()
    [12.0, -3.5]
    """
    tokens = data.removeprefix(b"\xef\xbb\xbf").split()
    if not tokens:
        raise RecordingError("the text file is empty; export it again")
    if b"\0" in data:
        raise RecordingError("the file is binary, and a text file with one number a line was asked for")
    if max(map(len, tokens)) > _LONGEST_NUMBER or b"_" in data:
        raise RecordingError("a line of the text file is not a number; write one integer or decimal a line")
    if len(tokens) != sum(1 for line in data.splitlines() if line.strip()):
        raise RecordingError(
            "a line of the text file holds more than one number; write one channel, one number a line"
        )
    try:
        samples = np.array(tokens).astype(np.float64)
    except ValueError:
        raise RecordingError(
            "a line of the text file is not a number; write one integer or decimal a line, with a decimal point"
        ) from None  # the cause repeats the line
    with np.errstate(over="ignore"):
        single = samples.astype(np.float32)
    if not np.isfinite(single).all():
        raise RecordingError("a line of the text file is not finite (nan or inf); remove or repair that recording")
    return single


def check_recording(recording: Recording, *, n_times: int) -> None:
    """Refuse a recording that cannot be used.

    Args:
        recording: as read, before any filter.
        n_times: length of a window in samples.

    Raises:
        RecordingError: not finite, shorter than one window, a flat channel, or no plausible amplitude.
    """
    signal = recording.signal
    if signal.shape[1] < n_times:
        raise RecordingError(
            f"the recording is too short: {signal.shape[1]} samples, and one window takes {n_times}; leave it out "
            "or lower windows.n_times"
        )
    for channel, row in zip(recording.channels, signal, strict=True):
        if not np.isfinite(row).all():
            raise RecordingError(f"channel {channel!r} is not finite (nan or inf); repair or remove that recording")
        if (row == row[0]).all():
            raise RecordingError(
                f"channel {channel!r} is flat: every sample is the same, as with a loose or unconnected electrode; "
                "remove that recording"
            )
        spread = float(np.std(row.astype(np.float64) - float(np.median(row))))
        if not LEAST_STD_UV <= spread <= LARGEST_STD_UV:
            side = "below" if spread < LEAST_STD_UV else "above"
            bound = LEAST_STD_UV if spread < LEAST_STD_UV else LARGEST_STD_UV
            raise RecordingError(
                f"the amplitude of channel {channel!r} is not plausible: its standard deviation is {side} "
                f"{bound:g} uV; check the unit in which it was exported"
            )


def check_site(recordings: list[Recording], *, site: str, least_subjects: int) -> None:
    """Refuse a site with too few people for the study.

    Raises:
        RecordingError: no recordings, or fewer than `least_subjects` people.
    """
    if not recordings:
        raise RecordingError(
            f"site {site!r} holds no recordings with a label of the study; give it its recordings, or leave it "
            "out. Nothing was written"
        )
    subjects = len({recording.subject for recording in recordings})
    if subjects < least_subjects:
        raise RecordingError(
            f"site {site!r} has too few subjects: {subjects}, and the study asks for at least {least_subjects} "
            "(cohort.least_subjects); leave the site out, or agree on another number. Nothing was written"
        )


def copies(recordings: list[Recording]) -> int:
    """Return how many recordings hold exactly the samples of another person's recording."""
    owners: dict[str, str] = {}
    return sum(owners.setdefault(item.digest, item.subject) != item.subject for item in recordings)
