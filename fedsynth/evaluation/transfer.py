"""Train on synthetic, test on real: a small convolutional referee and the scores read off its answers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedsynth.rng import torch_generator

_BATCH = 64
_PIECES = 4


class Referee(nn.Module):
    """A small network: three strided convolutions, and the log power of each one's response.

    Log power over pieces of the window (its mean and its unrest) is what ShallowConvNet reads (Schirrmeister et al.
    2017, doi:10.1002/hbm.23730). Amplitudes enter through asinh(x / 20 microvolts), a public compression.
    """

    def __init__(self, n_channels: int, n_labels: int, *, filters: int = 24) -> None:
        """Build for windows of `n_channels` channels and any length from 64 samples."""
        super().__init__()
        widths, kernels = (n_channels, filters, filters), (17, 9, 9)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, filters, kernel, stride=2, padding=kernel // 2)
            for width, kernel in zip(widths, kernels, strict=True)
        )
        size = 2 * filters * len(self.layers)
        self.norm = nn.LayerNorm(size)
        self.head = nn.Sequential(nn.Linear(size, 64), nn.GELU(), nn.Dropout(0.25), nn.Linear(64, n_labels))

    def forward(self, signal: Tensor) -> Tensor:
        """Return logits, shape (window, label), for microvolts of shape (window, channel, time)."""
        flow, parts = torch.asinh(signal / 20.0), []
        for layer in self.layers:
            response = layer(flow)
            length = response.shape[-1] // _PIECES * _PIECES
            power = response[..., :length].unflatten(-1, (_PIECES, -1)).square().mean(dim=-1)
            log_power = torch.log(power + 1e-4)
            parts += [log_power.mean(dim=-1), log_power.std(dim=-1)]
            flow = nn.functional.gelu(response)
        return self.head(self.norm(torch.cat(parts, dim=1)))


@dataclass(frozen=True)
class RefereePlan:
    """How a referee is trained; constants, the same for real and synthetic windows."""

    epochs: int = 40
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    steps_at_most: int = 600


def train_referee(
    signal: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    n_labels: int,
    seed: int,
    plan: RefereePlan = RefereePlan(),
    progress: Callable[[int, int], None] | None = None,
) -> Referee:
    """Train a referee on windows.

    Args:
        signal: microvolts, shape (window, channel, time).
        labels: shape (window,), each in [0, n_labels).
        n_labels: number of labels.
        seed: of initial weights and batch order, public.
        plan: epochs and learning rate.
        progress: called with (steps done, steps in all).
    """
    generator = torch_generator("referee", seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        referee = Referee(signal.shape[1], n_labels)
        windows, targets = torch.from_numpy(signal), torch.from_numpy(labels)
        counts = torch.bincount(targets, minlength=n_labels).clamp_min(1)
        loss_of = nn.CrossEntropyLoss(weight=len(targets) / (n_labels * counts.float()), label_smoothing=0.05)
        total = min(plan.steps_at_most, plan.epochs * max(1, len(targets) // _BATCH))
        optimizer = torch.optim.AdamW(referee.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=total)
        referee.train()
        for step in range(total):
            rows = torch.randint(0, len(targets), (_BATCH,), generator=generator)
            optimizer.zero_grad()
            loss_of(referee(windows[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
            if progress:
                progress(step + 1, total)
    return referee.eval()


def answer(referee: Referee, signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return label probabilities, shape (window, label)."""
    with torch.no_grad():
        batches = [torch.softmax(referee(part).double(), dim=1) for part in torch.from_numpy(signal).split(256)]
    return torch.cat(batches).numpy()
