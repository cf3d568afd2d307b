"""Random views of raw windows as one more private sum: what teaches a classifier that knows no feature.

Nothing of it reaches the generator. It is there so that, on held-out people, a classifier that recordings taught
can be held against the same one taught by the release: where it does better, labels differ in something that the
release does not hold.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import means_by, within
from fedsynth.modalities.random_views import N_VIEWS, random_views
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

PURPOSE = "raw windows by label, for the report alone"
"""What the sum is called in plan, ledger and statement."""


@dataclass(frozen=True)
class RawViews:
    """One sum: for each label the mean of random views, in units of the root of their number.

    `radius` bounds a unit's views for a label; `budget_share` is the sum's weight among those over everybody.
    """

    radius: float = 1.5
    budget_share: float = 0.1

    def request(self, shape: Shape) -> SumRequest:  # noqa: ARG002
        """Return the sum; shares of a unit's windows add up to one, so a row of one label alone is longest."""
        return SumRequest(PURPOSE, self.radius, self.budget_share)

    def size(self, shape: Shape) -> int:  # noqa: ARG002
        """Return how many numbers the row of one label has."""
        return N_VIEWS

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor with labels that all look alike, and no noise yet."""
        labels = shape.n_labels
        return replace(
            anchor,
            views=torch.zeros(labels, N_VIEWS, dtype=torch.float64),
            views_variance=torch.zeros(labels, dtype=torch.float64),
        )

    def contribution(self, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's rows, shape (label, size): a mean times the label's share of the unit's windows."""
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(torch.float64)
        rows = means_by(random_views(signal, shape) / N_VIEWS**0.5, onehot)
        return within(rows, self.radius) * onehot.mean(dim=0)[:, None]

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:  # noqa: ARG002
        """Return the anchor with each label's mean views, and the noise in each of them."""
        counts = anchor.counts.clamp_min(1.0)
        return replace(
            anchor,
            views=rows / counts[:, None] * N_VIEWS**0.5,
            views_variance=N_VIEWS * (noise_std / counts) ** 2,
        )
