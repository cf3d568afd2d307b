"""Statements: what a unit may say of them, how often they are made, which go together, and what they do."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw, draw_width, prior_anchor
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.anchors.moments import conditions as module
from fedsynth.anchors.moments.conditions import Conditions, at_most, design
from fedsynth.anchors.moments.statements import statements_of
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape

BOTH = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, "eeg", strata=(3, 2), n_statements=5, most_statements=3)
ALONE = replace(BOTH, strata=(), n_statements=4, most_statements=2)
SHAPES = [pytest.param(BOTH, id="with covariates"), pytest.param(ALONE, id="alone")]
STAGE = Conditions()


def size_of(shape: Shape) -> int:
    return codec_of(shape).n_features


def adverse(shape: Shape, seed: int, windows: int, size: float, *, mixed: bool) -> dict[str, Tensor]:
    """Return windows of any size, and more statements than a window may have."""
    generator = torch.Generator().manual_seed(seed)
    vector = size * torch.randn(windows, size_of(shape), generator=generator, dtype=torch.float64)
    if not mixed:
        vector = vector[:1].expand(windows, -1)
    labels = torch.randint(shape.n_labels, (windows,), generator=generator) * mixed
    strata = torch.randint(shape.n_strata, (windows, 1), generator=generator) * mixed
    flags = torch.ones(windows, shape.n_statements, dtype=torch.int64)
    if mixed:
        flags = torch.randint(2, flags.shape, generator=generator)
    return {"vector": vector, "labels": labels, "covariates": torch.cat([strata, flags], dim=1)}


def largest(shape: Shape, told: dict[str, Tensor], anchor: Anchor) -> float:
    row = STAGE.contribution(anchor, shape, **told)
    assert row.shape == (STAGE.size(shape),)
    return float(row.norm()) / STAGE.request(shape).clipping_norm


def cohort(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return vectors in the frame of one window a person, labels, flags and effects.

    The second label has the first statement often; the second goes with the third; the fourth is rare.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=generator) < 0.5).long()
    chances = torch.rand(count, 4, generator=generator)
    flags = torch.zeros(count, 4, dtype=torch.int64)
    flags[:, 0] = chances[:, 0] < torch.tensor([0.1, 0.7])[labels]
    flags[:, 1] = chances[:, 1] < 0.3
    flags[:, 2] = chances[:, 2] < torch.where(flags[:, 1] == 1, 0.8, 0.1)
    flags[:, 3] = chances[:, 3] < 0.04
    effects = 0.6 * torch.randn(4, size_of(ALONE), generator=generator, dtype=torch.float64)
    own = torch.tensor([[0.3], [-0.3]], dtype=torch.float64)[labels]
    rest = 0.5 * torch.randn(count, size_of(ALONE), generator=generator, dtype=torch.float64)
    return flags.to(torch.float64) @ effects + own + rest, labels, flags, effects


FOUR = replace(ALONE, most_statements=4)


def before(count: int, *, seed: int = 0) -> Anchor:
    """Return an anchor with the labels' own means and covariances."""
    vector, labels, _, _ = cohort(count, seed=seed)
    frame, anchor = coordinates_of(FOUR), prior_anchor(FOUR)
    natural = vector @ frame.back
    share = 0.95 * torch.eye(size_of(FOUR), dtype=torch.float64).expand_as(anchor.between)
    return replace(
        anchor,
        counts=torch.bincount(labels, minlength=2).to(torch.float64),
        means=torch.stack([natural[labels == label].mean(dim=0) for label in range(2)])[:, None],
        covariances=torch.stack([natural[labels == label].T.cov() for label in range(2)])[:, None],
        between=share,
        done=2,
    )


