"""The gate: from what was read to the promise that it can be used, or a refusal that names no one.

Nothing here opens a file. Bounds are public constants, chosen wide: they catch wrong units, dead inputs and empty
exports, not unusual brains.
"""

import numpy as np

from fedsynth.errors import RecordingError
from fedsynth.recordings.recording import Recording

LEAST_STD_UV = 0.01
LARGEST_STD_UV = 1e5


class MissingChannelError(RecordingError):
    """A recording lacks a channel of the study, which may say that such recordings are left out."""


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
