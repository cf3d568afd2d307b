"""Covariances given noisy second moments: nearer than shrunk entries, and exact where noise is nothing."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, positive
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.estimator import MEDIUM_NOISE
from fedsynth.anchors.moments import covariance_posterior as posterior
from fedsynth.anchors.moments import products as bounded
from fedsynth.anchors.moments.covariance_posterior import covariances_given
from fedsynth.anchors.moments.covariances import covariances_of
from fedsynth.anchors.moments.estimator import Moments
from fedsynth.anchors.moments.products import matrices_of, products_of
from fedsynth.anchors.moments.second_moments import SecondMoments
from fedsynth.modalities.ecg.features import split_features
from fedsynth.modalities.ecg.simulator import simulate
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape

Learn = Callable[..., Anchor]
RHYTHMS = Shape(("II",), 600, 100.0, (0.5, 40.0), 2, "ecg")
TWELVE = replace(
    RHYTHMS, channels=("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"), n_times=500
)
BEATS = replace(RHYTHMS, n_times=128, centred=True)
EEG = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, modality="eeg")
SIZE = 8


def distance(found: Tensor, true: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of normals with covariance `true` from those with `found`."""
    ratio = torch.linalg.solve(found, true)
    parts = ratio.diagonal(dim1=1, dim2=2).sum(dim=1) - torch.linalg.slogdet(ratio).logabsdet - true.shape[1]
    return 0.5 * parts


def labels(seed: int, *, like: float) -> Tensor:
    """Return covariances of three labels; their logarithms are normal around a common one."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        root = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
        return (root + root.T) / 2

    common = 0.8 * normal()
    return torch.stack([torch.matrix_exp(common + like * normal()) for _ in range(3)])


def noisy(true: Tensor, noise: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return products as a sum gives them, and the matrices that they make."""
    rows, columns = torch.triu_indices(SIZE, SIZE)
    scale = torch.where(rows == columns, 1.0, 2.0**0.5).to(true)
    products = true[:, rows, columns] * scale
    generator = torch.Generator().manual_seed(seed)
    products = products + noise[:, None] * torch.randn(products.shape, generator=generator, dtype=torch.float64)
    return products, matrices_of(products, SIZE)


@pytest.mark.slow
def test_covariances_are_nearer_than_entries_shrunk_one_by_one() -> None:
    """Three quarters as far at most on the average over four draws, and no label is left farther."""
    noise, prior = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64), torch.eye(SIZE, dtype=torch.float64)
    distances = []
    for seed in range(4):
        true = labels(seed, like=0.3)
        products, observed = noisy(true, noise, seed)
        start = covariances_of(products, 1 / noise, prior, block=SIZE, noise=noise)
        found = covariances_given(observed, noise=noise, prior=prior, start=start)
        distances.append(torch.stack([distance(found, true), distance(start, true)]))
    found_off, start_off = torch.stack(distances).mean(dim=0)

    assert bool((found_off < start_off).all())
    assert float(found_off.mean()) < 0.75 * float(start_off.mean())


def test_without_noise_the_answer_is_what_was_seen() -> None:
    true = labels(1, like=0.3)

    found = covariances_given(
        true, noise=torch.zeros(3), prior=torch.eye(SIZE, dtype=torch.float64), start=positive(true, least=0.02)
    )

    assert float((found - true).norm()) < 0.02 * float(true.norm())


def test_noise_that_drowns_everything_leaves_the_prior() -> None:
    prior = torch.diag(torch.linspace(0.2, 2.0, SIZE, dtype=torch.float64))
    _, observed = noisy(prior.expand(3, -1, -1), torch.full((3,), 50.0, dtype=torch.float64), seed=3)

    found = covariances_given(observed, noise=torch.full((3,), 50.0), prior=prior, start=prior.expand(3, -1, -1))

    # The mean of a log-normal matrix is above its middle; the order of the axes is the prior's.
    ratio = found.diagonal(dim1=1, dim2=2) / prior.diagonal()
    assert float(ratio.min()) > 0.8
    assert float(ratio.max()) < 8.0
    assert float(torch.linalg.eigvalsh(found).min()) > 0


