"""Loud EEG, for an audit's canaries: every band of every map far up or down."""

import numpy as np
import torch
from torch import Tensor

from fedsynth.modalities.codec import FeatureScale
from fedsynth.modalities.eeg.features import N_SHAPE, n_features, split_features
from fedsynth.modalities.measures import band_bins
from fedsynth.modalities.shape import Shape


def loud_powers(rng: np.random.Generator, shape: Shape, scale: FeatureScale, deviations: float) -> Tensor:
    """Draw log10 microvolts squared, shape (channel, band): features so many public deviations from the centre."""
    signs = torch.from_numpy(rng.choice([-deviations, deviations], size=(1, n_features(shape))))
    bands = len(band_bins(shape))
    signs[:, bands : bands + N_SHAPE] = 0
    return split_features(scale.natural(signs), shape)[0][0]
