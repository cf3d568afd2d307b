"""Codebooks learned by gradient alone: nearest codes, straight-through, two pulling terms."""

import torch
from torch import Tensor, nn

_COMMITMENT = 0.25  # beta in equation 3 of van den Oord et al. 2017


class Codebook(nn.Module):
    """A table of codes (van den Oord et al. 2017, arXiv:1711.00937).

    No moving averages, no k-means, no restarts: reading a row changes nothing, and the codes move with the loss's
    gradient only. What is looked up is normalised, so that no code lies out of reach at the start.
    """

    def __init__(self, n_codes: int, width: int) -> None:
        """Hold `n_codes` codes of `width` numbers."""
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.codes = nn.Parameter(torch.randn(n_codes, width))

    def nearest(self, flow: Tensor) -> Tensor:
        """Return the index of the nearest code, shape (...,), for (..., width)."""
        flow = self.norm(flow)
        distance = self.codes.square().sum(dim=1) - 2 * flow @ self.codes.T
        return distance.argmin(dim=-1)

    def forward(self, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest codes, through which the gradient goes straight, and both pulling terms.

        Args:
            flow: shape (row, ..., width).

        Returns:
            Codes of the same shape, and |sg(z) - e|^2 + 0.25 |z - sg(e)|^2 (equation 3), a mean, shape (row,).
        """
        flow = self.norm(flow)
        found = self.codes[self.nearest(flow)]
        pull = (found - flow.detach()).square() + _COMMITMENT * (flow - found.detach()).square()
        return flow + (found - flow).detach(), pull.flatten(1).mean(dim=1)
