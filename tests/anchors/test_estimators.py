"""What every estimator of the anchor promises; and one without bounds, on which the first promise fails."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.estimator import (
    HIGH_NOISE,
    LEAST_NOISE,
    LOW_NOISE,
    MEDIUM_NOISE,
    NO_NOISE,
    NO_NOISE_FEW,
    VERY_LOW_NOISE,
    Estimator,
    estimator_of,
)
from fedsynth.anchors.mean_embedding.estimator import MeanEmbedding
from fedsynth.anchors.moments import products
from fedsynth.anchors.moments.estimator import Moments
from fedsynth.anchors.moments.log_variances import LogVariances
from fedsynth.anchors.moments.means import CountsAndMeans
from fedsynth.anchors.moments.second_moments import SecondMoments
from fedsynth.anchors.moments.subjects import OwnProducts
from fedsynth.anchors.private_evolution import PrivateEvolution
from fedsynth.modalities.affordable import expected_noise
from fedsynth.modalities.eeg.features import N_SHAPE
from fedsynth.modalities.eeg.simulator import waveforms
from fedsynth.modalities.measures import band_bins
from fedsynth.modalities.registry import codec_of, scale_of, standardise
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.study import Study, parse_study
from fedsynth.wire.arrays import check_like

TWO_SUMS = Moments(LOW_NOISE.stages[:2])
SHAPE = Shape(channels=("C3", "C4"), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")
ESTIMATORS = [
    pytest.param(TWO_SUMS, id="moments, two sums"),
    pytest.param(HIGH_NOISE, id="moments, high noise"),
    pytest.param(VERY_LOW_NOISE, id="moments, four components"),
    pytest.param(MeanEmbedding(frequencies=128, steps=60), id="mean embedding"),
    pytest.param(
        MeanEmbedding(frequencies=64, steps=150, components=2),
        id="mean embedding, two components",
        marks=pytest.mark.slow,
    ),
    pytest.param(PrivateEvolution(population=24), id="private evolution"),
]


class Unbounded(Moments):
    """Moments that forget to bound the residual whose products are taken."""

    def statistics(
        self, anchor: Anchor, shape: Shape, *, signal: Tensor, labels: Tensor, covariates: Tensor | None = None
    ) -> Tensor:
        return super().statistics(anchor, shape, signal=signal, labels=labels, covariates=covariates) * 1e3


def cohort(count: int, *, own: float = 0.0) -> list[tuple[Tensor, Tensor]]:
    """Return units of three windows: 15 or 60 microvolts by label, times a factor of the unit's own."""
    waves = waveforms(SHAPE, count=2000)[: count * 6].view(count, 3, 2, -1)
    generator = torch.Generator().manual_seed(3)
    factors = torch.exp(own * torch.randn(count, generator=generator))
    loud = torch.where(torch.arange(count) % 2 == 0, 15.0, 60.0) * factors
    return [(waves[unit] * loud[unit], torch.full((3,), unit % 2, dtype=torch.long)) for unit in range(count)]


def learn(estimator: Estimator, units: list[tuple[Tensor, Tensor]], *, noise: float, seed: int = 0) -> Anchor:
    generator, anchor = torch.Generator().manual_seed(seed), estimator.prior(SHAPE)
    for step, _ in enumerate(estimator.requests(SHAPE)):
        rows = [estimator.statistics(anchor, SHAPE, signal=signal, labels=labels) for signal, labels in units]
        total = torch.stack(rows).sum(dim=0)
        assert total.shape == (estimator.statistic_size(SHAPE, step=step),)
        total = total + noise * torch.randn(total.shape, generator=generator, dtype=total.dtype)
        anchor = estimator.advance(anchor, SHAPE, total=total, noise_std=noise)
        check_like(anchor.tensors(), estimator.prior(SHAPE).tensors(), sender="the test")
    return anchor


