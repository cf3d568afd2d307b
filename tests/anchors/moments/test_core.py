"""The core: features whose form tells labels apart are asked about besides, with their own frame and bound."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.estimator import LEAST_NOISE, LOW_NOISE, NO_NOISE, NO_NOISE_FEW
from fedsynth.anchors.moments import products
from fedsynth.anchors.moments.covariances import with_core
from fedsynth.anchors.moments.estimator import Moments
from fedsynth.modalities.ecg.codec import EcgCodec
from fedsynth.modalities.ecg.features import split_features
from fedsynth.modalities.ecg.simulator import simulate
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape

Learn = Callable[..., Anchor]
TWO_SUMS = Moments(LOW_NOISE.stages[:2])
RHYTHMS = Shape(("II",), 600, 100.0, (0.5, 40.0), 2, "ecg")
BEATS = replace(RHYTHMS, n_times=128, centred=True)
EEG = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, modality="eeg")


@pytest.fixture
def fresh_frames() -> Iterator[None]:
    coordinates_of.cache_clear()
    yield
    coordinates_of.cache_clear()


def random_covariance(size: int, seed: int) -> Tensor:
    root = torch.randn(size, 2 * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T / size


@pytest.mark.parametrize("shape", [RHYTHMS, BEATS], ids=["rhythms", "beats"])
def test_the_core_of_ecg_is_its_rhythm_and_variability(shape: Shape) -> None:
    codec = codec_of(shape)
    parts = split_features(torch.arange(codec.n_features, dtype=torch.float32)[None], shape)

    assert torch.cat([parts.rhythm, parts.variability], dim=1)[0].tolist() == list(range(codec.core))
    assert codec_of(EEG).core == 0


def test_the_core_has_coordinates_of_its_own() -> None:
    frame, core = coordinates_of(RHYTHMS), codec_of(RHYTHMS).core

    assert float(frame.there[:core, core:].abs().max()) == 0
    assert float(frame.there[core:, :core].abs().max()) == 0


def test_a_new_core_changes_what_follows_it_and_nothing_else() -> None:
    whole, core = random_covariance(6, 1), random_covariance(2, 2)
    found = with_core(whole, core)

    def slope(covariance: Tensor) -> Tensor:
        inverse: Tensor = torch.linalg.inv(covariance[:2, :2])
        return inverse @ covariance[:2, 2:]

    def beside(covariance: Tensor) -> Tensor:
        return covariance[2:, 2:] - slope(covariance).T @ covariance[:2, :2] @ slope(covariance)

    assert torch.allclose(found[:2, :2], core)
    assert torch.allclose(slope(found), slope(whole))
    assert torch.allclose(beside(found), beside(whole))
    assert torch.allclose(found, found.T)
    assert float(torch.linalg.eigvalsh(found).min()) > 0
    assert torch.allclose(with_core(whole, whole[:2, :2]), whole)


def largest_norm(estimator: Moments, signal: Tensor) -> float:
    anchor, worst = estimator.prior(RHYTHMS), 0.0
    for step, request in enumerate(estimator.requests(RHYTHMS)):
        row = estimator.statistics(
            anchor, RHYTHMS, signal=signal, labels=torch.zeros(len(signal), dtype=torch.long)
        )
        assert row.shape == (estimator.statistic_size(RHYTHMS, step=step),)
        worst = max(worst, float(row.norm()) / request.clipping_norm)
        anchor = estimator.advance(anchor, RHYTHMS, total=row, noise_std=1.0)
    return worst


@pytest.mark.parametrize("estimator", [TWO_SUMS, LEAST_NOISE], ids=["two sums", "least noise"])
def test_no_window_brings_a_core_beyond_its_bound(estimator: Moments, monkeypatch: pytest.MonkeyPatch) -> None:
    """The squares of a unit's own mean come on top of what the bound counts: a thirtieth at most."""
    noise = torch.randn(2, 1, 600, generator=torch.Generator().manual_seed(0))
    windows = [*simulate(RHYTHMS, count=12, purpose="bound test")[:, None], 1e5 * noise, 0.0 * noise]
    norms = [largest_norm(estimator, one) for one in windows]

    assert max(norms) <= 1.04

    monkeypatch.setattr(products, "within", lambda vector, _: vector)

    assert max(largest_norm(estimator, one) for one in windows) > 1.04


def cohort() -> list[tuple[Tensor, Tensor]]:
    """Return units of two windows of the simulator; of the second label, those whose rhythm and variability lie
    near the middle."""
    signal = simulate(RHYTHMS, count=800, purpose="core test")
    core = standardise(codec_of(RHYTHMS).features(signal), RHYTHMS)[:, : codec_of(RHYTHMS).core]
    order = core.norm(dim=1).argsort()
    near, rest = signal[order[:400]], signal[order[400:]]
    return [(pair, torch.full((2,), label)) for label, half in ((0, rest), (1, near)) for pair in half.split(2)]


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_frames")
def test_a_core_asked_for_besides_is_estimated_better(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    units, core = cohort(), codec_of(RHYTHMS).core
    halves = [torch.cat([signal for signal, labels in units if labels[0] == label]) for label in (0, 1)]
    true = [torch.cov(standardise(codec_of(RHYTHMS).features(half), RHYTHMS)[:, :core].T) for half in halves]

    def errors() -> Tensor:
        learnt = [learn(units, RHYTHMS, TWO_SUMS, noise_multiplier=2.0, seed=seed) for seed in range(3)]
        found = [anchor.covariances[:, 0, :core, :core] for anchor in learnt]
        return (torch.stack(found) - torch.stack(true)).square().sum(dim=(2, 3)).mean(dim=0)

    besides = errors()
    monkeypatch.setattr(EcgCodec, "core", property(lambda _: 0))
    coordinates_of.cache_clear()
    alone = errors()  # (8.7, .11) and (16.7, .61)

    assert bool((besides < 0.65 * alone).all())


@pytest.mark.parametrize("moments", [NO_NOISE, NO_NOISE_FEW], ids=["components", "none"])
def test_without_privacy_nothing_of_the_core_is_cut_off(learn: Learn, moments: Moments) -> None:
    units, core = cohort(), codec_of(RHYTHMS).core
    anchor = learn(units, RHYTHMS, moments, noise_multiplier=0.0, seed=0)
    off = (anchor.means - torch.einsum("lc,lcf->lf", anchor.weights, anchor.means)[:, None])[..., :core]
    found = torch.einsum("lc,lcfg->lfg", anchor.weights, anchor.covariances[..., :core, :core])
    found = found + torch.einsum("lc,lcf,lcg->lfg", anchor.weights, off, off)

    for label in (0, 1):
        half = torch.cat([signal for signal, labels in units if labels[0] == label])
        true = torch.cov(standardise(codec_of(RHYTHMS).features(half), RHYTHMS)[:, :core].T)
        assert float((found[label] - true).norm()) < 0.05 * float(true.norm())
