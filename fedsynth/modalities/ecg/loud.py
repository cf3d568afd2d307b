"""Loud ECG, for an audit's canaries: every band of every channel far up or down."""

import numpy as np
import torch
from torch import Tensor

from fedsynth.modalities.codec import FeatureScale
from fedsynth.modalities.ecg.simulator import simulate
from fedsynth.modalities.measures import band_powers
from fedsynth.modalities.shape import Shape

_SIMULATED = 400  # windows that say what is loud


def loud_powers(rng: np.random.Generator, shape: Shape, scale: FeatureScale, deviations: float) -> Tensor:  # noqa: ARG001
    """Draw log10 microvolts squared, shape (channel, band): so many deviations from simulated windows' mean.

    The codec's features describe beats, of which a canary has none, so its scale says nothing here.
    """
    powers = band_powers(simulate(shape, count=_SIMULATED, purpose="scale"), shape).double()
    signs = torch.from_numpy(rng.choice([-deviations, deviations], size=tuple(powers.shape[1:])))
    return powers.mean(dim=0) + powers.std(dim=0, correction=0) * signs
