"""What channels have in common: windows of any decoder, turned until their coherence is that of the anchor's label.

For each label and frequency one matrix leads from the coherence that the public decoder gives to the one asked for;
of all that do, the one that moves signals least (the optimal transport between Gaussians; Dowson and Landau 1982,
doi:10.1016/0047-259X(82)90077-X). Powers stay as they were, channel by channel and band by band.
"""

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.modalities.coherence import CoherencePlan, nearest_coherence
from fedsynth.modalities.registry import equalised, rendered_by_prior, usual_coherence
from fedsynth.modalities.shape import Shape

_TURNS = 3  # of measuring what comes out and asking for what was missed


class ChannelStructure(nn.Module):
    """Gives windows the coherence of their label; without one in the anchor, windows stay as they are."""

    coherence: Tensor | None

    def __init__(self, shape: Shape, anchor: Anchor) -> None:
        """Take the anchor's coherence; a buffer, so that it travels with the parts."""
        super().__init__()
        self.shape = shape
        asked = anchor.coherence
        self.register_buffer("coherence", None if asked is None else asked.to(torch.float32))
        self._known: tuple[Tensor, Tensor] | None = None

    def forward(self, labels: Tensor, windows: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time)."""
        asked = self.coherence
        if asked is None:
            return windows
        if self._known is None or not torch.equal(self._known[0], asked):
            self._known = (asked.clone(), _turns(asked, self.shape))
        return _turned(windows, self._known[1].to(windows.device)[labels], self.shape)


def _turned(windows: Tensor, turns: Tensor, shape: Shape) -> Tensor:
    """Return windows whose channels are mixed by `turns` (window, bin, channel, channel), with their own powers."""
    spectrum = torch.fft.rfft(windows)
    mixed = torch.einsum("wfcd,wdf->wcf", turns.to(spectrum.dtype), spectrum)
    return equalised(torch.fft.irfft(mixed, shape.n_times), like=windows, shape=shape)


@torch.no_grad()
def _turns(asked: Tensor, shape: Shape) -> Tensor:
    """Return the matrix of each label and rfft bin, complex64 (label, bin, channel, channel)."""
    target = torch.view_as_complex(asked.to(torch.float64).contiguous())
    # Whole pass band and no lags, or bands with them: what was asked can be read off the shape.
    plan = CoherencePlan(by_band=target.shape[1] > 1, lags=bool((target.imag != 0).any()))
    usual, windows = usual_coherence(shape, plan), rendered_by_prior(shape)
    answers = []
    for wanted in target:
        goal = wanted
        for _ in range(_TURNS):
            turns = _transport(_by_bin(usual, plan, shape), _by_bin(goal, plan, shape)).to(torch.complex64)
            got = plan.matrices(_turned(windows, turns.expand(len(windows), -1, -1, -1), shape), shape)
            goal = nearest_coherence(goal + wanted - got.mean(dim=0).to(goal))
        answers.append(turns)
    return torch.stack(answers)


def _transport(before: Tensor, after: Tensor) -> Tensor:
    """Return B^-1/2 (B^1/2 A B^1/2)^1/2 B^-1/2 of Hermitian matrices (..., channel, channel)."""
    values, vectors = torch.linalg.eigh(before)
    root = vectors @ torch.diag_embed(values.sqrt()).to(vectors) @ vectors.conj().mT
    inverse = vectors @ torch.diag_embed(values.rsqrt()).to(vectors) @ vectors.conj().mT
    values, vectors = torch.linalg.eigh(root @ after @ root)
    middle = vectors @ torch.diag_embed(values.clamp_min(0).sqrt()).to(vectors) @ vectors.conj().mT
    return inverse @ middle @ inverse


def _by_bin(matrices: Tensor, plan: CoherencePlan, shape: Shape) -> Tensor:
    """Return matrices for every rfft bin, on lines between the bands' centres, (bin, channel, channel)."""
    centres = torch.tensor([(first + last - 1) / 2 for first, last in plan.bins(shape)], dtype=torch.float64)
    bins = torch.arange(shape.n_times // 2 + 1, dtype=torch.float64)
    if len(centres) == 1:
        return matrices.expand(len(bins), -1, -1)
    at = bins.clamp(float(centres[0]), float(centres[-1]))
    right = torch.searchsorted(centres, at).clamp(1, len(centres) - 1)
    share = ((at - centres[right - 1]) / (centres[right] - centres[right - 1]))[:, None, None]
    return (1 - share) * matrices[right - 1] + share * matrices[right]
