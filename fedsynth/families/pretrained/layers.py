"""Small fully convolutional networks, steered by a condition vector; rows are independent and leave no trace."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.families.layers import zero_initialised

_FARTHEST = 4  # a standardised condition beyond this counts as this
_RATES, _FASTEST = 16, 200  # of a noise level's sines and cosines: their number, and the last
_TURNS = (0.5, 1.0, 2.0, 4.0)  # of a window, by sines and cosines of which a network knows where in it it is


@dataclass(frozen=True)
class Signals:
    """What a network draws: so many channels together, and whether it knows where in the window it is."""

    channels: int = 1
    located: bool = False


SINGLE = Signals()
"""One channel, wherever in a window it is cut: what the public priors draw."""


class Steer(nn.Module):
    """Turns a raw condition (features, whatever the window's shape) into the vector that steers the layers.

    `centre` and `spread` standardise; they come from simulated windows. A row may be told nothing (`known` 0), so
    that one network is conditional and unconditional at once (classifier-free guidance, arXiv:2207.12598).
    """

    def __init__(self, raw: int, width: int) -> None:
        """Take `raw` numbers, give `width`."""
        super().__init__()
        self.register_buffer("centre", torch.zeros(raw))
        self.register_buffer("spread", torch.ones(raw))
        self.unknown = nn.Parameter(torch.zeros(width))
        self.layers = nn.Sequential(nn.Linear(raw, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, condition: Tensor, known: Tensor | None = None) -> Tensor:
        """Return shape (row, width) for (row, raw); `known` (row,) is 1 or 0."""
        standard = (condition - self.get_buffer("centre")) / self.get_buffer("spread")
        steer = self.layers(standard.clamp(-_FARTHEST, _FARTHEST))
        if known is None:
            return steer
        return known[:, None] * steer + (1 - known[:, None]) * self.unknown


class NoiseLevelEmbedding(nn.Module):
    """Turns a noise level in [0, 1] into a vector: its sines and cosines at geometric rates, then linear layers.

    The rates are as the positions' of Vaswani et al. 2017 (arXiv:1706.03762, section 3.5).
    """

    def __init__(self, width: int) -> None:
        """Give `width` numbers."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * _RATES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, level: Tensor) -> Tensor:
        """Return shape (row, width) for (row,)."""
        rates = torch.exp(torch.linspace(0, math.log(_FASTEST), _RATES, device=level.device, dtype=level.dtype))
        angles = level[:, None] * rates
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class Block(nn.Module):
    """A residual pair of convolutions whose middle is scaled and shifted by the steering vector (FiLM)."""

    def __init__(self, width: int, steer: int, *, kernel: int = 3, dilation: int = 1) -> None:
        """Keep the length; start as the identity."""
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.film = nn.Linear(steer, 2 * width)
        self.back = zero_initialised(nn.Conv1d(width, width, 1))

    def forward(self, flow: Tensor, steer: Tensor) -> Tensor:
        """Return shape (row, width, time)."""
        scale, shift = self.film(steer)[:, :, None].chunk(2, dim=1)
        return flow + self.back(nn.functional.silu(self.mix(flow) * (1 + scale) + shift))


class Attention(nn.Module):
    """Residual self-attention over time; starts as the identity."""

    def __init__(self, width: int, *, heads: int = 4) -> None:
        """Keep width and length."""
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.ask, self.back = nn.Linear(width, 3 * width), zero_initialised(nn.Linear(width, width))

    def forward(self, flow: Tensor) -> Tensor:
        """Return shape (row, width, time)."""
        rows = flow.transpose(1, 2)
        asked = self.ask(self.norm(rows)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(asked[0], asked[1], asked[2])
        return flow + self.back(seen.transpose(1, 2).flatten(2)).transpose(1, 2)


class Halve(nn.Conv1d):
    """A convolution that halves the length."""

    def __init__(self, wide: int, narrow: int) -> None:
        """From `wide` to `narrow` channels."""
        super().__init__(wide, narrow, 4, stride=2, padding=1)


class Double(nn.Module):
    """A convolution that doubles the length by interleaving channels (sub-pixel convolution)."""

    def __init__(self, wide: int, narrow: int) -> None:
        """From `wide` to `narrow` channels."""
        super().__init__()
        self.mix = nn.Conv1d(wide, 2 * narrow, 3, padding=1)

    def forward(self, flow: Tensor) -> Tensor:
        """Return shape (row, narrow, 2 time)."""
        mixed = self.mix(flow).unflatten(1, (-1, 2))
        return mixed.transpose(2, 3).flatten(2)


class Stack(nn.Module):
    """Blocks one after another, dilations given."""

    def __init__(self, width: int, steer: int, dilations: tuple[int, ...], *, kernel: int = 3) -> None:
        """Keep width and length."""
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, steer, kernel=kernel, dilation=dilation) for dilation in dilations)

    def forward(self, flow: Tensor, steer: Tensor) -> Tensor:
        """Return shape (row, width, time)."""
        for block in self.blocks:
            flow = block(flow, steer)
        return flow


class Place(nn.Module):
    """Adds to a flow where in the window it is: sines and cosines of slow turns; its layer starts at zero."""

    def __init__(self, width: int) -> None:
        """Keep width and length."""
        super().__init__()
        self.layer = zero_initialised(nn.Conv1d(2 * len(_TURNS), width, 1))

    def forward(self, flow: Tensor) -> Tensor:
        """Return shape (row, width, time)."""
        at = torch.arange(flow.shape[-1], device=flow.device, dtype=flow.dtype) / flow.shape[-1]
        angles = 2 * math.pi * torch.tensor(_TURNS, device=flow.device, dtype=flow.dtype)[:, None] * at
        turns = torch.cat([angles.sin(), angles.cos()]).expand(len(flow), -1, -1)
        return flow + self.layer(turns)


def place_of(signals: Signals, width: int) -> nn.Module:
    """Return what tells a network of signals its place: nothing, where it shall not know."""
    return Place(width) if signals.located else nn.Identity()
