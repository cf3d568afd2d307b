"""How rhythms come and go: windows of any decoder, given the burstiness and the coupling of their label.

Each band is made louder where it is loud already, or quieter, and where a slow band's phase asks for it; every
channel gets back the band powers that it had, so that features stay. How much is found on windows that the public
decoder draws from the label's anchor, by measuring what comes out and asking for what was missed.
"""

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.rendering import rendered_by
from fedsynth.modalities.bands import analytic_parts, n_bands
from fedsynth.modalities.modulation import band_pairs, modulation
from fedsynth.modalities.registry import equalised
from fedsynth.modalities.shape import Shape

_TURNS = 8
_LEAST_POWER, _MOST_POWER = -0.9, 3.0  # of a band's own envelope
_LARGEST = 2.0  # nats of amplitude, at most, that a slow band's phase makes
_SILENT = 0.05  # of a band's mean power
_ROWS = 128  # at once


class ModulatedRhythms(nn.Module):
    """Gives windows the modulation of their label; without any in the anchor, windows stay as they are."""

    modulation: Tensor | None

    def __init__(self, shape: Shape, anchor: Anchor) -> None:
        """Take the anchor's numbers; a buffer, so that it travels with the parts."""
        super().__init__()
        self.shape = shape
        asked = anchor.modulation
        self.register_buffer("modulation", None if asked is None else asked.to(torch.float32))
        self._anchor = anchor
        self._known: tuple[Tensor, Tensor] | None = None

    def forward(self, labels: Tensor, windows: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time)."""
        asked = self.modulation
        if asked is None:
            return windows
        if self._known is None or not torch.equal(self._known[0], asked):
            self._known = (asked.clone(), self._found(asked))
        pieces = zip(windows.split(_ROWS), self._known[1].to(windows.device)[labels].split(_ROWS), strict=True)
        return torch.cat([_modulated(some, numbers, self.shape) for some, numbers in pieces])

    @torch.no_grad()
    def _found(self, asked: Tensor) -> Tensor:
        """Return the numbers that lead to what is asked, shape (label, number), as `_modulated` takes them."""
        bands, found = n_bands(self.shape), []
        for label, wanted in enumerate(asked):
            windows, numbers = rendered_by(self._anchor, self.shape, label=label), torch.zeros_like(wanted)
            for _ in range(_TURNS):
                made = torch.cat(
                    [_modulated(some, numbers.expand(len(some), -1), self.shape) for some in windows.split(_ROWS)]
                )
                missed = wanted - modulation(made, self.shape).mean(dim=0)
                powers = (numbers[:bands] + 0.5 * missed[:bands]).clamp(_LEAST_POWER, _MOST_POWER)
                numbers = torch.cat([powers, (numbers[bands:] + missed[bands:]).clamp(-_LARGEST, _LARGEST)])
            found.append(numbers)
        return torch.stack(found)


def _modulated(windows: Tensor, numbers: Tensor, shape: Shape) -> Tensor:
    """Return windows whose bands are raised to a power of their envelope and follow the phases of slow ones.

    `numbers` (window, number): for each band the power, then for each pair of bands a vector in nats of amplitude.
    """
    bands = n_bands(shape)
    parts = analytic_parts(windows, shape)
    power = parts.abs().square()
    nats = torch.log(power / (power.mean(dim=-1, keepdim=True) + 1e-6) + _SILENT)
    nats = 0.5 * numbers[:, None, :bands, None] * nats
    vectors = torch.view_as_complex(numbers[:, bands:].unflatten(1, (-1, 2)).contiguous())
    slow, fast = band_pairs(shape)
    turned = (vectors.conj()[:, None, :, None] * torch.sgn(parts[:, :, slow])).real
    nats = nats.index_add(2, torch.tensor(fast, device=nats.device), turned.to(nats))
    louder = (torch.expm1(nats) * parts.real).sum(dim=2)
    return equalised(windows + louder, like=windows, shape=shape)
