"""The gate: from what was read to the promise that it can be used, or a refusal that names no one.

Nothing here opens a file. Bounds are public constants, chosen wide: they catch wrong units, dead inputs and empty
exports, not unusual brains (`fedsynth.recordings.plausible`).
"""

from collections.abc import Sequence

from fedsynth.errors import RecordingError
from fedsynth.recordings.facts import ChannelFacts, facts_of
from fedsynth.recordings.gaps import parts
from fedsynth.recordings.people import Known
from fedsynth.recordings.plausible import doubt
from fedsynth.recordings.recording import Gap, Recording
from fedsynth.study import Modality


class MissingChannelError(RecordingError):
    """A recording lacks a channel of the study, which may say that such recordings are left out."""


def check_recording(recording: Recording, *, n_times: int, modality: Modality) -> None:
    """Refuse a recording that cannot be used.

    Args:
        recording: as read, before any filter.
        n_times: length of a window in samples.
        modality: what kind of signal, for the bounds of its amplitude.

    Raises:
        RecordingError: not finite, shorter than one window, a flat channel, or no plausible amplitude.
    """
    check_facts(
        facts_of(recording.signal, sfreq=recording.sfreq),
        channels=recording.channels,
        total=recording.signal.shape[1],
        gaps=recording.gaps,
        n_times=n_times,
        modality=modality,
    )


def check_facts(
    facts: Sequence[ChannelFacts],
    *,
    channels: Sequence[str],
    total: int,
    gaps: Sequence[Gap] = (),
    n_times: int,
    modality: Modality,
) -> None:
    """Refuse a recording by what a survey found.

    Args:
        facts: of each channel.
        channels: their names.
        total: samples of the recording.
        gaps: where it was interrupted.
        n_times: length of a window in samples.
        modality: what kind of signal.

    Raises:
        RecordingError: as `check_recording`.
    """
    longest = max((stop - start for start, stop in parts(total, gaps)), default=0)
    if longest < n_times:
        between = f" of {total} between gaps" * bool(gaps)
        raise RecordingError(
            f"the recording is too short: {longest} samples{between}, and one window takes {n_times}; leave it out "
            "or lower windows.n_times"
        )
    for channel, fact in zip(channels, facts, strict=True):
        if not fact.finite:
            raise RecordingError(f"channel {channel!r} is not finite (nan or inf); repair or remove that recording")
        if fact.flat:
            raise RecordingError(
                f"channel {channel!r} is flat: every sample is the same, as with a loose or unconnected electrode; "
                "remove that recording"
            )
        if (wrong := doubt(fact.amplitude, modality=modality)) is not None:
            raise RecordingError(
                f"the amplitude of channel {channel!r} is not plausible: {wrong}; correct the unit, or name the "
                "right one (--unit, or unit in the site's recordings.toml)"
            )


def check_site(recordings: Sequence[Known], *, site: str, least_subjects: int) -> None:
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