def learnt(count: int, *, radius: float = 4.0, noise_std: float = 0.0, seed: int = 0) -> tuple[Anchor, Tensor]:
    vector, labels, flags, effects = cohort(count, seed=seed)
    stage = Conditions(radius=radius)
    anchor = stage.prior(before(count, seed=seed), FOUR)
    told = torch.cat([torch.zeros(count, 1, dtype=torch.int64), flags], dim=1)
    rows = [
        stage.contribution(anchor, FOUR, vector=vector[[n]], labels=labels[[n]], covariates=told[[n]])
        for n in range(count)
    ]
    total = torch.stack(rows).sum(dim=0)
    generator = torch.Generator().manual_seed(seed)
    total = total + noise_std * torch.randn(total.shape, generator=generator, dtype=torch.float64)
    return stage.advance(anchor, FOUR, total=total, noise_std=noise_std), effects


def drawn(anchor: Anchor, label: int, count: int = 20_000) -> tuple[Tensor, Tensor]:
    """Return vectors and statements of subjects of a label."""
    draw, labels = FeatureDraw(anchor, FOUR), torch.full((count,), label)
    noise = torch.randn(count, draw_width(FOUR), generator=torch.Generator().manual_seed(3))
    return draw(labels, noise).to(torch.float64), draw.statements_of(labels, noise)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), exponent=st.floats(-3, 9), windows=st.integers(1, 8), mixed=st.booleans())
def test_no_window_with_any_statements_brings_a_contribution_beyond_its_bound(
    shape: Shape, seed: int, exponent: float, windows: int, mixed: bool
) -> None:
    """Nor one that says it bears all of them: the first few count."""
    told = adverse(shape, seed, windows, 10.0**exponent, mixed=mixed)

    assert largest(shape, told, prior_anchor(shape)) <= 1 + 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bound_is_reached_by_a_person_with_as_many_statements_as_may_be(shape: Shape) -> None:
    told = adverse(shape, 0, 3, 1.0, mixed=False)
    told["vector"] = told["vector"] * STAGE.radius * math.sqrt(size_of(shape)) / told["vector"][0].norm()

    assert largest(shape, told, prior_anchor(shape)) == pytest.approx(1.0, abs=1e-9)


def test_the_bound_fails_where_all_statements_count(monkeypatch: pytest.MonkeyPatch) -> None:
    told = adverse(BOTH, 0, 1, 1e4, mixed=False)
    monkeypatch.setattr(module, "at_most", lambda flags, _: flags)

    assert largest(BOTH, told, prior_anchor(BOTH)) > 1.1


def test_of_more_statements_than_may_be_the_first_count() -> None:
    assert at_most(torch.tensor([[1, 0, 1, 1], [0, 0, 0, 1]]), 2).tolist() == [[1, 0, 1, 0], [0, 0, 0, 1]]