def test_the_same_sums_give_the_same_covariances_and_nobody_elses_generator_is_used() -> None:
    true, noise = labels(2, like=0.3), torch.full((3,), 0.2, dtype=torch.float64)
    _, observed = noisy(true, noise, seed=2)
    state = torch.get_rng_state()

    once = covariances_given(observed, noise=noise, prior=torch.eye(SIZE, dtype=torch.float64), start=true)
    again = covariances_given(observed, noise=noise, prior=torch.eye(SIZE, dtype=torch.float64), start=true)

    assert torch.equal(once, again)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_slope_is_that_of_the_density() -> None:
    """Held against difference quotients, where logarithms are near one another and far apart."""
    true = labels(5, like=0.3)
    noise = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    where = posterior._Posterior.around(
        true, noise=noise, prior=torch.eye(SIZE, dtype=torch.float64), start=positive(true, least=0.02)
    )
    rng = np.random.default_rng(0)
    for size in (0.0, 0.01, 1.0):
        point, direction = size * rng.normal(size=where.width), rng.normal(size=where.width)
        _, slope, _ = where.gradient(point)
        above, below = (where.gradient(point + sign * 1e-5 * direction)[0] for sign in (1, -1))

        assert float(slope @ direction) == pytest.approx((above - below) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("far", [-1e5, 1e5, 1e300])
def test_a_point_beyond_all_numbers_has_no_density_and_is_no_error(far: float) -> None:
    true = labels(5, like=0.3)
    where = posterior._Posterior.around(true, noise=torch.full((3,), 0.1), prior=true[0], start=true)
    for place in (0, where.width - 6, where.width - 5, where.width - 1):
        point = np.zeros(where.width)
        point[place] = far
        with np.errstate(all="ignore"):
            density, _, _ = where.gradient(point)

        assert not density > -1e3


def test_matrices_undo_products() -> None:
    vector = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    assert torch.allclose(matrices_of(products_of(vector, SIZE), SIZE), vector[:, :, None] * vector[:, None, :])


@pytest.mark.parametrize("shape", [RHYTHMS, BEATS, TWELVE], ids=["rhythms", "beats", "twelve leads"])
def test_parts_are_rhythm_with_variability_beat_and_what_lies_between(shape: Shape) -> None:
    codec = codec_of(shape)
    named = split_features(torch.arange(codec.n_features, dtype=torch.float32)[None], shape)
    first, second, _ = codec.parts

    assert sum(codec.parts) == codec.n_features
    assert first == codec.core
    assert torch.cat([named.amplitude[:, None], named.shape.flatten(1)], dim=1)[0].tolist() == list(
        range(first, first + second)
    )
    assert codec_of(EEG).parts == ()


def largest_norm(shape: Shape, signal: Tensor) -> float:
    anchor, worst = MEDIUM_NOISE.prior(shape), 0.0
    for step, request in enumerate(MEDIUM_NOISE.requests(shape)):
        row = MEDIUM_NOISE.statistics(
            anchor, shape, signal=signal, labels=torch.zeros(len(signal), dtype=torch.long)
        )
        assert row.shape == (MEDIUM_NOISE.statistic_size(shape, step=step),)
        worst = max(worst, float(row.norm()) / request.clipping_norm)
        anchor = replace(anchor, done=anchor.done + 1)
    return worst


@pytest.mark.parametrize("shape", [RHYTHMS, BEATS, TWELVE], ids=["rhythms", "beats", "twelve leads"])
def test_no_window_brings_a_part_beyond_its_bound(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """The squares of a unit's own mean come on top of what the bound counts: a thirtieth at most."""
    noise = torch.randn(2, len(shape.channels), shape.n_times, generator=torch.Generator().manual_seed(0))
    windows = [*simulate(shape, count=12, purpose="bound test")[:, None], 1e5 * noise, 0.0 * noise]

    assert max(largest_norm(shape, one) for one in windows) <= 1.04

    monkeypatch.setattr(bounded, "within", lambda vector, _: vector)

    assert max(largest_norm(shape, one) for one in windows) > 1.04


def test_parts_tell_more_of_the_beat_and_nothing_across(learn: Learn) -> None:
    """Held against all second moments at once; beats of the labels vary much and little along a few axes."""
    signal = simulate(RHYTHMS, count=800, purpose="parts test")
    vectors = standardise(codec_of(RHYTHMS).features(signal), RHYTHMS).to(torch.float64)
    core, beat, _ = codec_of(RHYTHMS).parts
    span = slice(core + 1, core + beat)
    order = vectors[:, span][:, :3].norm(dim=1).argsort(descending=True)
    halves = (order[:200], order[-200:])
    units = [(signal[pair], torch.full((2,), label)) for label, half in enumerate(halves) for pair in half.split(2)]

    def error(covariances: Tensor) -> float:
        pairs = zip(halves, covariances[:, span, span], strict=True)
        off = [_correlations(torch.cov(vectors[half].T)[span, span]) - _correlations(one) for half, one in pairs]
        return float(torch.stack(off).norm())

    by_part = [
        learn(units, RHYTHMS, MEDIUM_NOISE, noise_multiplier=1.0, seed=seed).covariances[:, 0] for seed in range(6)
    ]
    there = coordinates_of(RHYTHMS).there
    inside = there.T @ by_part[0][0] @ there
    means, second = MEDIUM_NOISE.stages
    of_all = Moments(
        (means, SecondMoments(**{field.name: getattr(second, field.name) for field in fields(second)}))
    )
    at_once = [
        learn(units, RHYTHMS, of_all, noise_multiplier=1.0, seed=seed).covariances[:, 0] for seed in range(6)
    ]

    assert sum(map(error, by_part)) < 0.98 * sum(map(error, at_once))
    assert float(inside[:core, core:].abs().max()) < 1e-6
    assert float(inside[core : core + beat, core + beat :].abs().max()) < 1e-6


def _correlations(covariance: Tensor) -> Tensor:
    root = covariance.diagonal().sqrt()
    return covariance / root[:, None] / root


def test_a_chain_that_is_refused_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposals that are not finite are never taken."""
    true = labels(4, like=0.3)
    monkeypatch.setattr(posterior, "_FIRST_STEP", 1e6)
    monkeypatch.setattr(posterior, "_BURN", 1)
    monkeypatch.setattr(posterior, "_DRAWS", 3)

    found = covariances_given(
        true, noise=torch.full((3,), 0.1), prior=torch.eye(SIZE, dtype=torch.float64), start=true
    )

    assert torch.allclose(found, true)
