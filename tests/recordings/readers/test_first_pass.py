"""A recording that is small as it is stored is read once, and microvolts are made when they are asked for."""

from collections.abc import Iterator

import numpy as np
import pytest

from fedsynth.recordings.facts import facts_of, microvolts
from fedsynth.recordings.readers.first_pass import FirstPass, first_pass
from fedsynth.recordings.readers.samples import Notes, Piece

N_TIMES, N_CHANNELS = 3000, 3
SCALES = ((0.25, 1.0), (-0.5, 0.0))
STEPS = np.random.default_rng(1).integers(-400, 400, (N_CHANNELS, N_TIMES)).astype(np.int16)
SIGNAL = np.stack([microvolts(row, *scale) for row, scale in zip(STEPS, SCALES, strict=False)])


class File:
    """Gives three pieces, of which the third channel is none of the study's, and counts how often it is read."""

    def __init__(self, *, scaled: bool) -> None:
        self.read, self._scaled = 0, scaled

    def pieces(self, notes: Notes) -> Iterator[Piece]:
        self.read += 1
        notes.content.update(STEPS.tobytes())
        for start in range(0, N_TIMES, 1000):
            part = slice(start, start + 1000)
            values = tuple(row[part] for row in STEPS)
            yield Piece(None, values, SCALES) if self._scaled else Piece(SIGNAL[:, part], values)


def gone_through(file: File) -> tuple[FirstPass, np.ndarray]:
    found = first_pass(file.pieces, sfreq=128.0)
    return found, np.concatenate([piece.in_microvolts() for piece in found.read(Notes())], axis=1)


@pytest.mark.parametrize("scaled", [False, True], ids=["in microvolts", "as it is stored"])
def test_it_does_not_matter_when_microvolts_are_made(scaled: bool) -> None:
    found, signal = gone_through(File(scaled=scaled))

    np.testing.assert_array_equal(signal, SIGNAL)
    assert found.channels == facts_of(SIGNAL, sfreq=128.0)
    assert found.n_times == N_TIMES
    assert [len(one) for one in found.fingerprints] == [8] * N_CHANNELS


@pytest.mark.parametrize(
    ("scaled", "spare", "times"),
    [
        pytest.param(True, 0, 1, id="what is stored is held"),
        pytest.param(True, -1, 2, id="it is larger by a byte"),
        pytest.param(False, SIGNAL.nbytes - 1, 2, id="microvolts beside it count"),
    ],
)
def test_a_small_recording_is_read_once(
    monkeypatch: pytest.MonkeyPatch, scaled: bool, spare: int, times: int
) -> None:
    monkeypatch.setattr("fedsynth.recordings.readers.first_pass.HELD_BYTES", STEPS.nbytes + spare)
    file = File(scaled=scaled)

    gone_through(file)

    assert file.read == times
