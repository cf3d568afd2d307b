"""Effects of covariates: what a unit may say of them, what comes out, and what a label keeps of itself."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw, deviations, draw_width, prior_anchor
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.moments import conditions as module
from fedsynth.anchors.moments.condition_counts import LEAST_SHARE, shares_of
from fedsynth.anchors.moments.condition_effects import explained_share, without_effects
from fedsynth.anchors.moments.conditions import Conditions, design, values_by_condition
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape

EEG = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, "eeg", strata=(3, 2))
ECG = Shape(("II",), 600, 100.0, (0.5, 40.0), 3, "ecg", strata=(4,))
SHAPES = [pytest.param(EEG, id="eeg"), pytest.param(ECG, id="ecg")]
STAGE = Conditions()


def size_of(shape: Shape) -> int:
    return codec_of(shape).n_features


def cohort(count: int, *, seed: int = 0, noise: float = 0.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return vectors in the frame of one window a person, labels, strata, and the effects, (value, feature).

    Ill people are of the third band more often; bands and values add to the features, labels do as well.
    """
    generator = torch.Generator().manual_seed(seed)
    size = size_of(EEG)
    labels = (torch.rand(count, generator=generator) < 0.5).long()
    odds = torch.tensor([[5.0, 3.0, 2.0], [1.0, 3.0, 6.0]])[labels]
    bands = torch.multinomial(odds, 1, generator=generator)[:, 0]
    strata = 2 * bands + torch.randint(2, (count,), generator=generator)
    effects = 0.5 * torch.randn(5, size, generator=generator, dtype=torch.float64)
    values = torch.cat(values_by_condition(strata, EEG), dim=1).to(torch.float64)
    own = torch.tensor([[0.3], [-0.3]], dtype=torch.float64)[labels]
    rest = noise * torch.randn(count, size, generator=generator, dtype=torch.float64)
    return values @ effects + own + rest, labels, strata, effects


def after_means(vector: Tensor, labels: Tensor, shape: Shape) -> Anchor:
    """Return an anchor with the labels' own means and covariances of vectors in the frame."""
    frame, anchor = coordinates_of(shape), prior_anchor(shape)
    natural = vector @ frame.back
    means = torch.stack([natural[labels == label].mean(dim=0) for label in range(shape.n_labels)])
    covariances = torch.stack([natural[labels == label].T.cov() for label in range(shape.n_labels)])
    counts = torch.bincount(labels, minlength=shape.n_labels).to(torch.float64)
    share = 0.95 * torch.eye(means.shape[1], dtype=torch.float64).expand_as(anchor.between)
    return replace(
        anchor, counts=counts, means=means[:, None], covariances=covariances[:, None], between=share, done=2
    )


def learnt(count: int, *, radius: float = 4.0, noise_std: float = 0.0, seed: int = 0) -> tuple[Anchor, Tensor]:
    vector, labels, strata, effects = cohort(count, seed=seed)
    stage, anchor = Conditions(radius=radius), after_means(vector, labels, EEG)
    anchor = stage.prior(anchor, EEG)
    rows = [
        stage.contribution(anchor, EEG, vector=vector[[n]], labels=labels[[n]], covariates=strata[[n]][:, None])
        for n in range(count)
    ]
    total = torch.stack(rows).sum(dim=0)
    generator = torch.Generator().manual_seed(seed)
    total = total + noise_std * torch.randn(total.shape, generator=generator, dtype=torch.float64)
    return stage.advance(anchor, EEG, total=total, noise_std=noise_std), effects


def centred(effects: Tensor, sizes: tuple[int, ...] = (3, 2)) -> Tensor:
    """Return effects of every covariate around their mean: only differences have a meaning."""
    return torch.cat([some - some.mean(dim=0) for some in effects.split(list(sizes))])


