"""Coherence of channels: what is measured, what a unit may say of it, and what windows have of it in the end."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, prior_anchor
from fedsynth.anchors.estimator import coherence_of
from fedsynth.anchors.moments.coherence import Coherence, pair_basis
from fedsynth.families.channels import ChannelStructure
from fedsynth.modalities.coherence import CoherencePlan, nearest_coherence
from fedsynth.modalities.measures import band_powers
from fedsynth.modalities.registry import rendered_by_prior, usual_coherence
from fedsynth.modalities.shape import Shape

PAIR = Shape(("C3", "C4"), 256, 128.0, (0.5, 40.0), 2, "eeg")
MANY = Shape(tuple(f"E{number}" for number in range(14)), 512, 128.0, (0.5, 40.0), 2, "eeg")
ECG = Shape(("I", "II"), 256, 100.0, (0.5, 40.0), 2, "ecg")
PLANS = [
    pytest.param(CoherencePlan(), id="bands and lags"),
    pytest.param(CoherencePlan(lags=False), id="bands"),
    pytest.param(CoherencePlan(by_band=False, lags=False), id="one band"),
]


def rhythm(lag: float, *, sign: float = 1.0, count: int = 40) -> Tensor:
    """Return windows with a rhythm of 8 Hz in both channels, the second later by `lag` seconds."""
    generator = torch.Generator().manual_seed(0)
    seconds = torch.arange(256) / 128
    phase = 6.3 * torch.rand(count, 1, generator=generator)
    first, second = (torch.sin(2 * math.pi * 8 * (seconds - late) + phase) for late in (0.0, lag))
    return 20 * torch.stack([first, sign * second], dim=1) + torch.randn(count, 2, 256, generator=generator)


def band_at(hertz: float) -> int:
    bins = CoherencePlan().bins(PAIR)
    return next(number for number, (first, last) in enumerate(bins) if first <= hertz * 2 < last)


@pytest.mark.parametrize(
    ("lag", "sign", "expected"),
    [
        pytest.param(0.0, 1.0, 1.0, id="in phase"),
        pytest.param(0.0, -1.0, -1.0, id="in antiphase"),
        pytest.param(1 / 32, 1.0, 1j, id="a quarter of a period later"),
        pytest.param(-1 / 32, 1.0, -1j, id="a quarter earlier"),
    ],
)
def test_coherence_tells_sign_and_lead(lag: float, sign: float, expected: complex) -> None:
    found = CoherencePlan().matrices(rhythm(lag, sign=sign), PAIR)[:, band_at(8), 0, 1].mean()

    assert abs(complex(found) - expected) < 0.1


@pytest.mark.parametrize("plan", PLANS)
def test_numbers_and_matrices_say_the_same(plan: CoherencePlan) -> None:
    matrices = nearest_coherence(plan.matrices(rhythm(0.01), PAIR).mean(dim=0).to(torch.complex128))
    matrices = matrices if plan.lags else matrices.real.to(matrices.dtype)
    again = plan.from_numbers(plan.numbers(matrices), PAIR)

    assert plan.numbers(matrices).shape == (plan.size(PAIR),)
    assert torch.allclose(again, matrices, atol=1e-3)


@pytest.mark.parametrize("plan", PLANS)
def test_no_unit_brings_more_than_its_bound(plan: CoherencePlan) -> None:
    stage = Coherence(plan, radius=0.1)
    for signal in (rhythm(0.0, sign=-1.0), 1e9 * rhythm(0.0), 0 * rhythm(0.0)):
        for labels in (torch.zeros(40, dtype=torch.long), torch.arange(40) % 2):
            row = stage.contribution(PAIR, signal=signal, labels=labels)

            assert float(row.norm()) <= stage.request(PAIR).clipping_norm * (1 + 1e-9)


def learned(*, noise: float) -> tuple[Coherence, Anchor]:
    """Return the anchor after a sum over 40 units, label 1 in antiphase."""
    stage = Coherence(CoherencePlan(), radius=2.0)
    anchor = stage.prior(prior_anchor(PAIR), PAIR)
    anchor.counts.fill_(20.0)
    signal = [rhythm(0.0, count=2), rhythm(0.0, sign=-1.0, count=2)]
    rows = sum(
        20 * stage.contribution(PAIR, signal=some, labels=torch.full((2,), label))
        for label, some in enumerate(signal)
    )
    assert isinstance(rows, Tensor)
    noisy = rows + noise * torch.randn(rows.shape, generator=torch.Generator().manual_seed(0), dtype=rows.dtype)
    return stage, stage.advance(anchor, PAIR, rows=noisy, noise_std=noise)


def test_without_noise_the_label_s_coherence_is_found_and_with_much_the_decoder_s_own() -> None:
    quiet, loud = (learned(noise=noise)[1].coherence for noise in (0.0, 1e4))
    assert quiet is not None
    assert loud is not None
    band, usual = band_at(8), usual_coherence(PAIR, CoherencePlan())

    assert [float(value) for value in quiet[:, band, 0, 1, 0]] == pytest.approx([1, -1], abs=0.1)
    assert torch.allclose(torch.view_as_complex(loud), usual[None].expand(2, -1, -1, -1), atol=0.05)


def test_windows_have_the_coherence_of_their_label_and_keep_their_powers() -> None:
    stage, anchor = learned(noise=0.0)
    structure, windows = ChannelStructure(PAIR, anchor), rendered_by_prior(PAIR)
    assert anchor.coherence is not None
    for label in (0, 1):
        turned = structure(torch.full((len(windows),), label), windows)
        got = stage.plan.matrices(turned, PAIR).mean(dim=0)[band_at(8), 0, 1].real
        asked = anchor.coherence[label, band_at(8), 0, 1, 0]

        # The decoder mixes every window another way, so that no one matrix makes all of them one rhythm.
        assert float(got) == pytest.approx(float(asked), abs=0.3)
        assert float((band_powers(turned, PAIR) - band_powers(windows, PAIR)).abs().median()) < 0.05


def test_without_coherence_windows_stay_as_they_are_bit_for_bit() -> None:
    windows = rendered_by_prior(PAIR)

    assert (
        ChannelStructure(PAIR, prior_anchor(PAIR))(torch.zeros(len(windows), dtype=torch.long), windows) is windows
    )


@pytest.mark.parametrize(
    ("shape", "noise", "asked"),
    [
        pytest.param(PAIR, 0.0, CoherencePlan(), id="no noise: everything"),
        pytest.param(PAIR, 0.02, CoherencePlan(), id="two channels: everything"),
        pytest.param(PAIR, 0.03, None, id="two channels and few people: what was asked before"),
        pytest.param(MANY, 0.003, CoherencePlan(), id="fourteen channels and little noise: everything"),
        pytest.param(MANY, 0.02, CoherencePlan(by_band=False, lags=False), id="more noise: one number for a pair"),
        pytest.param(MANY, 0.1, None, id="too much noise: nothing"),
        pytest.param(ECG, 0.0, None, id="leads of one dipole"),
    ],
)
def test_what_is_asked_follows_from_public_facts(shape: Shape, noise: float, asked: CoherencePlan | None) -> None:
    found = coherence_of(shape, noise=noise)

    assert (found.plan if found else None) == asked


def test_pairs_have_a_basis_of_which_the_first_are_smooth() -> None:
    names = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
    basis, smooth = pair_basis(names)

    assert torch.allclose(basis @ basis.T, torch.eye(91, dtype=torch.float64), atol=1e-9)
    assert float(basis[0].std()) < 1e-9
    assert 5 < smooth < 15
    assert pair_basis(("one", "other"))[0].shape == (1, 1)
    assert pair_basis(("one", "other", "third"))[1] == 1


def test_what_is_smooth_over_the_scalp_is_found_in_noise_that_hides_single_pairs() -> None:
    names = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
    shape = Shape(names, 256, 128.0, (0.5, 40.0), 2, "eeg")
    stage = Coherence(CoherencePlan(by_band=False, lags=False))
    usual = stage.plan.numbers(usual_coherence(shape, stage.plan)).to(torch.float64)
    away = 0.25 * pair_basis(names)[0][0] * 91**0.5
    anchor = replace(stage.prior(prior_anchor(shape), shape), counts=torch.full((2,), 25.0, dtype=torch.float64))
    noise = 0.15 * torch.randn(2, 91, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    answer = stage.advance(anchor, shape, rows=25 * (away + noise), noise_std=0.15 * 25)

    assert answer.coherence is not None
    found = stage.plan.numbers(torch.view_as_complex(answer.coherence)) - usual
    wanted = stage.plan.numbers(stage.plan.from_numbers(away + usual, shape)) - usual
    assert float((found - wanted).square().mean().sqrt()) < 0.06
