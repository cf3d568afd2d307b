"""From the weights of a network of single waveforms to one that draws the channels of a window together."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_PER_CONDITION = (".centre", ".spread")
_TWO_HALVES = "encoder.last."  # its outputs are means and, behind them, log variances


def inflate(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a wider network with the weights of a narrower one, by name; in place.

    What is alike is copied. A convolution that saw one waveform sees all channels, by the same weights over the
    square root of their number, so that channels of their own kind leave it as loud; one that gave a waveform
    gives it for every channel. Conditions that are new weigh nothing, and layers that only the wider network has
    stay as they were made.
    """
    with torch.no_grad():
        for name, wide in network.state_dict().items():
            if name not in weights:
                continue
            if name.endswith(_PER_CONDITION):
                wide[: len(weights[name])] = weights[name]
            else:
                wide.copy_(_widened(weights[name], wide, halves=2 if name.startswith(_TWO_HALVES) else 1))


def _widened(narrow: Tensor, wide: Tensor, *, halves: int) -> Tensor:
    copies = wide.shape[0] // max(1, narrow.shape[0]) if wide.ndim else 1
    if wide.ndim in (2, 3) and wide.shape[1] != narrow.shape[1]:
        if wide.ndim == 3:
            repeats = wide.shape[1] // narrow.shape[1]
            narrow = narrow.repeat(1, repeats, 1) / repeats**0.5
        else:
            narrow = torch.cat([narrow, torch.zeros_like(wide)[: len(narrow), narrow.shape[1] :]], dim=1)
    if copies > 1:
        narrow = narrow.unflatten(0, (halves, -1)).repeat(1, copies, *(1 for _ in narrow.shape[1:])).flatten(0, 1)
    return narrow
