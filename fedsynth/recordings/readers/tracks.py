"""Tracks: the channels of a file as it describes them, and which of them a study means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedsynth.errors import RecordingError
from fedsynth.montage import canonical_channel
from fedsynth.recordings.gate import MissingChannelError
from fedsynth.recordings.readers.samples import RATE_TOLERANCE, Request, find_channel
from fedsynth.recordings.units import MICROVOLTS, VOLTS, Unit


@dataclass(frozen=True)
class Track:
    """A channel of a file: its label, its unit as written, and what one step of its numbers is in that unit."""

    label: str = field(repr=False)
    unit: bytes
    resolution: float = 1.0

    def microvolts(self, unit: Unit | None) -> float:
        """Return what one step is in microvolts; `unit` is the site's word, and goes before the file's."""
        return self.resolution * MICROVOLTS[unit or VOLTS.get(self.unit, "uV")]


def choose_tracks(tracks: Sequence[Track], request: Request) -> tuple[int, ...]:
    """Return where the study's channels stand in a file, in the study's order; only these are judged.

    Raises:
        MissingChannelError: a channel is missing.
        RecordingError: a channel that is there twice, named twice, or in an unknown unit.
    """
    places: dict[str, list[int]] = {}
    for index, track in enumerate(tracks):
        places.setdefault(canonical_channel(request.name_of(track.label)), []).append(index)
    chosen: list[int] = []
    for channel in request.channels:
        found = request.once(find_channel(places, channel))
        if not found:
            raise MissingChannelError(
                f"channel {channel!r} of the study is missing: none of the file's {len(tracks)} channels has that "
                "name; export it with the file, or correct signal.channels"
            )
        if len(found) > 1:
            raise RecordingError(
                f"channel {channel!r} of the study is there {len(found)} times; keep one of them in the file"
            )
        if found[0] in chosen:
            twin = request.channels[chosen.index(found[0])]
            raise RecordingError(f"channels {twin!r} and {channel!r} of the study are one; correct signal.channels")
        if request.unit is None and tracks[found[0]].unit not in VOLTS:
            state = "no unit" if not tracks[found[0]].unit else "a unit that is not known here"
            raise RecordingError(
                f"channel {channel!r} has {state}; export it in uV, mV or V, or name the unit (--unit, or unit "
                "in the site's recordings.toml)"
            )
        chosen.append(found[0])
    return tuple(chosen)


def check_rate(sfreq: float, request: Request) -> None:
    """Refuse a recording at another rate than the study's.

    Raises:
        RecordingError: it is not within 0.01 %.
    """
    if not math.isclose(sfreq, request.sfreq, rel_tol=RATE_TOLERANCE):
        raise RecordingError(
            f"the sampling rate is {sfreq:g} Hz, and the study asks for recordings at {request.sfreq:g} Hz; "
            "correct signal.recorded_sfreq, or leave the recording out"
        )
