"""Pretraining windows of EEG: what a study may look like, simulated."""

import torch

from fedsynth.modalities.eeg.codec import EegCodec
from fedsynth.modalities.eeg.frame import EegFrame
from fedsynth.modalities.eeg.simulator import waveforms
from fedsynth.modalities.pretraining import Pool
from fedsynth.modalities.shape import Shape

# (seconds, rate in Hz, pass band in Hz, weight)
_SHAPES = (
    (1.0, 128.0, (0.5, 40.0), 4),
    (178 / 173.61, 173.61, (0.5, 40.0), 4),
    (1.0, 256.0, (1.0, 70.0), 2),
    (2.0, 128.0, (0.5, 45.0), 3),
    (2.0, 100.0, (0.3, 35.0), 2),
    (0.5, 200.0, (1.0, 60.0), 2),
    (0.5, 128.0, (0.5, 45.0), 2),
    (4.0, 128.0, (0.5, 45.0), 2),
    (4.0, 256.0, (0.5, 70.0), 1),
    (1.0, 512.0, (0.5, 120.0), 2),
    (10.0, 100.0, (0.5, 40.0), 1),
)
_MICROVOLTS = 30.0  # root mean square


def pools(count: int) -> list[Pool]:
    """Return a pool for each shape, with about `count` windows where they last a second or less."""
    return [
        _pool(
            Shape(("pretraining",), round(seconds * sfreq), sfreq, bandpass, 1, "eeg"),
            count=4 * (round(count / max(1.0, seconds)) // 4),
            weight=weight,
        )
        for seconds, sfreq, bandpass, weight in _SHAPES
    ]


def _pool(shape: Shape, *, count: int, weight: float) -> Pool:
    windows = _MICROVOLTS * waveforms(shape, count=count)[:, None]
    waves, condition = EegFrame(shape).read(windows, torch.zeros(len(windows)))
    return Pool(shape, EegCodec(shape).features(windows), waves, condition, weight)
