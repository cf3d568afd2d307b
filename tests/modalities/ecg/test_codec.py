"""The ECG codec: features mean what they say, windows come back with them, rows stand alone."""

import math
from functools import lru_cache

import numpy as np
import pytest
import torch

from fedsynth.modalities.ecg.beats import beat_seconds, find_beats, outside_qrs
from fedsynth.modalities.ecg.features import features, measure, n_components, n_features, split_features
from fedsynth.modalities.ecg.passband import band_limit
from fedsynth.modalities.ecg.simulator import beat_basis, beats
from fedsynth.modalities.registry import codec_of, scale_of
from fedsynth.modalities.shape import Shape
from fedsynth.rng import numpy_generator

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
ONE = Shape(("ECG",), 900, 100.0, (0.5, 40.0), 4, "ecg")
DIPOLE = Shape(TWELVE, 500, 100.0, (0.5, 40.0), 2, "ecg")
LEADS = Shape(TWELVE, 500, 100.0, (0.5, 40.0), 2, "ecg", every_lead=True)
BEAT = Shape(("MLII",), 256, 180.0, (0.5, 40.0), 3, "ecg", centred=True)
POLARITY = 7  # in a vector of `ONE`: after rhythm, variability and amplitude
SHAPES = [
    pytest.param(ONE, id="one lead"),
    pytest.param(DIPOLE, id="twelve leads"),
    pytest.param(LEADS, id="every lead"),
    pytest.param(BEAT, id="single beats"),
    pytest.param(Shape(("I", "V1"), 64, 128.0, (0.5, 40.0), 2, "ecg"), id="half a second, two leads"),
    pytest.param(Shape(tuple(f"c{i}" for i in range(64)), 256, 256.0, (0.5, 100.0), 2, "ecg"), id="64 unknown"),
    pytest.param(Shape(("II",), 2560, 512.0, (0.5, 150.0), 2, "ecg"), id="512 Hz"),
    pytest.param(Shape(("MLII", "V5"), 100, 100.0, (1.0, 30.0), 2, "ecg", centred=True), id="beats, two leads"),
]


