"""Networks: convolutions that can be frozen (`body`) below layers that cannot (`head`), after the seeds' papers."""

from typing import Literal

import torch
from torch import Tensor, nn

from fedsynth.evaluation.protocol.size import Size
from fedsynth.modalities.shape import Shape

NetworkName = Literal["cnn-bilstm", "resnet", "sigxnet"]
_COMPRESSION_UV = {"eeg": 20.0, "ecg": 150.0}  # public: amplitudes enter as asinh(x / this)
_SHORTEST = 16  # samples that a residual network's last block sees at least


class Network(nn.Module):
    """A body that turns microvolts into numbers, and a head that turns these into logits."""

    def __init__(self, body: nn.Module, head: nn.Module, *, compression_uv: float) -> None:
        """Put a body below a head."""
        super().__init__()
        self.body, self.head, self.compression_uv = body, head, compression_uv

    def forward(self, signal: Tensor) -> Tensor:
        """Return logits, shape (window, label), for microvolts of shape (window, channel, time)."""
        logits: Tensor = self.head(self.body(torch.asinh(signal / self.compression_uv)))
        return logits


def network_of(name: NetworkName, *, shape: Shape, size: Size) -> Network:
    """Build a network with weights from torch's public generator."""
    channels, labels, width = len(shape.channels), shape.n_labels, size.width
    body: nn.Module
    head: nn.Module
    if name == "cnn-bilstm":
        body, head = _convolutions(channels, width), _BiLstm(4 * width, 4 * width, labels)
    elif name == "resnet":
        residual = _Residual(channels, width, blocks=size.blocks, n_times=shape.n_times)
        body, head = residual, nn.Linear(2 * residual.width, labels)
    else:
        body = _sigxnet_body(channels)
        head = nn.Sequential(
            nn.Flatten(), nn.LazyLinear(15), nn.SELU(), nn.Linear(15, 10), nn.SELU(), nn.Linear(10, 5), nn.SELU(),
            nn.Linear(5, labels),
        )  # fmt: skip
    network = Network(body, head, compression_uv=_COMPRESSION_UV[shape.modality])
    with torch.no_grad():
        network.eval()(torch.zeros(2, channels, shape.n_times))  # widths that follow from the window's length
    return network.train()


def _convolutions(channels: int, width: int) -> nn.Sequential:
    """Return GenEEG's three convolutions (32, 64, 128 at the paper's size), each of which shortens four times."""
    layers: list[nn.Module] = []
    for before, after, kernel in ((channels, width, 7), (width, 2 * width, 5), (2 * width, 4 * width, 3)):
        layers += [
            nn.Conv1d(before, after, kernel, stride=2, padding=kernel // 2),
            nn.GroupNorm(4, after),
            nn.ReLU(),
            nn.MaxPool1d(2),
        ]
    return nn.Sequential(*layers)


class _BiLstm(nn.Module):
    """A two-way LSTM over what is left of time; its mean and its last states are read."""

    def __init__(self, width: int, hidden: int, labels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * hidden, labels))

    def forward(self, flow: Tensor) -> Tensor:
        states, _ = self.lstm(flow.transpose(1, 2))
        logits: Tensor = self.out(states.mean(dim=1))
        return logits


class _Residual(nn.Module):
    """Residual blocks without batch norm; every block but the first halves time, while there is enough of it."""

    def __init__(self, channels: int, width: int, *, blocks: int, n_times: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(channels, width, 15, stride=2, padding=7)
        self.blocks, left = nn.ModuleList(), n_times // 2
        for number in range(blocks):
            after = width if number % 2 else min(2 * width, 128)
            stride = 2 if number and left >= 2 * _SHORTEST else 1
            self.blocks.append(_Block(width, after, stride=stride))
            width, left = after, left // stride
        self.width = width

    def forward(self, flow: Tensor) -> Tensor:
        flow = self.stem(flow)
        for block in self.blocks:
            flow = block(flow)
        return torch.cat([flow.mean(dim=2), flow.amax(dim=2)], dim=1)


class _Block(nn.Module):
    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(before, after, 9, stride=stride, padding=4)
        self.second = nn.Conv1d(after, after, 9, padding=4)
        self.past = nn.Conv1d(before, after, 1, stride=stride)
        # In place of batch norm: a block begins as what passes it by (Zhang et al. 2019, Fixup).
        self.gain = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, flow: Tensor) -> Tensor:
        inner = self.second(nn.functional.relu(self.first(nn.functional.relu(flow))))
        return self.past(flow) + self.gain * inner


def _sigxnet_body(channels: int) -> nn.Sequential:
    """Return the Bonn seed's convolutions: 26 of 7, 13 of 5 and 7 of 3 samples, with batch norm as there."""
    layers: list[nn.Module] = [nn.MaxPool1d(2)]
    for before, after, kernel in ((channels, 26, 7), (26, 13, 5), (13, 7, 3)):
        layers += [nn.Conv1d(before, after, kernel, padding=kernel // 2), nn.LeakyReLU(), nn.BatchNorm1d(after)]
    return nn.Sequential(*layers)
