"""Event-related means as one more private sum of moments: waveform and course of power, for each label.

Features say how loud every band is and nothing of when. Where windows begin at events, this stage asks for it.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.coordinates import means_by, within
from fedsynth.anchors.moments.shrinkage import Block, shrunk_means
from fedsynth.modalities.bands import n_bands
from fedsynth.modalities.event_related import SEGMENTS, EventRelatedPlan, courses
from fedsynth.modalities.registry import usual_courses
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest

PURPOSE = "anchor: event-related means"
"""What the sum is called in plan, ledger and statement."""

_COURSE_WEIGHT = 0.15  # of a nat, beside cosine coefficients of a window of unit size
_LARGEST_COURSE = (2 * _COURSE_WEIGHT) ** 2


@dataclass(frozen=True)
class EventRelated:
    """One sum: for each label the mean waveform and the mean course of power, less what the decoder gives.

    A unit's two parts are cut apart from one another, each at `radius` times the root of the number of channels;
    `budget_share` is the sum's weight among those over everybody.
    """

    plan: EventRelatedPlan
    radius: float = 0.6
    budget_share: float = 0.25

    def request(self, shape: Shape) -> SumRequest:
        """Return the sum; shares of a unit's windows add up to one, so a row of one label alone is longest."""
        return SumRequest(PURPOSE, math.sqrt(2) * self._bound(shape), self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers the row of one label has."""
        return len(shape.channels) * (self.plan.n_waveform(shape) + n_bands(shape) * SEGMENTS)

    def prior(self, anchor: Anchor, shape: Shape) -> Anchor:
        """Return the anchor with no waveform, and the decoder's own course of power for every label."""
        labels, channels = shape.n_labels, len(shape.channels)
        return replace(
            anchor,
            evoked=torch.zeros(labels, channels, self.plan.n_waveform(shape), dtype=torch.float64),
            course=usual_courses(shape).to(torch.float64).repeat(labels, 1, 1, 1),
        )

    def contribution(self, shape: Shape, *, signal: Tensor, labels: Tensor) -> Tensor:
        """Return one unit's rows, shape (label, size): means times the label's share of the unit's windows."""
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(torch.float64)
        away = courses(signal, shape) - usual_courses(shape).to(signal)
        parts = (self.plan.waveforms(signal, shape), _COURSE_WEIGHT * away)
        cut = [within(means_by(part.flatten(1).to(torch.float64), onehot), self._bound(shape)) for part in parts]
        return torch.cat(cut, dim=1) * onehot.mean(dim=0)[:, None]

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with each label's means, shrunk octave by octave and band by band."""
        means = shrunk_means(rows, anchor.counts, noise_std=noise_std, blocks=self._blocks(shape))
        channels, cosines = len(shape.channels), self.plan.n_waveform(shape)
        waveform, away = means.split([channels * cosines, channels * n_bands(shape) * SEGMENTS], dim=1)
        away = away.unflatten(1, (channels, n_bands(shape), SEGMENTS)) / _COURSE_WEIGHT
        return replace(
            anchor,
            evoked=waveform.unflatten(1, (channels, cosines)),
            course=usual_courses(shape).to(torch.float64) + away,
        )

    def _blocks(self, shape: Shape) -> list[Block]:
        """Return octaves of cosines and bands of power, each over all channels."""
        channels, cosines, bands = len(shape.channels), self.plan.n_waveform(shape), n_bands(shape)
        numbers = torch.arange(self.size(shape))
        waveform = numbers[: channels * cosines].unflatten(0, (channels, cosines))
        course = numbers[channels * cosines :].unflatten(0, (channels, bands, SEGMENTS))
        starts = [2**power - 1 for power in range(cosines.bit_length())]
        octaves = [waveform[:, first : 2 * first + 1].flatten().tolist() for first in starts]
        # Squares of a channel's coefficients add up to 1 at most.
        blocks = [Block(octave, channels / len(octave)) for octave in octaves]
        return blocks + [Block(course[:, band].flatten().tolist(), _LARGEST_COURSE) for band in range(bands)]

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(len(shape.channels))
