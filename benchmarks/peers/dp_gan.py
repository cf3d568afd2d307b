"""DP-SGD from scratch: a conditional GAN on raw windows whose critic sees clipped and noised gradients.

Xie, Lin, Wang, Wang and Zhou 2018, "Differentially Private Generative Adversarial Network" (arXiv 1802.06739): a
Wasserstein GAN (Arjovsky et al. 2017) with weight clipping, Gaussian noise in the critic's gradients. Per-example
gradients, clipping and noise are Opacus'.

Not as in the paper: gradients are clipped one example at a time (Abadi et al. 2016), the simulated side alike; the
networks are convolutional and told the label; in a step each drawn unit lends one window, chosen at random; units
are drawn by Poisson sampling, priced by privacy loss distributions; critic and generator use Adam.
"""

import itertools
import warnings

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.noise import poisson_draw
from peers.task import Outcome, Progress, Task, balanced_labels, gaussian, outcome

STEPS, PROBABILITY, CLIPPING_NORM = 600, 0.2, 1.0
CRITIC_STEPS = 2  # for each of the generator's
_RATE, _WEIGHT_LIMIT, _NOISE_WIDTH, _WIDTH = 5e-4, 0.05, 32, 32
_MICROVOLTS = 30.0  # windows are seen as asinh(x / 30) / 2, a public compression


def dp_sgd_gan(task: Task, progress: Progress) -> Outcome:
    """Train on raw windows and draw."""
    mechanism = gaussian(
        "dp-sgd-gan: critic's gradients",
        epsilon=task.epsilon,
        delta=task.delta,
        steps=STEPS,
        probability=PROBABILITY,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Opacus 1.6.0's hooks remark that windows and labels need no gradient.
        warnings.filterwarnings("ignore", message="Full backward hook")
        torch.manual_seed(task.seed)
        generator = train(task, mechanism, progress)
        labels = balanced_labels(task)
        with torch.no_grad():
            parts = [_draw(generator, part) for part in torch.from_numpy(labels).split(256)]
    signal = (_MICROVOLTS * torch.sinh(2 * torch.cat(parts))).numpy()
    return outcome(task, signal, labels, mechanisms=[mechanism])


def train(task: Task, mechanism: Mechanism, progress: Progress) -> nn.Module:
    """Return the generator after `mechanism.steps` steps of the critic; weights come from torch's global seed."""
    shape = task.shape
    generator = Generator(len(shape.channels), shape.n_times, shape.n_labels)
    critic = GradSampleModule(Critic(len(shape.channels), shape.n_labels), loss_reduction="sum")
    rows = [np.flatnonzero(task.units == unit) for unit in np.unique(task.units)]
    expected = max(1, round(mechanism.sampling_probability * len(rows)))
    private = DPOptimizer(
        torch.optim.Adam(critic.parameters(), _RATE, betas=(0.5, 0.9)),
        noise_multiplier=mechanism.noise_multiplier,
        max_grad_norm=CLIPPING_NORM,
        expected_batch_size=expected,
        loss_reduction="mean",
    )
    follower = torch.optim.Adam(generator.parameters(), _RATE, betas=(0.5, 0.9))
    windows = torch.from_numpy(np.arcsinh(task.signal / _MICROVOLTS) / 2)
    targets, rng = torch.from_numpy(task.labels), np.random.default_rng(task.seed)
    for step in range(mechanism.steps):
        drawn = poisson_draw(len(rows), probability=mechanism.sampling_probability)
        chosen = torch.tensor([int(rng.choice(rows[unit])) for unit in drawn], dtype=torch.int64)
        asked = torch.randint(0, shape.n_labels, (expected,))
        with torch.no_grad():
            made = _draw(generator, asked)
        private.zero_grad()
        # One backward pass over both sides: Opacus 1.6.0 refuses two, and both sides must be clipped alike.
        signs = torch.cat([-torch.ones(len(chosen)), torch.ones(expected)])
        answers = critic(torch.cat([windows[chosen], made]), torch.cat([targets[chosen], asked]))
        (answers * signs).sum().backward()
        private.step()
        with torch.no_grad():
            for weight in critic.parameters():
                weight.clamp_(-_WEIGHT_LIMIT, _WEIGHT_LIMIT)
        if step % CRITIC_STEPS == CRITIC_STEPS - 1:
            asked = torch.randint(0, shape.n_labels, (expected,))
            critic.disable_hooks()  # the critic as it stands is public, and so is what the generator asks it
            follower.zero_grad()
            (-critic(_draw(generator, asked), asked).mean()).backward()
            critic.enable_hooks()
            follower.step()
        if step % 50 == 49:
            progress("steps of DP-SGD", step + 1, mechanism.steps)
    return generator.eval()


class Critic(nn.Module):
    """Four strided convolutions over the window and a map of its label, then one number."""

    def __init__(self, n_channels: int, n_labels: int) -> None:
        """Build for windows of any length from 256 samples."""
        super().__init__()
        self.label = nn.Embedding(n_labels, 8)
        widths = (n_channels + 8, _WIDTH, _WIDTH, 2 * _WIDTH, 2 * _WIDTH)
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(widths):
            layers += [nn.Conv1d(inner, outer, 9, 4, 4), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(4 * _WIDTH, 1))

    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Return one number per window, shape (window,)."""
        label = self.label(labels)[:, :, None].expand(-1, -1, windows.shape[-1])
        answer: Tensor = self.layers(torch.cat([windows, label], dim=1))[:, 0]
        return answer


class Generator(nn.Module):
    """A linear layer and four transposed convolutions of stride 4."""

    def __init__(self, n_channels: int, n_times: int, n_labels: int) -> None:
        """Build for windows of one shape."""
        super().__init__()
        self.n_times, self.start, self.n_labels = n_times, -(-n_times // 256), n_labels
        self.first = nn.Linear(_NOISE_WIDTH + n_labels, 2 * _WIDTH * self.start)
        widths = (2 * _WIDTH, 2 * _WIDTH, _WIDTH, _WIDTH, n_channels)
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(widths):
            layers += [nn.LeakyReLU(0.2), nn.ConvTranspose1d(inner, outer, 12, 4, 4)]
        self.layers = nn.Sequential(*layers)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return compressed windows, shape (window, channel, time), within -3 to 3."""
        label = nn.functional.one_hot(labels, self.n_labels).to(noise)
        flow = self.first(torch.cat([noise, label], dim=1)).unflatten(1, (2 * _WIDTH, self.start))
        return 3 * torch.tanh(self.layers(flow)[..., : self.n_times] / 3)


def _draw(generator: nn.Module, labels: Tensor) -> Tensor:
    drawn: Tensor = generator(torch.randn(len(labels), _NOISE_WIDTH), labels)
    return drawn
