"""What every kind of family uses: frozen parts, layers that start at zero, and the reach of a drawn feature."""

from typing import TypeVar

from torch import nn

FARTHEST_FEATURE = 4.5
"""Standard deviations of the public prior; a drawn feature beyond this counts as this."""

_Layer = TypeVar("_Layer", bound=nn.Module)


def frozen(module: nn.Module) -> nn.Module:
    """Turn every parameter and buffer of a module into a non-persistent buffer, and return the module.

    For parts that were pretrained on public simulations: they take no gradient, and are in no state and no message.

    >>> import torch
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


def zero_initialised(layer: _Layer) -> _Layer:
    """Set a layer's parameters to zero, so that what it adds is nothing at first; return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
