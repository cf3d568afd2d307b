"""The layers whose gradients we know: from an input and an output gradient to the factors of a weight's gradient.

A weight's gradient is a sum of outer products left_t right_t' over positions t, for one window or for all windows
of a unit. For a convolution the right side holds the input's patches (Rochette et al. 2019, arXiv:1912.06015);
for a transposed convolution input and output change places; for an embedding the right side is the token.
Biases and the scales of norms are short, and written out per window.
"""

import contextlib
import math
from typing import Any, Protocol

import torch
import torch.nn.grad
from torch import Tensor, nn
from torch.nn import functional as F

Sides = tuple[Tensor, Tensor]
_BLOCK = 512
_AT_ONCE = {"cpu": 2**19, "other": 2**25}  # numbers in flight: 2 MB stay in the cache of each core


class LayerKind(Protocol):
    """A layer type whose weight gradient is a sum of outer products; methods take the layer first."""

    def work(self, layer: Any) -> tuple[int, int]:
        """Return multiplications per pair of positions, and per position when the gradient is written out."""
        ...

    def positions(self, layer: Any, given: Tensor, gradient: Tensor) -> int:
        """Return the number of positions t in one window."""
        ...

    def sides(self, layer: Any, given: Tensor, gradient: Tensor, *, count: int) -> Sides:
        """Return left and right, each (unit, group, width, position), of units with `count` windows each.

        Args:
            layer: of this kind.
            given: the layer's input, shape (window, ...); `count` neighbours are one unit.
            gradient: with respect to the layer's output, shape (window, ...).
            count: windows of one unit.
        """
        ...

    def gram(self, right: Tensor) -> Tensor:
        """Return the products of all pairs of positions, shape (unit, group, position, position)."""
        ...

    def energy(self, right: Tensor) -> Tensor:
        """Return the sum of squares of each unit's right side, shape (unit,), float64."""
        ...

    def outer(self, layer: Any, left: Tensor, right: Tensor) -> Tensor:
        """Return the weight's gradient for each unit, shape (unit, ...), in the weight's memory order."""
        ...

    def total(self, layer: Any, given: Tensor, gradient: Tensor) -> Tensor:
        """Return the weight's gradient over all windows together, in the weight's shape."""
        ...


class _Products:
    """What Linear and the convolutions share."""

    def gram(self, right: Tensor) -> Tensor:
        return right.transpose(-1, -2) @ right

    def energy(self, right: Tensor) -> Tensor:
        return squared_lengths(right.flatten(1))

    def outer(self, layer: nn.Module, left: Tensor, right: Tensor) -> Tensor:  # noqa: ARG002
        return left @ right.transpose(-1, -2)


class _Linear(_Products):
    def work(self, layer: nn.Linear) -> tuple[int, int]:
        return layer.in_features + layer.out_features, layer.weight.numel()

    def positions(self, layer: nn.Linear, given: Tensor, gradient: Tensor) -> int:  # noqa: ARG002
        return math.prod(gradient.shape[1:-1])

    def sides(self, layer: nn.Linear, given: Tensor, gradient: Tensor, *, count: int) -> Sides:  # noqa: ARG002
        return _merge(gradient.movedim(-1, 1), count=count), _merge(given.movedim(-1, 1), count=count)

    def total(self, layer: nn.Linear, given: Tensor, gradient: Tensor) -> Tensor:
        return gradient.reshape(-1, layer.out_features).T @ given.reshape(-1, layer.in_features)


class _Convolution(_Products):
    def work(self, layer: nn.Conv1d | nn.Conv2d) -> tuple[int, int]:
        return layer.out_channels + layer.in_channels * math.prod(layer.kernel_size), layer.weight.numel()

    def positions(self, layer: nn.Module, given: Tensor, gradient: Tensor) -> int:  # noqa: ARG002
        return math.prod(gradient.shape[2:])

    def sides(self, layer: nn.Conv1d | nn.Conv2d, given: Tensor, gradient: Tensor, *, count: int) -> Sides:
        right = _patches(_padded(layer, given), layer)
        left = _merge(gradient, count=count, groups=layer.groups)
        return left, _merge(right, count=count, groups=layer.groups, kernels=len(layer.kernel_size))

    def total(self, layer: nn.Conv1d | nn.Conv2d, given: Tensor, gradient: Tensor) -> Tensor:
        padding: Any = layer.padding
        if layer.padding_mode != "zeros" or isinstance(padding, str):
            given, padding = _padded(layer, given), 0
        return _weight_gradient(layer, given, gradient, padding=padding)


