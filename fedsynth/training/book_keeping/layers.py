"""What one layer says about every unit: from its inputs and output gradients to norms and a weighted sum.

Two shapes of answer. `Rows` are gradients written out, one per unit: where they are short (biases, norms) or
few. `Pairs` keeps a layer's inputs a and output gradients g instead; a unit's gradient is sum_t g_t a_t' over all
of its windows, calls and positions t, so that its squared norm is sum_tt' <a_t, a_t'> <g_t, g_t'>, cross terms
between windows included (Goodfellow 2015, arXiv:1510.01799; Li et al. 2022, arXiv:2110.05679; for convolutions
Rochette et al. 2019, arXiv:1912.06015). A weighted sum over units is one product with g scaled (Bu et al. 2023,
arXiv:2210.00038).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fedsynth.training.book_keeping.kinds import LayerKind, at_once, squared_lengths

_ROWS_PER_FACTOR = 2.0  # rows may be kept where they are at most so much larger than the factors they replace
_PATIENCE = 0.5  # a product over all windows costs half of the same arithmetic cut into units


@dataclass(frozen=True)
class Chunk:
    """Units with `count` windows each, whose windows lie side by side from `start` to `stop` in their order."""

    units: Tensor
    count: int
    start: int
    stop: int


@dataclass(frozen=True)
class Units:
    """Which window is whose: `numbers` (window,), `counts` (unit,); `order` sorts windows by unit, None if sorted.

    Units with equally many windows stand together, so that ragged units need no padding.
    """

    numbers: Tensor
    counts: Tensor
    order: Tensor | None
    groups: tuple[Chunk, ...]

    @property
    def n_units(self) -> int:
        """Return the number of units."""
        return len(self.counts)

    def take(self, values: Tensor, chunk: Chunk) -> Tensor:
        """Return the rows of `values` (window, ...) that belong to a chunk, unit after unit."""
        if self.order is None:
            return values[chunk.start : chunk.stop]
        return values[self.order[chunk.start : chunk.stop]]


def units_of(numbers: Tensor) -> Units:
    """Return the units of windows numbered 0 to n-1; `numbers` has shape (window,) and may be in any order."""
    counts = torch.bincount(numbers)
    order = torch.argsort(counts[numbers] * len(counts) + numbers, stable=True)
    groups, start = [], 0
    for count in counts.unique().tolist():
        units = torch.nonzero(counts == count)[:, 0]
        if count:
            groups.append(Chunk(units, count, start, start + count * len(units)))
            start = groups[-1].stop
    in_order = bool((order == torch.arange(len(order), device=order.device)).all())
    return Units(numbers, counts, None if in_order else order, tuple(groups))


@dataclass(frozen=True)
class Call:
    """One call of a layer: its input, and the gradient of the units' losses with respect to its output."""

    input: Tensor
    gradient: Tensor


class Rows:
    """Gradients of one parameter written out, shape (unit, size); `numbers` (unit,) says whose, if out of order."""

    def __init__(self, parameter: nn.Parameter, rows: Tensor, numbers: Tensor | None = None) -> None:
        """Take rows, and square them."""
        self.parameter, self._rows, self._numbers = parameter, rows, numbers
        self.squared = squared_lengths(rows)
        if numbers is not None:
            self.squared = torch.zeros_like(self.squared).index_copy_(0, numbers, self.squared)
        self.spread = self.doubt = torch.zeros_like(self.squared)

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Return sum_u factors[u] * row_u, flat; rows with factor 0 are not looked at."""
        factors = factors if self._numbers is None else factors[self._numbers]
        kept = torch.nonzero(factors)[:, 0]
        rows = self._rows if len(kept) == len(factors) else self._rows[kept]
        return factors[kept].to(rows.dtype) @ rows

    def settle(self, doubtful: Tensor) -> None:
        """Do nothing: rows leave no doubt."""


def rows_by_unit(parameter: nn.Parameter, per_window: list[Tensor], units: Units) -> Rows:
    """Add up a parameter's gradients per window, one tensor (window, ...) for each call of its layer."""
    rows = per_window[0].new_zeros(units.n_units, parameter.numel())
    for one_call in per_window:
        # index_add, not a product with 0 and 1: one unit's inf must not reach another's row.
        rows.index_add_(0, units.numbers, one_call.reshape(len(one_call), -1))
    return Rows(parameter, rows)


