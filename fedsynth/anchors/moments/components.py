"""Cells: a label's windows parted along the widest axes of its spread, so that a label may have more than one mode.

The axes are public once the sums before have told them; which cell a window falls in is then a fixed function of
the window. A cell is expected to be what a Gaussian is on that side of its centre, and is moved from there as far
as its own noisy sums can tell.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.anchors.coordinates import means_by, within
from fedsynth.anchors.moments.covariances import Principal, Products, products_of, towards

_FACTORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)  # of a cell's variance: how far its mean may lie from what is expected
_COUNT_SPREAD = 0.5  # of a cell's expected share


@dataclass(frozen=True)
class Cells:
    """What is expected of each cell, in the frame.

    `axes` (label, axis, feature) of length 1, widest first; `centres` (label, feature) of the labels; `means`
    (label, cell, feature) and `covariances` (label, feature, feature) of each cell. A cell's number has a bit for
    each axis, the widest axis' the highest, set where windows lie above the centre.
    """

    axes: Tensor
    centres: Tensor
    means: Tensor
    covariances: Tensor


@dataclass(frozen=True)
class Told:
    """What noisy sums said of the cells: `weights` (label, cell), `means` (label, cell, feature) and `covariances`
    (label, cell, feature, feature)."""

    weights: Tensor
    means: Tensor
    covariances: Tensor


def cells_of(centres: Tensor, covariances: Tensor, *, axes: int) -> Cells:
    """Part labels whose windows lie around `centres` (label, feature) and spread as `covariances` (label, feature,
    feature) say."""
    values, vectors = torch.linalg.eigh(covariances)
    values, chosen = values[:, -axes:].flip(1).clamp_min(0), vectors[:, :, -axes:].flip(2).mT
    # The sign must not hang on the linear algebra library.
    largest = chosen.gather(2, chosen.abs().argmax(dim=2, keepdim=True))
    chosen = chosen * torch.sign(largest)
    sides = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * axes).view(2**axes, axes)
    offset = math.sqrt(2 / math.pi) * values.sqrt()[:, :, None] * chosen
    gone = torch.einsum("laf,lag->lfg", offset, offset)
    return Cells(chosen, centres, centres[:, None] + torch.einsum("ca,laf->lcf", sides, offset), covariances - gone)


def contribution(
    cells: Cells, vector: Tensor, labels: Tensor, *, radius: float, count: float, products: Products
) -> Tensor:
    """Return one unit's contribution, flat: by label and cell a count, the residual and its products.

    A row counts by the cell's share of the unit's windows, so the length is at most that of one row.
    """
    away = vector - cells.centres.to(vector)[labels]
    bits = (torch.einsum("waf,wf->wa", cells.axes.to(vector)[labels], away) > 0).long()
    number = cells.means.shape[1]
    cell = (bits * 2 ** torch.arange(bits.shape[1] - 1, -1, -1)).sum(dim=1)
    residual = vector - cells.means.to(vector)[labels, cell]
    onehot = torch.nn.functional.one_hot(labels * number + cell, len(cells.means) * number).to(vector)
    share = onehot.mean(dim=0)[:, None]
    mean = within(means_by(residual, onehot), radius)
    square = means_by(products.of(residual), onehot)
    return (torch.cat([torch.full_like(share, count), mean, square], dim=1) * share).flatten()


def tell(cells: Cells, rows: Tensor, counts: Tensor, *, noise: float, count: float, products: Products) -> Told:
    """Take in noisy sums over everybody, shape (label, cell, count and residual and products).

    Args:
        cells: as of the contributions.
        rows: the sums.
        counts: units by label, noisy.
        noise: standard deviation on every number.
        count: the weight of a count, as in the contributions.
        products: what was asked of their products.
    """
    size, number = cells.means.shape[2], cells.means.shape[1]
    weights, means, covariances = [], [], []
    for label, row in enumerate(rows):
        expected = counts[label] / number
        doubt, own = (noise / count) ** 2, (_COUNT_SPREAD * expected) ** 2
        units = (expected + own / (own + doubt) * (row[:, 0] / count - expected)).clamp_min(0.05 * expected)
        noises = noise / units
        moved = row[:, 1 : 1 + size] / units[:, None]
        move = _moves(moved, cells.covariances[label], noises)
        principal = Principal(cells.covariances[label], products.block)
        # Second moments were taken around the expected mean.
        entries = principal.entries(
            row[:, 1 + size :] / units[:, None] / products.weight - products_of(move, products.block)
        )
        entry_expected = principal.spreads[principal.first] * principal.diagonal
        weights.append(units / units.sum())
        means.append(cells.means[label] + move)
        covariances.append(
            torch.stack(
                [
                    principal.whole(
                        towards(
                            entry, entry_expected, principal.reach(principal.spreads), (sd / products.weight) ** 2
                        ),
                        principal.spreads.sqrt(),
                    )
                    for entry, sd in zip(entries, noises.tolist(), strict=True)
                ]
            )
        )
    return Told(torch.stack(weights), torch.stack(means), torch.stack(covariances))


def _moves(moved: Tensor, covariance: Tensor, noises: Tensor) -> Tensor:
    """Return posterior means of cells' moves (cell, feature), with the reach that maximises the likelihood."""
    values, vectors = torch.linalg.eigh(covariance)
    turned, doubt = moved @ vectors, noises.square()[:, None] + 1e-12
    best, answer = -math.inf, moved
    for factor in _FACTORS:
        signal = factor * values.clamp_min(0)
        whole = signal + doubt
        fit = -0.5 * float((turned.square() / whole + torch.log(whole)).sum())
        if fit > best:
            best, answer = fit, (signal / whole * turned) @ vectors.T
    return answer
