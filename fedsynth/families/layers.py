"""Layers that families share; every one treats rows independently and keeps no statistics."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_REAL = 0.9  # what a discriminator should say of a real window
_LARGEST_LOGIT = 5.0


def frozen(module: nn.Module) -> nn.Module:
    """Turn every parameter and buffer of a module into a non-persistent buffer, and return the module.

    For parts that were pretrained on public simulations: they take no gradient, and are in no state and no message.

    >>> layer = frozen(nn.Linear(2, 1))
    >>> len(list(layer.parameters())), len(layer.state_dict()), layer(torch.zeros(1, 2)).requires_grad
    (0, 0, False)
    """
    for layer in module.modules():
        for name, parameter in list(layer._parameters.items()):
            if parameter is not None:
                del layer._parameters[name]
                layer.register_buffer(name, parameter.detach(), persistent=False)
        layer._non_persistent_buffers_set.update(layer._buffers)
    return module.eval()


def dense(widths: Sequence[int], *, zero_last: bool = False) -> nn.Sequential:
    """Return linear layers with leaky rectifiers between; the last may start at zero."""
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.LeakyReLU(0.2)]
    stack = nn.Sequential(*layers[:-1])
    if zero_last:
        _zero(stack[-1])
    return stack


class LabelledNoise(nn.Module):
    """Noise multiplied by a label embedding, as the conditional WGAN of arXiv 2506.16243 describes."""

    def __init__(self, n_labels: int, width: int) -> None:
        """Embed `n_labels` labels beside noise of `width` numbers."""
        super().__init__()
        self.embedding = nn.Embedding(n_labels, width)
        nn.init.normal_(self.embedding.weight, 1.0, 0.5)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return shape (window, 2 width): the product, and the embedding itself."""
        embedded = self.embedding(labels)
        return torch.cat([noise * embedded, embedded], dim=1)


def strided(channels: Sequence[int], *, kernel: int = 9, stride: int = 4) -> nn.Sequential:
    """Return strided one-dimensional convolutions with group norm and leaky rectifiers."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(channels):
        layers += [
            nn.Conv1d(inner, outer, kernel, stride, kernel // 2),
            nn.GroupNorm(4, outer),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(*layers)


def same_length(channels: Sequence[int], *, kernel: int = 9) -> nn.Sequential:
    """Return convolutions that keep the length; the last starts at zero, so that the stack adds nothing yet."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(channels):
        layers += [nn.Conv1d(inner, outer, kernel, padding=kernel // 2), nn.LeakyReLU(0.2)]
    stack = nn.Sequential(*layers[:-1])
    _zero(stack[-1])
    return stack


def judged_real(logits: Tensor) -> Tensor:
    """Return the cross-entropy of calling windows real, shape (window,).

    Against 0.9 instead of 1 (one-sided smoothing, Salimans et al. 2016, section 3.4), and with bounded logits: a
    window that is judged rightly by far still says little, and none can say more than its share of the clip.
    """
    bounded = _bounded(logits)
    return nn.functional.binary_cross_entropy_with_logits(
        bounded, torch.full_like(bounded, _REAL), reduction="none"
    )


def judged_synthetic(logits: Tensor) -> Tensor:
    """Return the cross-entropy of calling windows synthetic, shape (window,)."""
    return nn.functional.softplus(_bounded(logits))


def fooling(logits: Tensor) -> Tensor:
    """Return a generator's non-saturating loss -log D, shape (window,) (Goodfellow et al. 2014, section 3)."""
    return nn.functional.softplus(-_bounded(logits))


def _bounded(logits: Tensor) -> Tensor:
    return _LARGEST_LOGIT * torch.tanh(logits / _LARGEST_LOGIT)


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
