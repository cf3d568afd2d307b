"""Low-rank training: frozen layers, beside each of which a narrow pair of layers learns what to add."""

from torch import Tensor, nn

from fedsynth.families.layers import frozen, zero_initialised


class LowRank(nn.Module):
    """A frozen linear or convolutional layer and what is added to it: W x + B A x, B zero at first.

    Hu et al. 2022 (LoRA, arXiv:2106.09685, equation 3); A of a convolution has its kernel, B is pointwise.
    """

    def __init__(self, layer: nn.Linear | nn.Conv1d, rank: int) -> None:
        """Freeze `layer`; the rows of A are drawn from torch's generator."""
        super().__init__()
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(layer, nn.Linear):
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features)
        else:
            (kernel,), (stride,), (dilation,) = layer.kernel_size, layer.stride, layer.dilation
            padding = int(layer.padding[0])
            self.down = nn.Conv1d(layer.in_channels, rank, kernel, stride, padding, dilation, bias=False)
            self.up = nn.Conv1d(rank, layer.out_channels, 1)
        zero_initialised(self.up)
        self.layer = frozen(layer)

    def forward(self, flow: Tensor) -> Tensor:
        """Return what the layer gives, and what is added."""
        added: Tensor = self.up(self.down(flow))
        given: Tensor = self.layer(flow)
        return given + added


def make_low_rank(network: nn.Module, *, rank: int) -> None:
    """Replace every linear and convolutional layer by a `LowRank` one and freeze everything else; in place."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Linear | nn.Conv1d):
            setattr(network, name, LowRank(child, min(rank, *child.weight.shape[:2])))
        else:
            make_low_rank(child, rank=rank)
    for name, parameter in list(network.named_parameters(recurse=False)):
        del network._parameters[name]
        network.register_buffer(name, parameter.detach(), persistent=False)
