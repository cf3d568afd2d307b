"""A recording filtered in stretches gives the windows of the whole, wherever it is cut and however it comes."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.recordings import blocks
from fedsynth.recordings.blocks import Filtering, blocks_of, filtered, stretches_for
from fedsynth.recordings.filters import in_band

TOLERANCE_UV = 2e-4
RATES = {
    "as recorded": (128.0, 128.0),
    "halved": (256.0, 128.0),
    "Bonn's, a fraction": (173.61, 128.0),
    "up": (100.0, 250.0),
}


def walk(n_times: int, *, sfreq: float, seed: int = 1) -> np.ndarray:
    """Two channels that drift by thousands of microvolts far from zero, and hum."""
    rng = np.random.default_rng(seed)
    drift = np.cumsum(rng.normal(0, 8, (2, n_times)), axis=1) + np.array([[4200.0], [-900.0]])
    hum = 30 * np.sin(2 * np.pi * 50 * np.arange(n_times) / sfreq)
    return (drift + hum + rng.normal(0, 20, (2, n_times))).astype(np.float32)


def in_pieces(signal: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    at = 0
    for size in [*sizes, signal.shape[1]]:
        if at < signal.shape[1]:
            yield signal[:, at : at + size]
        at += size


def windows(
    signal: np.ndarray, starts: list[int], filtering: Filtering, *, n_times: int = 128, sizes: list[int]
) -> np.ndarray:
    total = signal.shape[1]
    parts = blocks_of(np.array(starts), n_times=n_times, total=total, n_channels=len(signal), filtering=filtering)
    found = []
    for block, samples in stretches_for(in_pieces(signal, sizes), parts):
        there, first = filtered(block, samples, total=total, filtering=filtering)
        for start in starts[slice(*block.windows)]:
            found.append(there[:, start - first : start - first + n_times])
    return np.stack(found)


def whole(signal: np.ndarray, starts: list[int], filtering: Filtering, *, n_times: int = 128) -> np.ndarray:
    """Every sample is filtered and brought to the other rate at once."""
    passed = in_band(
        signal,
        sfreq=filtering.sfreq,
        bandpass=filtering.bandpass,
        notch=filtering.notch,
        ratio=filtering.ratio,
    )
    return np.stack([passed[:, start : start + n_times] for start in starts])


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("notch", [None, 50.0])
def test_windows_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch, name: str, notch: float | None) -> None:
    before, after = RATES[name]
    signal = walk(int(200 * before), sfreq=before)
    last = int(200 * after) - 128
    starts = [0, 3, int(20 * after), int(101.3 * after), last - 5, last]
    filtering = Filtering(before, (1.0, 40.0), ratio=ratio(before, after), notch=notch)
    monkeypatch.setattr(blocks, "BLOCK_SAMPLES", 2 * int(50 * before))

    found = windows(signal, starts, filtering, sizes=[777] * 40)

    assert (
        len(blocks_of(np.array(starts), n_times=128, total=signal.shape[1], n_channels=2, filtering=filtering)) > 2
    )
    np.testing.assert_allclose(found, whole(signal, starts, filtering), atol=TOLERANCE_UV)


@settings(max_examples=25, deadline=None)
@given(
    block=st.integers(1, 40_000),
    sizes=st.lists(st.integers(1, 9000), max_size=8),
    starts=st.lists(st.integers(0, 100 * 60 - 128), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_it_does_not_matter_how_a_recording_is_parted(
    block: int, sizes: list[int], starts: list[int], seed: int
) -> None:
    signal, starts = walk(200 * 60, sfreq=200.0, seed=seed), sorted(starts)
    filtering = Filtering(200.0, (2.0, 40.0), ratio=(1, 2))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_SAMPLES", block)
        found = windows(signal, starts, filtering, sizes=sizes)

    np.testing.assert_allclose(found, whole(signal, starts, filtering), atol=TOLERANCE_UV)


def test_a_margin_that_is_too_short_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    signal, starts = walk(200 * 60, sfreq=200.0), [2500]
    filtering = Filtering(200.0, (2.0, 40.0))
    monkeypatch.setattr(blocks, "BLOCK_SAMPLES", 1)
    monkeypatch.setattr(blocks, "margin", lambda *_, **__: 40)

    found = windows(signal, starts, filtering, sizes=[])

    assert np.abs(found - whole(signal, starts, filtering)).max() > 100 * TOLERANCE_UV


def test_a_short_recording_is_one_block_and_equal_to_the_last_bit() -> None:
    signal, starts = walk(173 * 30, sfreq=173.61), [0, 700, 3000]
    filtering = Filtering(173.61, (0.5, 40.0), ratio=ratio(173.61, 128.0))

    found = windows(signal, starts, filtering, sizes=[100])

    np.testing.assert_array_equal(found, whole(signal, starts, filtering))


def ratio(before: float, after: float) -> tuple[int, int]:
    from fractions import Fraction

    exact = Fraction(str(after)) / Fraction(str(before))
    return exact.numerator, exact.denominator
