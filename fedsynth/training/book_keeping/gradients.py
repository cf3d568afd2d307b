"""Gradients per unit that nobody writes out: from one forward and one backward to exact norms and a clipped sum.

Book-keeping (Bu et al. 2023, arXiv:2210.00038): the backward stops at the layers' outputs; every unit's norm
follows from the layers' inputs a and output gradients g; once the clipping factors are known, the weights'
gradients are one product of a and scaled g. A unit is one person with one or many windows, and its gradient is
that of the mean loss over them. The root of the sum of its windows' squared norms would be no bound on it.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from fedsynth.errors import PrivacyError
from fedsynth.training.book_keeping.capture import capture, unsupported
from fedsynth.training.book_keeping.kinds import KINDS, NORMS, bias_gradients, norm_gradients
from fedsynth.training.book_keeping.layers import (
    Call,
    Layer,
    Pairs,
    Rows,
    Units,
    rows_by_unit,
    units_of,
    weight_gradients,
)

__all__ = ["FactoredGradients", "choose", "factored_gradients", "unsupported"]

_WINDOWS_FOR_A_LOOP = 16  # per unit and thread; measured with one and two, benchmarks/README.md
_SETTLED = 2e-4  # below this share of |a|^2 |g|^2, rounding shows in a squared norm taken by Gram matrices
_GRAM_ROUNDING = 16.0  # machine epsilons of |a|^2 |g|^2 by which a sum of Gram products may be off
_ROUNDING = 8.0  # machine epsilons by which a scaled row, or a sum of products of |a| |g|, may be off


class FactoredGradients:
    """One row per unit, its gradient over all parameters together, never written out as a whole.

    Inputs and output gradients of the layers stay in memory as long as this does.
    """

    def __init__(self, pieces: Sequence[Rows | Pairs], parameters: Sequence[nn.Parameter], n_units: int) -> None:
        """Put layers' pieces together; `factored_gradients` makes them."""
        self.n_units = n_units
        self.size = sum(parameter.numel() for parameter in parameters)
        self._pieces, self._parameters = pieces, parameters
        self._norms = self._settled_norms()

    def norms(self) -> Tensor:
        """Return every row's L2 norm, shape (unit,), float64.

        Exact up to rounding in the model's own precision, and then rounded up by a bound (to first order) on the
        rounding of `weighted_sum`, so that a unit whose products cancel is not clipped too little. Not finite
        where the unit's gradient is not, or overflows.
        """
        return self._norms

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Return sum_u factors[u] * row_u, shape (size,), parameters flattened in the order they were given.

        Args:
            factors: shape (unit,), finite; a unit with factor 0 contributes exactly 0, whatever its row holds.

        Raises:
            PrivacyError: factors of another shape, or not finite.
        """
        if factors.shape != (self.n_units,) or not bool(torch.isfinite(factors).all()):
            raise PrivacyError(f"{self.n_units} units need as many finite factors, not {tuple(factors.shape)}")
        parts = {id(parameter): torch.zeros_like(parameter).flatten() for parameter in self._parameters}
        for piece in self._pieces:
            parts[id(piece.parameter)] = piece.weighted_sum(factors)
        return torch.cat([parts[id(parameter)] for parameter in self._parameters]).detach()

    def _settled_norms(self) -> Tensor:
        """Return norms, after writing out the units whose Gram matrices cancel too much to be trusted."""
        if not self._pieces:
            return torch.zeros(self.n_units, dtype=torch.float64, device=self._parameters[0].device)
        # Settling one piece may shrink a unit's norm and so cast doubt on another; every piece settles once.
        unsettled = True
        while unsettled:
            squared = torch.stack([piece.squared for piece in self._pieces]).sum(dim=0)
            unsettled = False
            for piece in self._pieces:
                doubtful = (_SETTLED * piece.doubt > squared) | ~torch.isfinite(piece.squared)
                doubtful &= piece.doubt != 0
                if bool(doubtful.any()):
                    piece.settle(doubtful)
                    unsettled = True
        spread = torch.stack([piece.spread for piece in self._pieces]).sum(dim=0)
        epsilon = torch.finfo(self._parameters[0].dtype).eps
        doubt = torch.stack([piece.doubt for piece in self._pieces]).sum(dim=0)
        # What Gram matrices may have lost to cancellation is added back: a norm may be too long, never too short.
        length = (squared + _GRAM_ROUNDING * epsilon * doubt).sqrt()
        return length * (1 + _ROUNDING * epsilon) + _ROUNDING * epsilon * spread.sqrt()


def factored_gradients(
    module: nn.Module,
    parameters: Sequence[nn.Parameter],
    loss: Callable[[], Tensor],
    units: Tensor,
    *,
    check: bool = False,
) -> FactoredGradients:
    """Return every unit's gradient of the mean of its losses, as factors.

    Rows must be independent: a loss may depend on its own row of every layer's input only. Autograd's graph
    cannot show that; `check` does, at the price of a second backward.

    Args:
        module: holds the private parameters; `loss` runs it.
        parameters: the private ones; their order is that of `FactoredGradients.weighted_sum`.
        loss: runs the module and returns losses, shape (window,). Several losses of one unit may be windows, or
            noise levels, or two terms; a layer may be called several times, on these rows each time.
        units: the unit of each loss, shape (window,), whole numbers from 0.
        check: compare a sum with uneven factors with autograd's; cheap insurance on the first steps with a
            module. Layers behind a weight of 0 have no gradient yet and are not checked by it; a batch with
            losses that are not finite cannot be compared and is refused.

    Raises:
        PrivacyError: book-keeping does not apply, or `check` found a difference. Nothing was added anywhere.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> windows = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    >>> rows = factored_gradients(layer, [layer.weight], lambda: layer(windows)[:, 0], torch.tensor([0, 1]))
    >>> rows.norms().round(decimals=3)
    tensor([5., 1.], dtype=torch.float64)
    >>> rows.weighted_sum(torch.tensor([0.2, 1.0])).round(decimals=3)
    tensor([0.6000, 1.8000])
    """
    unknown = unsupported(module, parameters)
    if unknown:
        raise PrivacyError(f"no book-keeping for {'; '.join(unknown)}; take one unit at a time")
    if torch.get_float32_matmul_precision() != "highest" and parameters[0].dtype == torch.float32:
        raise PrivacyError('norms need exact products; call torch.set_float32_matmul_precision("highest")')
    if units.ndim != 1 or units.is_floating_point() or (len(units) and int(units.min()) < 0):
        raise PrivacyError(
            f"units of shape {tuple(units.shape)} and type {units.dtype} do not number windows from 0"
        )
    if not len(units):
        return FactoredGradients([], parameters, 0)
    with torch.enable_grad():
        seen = capture(module, parameters, loss)
    if seen.losses.shape != units.shape:
        raise PrivacyError(f"losses have shape {tuple(seen.losses.shape)} for {len(units)} windows")
    losses = seen.losses
    people = units_of(units.to(losses.device, torch.int64))
    weights = 1.0 / people.counts.to(losses.dtype)
    with torch.no_grad():
        found = seen.gradients(weights[people.numbers], keep_graph=check)
        del seen  # what becomes rows need not stay in memory
        pieces: list[Rows | Pairs] = [rows_by_unit(*item, people) for item in found.per_window.items()]
        private = {id(parameter) for parameter in parameters}
        while found.calls:
            layer, its_calls = found.calls.popitem()
            own = {name: p for name, p in layer._parameters.items() if p is not None and id(p) in private}
            pieces += _pieces(layer, own, its_calls, people)
        out = FactoredGradients(pieces, parameters, people.n_units)
    if check:
        _compare(out, losses, parameters, people)
    return out


def choose(*, n_windows: int, n_units: int, device: torch.device) -> Literal["loop", "factored"]:
    """Return the faster of two exact ways to a sum of clipped gradients: a loop over units, or book-keeping.

    On a CPU a loop is as fast as a plain step where units bring enough windows to keep every thread busy, and
    needs less memory; see benchmarks/README.md. A GPU would wait for one small backward after the other.

    >>> choose(n_windows=256, n_units=256, device=torch.device("cpu"))
    'factored'
    """
    if device.type == "cpu":
        return "loop" if n_windows >= _WINDOWS_FOR_A_LOOP * torch.get_num_threads() * n_units else "factored"
    return "loop" if n_units <= 1 else "factored"


def _pieces(
    layer: nn.Module, private: dict[str, nn.Parameter], calls: list[Call], units: Units
) -> list[Rows | Pairs]:
    """Return one piece for each private parameter of a layer, by the parameter's name in it."""
    kind = KINDS.get(type(layer))
    per_window: dict[str, list[Tensor]] = {}
    if kind:
        if "bias" in private:
            per_window["bias"] = [bias_gradients(layer, call.gradient) for call in calls]
    elif isinstance(layer, NORMS):
        both = [norm_gradients(layer, call.input, call.gradient) for call in calls]
        per_window = {"weight": [scale for scale, _ in both], "bias": [shift for _, shift in both]}
    else:
        sampled = [_sampled(layer, private, call) for call in calls]
        per_window = {name: [one[parameter] for one in sampled] for name, parameter in private.items()}
    pieces: list[Rows | Pairs] = []
    for name, parameter in private.items():
        if name in per_window:
            pieces.append(rows_by_unit(parameter, per_window[name], units))
        elif kind:
            pieces.append(weight_gradients(Layer(layer, kind, parameter, calls, units)))
    return pieces


