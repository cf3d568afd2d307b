"""Synthetic windows: the only windows that have a writer; a draw too large for memory is a stream of them.

Windows belong to made-up subjects. One subject's windows have one label and stand together, in the order drawn.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedsynth.condition_plan import numbers_of
from fedsynth.errors import RefusedError


@dataclass(frozen=True)
class SyntheticWindows:
    """Windows drawn from a generator.

    `signal` is float32 in microvolts, shape (window, channel, time), at `sfreq` Hz; `labels` (window,) int64
    index `label_names`; `subjects` (window,) int64 number the made-up subjects from 0. Where a study has
    covariates, `conditions` names their values, and `strata` (window,) int64 number combinations of them.
    `statements` (window, statement) int64 say 0 or 1 of each of `statement_names`.
    """

    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    subjects: NDArray[np.int64]
    label_names: tuple[str, ...]
    channels: tuple[str, ...]
    sfreq: float
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    strata: NDArray[np.int64] | None = None
    statement_names: tuple[str, ...] = ()
    statements: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class SyntheticStream:
    """Windows that exist one piece at a time, subject after subject.

    `subject_labels` and `subject_windows` (subject,) int64 are each made-up subject's label and number of windows.
    `pieces()` begins anew at the first window and yields float32 microvolts, shape (window, channel, time).
    `conditions` names the values of covariates, and `subject_strata` (subject,) int64 number combinations of
    them; `subject_statements` (subject, statement) int64 say 0 or 1 of each of the `statements`.
    """

    subject_labels: NDArray[np.int64]
    subject_windows: NDArray[np.int64]
    label_names: tuple[str, ...]
    channels: tuple[str, ...]
    sfreq: float
    n_times: int
    pieces: Callable[[], Iterator[NDArray[np.float32]]]
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    subject_strata: NDArray[np.int64] | None = None
    statements: tuple[str, ...] = ()
    subject_statements: NDArray[np.int64] | None = None

    @property
    def subject_values(self) -> NDArray[np.int64]:
        """Return which value of each condition a subject has, shape (subject, condition)."""
        sizes = [len(values) for values in self.conditions.values()]
        strata = self.subject_strata if self.subject_strata is not None else np.zeros_like(self.subject_labels)
        rows = [numbers_of(int(stratum), sizes) for stratum in strata]
        return np.array(rows, dtype=np.int64).reshape(len(strata), len(sizes))

    @property
    def n_windows(self) -> int:
        """Return the number of windows of all subjects together."""
        return int(self.subject_windows.sum())

    def counts(self) -> tuple[int, ...]:
        """Return the number of windows of each label."""
        counts = np.bincount(self.subject_labels, self.subject_windows, minlength=len(self.label_names))
        return tuple(int(count) for count in counts)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (subject, windows) in order; a subject's windows may come in several blocks.

        Raises:
            RefusedError: the pieces hold fewer or more windows than the subjects.
        """
        subject, left = -1, 0
        for piece in self.pieces():
            while len(piece):
                while left == 0:
                    subject += 1
                    if subject == len(self.subject_windows):
                        raise RefusedError("a stream holds more windows than it announced. Nothing was written")
                    left = int(self.subject_windows[subject])
                block, piece = piece[:left], piece[left:]
                left -= len(block)
                yield subject, block
        if left or self.subject_windows[subject + 1 :].any():
            raise RefusedError("a stream holds fewer windows than it announced. Nothing was written")

    def pick(self, rows: NDArray[np.int64]) -> SyntheticWindows:
        """Return the windows with these numbers, ascending, in one pass; `gathered` returns all."""
        subjects = np.searchsorted(np.cumsum(self.subject_windows), rows, side="right").astype(np.int64)
        found, start = [np.zeros((0, len(self.channels), self.n_times), np.float32)], 0
        for piece in self.pieces():
            first, last = np.searchsorted(rows, (start, start + len(piece)))
            found.append(piece[rows[first:last] - start])
            start += len(piece)
        return SyntheticWindows(
            signal=np.concatenate(found),
            labels=self.subject_labels[subjects],
            subjects=subjects,
            label_names=self.label_names,
            channels=self.channels,
            sfreq=self.sfreq,
            conditions=self.conditions,
            strata=None if self.subject_strata is None else self.subject_strata[subjects],
            statement_names=self.statements,
            statements=None if self.subject_statements is None else self.subject_statements[subjects],
        )

    def gathered(self) -> SyntheticWindows:
        """Return all windows; they must fit in memory."""
        return self.pick(np.arange(self.n_windows))


def stream_of(windows: SyntheticWindows) -> SyntheticStream:
    """Return windows that are in memory as a stream of one piece.

    Raises:
        RefusedError: windows of one subject are apart or differ in their label, or shapes do not belong together.
    """
    n_windows, subjects = len(windows.signal), windows.subjects
    if windows.labels.shape != (n_windows,) or subjects.shape != (n_windows,):
        raise RefusedError(
            f"{len(windows.labels)} labels and {len(subjects)} subjects do not fit {n_windows} windows. "
            "Nothing was written"
        )
    starts = np.flatnonzero(np.diff(subjects, prepend=subjects[:1] - 1))
    sizes = np.diff(starts, append=n_windows).astype(np.int64)
    labels = windows.labels[starts]
    if len(np.unique(subjects)) != len(starts) or (np.repeat(labels, sizes) != windows.labels).any():
        raise RefusedError(
            "windows of one synthetic subject are apart or differ in their label. Nothing was written"
        )
    return SyntheticStream(
        subject_labels=labels,
        subject_windows=sizes,
        label_names=windows.label_names,
        channels=windows.channels,
        sfreq=windows.sfreq,
        n_times=windows.signal.shape[2],
        pieces=lambda: iter((windows.signal,)),
        conditions=windows.conditions,
        subject_strata=None if windows.strata is None else windows.strata[starts],
        statements=windows.statement_names,
        subject_statements=None if windows.statements is None else windows.statements[starts],
    )