def unit_normal(seed: int) -> Tensor:
    """Return the noise on two labels' counts that `learn` draws with a seed, in standard deviations."""
    size = HIGH_NOISE.statistic_size(SHAPE, step=0)
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn[:: size // SHAPE.n_labels]


def centres(anchor: Anchor) -> Tensor:
    return (anchor.weights[:, :, None] * anchor.means).sum(dim=1)


def largest_norm(estimator: Estimator, signal: Tensor, labels: Tensor) -> float:
    """Return by how much a unit's contribution exceeds the bound of its sum at most, over all steps."""
    anchor, worst = estimator.prior(SHAPE), 0.0
    for request in estimator.requests(SHAPE):
        row = estimator.statistics(anchor, SHAPE, signal=signal, labels=labels)
        worst = max(worst, float(row.norm()) / request.clipping_norm)
        anchor = estimator.advance(anchor, SHAPE, total=row, noise_std=1.0)
    return worst


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_first_sum_counts_units_by_label_and_says_how_noisily(estimator: Estimator) -> None:
    anchor, units = estimator.prior(SHAPE), cohort(9)
    rows = [estimator.statistics(anchor, SHAPE, signal=signal, labels=labels) for signal, labels in units]
    total, generator = torch.stack(rows).sum(dim=0), torch.Generator().manual_seed(0)

    counts, noise = estimator.counts(SHAPE, total=total, noise_std=2.0)
    drawn = 2.0 * torch.randn(400, *total.shape, generator=generator, dtype=total.dtype)
    seen = torch.stack([estimator.counts(SHAPE, total=one, noise_std=2.0)[0] for one in drawn]).std()

    assert counts.tolist() == pytest.approx([5, 4])
    assert noise == pytest.approx(float(seen), rel=0.1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    exponent=st.floats(-3, 6),
    windows=st.integers(1, 4),
    mixed=st.booleans(),
)
def test_no_window_brings_a_contribution_beyond_its_bound(
    estimator: Estimator, seed: int, exponent: float, windows: int, mixed: bool
) -> None:
    """The private sum would clip it; but what is clipped is distorted, so estimators stay within by themselves.

    The squares of a unit's own mean come on top of what the moments' bound counts: a thirtieth at most.
    """
    generator = torch.Generator().manual_seed(seed)
    signal = 10.0**exponent * torch.randn(windows, 2, 128, generator=generator)
    labels = torch.arange(windows) % 2 if mixed else torch.zeros(windows, dtype=torch.long)

    assert largest_norm(estimator, signal, labels) <= (1.04 if isinstance(estimator, Moments) else 1 + 1e-9)


@pytest.mark.parametrize(
    "estimator", [TWO_SUMS, HIGH_NOISE, LOW_NOISE], ids=["two sums", "high noise", "components"]
)
def test_a_unit_with_more_windows_of_the_same_kind_weighs_no_more(estimator: Moments) -> None:
    signal, anchor = 40 * torch.randn(2, 2, 128, generator=torch.Generator().manual_seed(5)), estimator.prior(SHAPE)
    labels = torch.tensor([0, 0])
    for _ in estimator.requests(SHAPE):
        once = estimator.statistics(anchor, SHAPE, signal=signal, labels=labels)
        often = estimator.statistics(anchor, SHAPE, signal=signal.repeat(4, 1, 1), labels=labels.repeat(4))
        # But for the share between subjects, which windows tell by their number.
        stage, last = estimator.stages[anchor.done], None
        if isinstance(stage, LogVariances):
            last = -1
        elif isinstance(stage, SecondMoments):
            last = -stage.own.size(SHAPE)
        rows = [row.view(SHAPE.n_labels, -1)[:, :last] for row in (once, often)]

        assert torch.allclose(*rows, atol=1e-9)
        anchor = estimator.advance(anchor, SHAPE, total=20 * once, noise_std=0.1)


def test_the_bound_fails_for_an_estimator_that_bounds_nothing() -> None:
    signal = 100 * torch.randn(2, 2, 128, generator=torch.Generator().manual_seed(0))

    assert largest_norm(Unbounded(), signal, torch.zeros(2, dtype=torch.long)) > 1.04


def test_products_are_taken_of_bounded_residuals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bound, one loud window would speak with the square of its size."""
    signal, labels = 1e5 * torch.randn(1, 2, 128), torch.zeros(1, dtype=torch.long)
    assert largest_norm(TWO_SUMS, signal, labels) <= 1.04

    monkeypatch.setattr(products, "within", lambda vector, _: vector)

    assert largest_norm(TWO_SUMS, signal, labels) > 1.04


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_removing_a_unit_moves_every_sum_by_at_most_its_bound(estimator: Estimator) -> None:
    units, anchor = cohort(8, own=1.5), estimator.prior(SHAPE)
    for step, request in enumerate(estimator.requests(SHAPE)):
        rows = [estimator.statistics(anchor, SHAPE, signal=signal, labels=labels) for signal, labels in units]
        size = estimator.statistic_size(SHAPE, step=step)

        def total(kept: list[Tensor], size: int = size, norm: float = request.clipping_norm) -> Tensor:
            step = Allowance(Mechanism("anchor", 0.0, 1.0, 1, norm)).step(n_units=len(kept), size=size)
            for row in kept:
                step.sum.add(row[None])
            return step.sum.read()

        whole = total(rows)
        for gone in range(len(rows)):
            moved = float((whole - total(rows[:gone] + rows[gone + 1 :])).norm())
            assert moved <= request.clipping_norm * (1 + 1e-4)
        anchor = estimator.advance(anchor, SHAPE, total=whole, noise_std=0.0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_noise_labels_are_told_apart_and_counted(estimator: Estimator) -> None:
    units = cohort(80)
    anchor = learn(estimator, units, noise=0.0)
    vectors = torch.stack([standardise(codec_of(SHAPE).features(x), SHAPE).mean(dim=0) for x, _ in units])
    true = torch.stack([vectors[label::2].mean(dim=0) for label in (0, 1)])

    difference, expected = centres(anchor)[1] - centres(anchor)[0], true[1] - true[0]

    assert anchor.counts.tolist() == pytest.approx([40.0, 40.0], rel=0.1)
    assert float(torch.cosine_similarity(difference, expected, dim=0)) > 0.9
    assert 0.6 < float(difference.norm() / expected.norm()) < 1.4


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_under_overwhelming_noise_labels_are_all_but_alike(estimator: Estimator) -> None:
    anchor = learn(estimator, cohort(20), noise=1e4)
    difference, draw = centres(anchor)[1] - centres(anchor)[0], FeatureDraw(anchor, SHAPE)

    assert float(difference.norm()) < 0.75 * float(scale_of(SHAPE).covariance.trace()) ** 0.5
    assert bool(torch.isfinite(draw(torch.tensor([0, 1]), torch.zeros(2, draw.width))).all())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_same_sums_give_the_same_anchor(estimator: Estimator) -> None:
    first, second = (learn(estimator, cohort(12), noise=1.0) for _ in range(2))

    assert all(torch.equal(value, second.tensors()[name]) for name, value in first.tensors().items())


def test_the_share_between_subjects_is_that_of_the_units_themselves() -> None:
    """Against a direct analysis of variance, for the first band's power; loudness is a subject's own.

    Squares are taken along axes one by one, without what two axes share; all products tell it exactly.
    """
    units = cohort(120, own=1.0)
    vectors = torch.stack([standardise(codec_of(SHAPE).features(x), SHAPE)[:, 0] for x, _ in units])
    centre = torch.stack([vectors[label::2].mean() for label in (0, 1)])[torch.arange(120) % 2]
    direct = (vectors.mean(dim=1) - centre).square().mean() / (vectors - centre[:, None]).square().mean()
    direct = (direct * vectors.shape[1] - 1) / (vectors.shape[1] - 1)

    unclipped = Moments((CountsAndMeans(radius=8.0), SecondMoments(radius=8.0)))
    found = shares(learn(unclipped, units, noise=0.0))

    assert float(direct) > 0.6
    assert float(found[:, 0].mean()) == pytest.approx(float(direct), abs=0.15)
    assert float(found[:, 10:].mean()) < 0.45  # the waveform is not

    exact = Moments((CountsAndMeans(radius=8.0), SecondMoments(radius=8.0, own=OwnProducts())))
    assert float(shares(learn(exact, units, noise=0.0))[:, 0].mean()) == pytest.approx(float(direct), abs=0.06)


def shares(anchor: Anchor) -> torch.Tensor:
    """Return the share of each feature's variance between subjects, shape (label, feature)."""
    draw = FeatureDraw(anchor, SHAPE)
    between, within = (draw.get_buffer(name)[:, 0].square().sum(dim=2) for name in ("between", "within"))
    return between / (between + within)


def test_log_variances_come_with_the_share_between_subjects_too() -> None:
    apart = cohort(120, own=0.3)
    same = [(signal[:1].expand(3, -1, -1), labels) for signal, labels in apart]

    assert float(shares(learn(HIGH_NOISE, same, noise=0.0)).min()) == pytest.approx(0.95)
    assert float(shares(learn(HIGH_NOISE, apart, noise=0.0)).max()) < 0.6


def test_noise_on_counts_that_labels_share_is_taken_off() -> None:
    """A count that is too low would make its label's mean too long."""
    units = cohort(80)
    shrunk = [learn(HIGH_NOISE, units, noise=40.0, seed=seed).counts for seed in range(12)]
    size = HIGH_NOISE.stages[0].count_size(SHAPE)
    alone = [40.0 + 40.0 / size * unit_normal(seed) for seed in range(12)]

    assert torch.stack(shrunk).std() < 0.8 * torch.stack(alone).std()


def test_an_embedding_sees_that_windows_of_a_subject_are_alike() -> None:
    estimator = MeanEmbedding(frequencies=256, steps=100)
    apart = cohort(120, own=0.3)
    same = [(signal[:1].expand(3, -1, -1), labels) for signal, labels in apart]

    assert float(shares(learn(estimator, same, noise=0.0)).mean()) > 0.8
    assert float(shares(learn(estimator, apart, noise=0.0)).mean()) < 0.3


def test_the_frame_leads_there_and_back() -> None:
    frame = coordinates_of(SHAPE)

    assert torch.allclose(frame.there @ frame.back, torch.eye(len(frame.back), dtype=torch.float64), atol=1e-9)
    assert float(frame.covariance.trace()) == pytest.approx(len(frame.back))
    public = scale_of(SHAPE).covariance
    assert torch.allclose(frame.there.T @ public @ frame.there, frame.covariance, atol=1e-9)


def test_the_frame_has_principal_axes() -> None:
    frame, block = coordinates_of(SHAPE), codec_of(SHAPE).block

    turned = (frame.axes.T @ frame.covariance @ frame.axes)[:block, :block]

    assert torch.allclose(turned, torch.diag(turned.diagonal()), atol=1e-9)
    assert float(turned.diagonal().min()) > 0


def test_a_waveform_of_odd_shape_takes_less_of_the_bound_than_power_does() -> None:
    codec, frame = codec_of(SHAPE), coordinates_of(SHAPE)
    first = len(band_bins(SHAPE))
    alone = torch.diag(scale_of(SHAPE).covariance.diagonal().rsqrt())

    lengths = (alone @ frame.there).norm(dim=1)

    shape_length, power_length = lengths[first : first + N_SHAPE].mean(), lengths[:first].mean()
    assert float(shape_length) < 0.7 * float(power_length)
    assert codec.weights.shape == (codec.n_features,)


@pytest.mark.parametrize(
    ("name", "kind"), [("moments", Moments), ("mean-embedding", MeanEmbedding), ("evolution", PrivateEvolution)]
)
def test_a_study_names_its_estimator(tiny_text: str, name: str, kind: type[Any]) -> None:
    study = parse_study(tiny_text.replace("rounds = 1", f'rounds = 1\nestimator = "{name}"'))

    assert isinstance(estimator_of(study), kind)


def with_privacy(study: Study, **changes: Any) -> Study:
    return study.model_copy(update={"privacy": study.privacy.model_copy(update=changes)})


@pytest.mark.parametrize(("spare", "expected"), [(0, NO_NOISE), (-1, NO_NOISE_FEW)])
def test_without_privacy_labels_have_components_where_units_are_many_enough(
    tiny: Study, spare: int, expected: Moments
) -> None:
    shape = shape_of(tiny)
    sites = len(tiny.cohort.sites) or tiny.cohort.least_sites
    enough = -(-4 * shape.n_labels * codec_of(shape).n_features // (2 * sites))
    cohort = tiny.cohort.model_copy(update={"expected_units": enough + spare})

    found = estimator_of(with_privacy(tiny.model_copy(update={"cohort": cohort}), epsilon=float("inf")))

    assert isinstance(found, Moments)
    assert found.stages == expected.stages


def test_public_facts_alone_choose_the_constants(tiny: Study) -> None:
    crowd = tiny.model_copy(update={"cohort": tiny.cohort.model_copy(update={"expected_units": 5000})})

    def of(expected_units: int) -> Estimator:
        cohort = tiny.cohort.model_copy(update={"expected_units": expected_units})
        return estimator_of(tiny.model_copy(update={"cohort": cohort}))

    at_ten = expected_noise(tiny) * tiny.cohort.expected_units / 10
    for noise, expected in (
        (0.002, LEAST_NOISE),
        (0.004, VERY_LOW_NOISE),
        (0.009, LOW_NOISE),
        (0.02, MEDIUM_NOISE),
        (0.03, HIGH_NOISE),
    ):
        moments = of(round(10 * at_ten / noise))

        assert isinstance(moments, Moments)
        assert moments.stages == expected.stages
    # Four times the units, or sigma a quarter: a quarter of the noise. Two sites that add all of it: root two more.
    assert expected_noise(tiny) / expected_noise(crowd) == pytest.approx(500)
    aggregate = with_privacy(tiny, trust="aggregate")
    assert expected_noise(tiny) / expected_noise(aggregate) == pytest.approx(2**0.5)
