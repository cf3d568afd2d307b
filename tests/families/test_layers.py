"""What every kind of family uses: frozen parts neither travel nor learn."""

import torch
from torch import nn

from fedsynth.families.layers import frozen


def test_what_is_frozen_neither_travels_nor_learns() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Embedding(2, 4))
    layer.register_buffer("scale", torch.ones(2))
    windows = torch.randn(2, 3)
    before = layer[1](layer[0](windows)).detach()

    same = frozen(layer)

    assert same is layer
    assert not list(layer.parameters())
    assert not layer.state_dict()
    assert len(list(layer.buffers())) == 6
    assert torch.equal(layer[1](layer[0](windows)), before)
    windows.requires_grad_()
    layer[0](windows).sum().backward()
    assert windows.grad is not None
    assert not layer[0].weight.requires_grad
