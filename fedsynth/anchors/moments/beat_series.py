"""How beats follow one another as one more private sum of moments, for each label.

Features describe one median beat. Where noise leaves enough of it, this stage asks of ECG for a few numbers about
how T waves alternate and P waves move from beat to beat.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import means_by, within
from fedsynth.anchors.moments.shrinkage import Block, shrunk_means
from fedsynth.modalities.registry import beat_series, n_beat_series, usual_beat_series
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

PURPOSE = "anchor: how beats follow one another"
"""What the sum is called in plan, ledger and statement."""

_LARGEST = 1.0  # signal variance of a number


@dataclass(frozen=True)
class BeatSeries:
    """One sum: for each label the mean numbers of T and of P, less what the public decoder gives.

    `radius` bounds a unit's numbers for a label; `budget_share` is the sum's weight among those over everybody.
    """

    radius: float = 2.0
    budget_share: float = 0.15

    def request(self, shape: Shape) -> SumRequest:  # noqa: ARG002
        """Return the sum; shares of a unit's windows add up to one, so a row of one label alone is longest."""
        return SumRequest(PURPOSE, self.radius, self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers the row of one label has."""
        return n_beat_series(shape)

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor with the decoder's own beats for every label."""
        return replace(anchor, beats=usual_beat_series(shape).to(torch.float64).repeat(shape.n_labels, 1))

    def contribution(self, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's rows, shape (label, size): a mean times the label's share of the unit's windows."""
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(torch.float64)
        away = (beat_series(signal, shape) - usual_beat_series(shape).to(signal)).to(torch.float64)
        return within(means_by(away, onehot), self.radius) * onehot.mean(dim=0)[:, None]

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with each label's numbers, every one shrunk alone."""
        blocks = [Block(slice(number, number + 1), _LARGEST) for number in range(self.size(shape))]
        away = shrunk_means(rows, anchor.counts, noise_std=noise_std, blocks=blocks)
        return replace(anchor, beats=usual_beat_series(shape).to(torch.float64) + away)