def test_the_sum_counts_statements_with_labels_and_with_one_another() -> None:
    """By hand: two windows of label 1; the first bears statements 0 and 2, the second statement 2."""
    covariates = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 1, 0]])
    vector = torch.full((2, size_of(ALONE)), 0.1, dtype=torch.float64)

    row = Conditions(radius=4.0).contribution(
        prior_anchor(ALONE), ALONE, vector=vector, labels=torch.tensor([1, 1]), covariates=covariates
    )
    bound = 4.0 * math.sqrt(size_of(ALONE))
    cells, met, _, rows = row.split([2, 4 * 2 + 10, 1, 6 * size_of(ALONE)])

    assert (cells / bound).tolist() == pytest.approx([0, 1])
    # Statement 0 with labels and statements 0 to 3; 1 with labels and 1 to 3; and so on.
    expected = [0, 0.5, 0.5, 0, 0.5, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert (met / (0.3 * bound)).tolist() == pytest.approx(expected)
    assert rows.view(6, -1)[:, 0].tolist() == pytest.approx([0, 0.1, 0.05, 0, 0.1, 0])


def test_statements_are_as_frequent_in_a_label_as_they_were_and_go_together() -> None:
    anchor, _ = learnt(4000)
    _, labels, flags, _ = cohort(4000)

    for label in range(2):
        _, made = drawn(anchor, label)
        right = flags[labels == label].to(torch.float64)
        found = made.to(torch.float64)

        assert torch.allclose(found.mean(dim=0), right.mean(dim=0), atol=0.02)
        assert torch.allclose(found.T @ found / len(found), right.T @ right / len(right), atol=0.03)


def test_effects_of_statements_are_those_of_least_squares() -> None:
    vector, labels, flags, _ = cohort(3000)
    anchor, _ = learnt(3000)
    onehot = torch.nn.functional.one_hot(labels, 2).to(torch.float64)
    solved = (torch.linalg.pinv(torch.cat([onehot, flags.to(torch.float64)], dim=1)) @ vector)[2:]

    assert anchor.statement_effects is not None
    found = anchor.statement_effects @ coordinates_of(FOUR).there

    assert float((found[:3] - solved[:3]).norm() / solved[:3].norm()) < 0.05
    assert float((found[3] - solved[3]).norm() / solved[3].norm()) < 0.3  # 120 people bear it


def test_effects_come_through_noise_and_cuts() -> None:
    anchor, effects = learnt(1500, radius=0.3, noise_std=10.0)

    assert anchor.statement_effects is not None
    found = anchor.statement_effects[:3] @ coordinates_of(FOUR).there

    assert 0.7 < float((found * effects[:3]).sum() / effects[:3].square().sum()) < 1.2
    assert float((found * effects[:3]).sum() / (found.norm() * effects[:3].norm())) > 0.9


def test_a_label_keeps_its_mean_and_its_covariance_once_statements_are_drawn() -> None:
    start, (anchor, _) = before(3000), learnt(3000)

    for label in range(2):
        vector, _ = drawn(anchor, label, 60_000)
        right = start.covariances[label, 0]

        assert torch.allclose(vector.mean(dim=0), start.means[label, 0], atol=0.06)
        assert float((vector.T.cov() - right).norm() / right.norm()) < 0.1


def test_who_bears_a_statement_has_its_effect() -> None:
    anchor, _ = learnt(3000)
    assert anchor.statement_effects is not None
    vector, made = drawn(anchor, 0, 60_000)
    first = made[:, 0] == 1

    apart = vector[first].mean(dim=0) - vector[~first].mean(dim=0)

    assert float((apart - anchor.statement_effects[0]).norm() / anchor.statement_effects[0].norm()) < 0.15


def test_all_subjects_can_be_asked_to_bear_statements() -> None:
    anchor, _ = learnt(2000)
    draw = FeatureDraw(anchor, FOUR)
    assert draw.statements is not None
    normal = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))

    found = draw.statements.bearing(normal, label=0, statements=[0, 3])
    made = draw.statements.flags(torch.zeros(5000, dtype=torch.long), torch.zeros(5000, dtype=torch.long), found)

    assert bool((made[:, [0, 3]] == 1).all())
    assert 0.1 < float(made[:, 1].to(torch.float64).mean()) < 0.6


def test_counts_that_noise_explains_make_no_statement_frequent() -> None:
    """Forty statements that a few people bear, in noise of thirty: none comes out as a common one."""
    shape = replace(ALONE, n_statements=40)
    generator = torch.Generator().manual_seed(0)
    counted = 30 * torch.randn(40, 42, generator=generator, dtype=torch.float64)
    pairs = counted[:, 2:]
    counted[:, 2:] = torch.triu(pairs) + torch.triu(pairs, 1).T

    found = statements_of(counted, torch.full((2, 1), 500.0, dtype=torch.float64), design(shape), shape, noise=30.0)

    assert float(found.shares.max()) < 0.1
    assert torch.linalg.eigvalsh(found.gram).min() > 0
    assert torch.allclose(found.correlation.diagonal(), torch.ones(40, dtype=torch.float64))
