"""Shrinkage: means of labels, as far as labels and not noise make them differ.

Labels are drawn towards their mean and the mean towards zero, block by block, by the share of variance that noise
leaves of a block (James and Stein 1961; in blocks Cai 1999, doi:10.1214/aos/1018031262).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Numbers that are shrunk alike: which columns, and the most that their mean square can be without noise."""

    columns: Sequence[int] | slice
    largest: float


def shrunk_means(rows: Tensor, counts: Tensor, *, noise_std: float, blocks: Sequence[Block]) -> Tensor:
    """Return each label's mean, shape (label, number).

    Args:
        rows: noisy sums over units, shape (label, number).
        counts: units of each label, shape (label,).
        noise_std: of each number of `rows`.
        blocks: every number belongs to one.
    """
    counts = counts.clamp_min(1.0)[:, None]
    means, noise = rows / counts, (noise_std / counts).square()
    middle = (counts * means).sum(dim=0) / counts.sum()
    middle_noise = (noise_std / counts.sum()).square() * len(counts)
    apart = means - middle
    out = torch.zeros_like(means)
    for block in blocks:
        some = block.columns
        common = middle[some] * kept(middle[some], middle_noise, largest=block.largest)
        own = apart[:, some]
        out[:, some] = common + own * kept(own, noise.mean() * (1 - 1 / len(counts)), largest=block.largest)
    return out


def kept(numbers: Tensor, noise: Tensor, *, largest: float) -> Tensor:
    """Return the share of numbers that is no noise, read off their size; at most what they can be without noise."""
    signal = (numbers.square().mean() - noise).clamp(0, largest)
    return signal / (signal + noise).clamp_min(1e-12)
