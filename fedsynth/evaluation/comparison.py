"""Raw windows against features: three linear classifiers, read at the same held-out people through histograms.

"features" knows the codec's features, "views" random views of raw windows; both are taught by the release. Where
the first does better, windows do not hold what their features promise. "recordings" knows the same views and is
taught by one private sum of recordings: where it does better than "views", labels differ in something that the
release does not hold. A classifier that only the release taught cannot see that, however raw its windows are. One
that cannot tell the release's own labels apart answers nothing, which scores one half.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.evaluation.private_scores import EVEN_EDGES, edges_for, histogram
from fedsynth.evaluation.tally_plan import BINS, TallyPlan
from fedsynth.modalities.random_views import N_VIEWS, random_views
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape
from fedsynth.synthesis.windows import SyntheticWindows

COMPARED = ("features", "views", "recordings")
"""In the order of their histograms; a plan that compares two leaves out the last."""

_MOST = 1000  # windows of each label that teach
_RIDGE = 0.1  # of the mean variance of a number
_LEAST_TOLD = 0.55  # AUROC on windows of the release itself
_PRIOR = 0.04  # squared difference of labels' means, in units of their covariance, that a number is thought to have


class LinearClassifier(nn.Module):
    """Linear discriminant analysis: from numbers to labels' probabilities; buffers alone, nothing that learns."""

    weight: Tensor
    offset: Tensor
    edges: Tensor

    def __init__(self, n_numbers: int, n_labels: int) -> None:
        """Make room; every label is alike."""
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_labels, n_numbers, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(n_labels, dtype=torch.float64))
        self.register_buffer("edges", torch.tensor(EVEN_EDGES))  # between the bins that answers are told in

    def learn(self, means: Tensor, covariance: Tensor, *, noise_variance: float = 0.0) -> None:
        """Take means (label, number) and the covariance within labels (number, number).

        Where means carry noise, directions in which windows differ by less than it count for less: the posterior
        mean of a difference whose prior has the covariance of windows themselves.
        """
        ridge = _RIDGE * float(covariance.diagonal().mean()) + noise_variance / _PRIOR
        inverse = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
        self.weight.copy_(means @ inverse)
        self.offset.copy_(-0.5 * (self.weight * means).sum(dim=1))

    def forward(self, numbers: Tensor) -> Tensor:
        """Return probabilities of labels, shape (window, label)."""
        return torch.softmax(numbers.to(torch.float64) @ self.weight.T + self.offset, dim=1)


@dataclass(frozen=True)
class _Seen:
    """What classifiers are shown of windows."""

    features: Tensor
    views: Tensor

    def of(self, name: str) -> Tensor:
        return self.features if name == "features" else self.views


class Comparison(nn.ModuleDict):
    """The classifiers that a plan compares, by name."""

    def __init__(self, shape: Shape, tally: TallyPlan) -> None:
        """Make room for them."""
        sizes = {"features": 2 * codec_of(shape).n_features, "views": N_VIEWS, "recordings": N_VIEWS}
        self._classifiers = {
            name: LinearClassifier(sizes[name], shape.n_labels) for name in COMPARED[: tally.compared]
        }
        super().__init__(self._classifiers)
        self._shape = shape

    def learn(self, released: SyntheticWindows, anchor: Anchor, *, positive: int, bins: int) -> None:
        """Teach them by windows of a release and, where it was asked, by what a private sum says of recordings."""
        rows = _some_of_each(released.labels, self._shape.n_labels)
        labels = released.labels[rows]
        seen = self._seen(torch.from_numpy(released.signal[rows]))
        for name, classifier in self._classifiers.items():
            numbers = seen.of(name)
            means, covariance = moments_of(numbers, labels, n_labels=self._shape.n_labels)
            if name == "recordings" and anchor.views is not None and anchor.views_variance is not None:
                noise = float(anchor.views_variance.mean())
                classifier.learn(anchor.views, covariance, noise_variance=noise)
            elif _tells(numbers, labels, positive=positive, n_labels=self._shape.n_labels):
                classifier.learn(means, covariance)
            given = classifier(numbers).numpy()[:, positive]
            edges = edges_for(given, labels, positive=positive, bins=bins)
            classifier.edges.copy_(torch.from_numpy(edges))

    def tell(self, signal: Tensor, labels: NDArray[np.int64], *, positive: int) -> Tensor:
        """Return each window's histograms side by side, shape (window, compared * 2 * BINS), float64."""
        if not len(self):
            return torch.zeros(len(labels), 0, dtype=torch.float64)
        seen = self._seen(signal)
        told = [
            histogram(one(seen.of(name)).numpy(), labels, positive=positive, edges=one.edges.numpy())
            for name, one in self._classifiers.items()
        ]
        return torch.from_numpy(np.concatenate(told, axis=1))

    def _seen(self, signal: Tensor) -> _Seen:
        vectors = standardise(codec_of(self._shape).features(signal), self._shape)
        return _Seen(torch.cat([vectors, vectors.square()], dim=1), random_views(signal, self._shape))


def compared_size(tally: TallyPlan) -> int:
    """Return how many cells the histograms have."""
    return tally.compared * 2 * BINS


def _some_of_each(labels: NDArray[np.int64], n_labels: int) -> NDArray[np.int64]:
    """Return rows of at most so many windows of each label, spread evenly over it."""
    rows = [np.flatnonzero(labels == label) for label in range(n_labels)]
    return np.sort(
        np.concatenate([mine[np.unique(np.linspace(0, len(mine) - 1, _MOST).astype(int))] for mine in rows])
    )


def moments_of(numbers: Tensor, labels: NDArray[np.int64], *, n_labels: int) -> tuple[Tensor, Tensor]:
    """Return the mean of each label (label, number) and the covariance within labels (number, number)."""
    means = torch.stack([numbers[torch.from_numpy(labels == label)].mean(dim=0) for label in range(n_labels)])
    return means, torch.cov((numbers - means[torch.from_numpy(labels)]).T)


def _tells(numbers: Tensor, labels: NDArray[np.int64], *, positive: int, n_labels: int) -> bool:
    """Whether the first half of each label's windows teaches anything of the second half.

    A classifier that learned nothing cuts people in some direction, and where real labels are separable, that
    alone scores far from one half.
    """
    from sklearn.metrics import roc_auc_score  # scikit-learn takes a second to load

    half = np.zeros(len(labels), dtype=bool)
    for label in range(n_labels):
        rows = np.flatnonzero(labels == label)
        half[rows[: len(rows) // 2]] = True
    if any(len(np.unique(labels[some])) < n_labels for some in (half, ~half)):
        return True  # a single window of a label
    classifier = LinearClassifier(numbers.shape[1], n_labels)
    mine = torch.from_numpy(half)
    classifier.learn(*moments_of(numbers[mine], labels[half], n_labels=n_labels))
    given = classifier(numbers[~mine]).numpy()[:, positive]
    return float(roc_auc_score(labels[~half] == positive, given)) >= _LEAST_TOLD
