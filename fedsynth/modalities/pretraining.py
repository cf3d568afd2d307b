"""What a pretrained network learns from: simulated windows of one shape, as the frame shows them."""

from dataclasses import dataclass

from torch import Tensor

from fedsynth.modalities.shape import Shape


@dataclass(frozen=True)
class Pool:
    """Simulated windows of one shape and one channel.

    `vectors` (row, feature) are codec features, `waves` (row, length) waveforms in the frame and `condition`
    (row, raw) their raw conditions; batches are drawn from a pool in proportion to its `weight`.
    """

    shape: Shape
    vectors: Tensor
    waves: Tensor
    condition: Tensor
    weight: float
