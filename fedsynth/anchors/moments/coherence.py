"""Coherence of channels as one more private sum of moments: a mean for each label.

Features say how loud every channel is and nothing of what channels have in common. This stage asks for it, where
public facts promise that noise leaves something of it.
"""

import itertools
import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import means_by, within
from fedsynth.anchors.moments.shrinkage import Block, shrunk_means
from fedsynth.modalities.coherence import CoherencePlan
from fedsynth.modalities.registry import usual_coherence
from fedsynth.modalities.shape import Shape
from fedsynth.montage import scalp_position
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
        """Return the anchor with each label's coherence, shrunk towards the labels' mean and the decoder's own.

        What all pairs have in common, what is smooth over the scalp and the rest are shrunk each by itself: the
        first two are few numbers and hold most of what there is.
        """
        basis, smooth = pair_basis(shape.channels)
        pairs = len(basis)
        # Coefficients first, so that those of a block stand together.
        turned = (rows.unflatten(1, (-1, pairs)) @ basis.T).mT
        kinds = turned.shape[2]
        edges = [0, kinds, smooth * kinds, pairs * kinds]
        largest = (_LARGEST_VARIANCE * pairs, _LARGEST_VARIANCE * pairs, _LARGEST_VARIANCE)
        blocks = [
            Block(slice(first, last), most)
            for first, last, most in zip(edges, edges[1:], largest, strict=False)
            if last > first
        ]
        shrunk = shrunk_means(turned.flatten(1), anchor.counts, noise_std=noise_std, blocks=blocks)
        shrunk = (shrunk.unflatten(1, (pairs, kinds)).mT @ basis).flatten(1)
        matrices = self.plan.from_numbers(shrunk + self._usual(shape), shape)
        return replace(anchor, coherence=torch.view_as_real(matrices))

    def _usual(self, shape: Shape) -> Tensor:
        return self.plan.numbers(usual_coherence(shape, self.plan)).to(torch.float64)

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(self.size(shape))


@lru_cache(maxsize=8)
def pair_basis(channels: tuple[str, ...]) -> tuple[Tensor, int]:
    """Return orthonormal functions of pairs of channels, (function, pair), and how many vary slowly over the scalp.

    The constant comes first; then how far apart the two are, and products of their places; then what is left. Where
    a place is unknown, the constant is all that is smooth.
    """
    first, second = torch.triu_indices(len(channels), len(channels), 1)
    columns = [torch.ones(len(first), dtype=torch.float64)]
    places = [scalp_position(channel) for channel in channels]
    if all(place is not None for place in places):
        at = torch.tensor([place for place in places if place is not None], dtype=torch.float64)
        one, other = at[first], at[second]
        near = (one - other).norm(dim=1)
        columns += [near, near.square(), *(one + other).T, *(one * other).T]
        for left, right in itertools.combinations(range(at.shape[1]), 2):
            columns.append(one[:, left] * other[:, right] + one[:, right] * other[:, left])
    out: list[Tensor] = []
    for column in columns:
        rest = column - sum(((column @ known) * known for known in out), torch.zeros_like(column))
        if float(rest.norm()) > 0.05 * float(column.norm()):
            out.append(rest / rest.norm())
    smooth = torch.stack(out)
    left_over = torch.linalg.svd(smooth, full_matrices=True).Vh[len(smooth) :]
    return torch.cat([smooth, left_over]), len(smooth)
