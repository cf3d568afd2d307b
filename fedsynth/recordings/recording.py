"""Real recordings and real windows. They live at a site; nothing here can be written into a release."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Beats:
    """Beats of a recording in the order of time, those with a label of the study alone.

    `samples` (beat,) int64 say where each stands, counted from 0; `labels` (beat,) int64 index the study's names.
    """

    samples: NDArray[np.int64]
    labels: NDArray[np.int64]


DOUBTFUL = "\0doubtful"
"""The text of a mark whose end is not to be trusted: nothing that it touches gets a label."""


@dataclass(frozen=True)
class Mark:
    """An annotation: where it begins and how long it lasts, in samples, and its text, which is not to be repeated.

    `n_times` is 0 for a point in time, and None where it lasts until the next one of its kind.
    """

    start: int
    n_times: int | None
    text: str = field(repr=False)


@dataclass(frozen=True)
class Stretch:
    """A stretch of a recording with one label: samples from `start` to before `stop`, and an index of the names."""

    start: int
    stop: int
    label: int


@dataclass(frozen=True)
class Gap:
    """`n_times` samples are missing before the sample `start` of those that are stored."""

    start: int
    n_times: int


@dataclass(frozen=True)
class Recording:
    """One recording of one person.

    `signal` is float32 in microvolts, shape (channel, time), at `sfreq` Hz. `subject` and `label` never leave
    the site. `digest` is the SHA-256 of the data of all the file's channels, and `fingerprints` are of the samples
    of each voltage signal of the file, the study's channels first (`fedsynth.recordings.fingerprints`): by them the
    same recording is known again under another name, saved in another way, and for another choice of channels.
    Where `beats` are given, each of them has a label and the recording has none (`label` is ""). Where the
    recording was interrupted there are `gaps` (`fedsynth.recordings.gaps`); beats and stretches count
    stored samples. `covariates` are the number of its stratum and, of each statement, 0 or 1.
    """

    signal: NDArray[np.float32]
    sfreq: float
    channels: tuple[str, ...]
    subject: str = field(repr=False)
    label: str = field(repr=False)
    digest: str = field(repr=False)
    beats: Beats | None = None
    fingerprints: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    stretches: tuple[Stretch, ...] | None = None
    gaps: tuple[Gap, ...] = ()
    covariates: tuple[int, ...] = field(default=(0,), repr=False)

    @property
    def known_by(self) -> frozenset[str]:
        """Everything by which the same recording is known again: the digest of its data, and all fingerprints."""
        return frozenset((self.digest, *(digest for channel in self.fingerprints for digest in channel)))

    @property
    def used(self) -> frozenset[str]:
        """The fingerprints of what a study uses of the recording: its channels."""
        return frozenset(digest for channel in self.fingerprints[: len(self.channels)] for digest in channel)


@dataclass(frozen=True)
class Windows:
    """Real windows of one site.

    `signal` is float32 in microvolts, shape (window, channel, time). `labels` (window,) int64 index
    `label_names`; `subjects` and `recordings` (window,) int64 number the people and recordings of the site
    from 0. `covariates` (window, 1 + statement) int64 are the
    number of the stratum and, of each statement, 0 or 1; None where a study has none.
    """

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    subjects: NDArray[np.int64]
    recordings: NDArray[np.int64]
    label_names: tuple[str, ...]
    channels: tuple[str, ...]
    sfreq: float
    covariates: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        """Show shapes, never values."""
        window, channel, time = self.signal.shape
        return f"Windows({window} x {channel} channels x {time / self.sfreq:.3g} s at {self.sfreq:g} Hz)"

    def units(self, unit: str) -> NDArray[np.int64]:
        """Number each window's privacy unit, shape (window,)."""
        if unit == "subject":
            return self.subjects
        if unit == "recording":
            return self.recordings
        return np.arange(len(self.labels), dtype=np.int64)
