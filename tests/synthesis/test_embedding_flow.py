"""Windows moved until random convolutions respond to them as to recordings."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, prior_anchor
from fedsynth.anchors.estimator import moments_of
from fedsynth.anchors.moments.responses import Responses
from fedsynth.modalities.codec import BOUND
from fedsynth.modalities.ecg.leads import keep_identities
from fedsynth.modalities.random_views import n_responses, random_responses
from fedsynth.modalities.registry import within_range
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.study import Study, parse_study
from fedsynth.synthesis import embedding_flow
from fedsynth.synthesis.embedding_flow import found_flow
from fedsynth.synthesis.generator import Generator, untrained

SHAPE = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, "eeg")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find directions on fewer windows than a study does."""
    monkeypatch.setattr(embedding_flow, "_MOST", 120)


@pytest.fixture(scope="module")
def study(tiny_text: str) -> Study:
    """One channel, so that a draw is quick."""
    return parse_study(tiny_text.replace('["C3", "C4"]', '["Cz"]'))


def at(study: Study, epsilon: float) -> Study:
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"epsilon": epsilon})})


def noise(count: int, *, seed: int, channels: int = 2) -> Tensor:
    return 20 * torch.randn(count, channels, 128, generator=torch.Generator().manual_seed(seed))


def swept(count: int, *, seed: int, label: int) -> Tensor:
    """Return noise with a chirp that rises for one label and falls for the other, anywhere in the window."""
    rng, seconds = np.random.default_rng(seed), np.arange(64) / 100
    chirp = np.sin(2 * np.pi * (4 * seconds + 12 * seconds**2)) * np.hanning(64)
    chirp = chirp[::-1].copy() if label else chirp
    windows = noise(count, seed=seed)
    for window, first in zip(windows, rng.integers(0, 64, count), strict=True):
        window[:, first : first + 64] += torch.from_numpy(100 * chirp).float()
    return windows


def taught_by(recordings: list[Tensor], shape: Shape = SHAPE) -> Anchor:
    """Return the anchor after the sum over units of one window each."""
    stage, labels = Responses(radius=BOUND), range(len(recordings))
    anchor = stage.prior(prior_anchor(shape), shape)
    rows = torch.zeros(shape.n_labels, stage.size(shape), dtype=torch.float64)
    for label, windows in zip(labels, recordings, strict=True):
        for window in windows:
            rows += stage.contribution(shape, signal=window[None], labels=torch.tensor([label]))
    counts = torch.tensor([len(windows) for windows in recordings], dtype=torch.float64)
    return stage.advance(replace(anchor, counts=counts), shape, rows=rows, noise_std=0.0)


def told_apart(made: list[Tensor], real: list[Tensor]) -> float:
    """Return the AUROC on recordings of a classifier that made-up windows taught."""
    seen, asked = (torch.cat([random_responses(some, SHAPE) for some in each]).numpy() for each in (made, real))
    labels = [np.repeat([0, 1], [len(some) for some in each]) for each in (made, real)]
    model = LogisticRegression(C=1e-3, max_iter=500).fit(seen, labels[0])
    return float(roc_auc_score(labels[1], model.decision_function(asked)))


def test_what_no_feature_knows_is_given_to_labels_that_differ_in_it() -> None:
    anchor = taught_by([swept(200, seed=label, label=label) for label in (0, 1)])
    flow = found_flow(anchor, SHAPE, lambda label, count: noise(count, seed=10 + label))
    assert flow is not None
    drawn = [noise(300, seed=20 + label) for label in (0, 1)]
    unseen = [swept(200, seed=30 + label, label=label) for label in (0, 1)]
    moved = [flow(windows, label=label) for label, windows in enumerate(drawn)]
    real = told_apart([swept(300, seed=40 + label, label=label) for label in (0, 1)], unseen)
    assert real > 0.9
    assert told_apart(drawn, unseen) < 0.75
    assert told_apart(moved, unseen) > 0.78


def test_drawn_windows_respond_as_recordings_do() -> None:
    anchor = taught_by([swept(200, seed=label, label=label) for label in (0, 1)])
    assert anchor.responses is not None
    flow = found_flow(anchor, SHAPE, lambda label, count: noise(count, seed=10 + label))
    assert flow is not None
    for label in (0, 1):
        windows = noise(300, seed=20 + label)
        before, after = (
            (random_responses(some, SHAPE).mean(dim=0) - anchor.responses[label]).norm()
            for some in (windows, flow(windows, label=label))
        )
        assert after < 0.7 * before


def test_windows_that_are_right_already_stay_as_they_are() -> None:
    anchor = taught_by([noise(400, seed=label) for label in (0, 1)])
    flow = found_flow(anchor, SHAPE, lambda label, count: noise(count, seed=10 + label))
    assert flow is not None
    windows = noise(100, seed=5)
    change = (flow(windows, label=0) - windows).square().mean().sqrt() / windows.square().mean().sqrt()
    assert change < 0.3


def test_rows_are_independent() -> None:
    anchor = taught_by([swept(50, seed=label, label=label) for label in (0, 1)])
    flow = found_flow(anchor, SHAPE, lambda label, count: noise(count, seed=10 + label))
    assert flow is not None
    windows = noise(5, seed=5)
    assert torch.allclose(flow(windows, label=1)[3:4], flow(windows[3:4], label=1), atol=1e-2)


