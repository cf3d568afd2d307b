"""Learning: a network from windows by minibatches, whole or, with frozen convolutions, its head alone."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedsynth.evaluation.protocol.classifiers.networks import Network, NetworkName, network_of
from fedsynth.evaluation.protocol.classifiers.training import Setting, Training
from fedsynth.rng import torch_generator

_RATE, _DECAY = 2e-3, 1e-2
_ROWS = 128


def network(
    training: Training, test: NDArray[np.float32], *, setting: Setting, name: NetworkName
) -> NDArray[np.float64]:
    """Train a network from scratch and answer for other windows, shape (window, label)."""
    return answers_of(learned(training, setting=setting, name=name), test)


def learned(
    training: Training,
    *,
    setting: Setting,
    name: NetworkName,
    start: Network | None = None,
    is_frozen: bool = False,
) -> Network:
    """Return a trained network; a `start` is left as it was.

    Args:
        training: what to learn from.
        setting: for sizes and the seed of initial weights and batches.
        name: of the network.
        start: a network to go on with.
        is_frozen: its convolutions stay as they are, and only the head learns.
    """
    shape, size = setting.shape, setting.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed_for(name))
        model = network_of(name, shape=shape, size=size) if start is None else copy.deepcopy(start)
        model.train()
        model.body.requires_grad_(not is_frozen)
        if is_frozen:
            model.body.eval()
        moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(moving, _RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=size.steps)
        weight = torch.from_numpy(training.weights(shape.n_labels)).float()
        loss_of = nn.CrossEntropyLoss(weight=weight)
        signal, labels = (torch.from_numpy(some) for some in (training.windows.signal, training.windows.labels))
        generator = torch_generator("protocol", name, setting.seed)
        for _ in range(size.steps):
            rows = torch.randint(0, len(labels), (size.batch,), generator=generator)
            optimizer.zero_grad()
            loss_of(model(signal[rows]), labels[rows]).backward()
            nn.utils.clip_grad_norm_(moving, 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def answers_of(model: Network, signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return label probabilities, shape (window, label)."""
    with torch.no_grad():
        parts = [torch.softmax(model(part).double(), dim=1) for part in torch.from_numpy(signal).split(_ROWS)]
    return torch.cat(parts).numpy()