class Pairs:
    """Gradients of one weight, kept as inputs and output gradients.

    `squared` (unit,) are squared norms, `spread` (unit,) the products |a|^2 |g|^2 over the whole unit, which
    rounding is proportional to. `doubt` is the spread where the squared norm is a sum of terms of either sign,
    and 0 where it is a sum of squares.
    """

    def __init__(self, layer: "Layer", *, way: Literal["gram", "outer"]) -> None:
        """Compute the squared norms, from Gram matrices or from gradients written out chunk by chunk."""
        self.parameter, self._layer = layer.weight, layer
        self.squared = torch.zeros(layer.units.n_units, dtype=torch.float64, device=layer.weight.device)
        self.spread, self.doubt = self.squared.clone(), self.squared.clone()
        if way == "outer":
            self.settle(torch.ones_like(self.squared, dtype=torch.bool))
            return
        for chunk in layer.chunks(layer.gram_numbers):
            self._norms_by_gram(chunk, *layer.sides(chunk))

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Return sum_u factors[u] * row_u, flat; windows with factor 0 are not looked at."""
        weights = factors[self._layer.units.numbers]
        kept = torch.nonzero(weights)[:, 0]
        total = torch.zeros_like(self.parameter)
        for call in self._layer.calls:
            given, gradient, scale = call.input, call.gradient, weights.to(call.gradient.dtype)
            if len(kept) < len(weights):
                # Selected, not multiplied by 0: 0 * inf is nan.
                given, gradient, scale = given[kept], gradient[kept], scale[kept]
            step = 2 * at_once((call.input[:1].numel() + call.gradient[:1].numel()), gradient.device)
            for first in range(0, len(kept), step):
                some = slice(first, first + step)
                scaled = gradient[some] * scale[some].view(-1, *[1] * (gradient.ndim - 1))
                total += self._layer.kind.total(self._layer.module, given[some], scaled)
        return total.flatten()

    def settle(self, doubtful: Tensor) -> None:
        """Take the norms of at least the units marked, shape (unit,), from gradients written out and dropped."""
        for chunk in self._layer.chunks(self._layer.outer_numbers):
            if bool(doubtful[chunk.units].any()):
                left, right = self._layer.sides(chunk)
                rows = self._layer.kind.outer(self._layer.module, left, right).flatten(1)
                self.squared[chunk.units] = squared_lengths(rows)
                self.spread[chunk.units] = squared_lengths(left.flatten(1)) * self._layer.kind.energy(right)
                self.doubt[chunk.units] = 0.0

    def _norms_by_gram(self, chunk: Chunk, left: Tensor, right: Tensor) -> None:
        ours = left.transpose(-1, -2) @ left
        theirs = self._layer.kind.gram(right)
        self.squared[chunk.units] = (ours * theirs.to(ours.dtype)).sum(dim=(1, 2, 3), dtype=torch.float64)
        self.spread[chunk.units] = _trace(ours) * _trace(theirs)
        self.doubt[chunk.units] = self.spread[chunk.units]


@dataclass(frozen=True)
class Layer:
    """A layer's module and kind, its private weight, what its calls were given, and whose windows those are."""

    module: nn.Module
    kind: LayerKind
    weight: nn.Parameter
    calls: list[Call]
    units: Units

    @property
    def positions(self) -> int:
        """Return the positions of one window, all calls together."""
        return sum(self.kind.positions(self.module, call.input, call.gradient) for call in self.calls)

    def gram_numbers(self, count: int) -> int:
        """Return how many numbers the sides and Gram matrices of a unit with `count` windows hold."""
        length = count * self.positions
        return length * (self.kind.work(self.module)[0] + 2 * length)

    def outer_numbers(self, count: int) -> int:
        """Return how many numbers the sides and the written gradient of a unit with `count` windows hold."""
        return self.weight.numel() + count * self.positions * self.kind.work(self.module)[0]

    def chunks(self, numbers: Callable[[int], int]) -> Iterator[Chunk]:
        """Yield all units in chunks that fit a cache, given the numbers that a unit of `count` windows takes."""
        for group in self.units.groups:
            step = at_once(numbers(group.count), self.weight.device)
            for first in range(0, len(group.units), step):
                units = group.units[first : first + step]
                start = group.start + first * group.count
                yield Chunk(units, group.count, start, start + len(units) * group.count)

    def sides(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """Return a chunk's sides (unit, group, width, position), every call's positions one after the other."""
        take, count = self.units.take, chunk.count
        sides = [
            self.kind.sides(self.module, take(call.input, chunk), take(call.gradient, chunk), count=count)
            for call in self.calls
        ]
        if len(sides) == 1:
            return sides[0]
        return torch.cat([left for left, _ in sides], dim=-1), torch.cat([right for _, right in sides], dim=-1)


def weight_gradients(layer: Layer) -> Rows | Pairs:
    """Return the gradients of a layer's weight, written out where that is cheap in time and memory."""
    way = _way(layer)
    if way != "rows":
        return Pairs(layer, way=way)
    absent = torch.nonzero(layer.units.counts == 0)[:, 0]
    numbers = torch.cat([*(group.units for group in layer.units.groups), absent])
    rows = layer.calls[0].gradient.new_empty(len(numbers), layer.weight.numel())
    rows[len(numbers) - len(absent) :] = 0.0
    filled = 0
    for chunk in layer.chunks(layer.outer_numbers):
        outer = layer.kind.outer(layer.module, *layer.sides(chunk))
        rows[filled : filled + len(outer)] = outer.flatten(1)
        filled += len(outer)
    return Rows(layer.weight, rows, numbers if len(layer.units.groups) > 1 or len(absent) else None)


def _way(layer: Layer) -> Literal["rows", "gram", "outer"]:
    """Choose by multiplications over all units: rows kept, Gram matrices, or rows written chunk by chunk."""
    per_pair, per_position = layer.kind.work(layer.module)
    lengths = [(len(group.units), group.count * layer.positions) for group in layer.units.groups]
    gram = sum(units * length * length * per_pair for units, length in lengths)
    product = sum(units * length * per_position for units, length in lengths)
    written = layer.units.n_units * layer.weight.numel()
    factors = sum(call.input.numel() + call.gradient.numel() for call in layer.calls)
    # Rows that are kept spare the product over all windows at the end.
    if written <= _ROWS_PER_FACTOR * factors and product + written <= gram + _PATIENCE * product:
        return "rows"
    return "gram" if gram <= product + written else "outer"


def _trace(gram: Tensor) -> Tensor:
    return gram.diagonal(dim1=-2, dim2=-1).sum(dim=(1, 2), dtype=torch.float64)
