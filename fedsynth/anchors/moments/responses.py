"""Responses of random convolutions to raw windows as one more sum: their mean embedding, for each label.

A thousand numbers for each label, asked where noise is so low that much of them is left. Drawn windows are moved
until theirs are the same (`fedsynth.synthesis.embedding_flow`).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import means_by, within
from fedsynth.modalities.random_views import n_responses, random_responses
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

PURPOSE = "anchor: responses of random convolutions"
"""What the sum is called in plan, ledger and statement."""


@dataclass(frozen=True)
class Responses:
    """One sum: for each label the mean response of every random convolution, in units of the root of their number.

    `radius` bounds a unit's responses for a label; `budget_share` is the sum's weight among those over everybody.
    """

    radius: float = 1.5
    budget_share: float = 0.2

    def request(self, shape: Shape) -> SumRequest:  # noqa: ARG002
        """Return the sum; shares of a unit's windows add up to one, so a row of one label alone is longest."""
        return SumRequest(PURPOSE, self.radius, self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers the row of one label has."""
        return n_responses(shape)

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor before the sum: nothing is known, and nothing is moved."""
        labels = shape.n_labels
        return replace(
            anchor,
            responses=torch.zeros(labels, 0, dtype=torch.float64),
            responses_variance=torch.zeros(labels, dtype=torch.float64),
        )

    def contribution(self, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's rows, shape (label, size): a mean times the label's share of the unit's windows."""
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(torch.float64)
        rows = means_by(random_responses(signal, shape) / n_responses(shape) ** 0.5, onehot)
        return within(rows, self.radius) * onehot.mean(dim=0)[:, None]

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with each label's mean responses, and the noise in each of them."""
        counts, size = anchor.counts.clamp_min(1.0), n_responses(shape)
        return replace(
            anchor,
            responses=rows / counts[:, None] * size**0.5,
            responses_variance=size * (noise_std / counts) ** 2,
        )
