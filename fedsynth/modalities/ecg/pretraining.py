"""Pretraining windows of ECG: noise without beats, more exact than what a median beat leaves."""

from fedsynth.modalities.ecg.frame import EcgFrame
from fedsynth.modalities.ecg.simulator import noise_bank
from fedsynth.modalities.frame import resample_waves, unit
from fedsynth.modalities.pretraining import Pool
from fedsynth.modalities.shape import Shape

# (seconds, rate in Hz, pass band in Hz, whether around a beat, weight)
_SHAPES = (
    (10.0, 100.0, (0.5, 40.0), False, 4),
    (9.0, 100.0, (0.5, 40.0), False, 3),
    (5.0, 128.0, (0.5, 45.0), False, 2),
    (2.5, 250.0, (0.5, 40.0), False, 2),
    (1.0, 360.0, (0.5, 40.0), True, 2),
    (256 / 180, 180.0, (0.5, 40.0), True, 2),
    (4.0, 500.0, (0.5, 100.0), False, 1),
)


def pools(count: int) -> list[Pool]:
    """Return a pool for each shape, with about `count` windows where they last a second; `vectors` are empty."""
    return [
        _pool(
            Shape(("pretraining",), round(seconds * sfreq), sfreq, bandpass, 1, "ecg", centred),
            count=round(count / max(1.0, seconds)),
            weight=weight,
        )
        for seconds, sfreq, bandpass, centred, weight in _SHAPES
    ]


def _pool(shape: Shape, *, count: int, weight: float) -> Pool:
    noise, frame = noise_bank(shape, count=count, purpose="pretraining"), EcgFrame(shape)
    waves = unit(resample_waves(noise, frame.length))
    return Pool(shape, noise.new_zeros(count, 0), waves, frame.condition_of_noise(noise), weight)