@lru_cache(maxsize=1)
def decoded(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features of simulated windows, and the windows decoded from them."""
    codec = codec_of(shape)
    vector = codec.features(codec.simulate(200))
    noise = torch.randn(200, codec.noise_width, generator=torch.Generator().manual_seed(1))
    return vector, codec.decoder()(vector, noise)


def train_of(intervals: list[float], *, n_times: int = 900) -> torch.Tensor:
    """Return Gaussian beats of 1000 microvolts at these intervals, shape (1, 1, time) at 100 Hz."""
    time, second, total = torch.arange(n_times) / 100.0, 0.3, torch.zeros(n_times)
    for interval in intervals:
        total += 1000 * torch.exp(-0.5 * ((time - second) / 0.015) ** 2)
        second += interval
    return total[None, None]


@pytest.mark.parametrize("shape", SHAPES)
def test_windows_and_features_are_finite_and_of_the_right_size(shape: Shape) -> None:
    vector, signal = decoded(shape)

    assert signal.shape == (200, len(shape.channels), shape.n_times)
    assert vector.shape == (200, n_features(shape)) == (200, codec_of(shape).n_features)
    assert vector.dtype == signal.dtype == torch.float32
    assert bool(vector.isfinite().all())
    assert bool(signal.isfinite().all())
    assert bool((scale_of(shape).std < 6).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_odd_windows_have_finite_features(shape: Shape) -> None:
    size = (1, len(shape.channels), shape.n_times)
    one_sample = torch.zeros(size)
    one_sample[..., shape.n_times // 3] = 1e4
    odd = torch.cat([torch.zeros(size), torch.full(size, 5e3), one_sample, 1e5 * torch.randn(size)])

    assert bool(features(odd, shape).isfinite().all())


def test_beats_far_apart_leave_no_noise_where_there_is_none() -> None:
    """Recordings have no mean: a beat with a T wave lies on a line below zero, which goes on between beats."""
    time, window = torch.arange(900) / 100.0, torch.zeros(900)
    for second in torch.arange(0.5, 10.0, 1.2):
        for after, height, width in ((-0.16, 120, 0.022), (0.0, 1000, 0.012), (0.26, 300, 0.045)):
            window = window + height * torch.exp(-0.5 * ((time - second - after) / width) ** 2)
    powers = measure(band_limit(window[None, None], ONE), ONE).powers[0]

    assert float(powers.max()) < 0.5  # log10 square microvolts; 2.8 where the line is not followed


def test_where_every_lead_is_asked_for_complexes_stay_sharp() -> None:
    at = beat_seconds(100.0)
    waves = ((0.0, 900, 0.010), (0.03, -300, 0.008), (0.055, 150, 0.008), (-0.03, -200, 0.008), (0.26, 200, 0.04))
    beat = sum(height * torch.exp(-0.5 * ((at - after) / width) ** 2) for after, height, width in waves)
    lost = {}
    for shape in (ONE, LEADS):
        read, draw = beat_basis(shape, size=n_components(shape))
        lost[shape] = float((beat - (read @ beat) @ draw).square().sum() / beat.square().sum())

    assert lost[LEADS] < 0.01
    assert lost[LEADS] < 0.3 * lost[ONE]


def test_beats_are_as_alike_as_asked_whatever_lies_between_them() -> None:
    """T waves that change, or a baseline, are noise between QRS complexes that are all the same."""
    codec, generator = codec_of(ONE), torch.Generator().manual_seed(0)
    beat = train_of([0.8] * 11)
    rest = torch.nn.functional.avg_pool1d(
        150 * torch.randn(40, 1, 900, generator=generator), 9, stride=1, padding=4
    )
    asked = codec.features(beat + rest * outside_qrs(find_beats(beat, sfreq=100.0), n_times=900, sfreq=100.0))
    again = codec.features(codec.decoder()(asked, torch.randn(40, codec.noise_width, generator=generator)))
    difference = split_features(again, ONE).variability - split_features(asked, ONE).variability

    assert abs(float(difference[:, 0].mean())) < 0.7


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_stand_alone(shape: Shape) -> None:
    codec, decoder = codec_of(shape), codec_of(shape).decoder()
    signal = codec.simulate(150)
    vector = codec.features(signal)
    noise = torch.randn(150, codec.noise_width, generator=torch.Generator().manual_seed(2))

    assert torch.allclose(codec.features(signal[140:143]), vector[140:143], atol=2e-3, rtol=2e-3)
    alone, together = decoder(vector[140:143], noise[140:143]), decoder(vector, noise)[140:143]
    assert float((alone - together).abs().max()) < 0.01 * float(together.std())


def test_the_rhythm_of_regular_beats() -> None:
    log_interval, log_irregularity, _, _ = measure(train_of([0.8] * 12), ONE).rhythm[0].tolist()

    assert abs(log_interval - math.log(0.8)) < 0.01
    assert abs(log_irregularity - math.log(0.006)) < 0.3


def test_the_rhythm_of_alternating_beats() -> None:
    """Intervals 0.6, 1.0, 0.6, ...: every change is 0.4 s and the median is one of the two."""
    log_interval, log_irregularity, log_tail, memory = measure(train_of([0.6, 1.0] * 6), ONE).rhythm[0].tolist()

    assert min(abs(log_interval - math.log(0.6)), abs(log_interval - math.log(1.0))) < 0.02
    assert abs(log_irregularity + log_interval - math.log(0.4)) < 0.03
    assert abs(log_tail) < 0.05
    assert memory < -0.7


def test_the_size_and_shape_of_a_beat_follow_the_signal_linearly() -> None:
    once, thrice = measure(train_of([0.8] * 12), ONE), measure(3 * train_of([0.8] * 12), ONE)

    assert abs(float(thrice.amplitude - once.amplitude) - math.log(3)) < 1e-3
    assert torch.allclose(thrice.shape, once.shape, atol=1e-2)


def test_upside_down_is_the_opposite_shape() -> None:
    up, down = measure(train_of([0.8] * 12), ONE), measure(-train_of([0.8] * 12), ONE)

    assert torch.allclose(up.shape, -down.shape, atol=1e-5)


def test_of_an_unknown_lead_only_polarity_tells_that_it_is_upside_down() -> None:
    """Everything else, the shape of the beat turned upright included, is that of the window the right way up."""
    windows = train_of([0.8, 0.83] * 6)

    up, down = features(windows, ONE)[0], features(-windows, ONE)[0]

    differs = (up - down).abs() > 1e-3
    assert differs.nonzero().flatten().tolist() == [POLARITY]
    assert sorted([float(up[POLARITY]), float(down[POLARITY])]) == [-1.0, 1.0]


def test_a_known_lead_has_no_polarity_of_its_own() -> None:
    """A beat that points away from II says something about the heart, not about how the lead was put on."""
    known = Shape(("II",), 900, 100.0, (0.5, 40.0), 4, "ecg")

    assert n_features(known) == n_features(ONE) - 1
    assert torch.equal(split_features(features(-train_of([0.8] * 12), known), known).shape, -upright(known))


def upright(shape: Shape) -> torch.Tensor:
    """Return the shape of a beat that stands upright."""
    return split_features(features(train_of([0.8] * 12), shape), shape).shape


def test_windows_are_decoded_the_way_up_that_was_asked_for() -> None:
    codec = codec_of(ONE)
    vector = codec.features(codec.simulate(200))
    assert bool((vector[:, POLARITY + 1] >= 0).all())
    clear = vector[vector[:, POLARITY + 1] > 1.0]  # elsewhere a beat is neither
    clear[:, POLARITY] = -clear[:, POLARITY]

    again = features(codec.decoder()(clear, torch.zeros(len(clear), codec.noise_width)), ONE)

    assert 0.1 < float((clear[:, POLARITY] > 0).float().mean()) < 0.4
    assert float((again[:, POLARITY] == clear[:, POLARITY]).float().mean()) > 0.9


def test_powers_between_beats_are_those_of_a_wave_put_there() -> None:
    """A sine of 50 microvolts at 6 Hz has a power of 1250 square microvolts; other bands stay quiet."""
    wave = 50 * torch.sin(2 * math.pi * 6.1 * torch.arange(900) / 100.0)

    powers = measure(train_of([0.83, 0.77, 0.91, 0.7] * 4) + wave, ONE).powers[0]

    assert int(powers.argmax()) == 2
    assert abs(float(powers[2]) - math.log10(1250)) < 0.15


@pytest.mark.parametrize("seconds", [(0.45, 0.6), (0.6, 0.4)])
def test_neighbours_of_a_centred_beat_are_timed(seconds: tuple[float, float]) -> None:
    time, total = torch.arange(256) / 180.0, torch.zeros(256)
    middle = 128 / 180.0
    for at, size in ((middle, 1000), (middle - seconds[0], 500), (middle + seconds[1], 500)):
        total += size * torch.exp(-0.5 * ((time - at) / 0.015) ** 2)

    parts = measure(total[None, None], BEAT)

    assert torch.allclose(parts.rhythm[0].exp(), torch.tensor(seconds), atol=0.01)
    assert abs(float(parts.variability[0, 0]) - math.log(0.5)) < 0.1
    assert float(parts.variability[0, 1]) > 0.95


@pytest.mark.parametrize("shape", [ONE, DIPOLE, LEADS, BEAT])
def test_decoded_windows_have_the_features_that_were_asked_for(shape: Shape) -> None:
    vector, signal = decoded(shape)
    std = scale_of(shape).std

    off = ((features(signal, shape) - vector).abs() / std).median(dim=0).values

    asked = split_features(off[None], shape)
    assert float(off.mean()) < 0.25
    assert float(asked.amplitude.max()) < 0.2
    assert float(asked.powers.max()) < 0.35


def test_decoded_beats_come_at_the_asked_rate() -> None:
    vector, signal = decoded(ONE)
    regular = vector[:, 1] < math.log(0.05)

    beats = find_beats(signal[regular], sfreq=100.0).found.sum(dim=1)
    expected = 9.0 / vector[regular, 0].exp()

    assert float((beats - expected).abs().median()) <= 1.0


def test_limb_leads_obey_einthoven_and_goldberger() -> None:
    _, signal = decoded(DIPOLE)
    first, second, third, right, left, foot = signal[:, :6].unbind(dim=1)

    assert torch.equal(third, second - first)
    assert torch.allclose(right, -(first + second) / 2, atol=1e-3)
    assert torch.allclose(left, first - second / 2, atol=1e-3)
    assert torch.allclose(foot, second - first / 2, atol=1e-3)


@pytest.mark.parametrize("shape", [ONE, DIPOLE, BEAT])
def test_the_beat_and_the_noise_pass_gradients(shape: Shape) -> None:
    codec = codec_of(shape)
    vector = codec.features(codec.simulate(4)).requires_grad_(True)

    codec.decoder()(vector, torch.zeros(4, codec.noise_width)).square().mean().backward()

    assert vector.grad is not None
    parts = split_features(vector.grad, shape)
    assert bool(vector.grad.isfinite().all())
    assert all(bool((part.abs() > 0).any()) for part in (parts.amplitude, parts.shape, parts.powers))


@pytest.mark.parametrize("shape", [pytest.param(ONE, id="one lead"), pytest.param(DIPOLE, id="twelve leads")])
def test_an_r_wave_keeps_its_height_through_the_basis(shape: Shape) -> None:
    read, draw = beat_basis(shape, size=n_components(shape))
    rows = beats(numpy_generator("test"), sfreq=shape.sfreq, fibrillation=np.zeros(300, dtype=bool))
    beat = torch.from_numpy(rows.reshape(300 * 3, -1).astype(np.float32))

    kept = (beat @ read.T @ draw).abs().amax(dim=1) / beat.abs().amax(dim=1)

    assert 0.9 < float(kept.median()) < 1.1


def test_a_beat_alone_in_its_window_has_no_neighbour_and_keeps_its_own_waves() -> None:
    time = (torch.arange(128) - 64) / 180.0
    waves = ((1000, 0.0, 0.015), (150, -0.17, 0.02), (250, 0.28, 0.04))
    alone = sum(
        (size * torch.exp(-0.5 * ((time - at) / width) ** 2) for size, at, width in waves), torch.zeros(128)
    )
    shape = Shape(("MLII",), 128, 180.0, (0.5, 40.0), 3, "ecg", centred=True)
    alone, codec = band_limit(alone[None, None], shape)[0, 0], codec_of(shape)
    vector = features(alone[None, None], shape)
    again = codec.decoder()(vector, torch.zeros(1, codec.noise_width))[0, 0]

    assert split_features(vector, shape).rhythm.exp().tolist()[0] == pytest.approx([0.8, 0.8])
    assert float((again - alone).square().mean() / alone.square().mean()) < 0.06


def test_the_simulator_is_the_same_every_time() -> None:
    first, second = codec_of(ONE).simulate(20), codec_of(ONE).simulate(20)

    assert torch.equal(first, second)


def test_what_is_drawn_is_read_again() -> None:
    read, draw = beat_basis(DIPOLE, size=10)

    assert torch.allclose(read @ draw.T, torch.eye(10), atol=1e-4)


def test_the_decoder_keeps_nothing_for_a_message() -> None:
    decoder = codec_of(BEAT).decoder()

    assert not decoder.state_dict()
    assert not list(decoder.parameters())


def test_qrs_complexes_differ_as_much_as_asked_with_noise_upon_them() -> None:
    """Noise has a part in how QRS complexes differ, so beats alone must do less."""
    vector, signal = decoded(ONE)
    clear = vector[:, 4] < math.log(0.3)

    off = split_features(features(signal, ONE) - vector, ONE).variability[clear, 0]

    assert float(clear.float().mean()) > 0.2
    assert abs(float(off.median())) < 0.1


def test_a_lead_may_show_what_no_dipole_explains() -> None:
    """A T wave in V2 alone comes back in V2 alone where every lead is asked for; of a dipole it spreads."""
    time = torch.arange(500) / 100.0
    beats = torch.zeros(1, 12, 500)
    for second in (0.5, 1.3, 2.1, 2.9, 3.7, 4.5):
        beats += 600 * torch.exp(-0.5 * ((time - second) / 0.015) ** 2)
        beats[:, 7] += 300 * torch.exp(-0.5 * ((time - second - 0.27) / 0.04) ** 2)
    beats[:, 2:6] = 0
    found = {}
    for shape in (LEADS, DIPOLE):
        codec = codec_of(shape)
        again = codec.decoder()(features(beats, shape), torch.zeros(1, codec.noise_width))
        found[shape] = float(again[0, 8].square().mean() / again[0, 7].square().mean())

    assert found[LEADS] < 1.0
    asked = float(beats[0, 8].square().mean() / beats[0, 7].square().mean())
    assert abs(math.log(found[LEADS] / asked)) < abs(math.log(found[DIPOLE] / asked))
