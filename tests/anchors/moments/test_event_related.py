"""Event-related means: what is measured, what a unit may say of it, and what windows have of it in the end."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw, draw_width, prior_anchor
from fedsynth.anchors.estimator import NO_NOISE, event_related_of, moments_of
from fedsynth.anchors.moments.event_related import PURPOSE, EventRelated
from fedsynth.families.event_related import EventRelatedCourse
from fedsynth.modalities.bands import band_parts, n_bands
from fedsynth.modalities.event_related import SEGMENTS, EventRelatedPlan, courses
from fedsynth.modalities.measures import band_powers
from fedsynth.modalities.registry import codec_of, natural, rendered_by_prior, usual_courses
from fedsynth.modalities.shape import Shape
from fedsynth.study import Study

PAIR = Shape(("C3", "C4"), 256, 128.0, (0.5, 40.0), 2, "eeg")
MANY = Shape(tuple(f"E{number}" for number in range(14)), 512, 128.0, (0.5, 40.0), 2, "eeg")
ECG = Shape(("I", "II"), 256, 100.0, (0.5, 40.0), 2, "ecg")
PLAN = EventRelatedPlan(20.0)
SECONDS = torch.arange(256) / 128


def noise(count: int) -> Tensor:
    return 20 * torch.randn(count, 2, 256, generator=torch.Generator().manual_seed(0))


def evoked(count: int, *, at: float) -> Tensor:
    """Return noise with a slow wave at a moment of every window, upside down in the second channel."""
    wave = 60 * torch.exp(-0.5 * ((SECONDS - at) / 0.06) ** 2)
    return noise(count) + torch.stack([wave, -wave])


def burst(count: int, *, at: float) -> Tensor:
    """Return noise with a rhythm of 10 Hz, of any phase, around a moment of every window."""
    phase = 6.3 * torch.rand(count, 1, 1, generator=torch.Generator().manual_seed(1))
    return noise(count) + 60 * torch.sin(2 * math.pi * 10 * SECONDS + phase) * torch.exp(
        -0.5 * ((SECONDS - at) / 0.15) ** 2
    )


def test_the_mean_waveform_is_found_up_to_the_frequency_asked() -> None:
    mean = PLAN.waveforms(evoked(200, at=0.5), PAIR).mean(dim=0) @ PLAN.cosines(PAIR)

    assert int(mean[0].argmax()) == pytest.approx(64, abs=2)
    assert int(mean[1].argmin()) == pytest.approx(64, abs=2)
    assert PLAN.n_waveform(PAIR) == 80  # half waves of 2 s up to 20 Hz


def test_a_channel_s_coefficients_are_a_unit_vector_at_most_whatever_its_size() -> None:
    for signal in (evoked(4, at=0.5), 1e9 * evoked(4, at=0.5), torch.zeros(4, 2, 256)):
        told = EventRelatedPlan(60.0).waveforms(signal, PAIR)

        assert float(told.square().sum(dim=-1).max()) <= 1 + 1e-5


def test_the_course_tells_when_a_band_is_loud_and_nothing_of_how_loud() -> None:
    early = courses(burst(200, at=0.4), PAIR)
    alpha = 2  # of delta, theta, alpha, beta, gamma

    assert early.shape == (200, 2, n_bands(PAIR), SEGMENTS)
    assert int(early.mean(dim=0)[0, alpha].argmax()) == 1  # 0.25 to 0.5 s
    assert torch.allclose(courses(1e3 * burst(200, at=0.4), PAIR), early, atol=0.02)
    assert float(early.abs().max()) <= 2.0
    assert torch.isfinite(courses(torch.zeros(1, 2, 256), PAIR)).all()


def test_bands_add_up_to_what_passes() -> None:
    signal = evoked(3, at=0.5)
    spectrum = torch.fft.rfft(signal)
    spectrum[..., 81:] = 0
    spectrum[..., 0] = 0

    assert torch.allclose(band_parts(signal, PAIR).sum(dim=2), torch.fft.irfft(spectrum, 256), atol=1e-3)


def test_no_unit_brings_more_than_its_bound() -> None:
    stage = EventRelated(PLAN, radius=0.1)
    bound = stage.request(PAIR).clipping_norm
    for signal in (evoked(40, at=0.5), 1e9 * burst(40, at=0.5), torch.zeros(40, 2, 256)):
        for labels in (torch.zeros(40, dtype=torch.long), torch.arange(40) % 2):
            row = stage.contribution(PAIR, signal=signal, labels=labels)

            assert row.shape == (2, stage.size(PAIR))
            assert float(row.norm()) <= bound * (1 + 1e-9)
    whole = stage.contribution(PAIR, signal=evoked(1, at=0.5), labels=torch.zeros(1, dtype=torch.long))
    assert float(whole.norm()) > 0.99 * bound  # the bound is reached, so it is no larger than it has to be


def learned(*, noise_std: float) -> tuple[EventRelated, Anchor]:
    """Return the anchor after a sum over 40 units: label 0 early, label 1 late."""
    stage = EventRelated(PLAN, radius=4.0)
    anchor = stage.prior(prior_anchor(PAIR), PAIR)
    anchor.counts.fill_(20.0)
    rows = torch.zeros(2, stage.size(PAIR), dtype=torch.float64)
    for label, at in ((0, 0.5), (1, 1.5)):
        signal = evoked(200, at=at) + burst(200, at=at)
        rows += 20 * stage.contribution(PAIR, signal=signal, labels=torch.full((200,), label))
    drawn = torch.randn(rows.shape, generator=torch.Generator().manual_seed(2), dtype=rows.dtype)
    return stage, stage.advance(anchor, PAIR, rows=rows + noise_std * drawn, noise_std=noise_std)


def test_enormous_noise_leaves_the_decoder_s_own_means() -> None:
    _, anchor = learned(noise_std=1e5)
    assert anchor.evoked is not None
    assert anchor.course is not None

    assert float(anchor.evoked.norm(dim=-1).max()) < 0.05
    assert float((anchor.course - usual_courses(PAIR)).abs().max()) < 0.05


def test_windows_have_the_means_of_their_label_and_its_powers() -> None:
    """Everything is learned of windows in which label 0 is early and label 1 late, without noise."""
    stage = EventRelated(PLAN, radius=4.0)
    moments = replace(NO_NOISE, of_signals=(stage,))
    signals = [evoked(200, at=at) + burst(200, at=at) for at in (0.5, 1.5)]
    anchor = moments.prior(PAIR)
    for _ in moments.requests(PAIR):
        told = [
            moments.statistics(anchor, PAIR, signal=unit, labels=torch.full((4,), label))
            for label, signal in enumerate(signals)
            for unit in signal.split(4)
        ]
        anchor = moments.advance(anchor, PAIR, total=torch.stack(told).sum(dim=0), noise_std=0.0)
    course, codec = EventRelatedCourse(PAIR, anchor), codec_of(PAIR)
    for label, signal in enumerate(signals):
        labels = torch.full((300,), label)
        generator = torch.Generator().manual_seed(label)
        drawn = FeatureDraw(anchor, PAIR)(labels, torch.randn(300, draw_width(PAIR), generator=generator))
        choices = torch.randn(300, codec.noise_width, generator=generator)
        windows = codec.decoder()(natural(drawn, PAIR), choices)
        made = course(labels, windows)

        wave = PLAN.waveforms(signal, PAIR).mean(dim=0)
        # The mean of 300 windows is a waveform of its own, by chance.
        got = (PLAN.waveforms(made, PAIR) - PLAN.waveforms(windows, PAIR)).mean(dim=0)
        assert float((got - wave).norm() / wave.norm()) < 0.2
        when = courses(signal, PAIR).mean(dim=0)
        assert float((courses(made, PAIR).mean(dim=0) - when).abs().mean()) < 0.15
        assert float((band_powers(made, PAIR) - band_powers(windows, PAIR)).abs().median()) < 0.05


def test_an_anchor_that_was_not_asked_leaves_windows_bit_for_bit() -> None:
    windows = rendered_by_prior(PAIR)

    assert (
        EventRelatedCourse(PAIR, prior_anchor(PAIR))(torch.zeros(len(windows), dtype=torch.long), windows)
        is windows
    )


def test_an_anchor_with_event_related_means_travels_whole() -> None:
    _, anchor = learned(noise_std=1.0)
    again = Anchor.from_tensors(anchor.tensors())

    assert again.evoked is not None
    assert again.course is not None
    assert torch.equal(again.evoked, anchor.evoked)  # type: ignore[arg-type]
    assert torch.equal(again.course, anchor.course)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "noise_", "hertz"),
    [
        pytest.param(PAIR, 0.0, 40.0, id="no noise: the whole pass band"),
        pytest.param(PAIR, 0.019, 20.0, id="two channels and noise"),
        pytest.param(PAIR, 0.03, None, id="few people: what was asked before"),
        pytest.param(MANY, 0.003, 40.0, id="fourteen channels and little noise"),
        pytest.param(MANY, 0.008, 5.0, id="fourteen channels and noise"),
        pytest.param(MANY, 0.02, None, id="fourteen channels and too much of it"),
        pytest.param(ECG, 0.0, None, id="beats have their waveform among the features"),
    ],
)
def test_what_is_asked_follows_from_public_facts(shape: Shape, noise_: float, hertz: float | None) -> None:
    found = event_related_of(shape, noise=noise_)

    assert (found.plan.hertz if found else None) == hertz


def test_only_studies_of_events_are_asked() -> None:
    def purposes(source: str) -> list[str]:
        study = Study.model_validate(
            {
                "name": "tiny",
                "signal": {"modality": "eeg", "format": "edf", "channels": PAIR.channels, "sfreq": PAIR.sfreq},
                "windows": {"n_times": PAIR.n_times},
                "labels": {"names": ("a", "b"), "source": source, "positive": "b"},
                "privacy": {"unit": "subject", "epsilon": 8.0, "delta": 1e-5},
                "cohort": {"expected_units": 400},
                "family": {"name": "cwgan"},
            }
        )
        shape = replace(PAIR, bandpass=study.signal.bandpass or PAIR.bandpass)
        return [request.purpose for request in moments_of(study).requests(shape)]

    assert PURPOSE in purposes("events")
    assert PURPOSE not in purposes("participants.tsv")
    assert [purpose for purpose in purposes("events") if purpose != PURPOSE] == purposes("participants.tsv")