@pytest.mark.parametrize("make", [torch.zeros, lambda *size: torch.full(size, 1e6)])
def test_flat_and_huge_windows_stay_numbers(make: Callable[..., Tensor]) -> None:
    anchor = taught_by([swept(50, seed=label, label=label) for label in (0, 1)])
    flow = found_flow(anchor, SHAPE, lambda label, count: noise(count, seed=10 + label))
    assert flow is not None
    assert torch.isfinite(flow(make(2, 2, 128), label=0)).all()


def test_limb_leads_keep_their_identities() -> None:
    shape = Shape(("I", "II", "III", "aVR"), 128, 100.0, (1.0, 30.0), 1, "ecg")

    def leads(count: int, seed: int) -> Tensor:
        return keep_identities(noise(count, seed=seed, channels=4), shape.channels)

    anchor = taught_by([3 * leads(60, 1)], shape)
    flow = found_flow(anchor, shape, lambda label, count: leads(count, 2 + label))
    assert flow is not None
    moved = within_range(flow(leads(20, 5), label=0), modality="ecg", channels=shape.channels, range_uv=1000.0)
    assert not torch.allclose(moved, leads(20, 5), atol=0.1)
    assert torch.allclose(moved[:, 2], moved[:, 1] - moved[:, 0], atol=1e-2)


def test_nothing_is_moved_where_nothing_was_asked() -> None:
    anchor = prior_anchor(SHAPE)
    assert found_flow(anchor, SHAPE, lambda _, count: noise(count, seed=0)) is None
    assert found_flow(Responses().prior(anchor, SHAPE), SHAPE, lambda _, count: noise(count, seed=0)) is None


@pytest.mark.parametrize(
    ("units", "epsilon", "asked"), [(40, 8.0, False), (4000, 8.0, True), (4000, 0.5, False), (40, math.inf, True)]
)
def test_it_is_asked_where_noise_is_low(study: Study, units: int, epsilon: float, *, asked: bool) -> None:
    cohort = study.cohort.model_copy(update={"expected_units": units})
    stages = moments_of(at(study, epsilon).model_copy(update={"cohort": cohort})).of_signals
    assert any(isinstance(stage, Responses) for stage in stages) == asked


def test_a_study_may_leave_it_out(study: Study) -> None:
    plan = study.training.model_copy(update={"responses": False})
    stages = moments_of(at(study, math.inf).model_copy(update={"training": plan})).of_signals
    assert not any(isinstance(stage, Responses) for stage in stages)


def test_noise_alone_moves_little(study: Study) -> None:
    shape = shape_of(study)
    told = untrained(study, prior_anchor(shape)).draw(per_label=200, seed="told")
    means = random_responses(torch.from_numpy(told.signal), shape).mean(dim=0)

    def draw(label: int, count: int) -> Tensor:
        windows = untrained(study, prior_anchor(shape)).draw(per_label=count, seed=f"found {label}").signal
        return torch.from_numpy(windows[:count])

    change = []
    for variance in (0.0, 1.0):
        offset = torch.randn(shape.n_labels, len(means), generator=torch.Generator().manual_seed(3))
        anchor = replace(
            prior_anchor(shape),
            responses=means + offset,
            responses_variance=torch.full((shape.n_labels,), variance, dtype=torch.float64),
        )
        flow = found_flow(anchor, shape, draw)
        assert flow is not None
        windows = torch.from_numpy(told.signal)
        change.append(
            float((flow(windows, label=0) - windows).square().mean().sqrt() / windows.square().mean().sqrt())
        )
    assert change[1] < 0.6 * change[0], change


def test_a_unit_is_bounded_whatever_it_holds() -> None:
    stage = Responses(radius=0.2)
    signal = torch.cat([noise(3, seed=1) * 1e3, torch.full((1, 2, 128), 1e6), torch.zeros(1, 2, 128)])
    row = stage.contribution(SHAPE, signal=signal, labels=torch.tensor([0, 1, 0, 1, 1]))
    assert row.shape == (2, n_responses(SHAPE))
    assert float(row.norm()) <= stage.request(SHAPE).clipping_norm + 1e-9


def test_a_generator_draws_what_the_flow_makes(study: Study) -> None:
    free = at(study, math.inf)
    shape = shape_of(free)
    anchor = prior_anchor(shape)
    plain = untrained(free, anchor)
    drawn = plain.draw(per_label=200, seed="a")
    labels, upward = torch.from_numpy(drawn.labels), torch.from_numpy(np.abs(drawn.signal))

    def means(signal: Tensor) -> Tensor:
        seen = random_responses(signal, shape)
        return torch.stack([seen[labels == label].mean(dim=0) for label in range(shape.n_labels)])

    told = replace(
        anchor,
        responses=means(upward),
        responses_variance=torch.zeros(shape.n_labels, dtype=torch.float64),
    )
    moved = Generator(free, plain.state, told).draw(per_label=200, seed="a")
    again = Generator(free, plain.state, Anchor.from_tensors(told.tensors())).draw(per_label=20, seed="a")
    before, after = ((means(torch.from_numpy(some.signal)) - means(upward)).norm() for some in (drawn, moved))
    assert after < 0.95 * before
    assert np.allclose(moved.signal[:20], again.signal[:20], atol=1e-2 * float(moved.signal.std()))
