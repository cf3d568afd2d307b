"""The seeds' own networks, from scratch, as their code has them, without privacy and with their flaws.

Each takes windows of people and returns windows of every label. What could not be kept stands where it is.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fedsynth.evaluation.protocol.material import Material
from kit.arms import Frame

_BATCH, _LATENT = 64, 100
Train = Callable[[Tensor, int], Callable[[int], Tensor]]
"""From rows of one label between 0 and 1, and a number of steps, to what draws such rows."""


def one_network_a_label(
    real: Material, frame: Frame, *, train: Train, steps: int, per_label: int, seed: int
) -> Material:
    """Train one network on each label's windows, scaled to 0 to 1 by all training windows, and draw from it."""
    low, high = float(real.signal.min()), float(real.signal.max())
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for label in range(len(frame.names)):
            rows = torch.from_numpy((real.signal[real.labels == label] - low) / (high - low)).flatten(1)
            draw = train(rows, steps)
            with torch.no_grad():
                parts.append(draw(per_label).reshape(per_label, *real.signal.shape[1:]).numpy())
    signal = (np.concatenate(parts) * (high - low) + low).astype(np.float32)
    labels = np.repeat(np.arange(len(frame.names)), per_label)
    return Material(signal, labels, np.arange(len(labels)))


def dense_gan(rows: Tensor, steps: int) -> Callable[[int], Tensor]:
    """The Bonn seed's dense GAN: sigmoid output, binary cross-entropy; 2000 epochs there."""
    width = rows.shape[1]
    generator = nn.Sequential(
        nn.Linear(_LATENT, 128), nn.LeakyReLU(0.2), nn.Linear(128, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, width), nn.Sigmoid(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Linear(width, 256), nn.LeakyReLU(0.2), nn.Linear(256, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1)
    )
    return _adversarial(generator, discriminator, rows, steps)


def wavegan(rows: Tensor, steps: int) -> Callable[[int], Tensor]:
    """The Bonn seed's WaveGAN: transposed convolutions with batch norm against convolutions with dropout.

    Its page asks for rows of 1024 samples though its data has 178; here the last layer is cut to the data's length.
    """
    width = rows.shape[1]
    first = -(-width // 16)
    generator = nn.Sequential(
        nn.Linear(_LATENT, 64 * first, bias=False), nn.Unflatten(1, (64, first)),
        nn.BatchNorm1d(64), nn.LeakyReLU(0.2),
        nn.ConvTranspose1d(64, 32, 24, stride=4, padding=10), nn.BatchNorm1d(32), nn.LeakyReLU(0.2),
        nn.ConvTranspose1d(32, 1, 24, stride=4, padding=10), nn.Sigmoid(), nn.Flatten(), _Cut(width),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Unflatten(1, (1, width)), nn.Conv1d(1, 32, 24, stride=4, padding=12), nn.LeakyReLU(0.2), nn.Dropout(0.3),
        nn.Conv1d(32, 64, 24, stride=4, padding=12), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Flatten(),
        nn.LazyLinear(1),
    )  # fmt: skip
    return _adversarial(generator, discriminator, rows, steps)


def als_gan(real: Material, frame: Frame, *, steps: int, per_label: int, seed: int, is_collapsed: bool) -> Material:
    """The ALS seed's conditional WGAN: rows are one sample of 32 channels; 5 steps of the critic for one.

    Its published code never trains the generator through the critic: losses look stable and the output is constant.
    With `is_collapsed` the output is set to the constant that its logs show. Otherwise, as the paper
    describes it, the generator is trained; either way rows are drawn one by one,
    so that windows put together from them have no dynamics.
    """
    scale = float(np.abs(real.signal).max())
    rows = torch.from_numpy(real.signal / scale).transpose(1, 2)  # (window, time, channel)
    labels, n_labels = torch.from_numpy(real.labels), len(frame.names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embedding = nn.Embedding(n_labels, _LATENT)
        channels = rows.shape[2]
        generator = nn.Sequential(
            nn.Linear(_LATENT, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 1024), nn.ReLU(),
            nn.Linear(1024, channels), nn.Tanh(),
        )  # fmt: skip
        critic = nn.Sequential(
            nn.Linear(channels + n_labels, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 256),
            nn.ReLU(), nn.Linear(256, 1),
        )  # fmt: skip

        def made(which: Tensor) -> Tensor:
            out: Tensor = generator(torch.randn(len(which), _LATENT) * embedding(which))
            return out

        def judged(some: Tensor, which: Tensor) -> Tensor:
            out: Tensor = critic(torch.cat([some, nn.functional.one_hot(which, n_labels).float()], dim=1))
            return out.mean()

        of_critic = torch.optim.RMSprop(critic.parameters(), 5e-5)
        of_generator = torch.optim.RMSprop([*generator.parameters(), *embedding.parameters()], 5e-5)
        for step in range(steps):
            window = torch.randint(0, len(rows), (_BATCH,))
            which, moment = labels[window], torch.randint(0, rows.shape[1], (_BATCH,))
            of_critic.zero_grad()
            (judged(made(which).detach(), which) - judged(rows[window, moment], which)).backward()
            of_critic.step()
            with torch.no_grad():
                for parameter in critic.parameters():
                    parameter.clamp_(-0.01, 0.01)
            if step % 5 == 4 and not is_collapsed:
                of_generator.zero_grad()
                (-judged(made(which), which)).backward()
                of_generator.step()
        if is_collapsed:
            # tanh(4.95) = .9999
            with torch.no_grad():
                generator[-2].weight.zero_()
                generator[-2].bias.fill_(4.95)
        wanted = torch.arange(n_labels).repeat_interleave(per_label)
        with torch.no_grad():
            each = [made(torch.full((rows.shape[1],), int(label))) for label in wanted]
    signal = (torch.stack(each).transpose(1, 2) * scale).numpy().astype(np.float32)
    return Material(signal, wanted.numpy(), np.arange(len(wanted)))


class _Cut(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, : self.width]


def _adversarial(
    generator: nn.Sequential, discriminator: nn.Sequential, rows: Tensor, steps: int
) -> Callable[[int], Tensor]:
    """Train by binary cross-entropy, the generator with the labels exchanged, Adam."""
    generator.train()
    discriminator(rows[:2])  # widths that follow from the rows' length
    optimizers = [
        torch.optim.Adam(some.parameters(), 2e-4, betas=(0.5, 0.9)) for some in (discriminator, generator)
    ]
    loss = nn.functional.binary_cross_entropy_with_logits
    for _ in range(steps):
        some = rows[torch.randint(0, len(rows), (_BATCH,))]
        made = generator(torch.randn(_BATCH, _LATENT))
        optimizers[0].zero_grad()
        said, said_of_made = discriminator(some), discriminator(made.detach())
        (loss(said, torch.ones_like(said)) + loss(said_of_made, torch.zeros_like(said_of_made))).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        said_of_made = discriminator(made)
        loss(said_of_made, torch.ones_like(said_of_made)).backward()
        optimizers[1].step()
    generator.eval()
    return lambda count: generator(torch.randn(count, _LATENT))
