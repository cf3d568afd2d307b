"""Modulation of rhythms: what is measured, what a unit may say of it, and what windows have of it in the end."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw, draw_width, prior_anchor
from fedsynth.anchors.estimator import NO_NOISE, modulation_of
from fedsynth.anchors.moments.modulation import Modulation
from fedsynth.families.modulation import ModulatedRhythms
from fedsynth.modalities.bands import analytic_parts, band_parts, n_bands
from fedsynth.modalities.measures import band_powers
from fedsynth.modalities.modulation import band_pairs, burstiness, coupling, modulation, n_numbers
from fedsynth.modalities.registry import codec_of, natural, rendered_by_prior, usual_modulation
from fedsynth.modalities.shape import Shape

PAIR = Shape(("C3", "C4"), 512, 128.0, (0.5, 40.0), 2, "eeg")
ECG = Shape(("I", "II"), 256, 100.0, (0.5, 40.0), 2, "ecg")
SECONDS = torch.arange(512) / 128
ALPHA, BETA = 2, 3


def pair_of(slow: int, fast: int) -> int:
    return list(zip(*band_pairs(PAIR), strict=True)).index((slow, fast))


def noise(count: int, *, seed: int = 0) -> Tensor:
    return 5 * torch.randn(count, 2, 512, generator=torch.Generator().manual_seed(seed))


def phases(count: int, *, seed: int = 1) -> Tensor:
    return 2 * math.pi * torch.rand(count, 1, 1, generator=torch.Generator().manual_seed(seed))


def coupled(count: int, *, at: float) -> Tensor:
    """Return a rhythm of 6 Hz, and one of 20 Hz that is loud where the slow one's phase is `at`."""
    slow = 2 * math.pi * 6 * SECONDS + phases(count)
    fast = torch.sin(2 * math.pi * 20 * SECONDS + phases(count, seed=2)) * (1 + torch.cos(slow - at))
    return noise(count) + 30 * torch.cos(slow) + 20 * fast


def spindles(count: int, *, width: float) -> Tensor:
    """Return noise and one spindle of 10 Hz."""
    wave = torch.sin(2 * math.pi * 10 * SECONDS + phases(count)) * torch.exp(-0.5 * ((SECONDS - 2) / width) ** 2)
    return noise(count) + 60 * wave


def test_the_analytic_signal_of_a_band_is_its_part_and_a_quarter_of_a_turn() -> None:
    signal = coupled(3, at=0.0)

    assert torch.allclose(analytic_parts(signal, PAIR).real, band_parts(signal, PAIR), atol=1e-3)


@pytest.mark.parametrize("at", [0.0, math.pi / 2, math.pi])
def test_coupling_points_to_the_phase_at_which_the_fast_band_is_loud(at: float) -> None:
    found = coupling(analytic_parts(coupled(50, at=at), PAIR), PAIR).mean(dim=(0, 1))[pair_of(1, BETA)]

    assert float(found.abs()) > 0.4
    assert complex(found / found.abs()) == pytest.approx(complex(math.cos(at), math.sin(at)), abs=0.2)


def test_burstiness_is_nothing_for_noise_and_more_for_a_shorter_spindle() -> None:
    plain = burstiness(analytic_parts(noise(300), PAIR)).mean(dim=(0, 1))
    long, short = (burstiness(analytic_parts(spindles(50, width=w), PAIR)).mean(dim=(0, 1)) for w in (1.0, 0.1))

    assert float(plain.abs().max()) < 0.35  # windows hold few periods of slow bands
    assert float(short[ALPHA]) > float(long[ALPHA]) + 0.5


def test_loudness_says_nothing_and_no_window_is_out_of_bounds() -> None:
    told = modulation(coupled(5, at=1.0), PAIR)

    assert torch.allclose(modulation(100 * coupled(5, at=1.0), PAIR), told, atol=0.05)
    for signal in (1e9 * spindles(5, width=0.05), torch.zeros(5, 2, 512), torch.eye(512)[:5, None].repeat(1, 2, 1)):
        some = modulation(signal, PAIR)
        assert torch.isfinite(some).all()
        assert float(some[:, n_bands(PAIR) :].abs().max()) <= 1 + 1e-5