def adverse(shape: Shape, seed: int, windows: int, size: float, mixed: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vector = size * torch.randn(windows, size_of(shape), generator=generator, dtype=torch.float64)
    if not mixed:
        vector = vector[:1].expand(windows, -1)  # nothing cancels
    labels = torch.randint(shape.n_labels, (windows,), generator=generator) * mixed
    strata = torch.randint(shape.n_strata, (windows,), generator=generator) * mixed
    return vector, labels, strata


def largest(shape: Shape, vector: Tensor, labels: Tensor, strata: Tensor, anchor: Anchor) -> float:
    """Return how long a contribution is beside the bound of its sum."""
    row = STAGE.contribution(anchor, shape, vector=vector, labels=labels, covariates=strata[:, None])
    assert row.shape == (STAGE.size(shape),)
    return float(row.norm()) / STAGE.request(shape).clipping_norm


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20), exponent=st.floats(-3, 9), windows=st.integers(1, 12), mixed=st.booleans(),
    far=st.floats(0, 1e6),
)  # fmt: skip
def test_no_window_and_no_anchor_bring_a_contribution_beyond_its_bound(
    shape: Shape, seed: int, exponent: float, windows: int, mixed: bool, far: float
) -> None:
    """The coordinator may send any anchor, and a person may have any windows, labels and covariates."""
    prior = prior_anchor(shape)
    anchor = replace(prior, means=prior.means + far)

    assert largest(shape, *adverse(shape, seed, windows, 10.0**exponent, mixed), anchor) <= 1 + 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bound_is_reached_by_a_person_of_one_label_and_one_stratum_alone(shape: Shape) -> None:
    """It is no larger than it has to be: noise would be too."""
    vector, labels, strata = adverse(shape, 0, 3, 1.0, mixed=False)
    vector = vector * STAGE.radius * math.sqrt(size_of(shape)) / vector[0].norm()

    assert largest(shape, vector, labels, strata, prior_anchor(shape)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bound_fails_where_residuals_are_not_cut(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "within", lambda rows, _: rows)

    assert largest(shape, *adverse(shape, 0, 3, 1e4, mixed=False), prior_anchor(shape)) > 2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_person_with_more_windows_of_the_same_kind_weighs_no_more(shape: Shape) -> None:
    vector, labels, strata = adverse(shape, 2, 4, 1.0, mixed=True)
    anchor = prior_anchor(shape)

    once = STAGE.contribution(anchor, shape, vector=vector, labels=labels, covariates=strata[:, None])
    often = STAGE.contribution(
        anchor, shape, vector=vector.repeat(3, 1), labels=labels.repeat(3), covariates=strata.repeat(3)[:, None]
    )

    assert torch.allclose(once, often, atol=1e-9)


def test_the_sum_is_counts_and_residuals_by_label_and_value() -> None:
    """By hand: one person, two windows of label 1, band 2, and values 0 and 1 of the second covariate."""
    stage, anchor = Conditions(radius=4.0), prior_anchor(EEG)
    vector = torch.stack([torch.full((size_of(EEG),), 0.1), torch.full((size_of(EEG),), 0.3)]).to(torch.float64)
    row = stage.contribution(
        anchor, EEG, vector=vector, labels=torch.tensor([1, 1]), covariates=torch.tensor([[4], [5]])
    )
    bound = 4.0 * math.sqrt(size_of(EEG))

    cells, kept, rows = row.split([12, 1, 7 * size_of(EEG)])

    assert (cells / bound).tolist() == pytest.approx([0] * 10 + [0.5, 0.5])
    assert float(kept) == pytest.approx(0.3 * bound)
    assert rows.view(7, -1)[:, 0].tolist() == pytest.approx([0, 0.2, 0, 0, 0.2, 0.05, 0.15])


def test_without_noise_effects_are_those_of_least_squares_on_labels_and_covariates() -> None:
    vector, labels, strata, _ = cohort(1500)
    anchor, _ = learnt(1500)
    onehot = torch.nn.functional.one_hot(labels, 2).to(torch.float64)
    values = torch.cat(values_by_condition(strata, EEG), dim=1).to(torch.float64)
    solved = (torch.linalg.pinv(torch.cat([onehot, values], dim=1)) @ vector)[2:]

    assert anchor.effects is not None
    found = anchor.effects @ coordinates_of(EEG).there

    assert float((centred(found) - centred(solved)).norm() / centred(solved).norm()) < 0.05


def test_effects_come_through_noise_and_cuts_as_far_as_they_are_larger() -> None:
    anchor, effects = learnt(800, radius=0.3, noise_std=10.0)

    assert anchor.effects is not None
    found, right = (centred(some) for some in (anchor.effects @ coordinates_of(EEG).there, effects))

    assert 0.75 < float((found * right).sum() / right.square().sum()) < 1.15
    assert float((found * right).sum() / (found.norm() * right.norm())) > 0.9


def test_effects_that_noise_explains_are_none() -> None:
    """Noise alone would give effects of the size of a person's own features."""
    anchor, _ = learnt(100, noise_std=400.0)

    assert anchor.effects is not None
    assert anchor.effects.abs().max() < 0.2


def test_a_label_keeps_its_mean_and_its_covariance_once_strata_are_drawn() -> None:
    vector, labels, _, _ = cohort(3000)
    before, (anchor, _) = after_means(vector, labels, EEG), learnt(3000)
    draw, count = FeatureDraw(anchor, EEG), 60_000
    noise = torch.randn(count, draw_width(EEG), generator=torch.Generator().manual_seed(1))

    for label in range(2):
        drawn = draw(torch.full((count,), label), noise).to(torch.float64)

        assert torch.allclose(drawn.mean(dim=0), before.means[label, 0], atol=0.05)
        right = before.covariances[label, 0]
        assert float((drawn.T.cov() - right).norm() / right.norm()) < 0.06


def test_drawn_subjects_differ_by_the_effects_of_their_stratum() -> None:
    anchor, _ = learnt(3000)
    draw = FeatureDraw(anchor, EEG)
    noise = torch.randn(40_000, draw.width, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(len(noise), dtype=torch.long)
    drawn, strata = draw(labels, noise).to(torch.float64), draw.strata_of(labels, noise)

    apart = drawn[strata == 0].mean(dim=0) - drawn[strata == 5].mean(dim=0)
    right = deviations(anchor, EEG)[0, 0] - deviations(anchor, EEG)[0, 5]

    assert float((apart - right).norm() / right.norm()) < 0.05


def test_deviations_are_nothing_in_the_mean_of_a_label() -> None:
    anchor, _ = learnt(500)
    assert anchor.strata is not None

    mean = torch.einsum("ls,lsf->lf", anchor.strata, deviations(anchor, EEG))

    assert mean.abs().max() < 1e-9


def test_what_covariates_explain_no_longer_varies_by_chance() -> None:
    """Most of what these people differ by is age, of three bands, and then sex."""
    anchor, _ = learnt(1000)
    vector, labels, _, _ = cohort(1000)
    before = after_means(vector, labels, EEG)

    told = explained_share(anchor, EEG)
    left = [float(one.covariances[0, 0].trace()) for one in (anchor, before)]

    assert float(told[0]) > float(told[1]) > 0.1
    assert left[0] < 0.5 * left[1]
    assert float(torch.linalg.eigvalsh(anchor.covariances).min()) > 0


def test_effects_larger_than_what_people_differ_by_leave_a_covariance() -> None:
    anchor, _ = learnt(1000)
    assert anchor.effects is not None

    far = without_effects(replace(anchor, effects=10 * anchor.effects), EEG)

    assert float(torch.linalg.eigvalsh(far.covariances).min()) > 0
    assert float(torch.linalg.eigvalsh(far.between).min()) > -1e-6
    assert float(torch.linalg.eigvalsh(far.between).max()) < 1 + 1e-6


def test_shares_of_strata_are_those_counted_where_nothing_hides_them() -> None:
    counts = torch.tensor([[30.0, 10, 0, 20, 5, 35], [5, 5, 40, 0, 0, 50]], dtype=torch.float64)

    found = shares_of(counts, counts.sum(dim=1), (3, 2), noise=1e-6)

    assert torch.allclose(found.sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(found, counts / 100, atol=7 * LEAST_SHARE)
    assert float(found.min()) >= LEAST_SHARE / (1 + 6 * LEAST_SHARE) * (1 - 1e-9)


def test_noise_leaves_of_shares_what_is_larger_than_it() -> None:
    """A label's bands are apart by far more than noise; who has which sex in which band is not."""
    generator = torch.Generator().manual_seed(0)
    bands = torch.tensor([[300.0, 60, 40], [40, 60, 300]], dtype=torch.float64)
    right = (bands[:, :, None] / 2).expand(-1, -1, 2).flatten(1)
    off = []
    for _ in range(20):
        noisy = right + 15 * torch.randn(2, 6, generator=generator, dtype=torch.float64)
        found = shares_of(noisy, right.sum(dim=1), (3, 2), noise=15.0)
        plain = noisy.clamp_min(0) / noisy.clamp_min(0).sum(dim=1, keepdim=True)
        off.append([float((some - right / 400).square().mean().sqrt()) for some in (found, plain)])

    shrunk, plain_error = torch.tensor(off).mean(dim=0).tolist()
    assert shrunk < 0.8 * plain_error


def test_the_design_has_ones_at_a_label_and_at_a_value_of_each_covariate() -> None:
    rows = design(EEG)

    assert rows.shape == (2, 6, 7)
    assert rows[1, 5].tolist() == [0, 1, 0, 0, 1, 0, 1]
    assert (rows.sum(dim=2) == 3).all()
