"""Waves, templates and copies: what a shift, a gain or a sign cannot hide, and what honest windows are spared."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsynth.errors import PrivacyError
from fedsynth.evaluation.copies import check_copies, holds_copies
from fedsynth.evaluation.diversity import diversity_score
from fedsynth.evaluation.templates import LEAST_WAVES, check_waves, effective_waves
from fedsynth.evaluation.waves import largest_correlations, similarities
from fedsynth.synthesis.windows import SyntheticWindows

Signal = NDArray[np.float64]
Change = Callable[[Signal, np.random.Generator], Signal]


def pink(count: int, *, seed: int, channels: int = 2, n_times: int = 128) -> Signal:
    """Return slow noise in microvolts, which correlates by chance far more than white noise does."""
    rng = np.random.default_rng(seed)
    freqs = np.fft.rfftfreq(n_times)
    white = rng.normal(size=(count, channels, len(freqs))) + 1j * rng.normal(size=(count, channels, len(freqs)))
    return 400 * np.fft.irfft(white / np.maximum(freqs, 1 / 64) ** 0.7, n_times)


def rolled(signal: Signal, rng: np.random.Generator) -> Signal:
    return np.stack([np.roll(one, rng.integers(one.shape[-1]), axis=-1) for one in signal])


def later(signal: Signal, rng: np.random.Generator) -> Signal:
    """Begin each window a quarter of a window later; what follows is another wave."""
    k = signal.shape[-1] // 4
    rest = pink(len(signal), seed=int(rng.integers(2**31)))
    return np.stack([np.concatenate([a[:, k:], b[:, :k]], axis=-1) for a, b in zip(signal, rest, strict=True)])


def scaled(signal: Signal, rng: np.random.Generator) -> Signal:
    return signal * rng.uniform(-3, 3, (len(signal), 1, 1))


def by_channel(signal: Signal, rng: np.random.Generator) -> Signal:
    return signal * rng.uniform(0.3, 3, (len(signal), signal.shape[1], 1))


def noisy(signal: Signal, rng: np.random.Generator) -> Signal:
    return signal + 0.05 * signal.std(axis=(1, 2), keepdims=True) * rng.normal(size=signal.shape)


def exact(signal: Signal, _: np.random.Generator) -> Signal:
    return signal


CHANGES = [exact, rolled, later, scaled, by_channel, noisy]


def windows(signal: NDArray[Any], labels: NDArray[Any]) -> SyntheticWindows:
    return SyntheticWindows(
        signal.astype(np.float32), labels.astype(np.int64), np.arange(len(labels)), ("a", "b"), ("C3", "C4"), 100.0
    )


def test_the_best_correlation_is_that_of_every_lag_tried_by_hand() -> None:
    one, other = pink(3, seed=1, n_times=64), pink(4, seed=2, n_times=64)

    def by_hand(a: Signal, b: Signal) -> float:
        a, b = (x - x.mean(axis=-1, keepdims=True) for x in (a, b))
        a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
        best = 0.0
        for lag in range(-32, 33):
            left, right = (a[:, : 64 - lag], b[:, lag:]) if lag >= 0 else (a[:, -lag:], b[:, : 64 + lag])
            left, right = (x - x.mean(axis=-1, keepdims=True) for x in (left, right))
            best = max(best, abs((left * right).sum()) / np.sqrt((left**2).sum() * (right**2).sum()))
        return best

    found = largest_correlations(one, other)

    assert found == pytest.approx([max(by_hand(a, b) for b in other) for a in one], abs=1e-5)


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_nearly_one_and_another_wave_is_not(change: Change) -> None:
    rng, original = np.random.default_rng(0), pink(40, seed=3)

    nearest = largest_correlations(change(original, rng), original)

    assert nearest.min() > 0.98
    assert np.median(nearest) > 0.995
    assert largest_correlations(pink(40, seed=4), original).max() < 0.9


def test_the_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pink(7, seed=1), pink(9, seed=2)
    whole = largest_correlations(one, other)
    monkeypatch.setattr("fedsynth.evaluation.waves._PAIRS", 1)

    np.testing.assert_allclose(largest_correlations(one, other), whole, atol=1e-6)


def test_flat_windows_are_one_and_resemble_nothing_else() -> None:
    matrix = similarities(np.concatenate([np.full((3, 2, 64), 5.0), pink(2, seed=1, n_times=64)]))

    assert (matrix[:3, :3] == 1).all()
    assert (matrix[:3, 3:] == 0).all()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_planted_copies_are_refused_by_name(change: Change, share: float) -> None:
    rng, trained = np.random.default_rng(5), pink(400, seed=6)
    planted = pink(200, seed=7)
    count = int(share * 200)
    planted[rng.choice(200, count, replace=False)] = change(trained[:count], rng)

    with pytest.raises(PrivacyError, match="copies of recordings") as refused:
        check_copies(planted, trained=trained, others=pink(80, seed=8))

    assert not any(letter.isdigit() for letter in str(refused.value))


def test_windows_as_near_as_other_people_are_pass() -> None:
    """Everybody's beat is the same bump: synthetic and held-out windows come near those trained on."""

    def beats(seed: int) -> Signal:
        return 300 * np.exp(-0.5 * ((np.arange(128) - 64) / 6) ** 2) + 0.04 * pink(150, seed=seed)

    assert largest_correlations(beats(1), beats(2)).min() > 0.9
    assert not holds_copies(beats(1), trained=beats(2), others=beats(3))


def test_without_held_out_people_copies_are_still_seen() -> None:
    trained = pink(100, seed=6)

    assert holds_copies(trained[:30], trained=trained, others=trained[:0])
    assert not holds_copies(pink(30, seed=9), trained=trained, others=trained[:0])


@pytest.mark.parametrize("kinds", [1, 5, 20, 40])
def test_a_few_templates_shifted_and_scaled_are_counted_and_refused(kinds: int) -> None:
    rng = np.random.default_rng(1)
    few = noisy(scaled(rolled(pink(kinds, seed=2)[np.arange(800) % kinds], rng), rng), rng)
    both = windows(np.concatenate([pink(200, seed=3), few]), np.repeat([0, 1], [200, 800]))

    waves, compared = effective_waves(both)

    assert compared == 200
    assert waves == pytest.approx(kinds, rel=0.5)
    if kinds > 5:
        assert diversity_score(both).value > 0.5  # sample by sample they pass for diverse
    with pytest.raises(PrivacyError, match="few templates"):
        check_waves(both)


def test_half_of_the_windows_from_five_templates_are_enough_to_be_refused() -> None:
    rng = np.random.default_rng(1)
    half = np.concatenate([pink(100, seed=3), rolled(pink(5, seed=2)[np.arange(100) % 5], rng)])

    with pytest.raises(PrivacyError, match="few templates"):
        check_waves(windows(half, np.zeros(200)))


def test_windows_that_differ_pass_with_a_wide_margin() -> None:
    found = check_waves(windows(pink(400, seed=1), np.repeat([0, 1], 200)))

    assert found.value > 3 * LEAST_WAVES
    assert (found.source, found.direction) == ("synthetic", 1)


def test_no_window_is_no_wave() -> None:
    with pytest.raises(PrivacyError, match="few templates"):
        check_waves(windows(pink(0, seed=1), np.zeros(0)))
