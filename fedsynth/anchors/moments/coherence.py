"""Coherence of channels as one more private sum of moments: a mean for each label.

Features say how loud every channel is and nothing of what channels have in common. This stage asks for it, where
public facts promise that noise leaves something of it.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import means_by, within
from fedsynth.anchors.moments.shrinkage import Block, shrunk_means
from fedsynth.modalities.coherence import CoherencePlan
from fedsynth.modalities.registry import usual_coherence
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

PURPOSE = "anchor: coherence of channels"
"""What the sum is called in plan, ledger and statement."""

_LARGEST_VARIANCE = 0.25  # of what labels' coherences differ by


@dataclass(frozen=True)
class Coherence:
    """One sum: for each label the mean coherence of channels, less what the public decoder gives.

    `plan` is what is asked. `radius` bounds a unit's numbers, in units of the root of their number; `budget_share`
    is the sum's weight among those over everybody.
    """

    plan: CoherencePlan
    radius: float = 0.4
    budget_share: float = 0.25

    def request(self, shape: Shape) -> SumRequest:
        """Return the sum; shares of a unit's windows add up to one, so a row of one label alone is longest."""
        return SumRequest(PURPOSE, self._bound(shape), self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers the row of one label has."""
        return self.plan.size(shape)

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor with the decoder's own coherence for every label."""
        usual = usual_coherence(shape, self.plan)[None].expand(shape.n_labels, -1, -1, -1)
        return replace(anchor, coherence=torch.view_as_real(usual.resolve_conj()).clone())

    def contribution(self, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's rows, shape (label, size): a mean times the label's share of the unit's windows."""
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(torch.float64)
        share = onehot.mean(dim=0)[:, None]
        away = self.plan.numbers(self.plan.matrices(signal, shape)).to(torch.float64) - self._usual(shape)
        return within(means_by(away, onehot), self._bound(shape)) * share

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with each label's coherence, shrunk towards the labels' mean and the decoder's own."""
        whole = Block(slice(None), _LARGEST_VARIANCE)
        shrunk = shrunk_means(rows, anchor.counts, noise_std=noise_std, blocks=[whole])
        matrices = self.plan.from_numbers(shrunk + self._usual(shape), shape)
        return replace(anchor, coherence=torch.view_as_real(matrices))

    def _usual(self, shape: Shape) -> Tensor:
        return self.plan.numbers(usual_coherence(shape, self.plan)).to(torch.float64)

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(self.size(shape))