class _TransposedConvolution(_Products):
    def work(self, layer: nn.ConvTranspose1d | nn.ConvTranspose2d) -> tuple[int, int]:
        return layer.in_channels + layer.out_channels * math.prod(layer.kernel_size), layer.weight.numel()

    def positions(self, layer: nn.Module, given: Tensor, gradient: Tensor) -> int:  # noqa: ARG002
        return math.prod(given.shape[2:])

    def sides(
        self, layer: nn.ConvTranspose1d | nn.ConvTranspose2d, given: Tensor, gradient: Tensor, *, count: int
    ) -> Sides:
        right = _patches(_fitted(layer, given, gradient), layer)
        left = _merge(given, count=count, groups=layer.groups)
        return left, _merge(right, count=count, groups=layer.groups, kernels=len(layer.kernel_size))

    def total(self, layer: nn.ConvTranspose1d | nn.ConvTranspose2d, given: Tensor, gradient: Tensor) -> Tensor:
        return _weight_gradient(layer, _fitted(layer, given, gradient), given, padding=0)


class _Embedding:
    """Left are output gradients, right are tokens; two positions multiply to 1 where the token is the same."""

    def work(self, layer: nn.Embedding) -> tuple[int, int]:
        return layer.embedding_dim + 1, layer.embedding_dim

    def positions(self, layer: nn.Embedding, given: Tensor, gradient: Tensor) -> int:  # noqa: ARG002
        return math.prod(given.shape[1:])

    def sides(self, layer: nn.Embedding, given: Tensor, gradient: Tensor, *, count: int) -> Sides:
        gradient = _without_padding(layer, given, gradient)
        return _merge(gradient.movedim(-1, 1), count=count), _merge(given[:, None], count=count)

    def gram(self, right: Tensor) -> Tensor:
        return right.transpose(-1, -2) == right

    def energy(self, right: Tensor) -> Tensor:
        return right.new_full(right.shape[:1], right.shape[-1], dtype=torch.float64)

    def outer(self, layer: nn.Embedding, left: Tensor, right: Tensor) -> Tensor:
        left, tokens = left[:, 0].transpose(1, 2), right[:, 0, 0]
        rows = left.new_zeros(len(left), layer.num_embeddings, layer.embedding_dim)
        return rows.scatter_add_(1, tokens[..., None].expand_as(left), left)

    def total(self, layer: nn.Embedding, given: Tensor, gradient: Tensor) -> Tensor:
        gradient = _without_padding(layer, given, gradient).reshape(-1, layer.embedding_dim)
        return torch.zeros_like(layer.weight).index_add_(0, given.flatten(), gradient)


KINDS: dict[type[nn.Module], LayerKind] = {
    nn.Linear: _Linear(),
    nn.Conv1d: _Convolution(),
    nn.Conv2d: _Convolution(),
    nn.ConvTranspose1d: _TransposedConvolution(),
    nn.ConvTranspose2d: _TransposedConvolution(),
    nn.Embedding: _Embedding(),
}
NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.LayerNorm, nn.RMSNorm)
"""Norms whose gradients per window are computed again; those of a group norm come from the backward itself."""


def bias_gradients(layer: nn.Module, gradient: Tensor) -> Tensor:
    """Return the gradients of a linear layer's or convolution's bias for each window, shape (window, channel)."""
    if isinstance(layer, nn.Linear):
        return gradient.reshape(len(gradient), -1, layer.out_features).sum(dim=1)
    return gradient.flatten(2).sum(dim=2)


