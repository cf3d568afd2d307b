"""Diversity: told from arithmetic, and held against the collapsed generator of the ALS seed."""

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.errors import RefusedError
from fedsynth.evaluation.diversity import (
    LEAST_DIVERSITY,
    check_diversity,
    diversity_score,
    effective_number,
)
from fedsynth.families.adversarial.cwgan import Cwgan
from fedsynth.modalities.shape import Shape
from fedsynth.synthesis.windows import SyntheticWindows

_spec = importlib.util.spec_from_file_location(
    "collapsed", Path(__file__).resolve().parents[1] / "families" / "collapsed.py"
)
assert _spec is not None
assert _spec.loader is not None
collapsed = importlib.util.module_from_spec(_spec)
sys.modules["collapsed"] = collapsed
_spec.loader.exec_module(collapsed)

SHAPE = Shape(channels=("C3", "C4"), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")


def windows(signal: NDArray[Any], labels: NDArray[Any]) -> SyntheticWindows:
    return SyntheticWindows(
        signal=signal.astype(np.float32),
        labels=labels.astype(np.int64),
        subjects=np.arange(len(labels)),
        label_names=("rest", "task"),
        channels=SHAPE.channels,
        sfreq=SHAPE.sfreq,
    )


def noise(count: int, *, seed: int = 0) -> NDArray[np.float64]:
    return 20 * np.random.default_rng(seed).normal(size=(count, 2, 128))


BOTH = np.repeat([0, 1], 100)


def from_collapsed(*, flat: bool, spread: float) -> SyntheticWindows:
    """Return windows of the collapsed generator, in microvolts, with `spread` microvolts of noise on top."""
    generator = collapsed.CollapsedGenerator(n_labels=2, n_channels=2, n_times=128, flat=flat)
    with torch.no_grad():
        drawn = generator(torch.from_numpy(BOTH), torch.randn(200, 100, generator=torch.Generator().manual_seed(1)))
    return windows(50 * drawn.numpy() + spread * noise(200) / 20, BOTH)


@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_equal_groups_count_as_so_many_things(kinds: int) -> None:
    of = np.arange(20) % kinds

    assert effective_number((of[:, None] == of[None, :]).astype(float)) == pytest.approx(kinds)


def test_two_things_of_a_known_likeness() -> None:
    """Eigenvalues of [[1, k], [k, 1]] / 2 are (1 +- k) / 2."""
    k = 0.6
    high, low = (1 + k) / 2, (1 - k) / 2

    found = effective_number(np.array([[1, k], [k, 1]]))

    assert found == pytest.approx(math.exp(-high * math.log(high) - low * math.log(low)))


def test_noise_is_as_diverse_as_can_be() -> None:
    score = diversity_score(windows(noise(200), BOTH))

    assert score.value == pytest.approx(1.0, abs=0.01)
    assert score.low <= score.value <= score.high
    assert (score.source, score.direction) == ("synthetic", 1)


@pytest.mark.parametrize("modes", [1, 3])
def test_a_few_modes_are_seen_whatever_their_amplitude(modes: int) -> None:
    few = noise(modes)[np.arange(200) % modes] * np.random.default_rng(1).uniform(0.5, 2.0, (200, 1, 1))

    score = diversity_score(windows(few, BOTH))

    assert score.value == pytest.approx((modes - 1) / 99, abs=0.002)
    with pytest.raises(RefusedError, match="lack diversity"):
        check_diversity(windows(few, BOTH))


def test_one_collapsed_label_is_enough_to_be_refused() -> None:
    half = np.concatenate([noise(100), noise(1).repeat(100, axis=0)])

    assert diversity_score(windows(half, BOTH)).value < 0.001


@pytest.mark.parametrize(
    ("flat", "spread"),
    [
        pytest.param(True, 0.0, id="0.9999 throughout, as the seed"),
        pytest.param(True, 0.01, id="0.9999 and what a float32 may add"),
        pytest.param(False, 0.0, id="one pattern"),
        pytest.param(False, 2.0, id="one pattern under noise"),
    ],
)
def test_the_collapsed_generator_of_the_als_seed_is_refused(flat: bool, spread: float) -> None:
    collapsed_windows = from_collapsed(flat=flat, spread=spread)

    assert float(np.abs(collapsed_windows.signal).mean()) == pytest.approx(50, rel=0.01)
    with pytest.raises(RefusedError, match="has collapsed"):
        check_diversity(collapsed_windows)


def test_a_generator_at_the_public_prior_passes() -> None:
    family = Cwgan(latent=8)
    parts = family.build(SHAPE, prior_anchor(SHAPE))
    given = torch.randn(200, family.noise_width(SHAPE), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = family.sample(parts, torch.from_numpy(BOTH), given).numpy()

    assert check_diversity(windows(drawn, BOTH)).value > 10 * LEAST_DIVERSITY


def test_flat_windows_are_all_one() -> None:
    assert diversity_score(windows(np.full((200, 2, 128), 7.0), BOTH)).value == 0.0


def test_one_window_of_a_label_shows_nothing_and_is_refused() -> None:
    alone = windows(noise(2), np.array([0, 1]))

    assert math.isnan(diversity_score(alone).value)
    with pytest.raises(RefusedError):
        check_diversity(alone)


def test_the_score_does_not_hang_on_how_many_windows_there_are() -> None:
    many = noise(4)[np.random.default_rng(3).integers(0, 4, 4000)]

    score = diversity_score(windows(many, np.zeros(4000)))

    assert score.value == pytest.approx(3 / 199, abs=0.001)
