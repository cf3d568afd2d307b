"""Gradient boosting on a window's features: mean and spread over channels, and loudness by channel."""

import hashlib

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from fedsynth.evaluation.protocol.classifiers.training import Setting, Training, as_table
from fedsynth.evaluation.protocol.features import features_by_channel

_ROWS = 512


def boosting(training: Training, test: NDArray[np.float32], *, setting: Setting) -> NDArray[np.float64]:
    """Train on windows and answer for others, shape (window, label)."""
    n_labels, labels = setting.shape.n_labels, training.windows.labels
    model = HistGradientBoostingClassifier(
        max_iter=setting.size.trees,
        learning_rate=0.1,
        max_leaf_nodes=15,
        min_samples_leaf=10,
        random_state=setting.seed_for("boosting"),
        early_stopping=False,
    )
    model.fit(
        columns_of(training.windows.signal, setting), labels, sample_weight=training.weights(n_labels)[labels]
    )
    return as_table(model.predict_proba(columns_of(test, setting)), model.classes_, n_labels)


def columns_of(signal: NDArray[np.float32], setting: Setting) -> NDArray[np.float64]:
    """Return the columns of windows, shape (window, number); what was asked before is remembered."""
    keys = [hashlib.blake2b(np.ascontiguousarray(window).tobytes(), digest_size=16).digest() for window in signal]
    missing = [place for place, key in enumerate(keys) if key not in setting.memo]
    for start in range(0, len(missing), _ROWS):
        places = missing[start : start + _ROWS]
        each = features_by_channel(signal[places], shape=setting.shape)
        parts = [each.mean(axis=1), each[:, :, -1]] + ([each.std(axis=1)] if each.shape[1] > 1 else [])
        for place, row in zip(places, np.concatenate(parts, axis=1), strict=True):
            setting.memo[keys[place]] = row
    return np.stack([setting.memo[key] for key in keys])