def norm_gradients(layer: nn.Module, given: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return a norm layer's gradients for each window, scale and shift, each (window, size)."""
    step = at_once(2 * given[:1].numel(), given.device)
    some = [_norm_gradients(layer, *pair) for pair in zip(given.split(step), gradient.split(step), strict=True)]
    return torch.cat([scale for scale, _ in some]), torch.cat([shift for _, shift in some])


def _norm_gradients(layer: nn.Module, given: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    # The normalised input is computed again: reading it back from the output would divide by a scale that may be 0.
    if isinstance(layer, nn.InstanceNorm1d | nn.InstanceNorm2d):
        plain = F.instance_norm(given, eps=layer.eps)
        channels = given.shape[1]
        gradient, plain = (x.reshape(len(given), channels, -1) for x in (gradient, plain))
        return torch.einsum("nct,nct->nc", gradient, plain), gradient.sum(dim=2)
    assert isinstance(layer, nn.LayerNorm | nn.RMSNorm)
    shape = tuple(layer.normalized_shape)
    if isinstance(layer, nn.LayerNorm):
        plain = F.layer_norm(given, shape, eps=layer.eps)
    else:
        plain = F.rms_norm(given, shape, eps=layer.eps)
    gradient, plain = (x.reshape(len(given), -1, math.prod(shape)) for x in (gradient, plain))
    return torch.einsum("ntc,ntc->nc", gradient, plain), gradient.sum(dim=1)


def at_once(numbers: int, device: torch.device) -> int:
    """Return how many units or windows to take at once, where each takes so many numbers."""
    room = _AT_ONCE["cpu"] * torch.get_num_threads() if device.type == "cpu" else _AT_ONCE["other"]
    return max(1, room // max(1, numbers))


def squared_lengths(rows: Tensor) -> Tensor:
    """Return the squared L2 norm of each row (row, size), float64; within 512 numbers in the rows' precision."""
    whole = rows.shape[1] // _BLOCK * _BLOCK
    blocks = torch.linalg.vector_norm(rows[:, :whole].unflatten(1, (-1, _BLOCK)), dim=2)
    rest = torch.linalg.vector_norm(rows[:, whole:], dim=1, keepdim=True)
    return torch.cat([blocks, rest], dim=1).to(torch.float64).square().sum(dim=1)


def least_dims(layer: nn.Module) -> int:
    """Return how many dimensions a batched input of a known layer has at least."""
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return 1 + len(layer.normalized_shape)
    if isinstance(layer, nn.Embedding):
        return 1
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d):
        return 2 + len(layer.kernel_size)
    if isinstance(layer, nn.InstanceNorm1d | nn.InstanceNorm2d):
        return 3 if isinstance(layer, nn.InstanceNorm1d) else 4
    return 2


def _merge(values: Tensor, *, count: int, groups: int = 1, kernels: int = 0) -> Tensor:
    """Return (window, channel, *position, *kernel) as (unit, group, channel and kernel, window and position)."""
    split = values.unflatten(1, (groups, -1)).unflatten(0, (-1, count))
    positions = range(4, split.ndim - kernels)
    offsets = range(split.ndim - kernels, split.ndim)
    width = math.prod(split.shape[i] for i in (3, *offsets))
    merged: Tensor = split.permute(0, 2, 3, *offsets, 1, *positions).reshape(len(split), groups, width, -1)
    return merged


def _patches(values: Tensor, layer: Any) -> Tensor:
    """Return a view (window, channel, *position, *kernel) of padded values (window, channel, *time)."""
    for dim, (size, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), start=2
    ):
        values = values.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    return values


def _padded(layer: nn.Conv1d | nn.Conv2d, given: Tensor) -> Tensor:
    """Return a convolution's input with its padding written out."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(given, layer._reversed_padding_repeated_twice, mode=mode)


def _fitted(layer: Any, given: Tensor, gradient: Tensor) -> Tensor:
    """Pad or crop a transposed convolution's output gradient so that each input position has one patch."""
    pad: list[int] = []
    for i in reversed(range(len(layer.kernel_size))):
        span = (given.shape[2 + i] - 1) * layer.stride[i] + layer.dilation[i] * (layer.kernel_size[i] - 1) + 1
        pad += [layer.padding[i], span - layer.padding[i] - gradient.shape[2 + i]]
    return F.pad(gradient, pad)


def _weight_gradient(layer: Any, given: Tensor, gradient: Tensor, *, padding: Any) -> Tensor:
    products: dict[int, Any] = {1: torch.nn.grad.conv1d_weight, 2: torch.nn.grad.conv2d_weight}
    with _full_precision() if gradient.is_cuda else contextlib.nullcontext():
        total: Tensor = products[len(layer.kernel_size)](
            given, layer.weight.shape, gradient, layer.stride, padding, layer.dilation, layer.groups
        )
    return total


def _full_precision() -> contextlib.AbstractContextManager[Any]:
    # TensorFloat-32 keeps 11 bits: the sum would differ from the rows whose norms were taken by one in a thousand.
    cudnn: Any = torch.backends.cudnn
    return cudnn.flags(
        enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
    )


def _without_padding(layer: nn.Embedding, tokens: Tensor, gradient: Tensor) -> Tensor:
    if layer.padding_idx is None:
        return gradient
    return gradient.masked_fill((tokens == layer.padding_idx)[..., None], 0)
