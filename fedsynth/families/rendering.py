"""Windows that the public decoder draws from a label's anchor: what corrections are found on."""

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, FeatureDraw
from fedsynth.families.layers import FARTHEST_FEATURE
from fedsynth.modalities.registry import codec_of, natural
from fedsynth.modalities.shape import Shape
from fedsynth.rng import torch_generator

_COUNT = 300


@torch.no_grad()
def rendered_by(anchor: Anchor, shape: Shape, *, label: int) -> Tensor:
    """Return windows with features of a label in microvolts, shape (window, channel, time); always the same."""
    codec, draw = codec_of(shape), FeatureDraw(anchor, shape)
    generator = torch_generator("rendered by an anchor", label)
    noise = torch.randn(_COUNT, draw.width, generator=generator)
    choices = torch.randn(_COUNT, codec.noise_width, generator=generator)
    drawn = draw(torch.full((_COUNT,), label), noise).clamp(-FARTHEST_FEATURE, FARTHEST_FEATURE)
    windows: Tensor = codec.decoder()(natural(drawn, shape), choices)
    return windows
