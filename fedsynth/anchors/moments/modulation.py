"""Modulation of rhythms as one more private sum of moments: burstiness and coupling, for each label.

Features say how loud every band is and nothing of how a rhythm comes and goes. Where noise leaves enough of it,
this stage asks for a few numbers about that, whatever the number of channels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import means_by, within
from fedsynth.anchors.moments.shrinkage import Block, shrunk_means
from fedsynth.modalities.bands import n_bands
from fedsynth.modalities.modulation import modulation, n_numbers
from fedsynth.modalities.registry import usual_modulation
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

PURPOSE = "anchor: modulation of rhythms"
"""What the sum is called in plan, ledger and statement."""

_BURST_WEIGHT = 0.3  # of a nat, beside vectors within the unit circle
_LARGEST_BURST = (2 * _BURST_WEIGHT) ** 2


@dataclass(frozen=True)
class Modulation:
    """One sum: for each label the mean burstiness of bands and coupling of pairs, less what the decoder gives.

    `radius` bounds a unit's numbers for a label; `budget_share` is the sum's weight among those over everybody.
    """

    radius: float = 0.6
    budget_share: float = 0.15

    def request(self, shape: Shape) -> SumRequest:  # noqa: ARG002
        """Return the sum; shares of a unit's windows add up to one, so a row of one label alone is longest."""
        return SumRequest(PURPOSE, self.radius, self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers the row of one label has."""
        return n_numbers(shape)

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor with the decoder's own modulation for every label."""
        return replace(anchor, modulation=usual_modulation(shape).to(torch.float64).repeat(shape.n_labels, 1))

    def contribution(self, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's rows, shape (label, size): a mean times the label's share of the unit's windows."""
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(torch.float64)
        away = (modulation(signal, shape) - usual_modulation(shape).to(signal)).to(torch.float64)
        rows = means_by(away * _weights(shape), onehot)
        return within(rows, self.radius) * onehot.mean(dim=0)[:, None]

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with each label's modulation, burstiness and every pair shrunk alone."""
        bands, size = n_bands(shape), self.size(shape)
        blocks = [Block(slice(0, bands), _LARGEST_BURST)]
        blocks += [Block(slice(first, first + 2), 0.5) for first in range(bands, size, 2)]
        away = shrunk_means(rows, anchor.counts, noise_std=noise_std, blocks=blocks) / _weights(shape)
        return replace(anchor, modulation=usual_modulation(shape).to(torch.float64) + away)


def _weights(shape: Shape) -> Tensor:
    weights = torch.ones(n_numbers(shape), dtype=torch.float64)
    weights[: n_bands(shape)] = _BURST_WEIGHT
    return weights
