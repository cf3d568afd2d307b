"""A classifier of raw windows that shares no feature with the product: random convolutions and ridge regression.

After Dempster et al. 2020 (ROCKET, arXiv:1910.13051): random kernels with random dilations, of which the shares of
positive outputs are taken; here over eighths of a window as well, so that the moment of an event is seen, and the
largest output beside them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fedsynth.evaluation.protocol.classifiers.training import Setting, Training

KERNELS = 48
"""For each dilation, unless a size says something else."""
_LENGTH, _PIECES = 9, 8
_ROWS = 256
_STEEPNESS = 4.0  # from margins of a ridge regression to probabilities; it changes no order within a label


def random_convolutions(training: Training, test: NDArray[np.float32], *, setting: Setting) -> NDArray[np.float64]:
    """Train on windows and answer for others, shape (window, label)."""
    signal, labels = training.windows.signal, training.windows.labels
    n_labels = setting.shape.n_labels
    margins = ridge_margins(
        signal, labels, test, kernels=setting.size.kernels, weights=training.weights(n_labels)[labels]
    )
    table = np.full((len(test), n_labels), -np.inf)
    table[:, np.unique(labels)] = _STEEPNESS * margins
    return softmax(table, axis=1)


def ridge_margins(
    signal: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    *,
    kernels: int = KERNELS,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Train on windows (window, channel, time) and return margins on others, a column for each label there is.

    Loudness is taken out of nothing: windows enter in units of the training windows' standard deviation.
    """
    if len(np.unique(labels)) < 2:
        return np.zeros((len(test), 1))
    scale = float(signal.std()) + 1e-6
    seen, asked = (described(torch.from_numpy(some / scale), kernels=kernels) for some in (signal, test))
    centre, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-6
    ridge = RidgeClassifierCV(alphas=np.logspace(1, 5, 9))
    margins = ridge.fit((seen - centre) / spread, labels, sample_weight=weights).decision_function(
        (asked - centre) / spread
    )
    return np.stack([-margins, margins], axis=1) if margins.ndim == 1 else margins


def auroc(
    signal: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32], truth: NDArray[np.int64]
) -> float:
    """Train on windows with labels 0 and 1 and return the AUROC on others."""
    return float(roc_auc_score(truth, ridge_margins(signal, labels, test)[:, 1]))


def described(signal: Tensor, *, kernels: int = KERNELS) -> NDArray[np.float64]:
    """Return what random convolutions say of windows, shape (window, number)."""
    generator = torch.Generator().manual_seed(0)
    channels, n_times = signal.shape[1:]
    columns = []
    dilation = 1
    while (_LENGTH - 1) * dilation < n_times // 2:
        weights = torch.randn(kernels, channels, _LENGTH, generator=generator)
        weights = weights - weights.mean(dim=2, keepdim=True)
        # Every other kernel sees one channel alone.
        only = torch.nn.functional.one_hot(torch.arange(kernels) % channels, channels)[:, :, None]
        weights = torch.where((torch.arange(kernels) % 2 == 0)[:, None, None], weights * only, weights)
        bias = 0.5 * torch.randn(kernels, generator=generator) * (channels * _LENGTH) ** 0.5
        columns.append(torch.cat([_pooled(some, weights, bias, dilation) for some in signal.split(_ROWS)]))
        dilation *= 2
    return torch.cat(columns, dim=1).double().numpy()


def _pooled(signal: Tensor, weights: Tensor, bias: Tensor, dilation: int) -> Tensor:
    out = torch.nn.functional.conv1d(signal, weights, bias, padding=4 * dilation, dilation=dilation)
    positive = torch.sigmoid(4 * out)
    pieces = torch.nn.functional.adaptive_avg_pool1d(positive, _PIECES)
    return torch.cat([pieces.flatten(1), positive.mean(dim=2), out.amax(dim=2)], dim=1)