def test_no_unit_brings_more_than_its_bound() -> None:
    stage = Modulation(radius=0.1)
    for signal in (spindles(40, width=0.05), 1e9 * coupled(40, at=0.0), torch.zeros(40, 2, 512)):
        for labels in (torch.zeros(40, dtype=torch.long), torch.arange(40) % 2):
            row = stage.contribution(PAIR, signal=signal, labels=labels)

            assert row.shape == (2, n_numbers(PAIR))
            assert float(row.norm()) <= stage.request(PAIR).clipping_norm * (1 + 1e-9)


def learned(stage: Modulation, signals: list[Tensor]) -> Anchor:
    """Return what moments make of windows, a signal for each label, without noise."""
    moments = replace(NO_NOISE, of_signals=(stage,))
    anchor = moments.prior(PAIR)
    for _ in moments.requests(PAIR):
        told = [
            moments.statistics(anchor, PAIR, signal=unit, labels=torch.full((len(unit),), label))
            for label, signal in enumerate(signals)
            for unit in signal.split(8)
        ]
        anchor = moments.advance(anchor, PAIR, total=torch.stack(told).sum(dim=0), noise_std=0.0)
    return anchor


def test_windows_have_the_modulation_of_their_label_and_its_powers() -> None:
    signals = [coupled(160, at=0.0) + spindles(160, width=0.15), coupled(160, at=3.0)]
    anchor = learned(Modulation(radius=8.0), signals)
    rhythms, codec = ModulatedRhythms(PAIR, anchor), codec_of(PAIR)
    for label, signal in enumerate(signals):
        labels = torch.full((200,), label)
        generator = torch.Generator().manual_seed(label)
        drawn = FeatureDraw(anchor, PAIR)(labels, torch.randn(200, draw_width(PAIR), generator=generator))
        windows = codec.decoder()(natural(drawn, PAIR), torch.randn(200, codec.noise_width, generator=generator))
        made = rhythms(labels, windows)

        missed = (modulation(made, PAIR).mean(dim=0) - modulation(signal, PAIR).mean(dim=0)).abs()
        before = (modulation(windows, PAIR).mean(dim=0) - modulation(signal, PAIR).mean(dim=0)).abs()
        # Of a steady sine no power of an envelope is flat enough; a spindle's can be told.
        assert label or float(missed[ALPHA]) < 0.45 * float(before[ALPHA])
        pair = n_bands(PAIR) + 2 * pair_of(1, BETA)
        assert float(missed[pair]) < 0.45 * float(before[pair])
        assert float((band_powers(made, PAIR) - band_powers(windows, PAIR)).abs().median()) < 0.05


def test_enormous_noise_leaves_the_decoder_s_own_modulation() -> None:
    stage = Modulation()
    anchor = stage.prior(prior_anchor(PAIR), PAIR)
    anchor.counts.fill_(20.0)
    rows = 1e5 * torch.randn(2, n_numbers(PAIR), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    after = stage.advance(anchor, PAIR, rows=rows, noise_std=1e5).modulation
    assert after is not None

    assert float((after - usual_modulation(PAIR)).abs().max()) < 0.05


def test_an_anchor_that_was_not_asked_leaves_windows_bit_for_bit() -> None:
    windows = rendered_by_prior(PAIR)

    assert (
        ModulatedRhythms(PAIR, prior_anchor(PAIR))(torch.zeros(len(windows), dtype=torch.long), windows) is windows
    )


@pytest.mark.parametrize(
    ("shape", "noise_", "asked"),
    [
        pytest.param(PAIR, 0.0, True, id="no noise"),
        pytest.param(PAIR, 0.009, True, id="little"),
        pytest.param(PAIR, 0.011, False, id="few people: what was asked before"),
        pytest.param(ECG, 0.0, False, id="ECG"),
    ],
)
def test_what_is_asked_follows_from_public_facts(shape: Shape, noise_: float, asked: bool) -> None:
    assert (modulation_of(shape, noise=noise_) is not None) is asked