def _sampled(layer: nn.Module, private: dict[str, nn.Parameter], call: Call) -> dict[nn.Parameter, Tensor]:
    """Return gradients per window from Opacus' sampler of this layer type."""
    sampled: dict[nn.Parameter, Tensor] = GradSampleModule.GRAD_SAMPLERS[type(layer)](
        layer, [call.input], call.gradient
    )
    if any(p not in sampled or len(sampled[p]) != len(call.gradient) for p in private.values()):
        raise PrivacyError(f"Opacus' sampler for {type(layer).__name__} leaves out a parameter or a window")
    return sampled


def _compare(out: FactoredGradients, losses: Tensor, parameters: Sequence[nn.Parameter], units: Units) -> None:
    """Hold a weighted sum with another factor for each unit against autograd's, and refuse a difference."""
    # Uneven factors: where a window's loss reached another window's rows, the two sums differ.
    numbers = torch.arange(units.n_units, dtype=torch.float64, device=units.numbers.device)
    factors = 0.5 + numbers * 0.6180339887498949 % 1.0
    seeds = (factors / units.counts)[units.numbers].to(losses.dtype)
    plain = torch.autograd.grad(losses, list(parameters), seeds, allow_unused=True)
    pairs = zip(plain, parameters, strict=True)
    flat = torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs])
    difference = torch.linalg.vector_norm(out.weighted_sum(factors) - flat, dtype=torch.float64)
    allowed = torch.finfo(flat.dtype).eps ** 0.5 * (factors * out.norms()).sum()
    if not bool(difference <= allowed):
        raise PrivacyError(
            "the sum by book-keeping is not autograd's: rows are not independent, or a parameter acts where no "
            "layer shows it. Take one unit at a time"
        )
