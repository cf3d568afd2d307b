"""Classifiers by name; one more is a row here."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.evaluation.classifier import answer, train_classifier
from fedsynth.evaluation.protocol.classifiers.boosting import boosting
from fedsynth.evaluation.protocol.classifiers.learning import network
from fedsynth.evaluation.protocol.classifiers.projections import projected
from fedsynth.evaluation.protocol.classifiers.random_convolutions import random_convolutions
from fedsynth.evaluation.protocol.classifiers.training import Setting, Training
from fedsynth.modalities.shape import Shape

Classify = Callable[..., NDArray[np.float64]]
"""Takes a training, windows to answer for, and `setting`; returns probabilities, shape (window, label)."""


def _small_cnn(training: Training, test: NDArray[np.float32], *, setting: Setting) -> NDArray[np.float64]:
    """The classifier behind the product's own scores, which weighs every label alike."""
    windows = training.windows
    model = train_classifier(windows.signal, windows.labels, shape=setting.shape, seed=setting.seed)
    return answer(model, test)


CLASSIFIERS: dict[str, Classify] = {
    "small-cnn": _small_cnn,
    "random-convolutions": random_convolutions,
    "boosting": boosting,
    "cnn-bilstm": partial(network, name="cnn-bilstm"),
    "resnet": partial(network, name="resnet"),
    "sigxnet": partial(network, name="sigxnet"),
    "pca-mlp": partial(projected, how="PCA"),
    "ica-mlp": partial(projected, how="ICA"),
    "lda-mlp": partial(projected, how="LDA"),
}
NETWORKS = ("cnn-bilstm", "resnet", "sigxnet")
"""Those with convolutions that can be frozen."""


def classifier_of(name: str) -> Classify:
    """Return a classifier by its name.

    Raises:
        RefusedError: there is none of that name.
    """
    if name not in CLASSIFIERS:
        raise RefusedError(f"there is no classifier {name!r}; there are: {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name]


def usual_network(shape: Shape) -> str:
    """Return the network of the seed's paper: a CNN-BiLSTM for EEG, a residual network for ECG."""
    return "cnn-bilstm" if shape.modality == "eeg" else "resnet"
