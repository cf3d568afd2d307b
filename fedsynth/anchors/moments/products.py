"""Products: bounded second moments of residuals as rows of numbers, and the matrices that such rows stand for."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsynth.anchors.coordinates import within


@dataclass(frozen=True)
class Products:
    """Second moments that a sum asks for: of `features` from `start`, the first `block` with one another.

    Vectors are cut to `radius` and their products multiplied by `weight`.
    """

    features: int
    block: int
    radius: float
    weight: float
    start: int = 0

    @property
    def span(self) -> slice:
        """Return which features."""
        return slice(self.start, self.start + self.features)

    @property
    def number(self) -> int:
        """Return how many numbers that is."""
        return n_products(self.features, self.block)

    @property
    def length(self) -> float:
        """Return how long a row of products is at most."""
        return self.weight * self.radius**2

    def of(self, residual: Tensor) -> Tensor:
        """Return the weighted products of residuals, shape (window, product); at most `length` long."""
        return products_of(within(residual[:, self.span], self.radius), self.block) * self.weight


def products_of(residual: Tensor, block: int) -> Tensor:
    """Return the upper triangle of the block's products (off-diagonal times sqrt 2), then the other squares.

    With that factor a row of a block is as long as the Frobenius norm of its matrix, the square of the residual's
    own length.
    """
    head, tail = residual[:, :block], residual[:, block:]
    rows, columns = torch.triu_indices(block, block)
    scale = torch.where(rows == columns, 1.0, math.sqrt(2)).to(head)
    return torch.cat([head[:, rows] * head[:, columns] * scale, tail.square()], dim=1)


def n_products(size: int, block: int) -> int:
    """Return how many products `products_of` makes of a vector of this size."""
    return block * (block + 1) // 2 + size - block


def matrices_of(products: Tensor, size: int) -> Tensor:
    """Return symmetric matrices, shape (label, size, size), from what `products_of` makes of a block."""
    rows, columns = torch.triu_indices(size, size)
    triangle = products / torch.where(rows == columns, 1.0, math.sqrt(2)).to(products)
    out = torch.zeros(len(products), size, size, dtype=torch.float64)
    out[:, rows, columns] = triangle
    out[:, columns, rows] = triangle
    return out
