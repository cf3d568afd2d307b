"""Watching a forward pass: from a module and a loss to every private layer's inputs and output gradients.

One forward, and one backward that stops at the layers' outputs. Whatever would make the factors a wrong account
of the gradient is refused: layers we do not know, statistics over rows, parameters used anywhere but in their own
layer's forward (seen in autograd's graph), inputs changed after they were read.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.layers.dp_multihead_attention import SequenceBias
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from fedsynth.errors import PrivacyError
from fedsynth.training.book_keeping.kinds import KINDS, NORMS, least_dims
from fedsynth.training.book_keeping.layers import Call

# Opacus' samplers of these want a second input, or take another dimension for the windows.
_NOT_BY_ROW = (nn.EmbeddingBag, SequenceBias)


def unsupported(module: nn.Module, parameters: Sequence[nn.Parameter]) -> list[str]:
    """Return what keeps book-keeping from a module, as names and types of layers; empty if it applies.

    Args:
        module: holds the private parameters; looked at only, never run.
        parameters: the private ones.
    """
    owners: dict[int, list[str]] = {id(parameter): [] for parameter in parameters}
    found = ["no parameter at all"] if not parameters else []
    found += ["a parameter listed twice"] if len(owners) < len(parameters) else []
    for name, layer in module.named_modules():
        label = f"{name or 'the module itself'} ({type(layer).__name__})"
        statistics = isinstance(layer, _BatchNorm) or (
            isinstance(layer, _InstanceNorm) and layer.track_running_stats
        )
        private = [key for key, value in layer._parameters.items() if value is not None and id(value) in owners]
        if statistics:
            found.append(f"{label}: statistics over windows")
        elif private and not _known(layer):
            found.append(label)
        for key in private:
            owners[id(layer._parameters[key])].append(label)
    for number, parameter in enumerate(parameters):
        holders = owners[id(parameter)]
        if len(holders) != 1:
            found.append(
                f"parameter {number} in {len(holders)} places: {', '.join(holders) or 'no layer of the module'}"
            )
        elif not parameter.requires_grad:
            found.append(f"parameter {number}, frozen, in {holders[0]}")
    return found


def _known(layer: nn.Module) -> bool:
    """Return whether we or Opacus have a formula: for exactly this type, with the forward of its class."""
    if "forward" in layer.__dict__ or isinstance(layer, _NOT_BY_ROW):
        return False
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.scale_grad_by_freq):
        return False
    if type(layer) in (*KINDS, *NORMS, nn.GroupNorm):
        # Reparametrised by a hook, a layer of the same type holds other names.
        return set(layer._parameters) <= {"weight", "bias"}
    return type(layer) in GradSampleModule.GRAD_SAMPLERS


@dataclass(frozen=True)
class _Seen:
    """One call of a layer: what it was given, which version of that, and where in autograd's graph to look.

    `output` leads to the gradient of the layer's output; `copies` lead to those of a parameter's copies, one for
    each window.
    """

    layer: nn.Module
    given: Tensor
    version: int
    output: GradientEdge | None
    copies: dict[str, GradientEdge]


@dataclass(frozen=True)
class Found:
    """What a backward found: calls of each layer, and gradients per window (window, ...) of other parameters."""

    calls: dict[nn.Module, list[Call]]
    per_window: dict[nn.Parameter, list[Tensor]]


@dataclass(frozen=True)
class Capture:
    """A forward pass: `losses` (window,), and every call of a layer with private parameters."""

    losses: Tensor
    seen: list[_Seen]

    def gradients(self, seeds: Tensor, *, keep_graph: bool) -> Found:
        """Run the backward down to the layers' outputs; calls that the losses do not depend on are left out.

        Args:
            seeds: weight of each loss, shape (window,).
            keep_graph: whether another backward will follow.

        Raises:
            PrivacyError: a layer that saw other rows than the losses', or an input that was changed since.
        """
        edges = [edge for call in self.seen for edge in (call.output, *call.copies.values()) if edge]
        gradients = iter(torch.autograd.grad(self.losses, edges, seeds, allow_unused=True, retain_graph=keep_graph))
        found = Found({}, {})
        for call in self.seen:
            if call.output:
                gradient = next(gradients)
                if gradient is not None:
                    _check_rows(call, gradient.dtype, n_windows=len(seeds))
                    found.calls.setdefault(call.layer, []).append(Call(call.given, gradient))
            for name in call.copies:
                gradient = next(gradients)
                if gradient is not None:
                    _check_rows(call, gradient.dtype, n_windows=len(seeds))
                    parameter = call.layer.get_parameter(name)
                    found.per_window.setdefault(parameter, []).append(gradient.view(len(seeds), -1))
        return found


def capture(module: nn.Module, parameters: Sequence[nn.Parameter], loss: Callable[[], Tensor]) -> Capture:
    """Run a loss and remember what every layer with a private parameter was given.

    Args:
        module: whose layers are watched while `loss` runs.
        parameters: the private ones.
        loss: returns the losses, shape (window,).

    Raises:
        PrivacyError: a private parameter has an influence that no watched layer accounts for.
    """
    private = {id(parameter) for parameter in parameters}
    seen: list[_Seen] = []
    accounted: set[tuple[Node, int]] = set()
    copies: dict[nn.Module, dict[str, Tensor]] = {}

    def watch(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        inputs = [*args, *kwargs.values()]
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            raise PrivacyError(
                f"a {type(layer).__name__} was called with {len(inputs)} inputs; only one is understood"
            )
        if not output.requires_grad:
            return
        given, edge = inputs[0], get_gradient_edge(output)
        own = {name: id(p) for name, p in layer._parameters.items() if id(p) in private}
        below = get_gradient_edge(given).node if given.requires_grad else None
        accounted.update((node, key) for node, key in _uses(edge.node, stop=below) if key in own.values())
        its_copies = {name: get_gradient_edge(copies[layer][name]) for name in own} if layer in copies else {}
        seen.append(_Seen(layer, given.detach(), given._version, None if its_copies else edge, its_copies))

    with contextlib.ExitStack() as stack:
        for layer in module.modules():
            if any(id(p) in private for p in layer._parameters.values()):
                handle = layer.register_forward_hook(watch, prepend=True, with_kwargs=True)
                stack.callback(handle.remove)
                if isinstance(layer, nn.GroupNorm):
                    # Until the hooks are gone; the class' forward is the only one that `unsupported` lets pass.
                    layer.__dict__["forward"] = partial(_group_norm_with_copies, layer, copies)
                    stack.callback(layer.__dict__.pop, "forward")
        losses = loss()
    if losses.grad_fn is None:
        raise PrivacyError("the losses do not depend on any parameter; nothing can be learned from them")
    for node, key in _uses(losses.grad_fn, stop=None):
        if key in private and (node, key) not in accounted:
            raise PrivacyError(
                f"a private parameter enters the loss through {node.name()} and not through its layer; "
                "its gradient cannot be taken apart; take one unit at a time"
            )
    return Capture(losses, seen)


def _group_norm_with_copies(
    layer: nn.GroupNorm,
    copies: dict[nn.Module, dict[str, Tensor]],
    input: Tensor,
) -> Tensor:
    """Normalise windows as if they were channels of one, so that every window has its own scale and shift.

    The same numbers come out, and the backward that runs anyway yields gradients per window.
    """
    own = {name: p.repeat(len(input)) for name, p in layer._parameters.items() if p is not None}
    copies[layer] = own
    side_by_side = input.reshape(1, -1, *input.shape[2:])
    groups = len(input) * layer.num_groups
    out = F.group_norm(side_by_side, groups, own.get("weight"), own.get("bias"), layer.eps)
    return out.view(input.shape)


def _uses(start: Node, *, stop: Node | None) -> set[tuple[Node, int]]:
    """Return every (operation, id of a leaf it reads) between an output and `stop` in autograd's graph."""
    found: set[tuple[Node, int]] = set()
    seen, waiting = {start}, [start]
    while waiting:
        node = waiting.pop()
        for following, _ in node.next_functions:
            if following is None or following is stop:
                continue
            if following.name() == "torch::autograd::AccumulateGrad":
                found.add((node, id(following.variable)))  # type: ignore[attr-defined]
            elif following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def _check_rows(call: _Seen, dtype: torch.dtype, *, n_windows: int) -> None:
    """Refuse a call whose rows are not the losses' rows, in another precision, or on an input changed since."""
    layer, given = call.layer, call.given
    if given.ndim < least_dims(layer) or len(given) != n_windows:
        raise PrivacyError(
            f"a {type(layer).__name__} saw input of shape {tuple(given.shape)} for {n_windows} losses; whose "
            "window a row is cannot be told. Run the module once on all windows, or take one unit at a time"
        )
    kinds = {p.dtype for p in layer._parameters.values() if p is not None}
    if {dtype} != kinds or (given.is_floating_point() and given.dtype != dtype):
        raise PrivacyError(f"a {type(layer).__name__} computes in {dtype} beside weights in other precision")
    if given._version != call.version:
        raise PrivacyError(
            f"the input of a {type(layer).__name__} was changed in place after it was read; its gradient cannot "
            "be taken apart; take one unit at a time"
        )
