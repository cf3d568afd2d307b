"""The layers of an adversarial family, freed: its networks know their place in a window and may change all of it.

As they are, a GAN's residuals stay near the anchor's windows and take a few dozen steps. Here the residual on the
signal reaches far beyond them, the critic sees where in the window something stands, and the generator takes
several steps after each one of the critic: they are post-processing of the critic and cost nothing. Nothing is
added to the features that were drawn, since that would follow the critic without end, and EEG windows come out
with them. From scratch there is no window to begin with, but noise with those features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor, draw_width, subject_draw_width
from fedsynth.families.adversarial.base import AdversarialFamily
from fedsynth.families.adversarial.critic import Critic
from fedsynth.families.adversarial.generator import AnchoredGenerator
from fedsynth.families.pretrained.layers import Place
from fedsynth.families.protocol import Phase
from fedsynth.modalities.registry import codec_of, frame_of
from fedsynth.modalities.shape import Shape
from fedsynth.rng import public_seed
from fedsynth.study import Start

_REACH = 5.0  # times as far as the family's residual alone
_WEIGHT_CLIP = 0.2
_PENALTY = 1.0  # gamma of R1


@dataclass(frozen=True, kw_only=True)
class FreedGan:
    """An adversarial family whose networks learn all of a window.

    `start` is the anchor's window through the public decoder ("prior"), or noise with its features ("scratch").
    `generator_steps` follow each step of the critic.
    """

    base: AdversarialFamily
    start: Start = "prior"
    critic_learning_rate: float = 1e-3
    generator_learning_rate: float = 5e-4
    generator_steps: int = 2

    @property
    def name(self) -> str:
        """Return the base family's name."""
        return self.base.name

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase: a private step of the critic, then several of the generator."""
        (phase,) = self.base.phases
        return (
            Phase(
                name=phase.name,
                private_part=phase.private_part,
                public_part=phase.public_part,
                private_steps=1,
                learning_rate=self.critic_learning_rate,
                public_learning_rate=self.generator_learning_rate,
                optimizer="adam",
                public_steps=self.generator_steps,
                trains_layers=True,
            ),
        )

    def build(self, shape: Shape, anchor: Anchor) -> nn.ModuleDict:
        """Return generator and critic; initial weights come from a public seed."""
        (phase,) = self.phases
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(public_seed("freed", *self.base.seed) % 2**32)
            anchored, critic = self.base.networks(shape, anchor)
            generator = FreedGenerator(shape, anchored, from_noise=self.start == "scratch")
            critic.view = nn.Sequential(Place(len(shape.channels)), critic.view)
        parts = nn.ModuleDict({"generator": generator, phase.private_part: critic})
        self.constrain(parts, phase)
        return parts

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:  # noqa: ARG002
        """Return 0: the value of a real window draws nothing."""
        return 0

    def noise_width(self, shape: Shape) -> int:
        """Return the width: the anchor's draw, the decoder's choices or noise, the residuals' latent."""
        inner = _noise_size(shape) if self.start == "scratch" else codec_of(shape).noise_width
        return draw_width(shape) + inner + self.base.latent

    def subject_width(self, shape: Shape) -> int:
        """Return how many of the first numbers of the noise windows of one synthetic subject share."""
        return subject_draw_width(shape)

    def example_loss(
        self,
        parts: nn.ModuleDict,
        phase: Phase,
        windows: Tensor,
        labels: Tensor,
        noise: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """Return the critic's loss for each real window, shape (window,)."""
        return self.base.real_loss(_critic(parts, phase)(windows, labels))

    def companion_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the critic's mean loss for synthetic windows; the generator takes no gradient of it."""
        with torch.no_grad():
            synthetic = self.sample(parts, labels, noise)
        return self.base.synthetic_loss(_critic(parts, phase)(synthetic, labels))

    def public_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the generator's mean loss for its windows."""
        return self.base.generator_loss(_critic(parts, phase)(self.sample(parts, labels, noise), labels))

    def plain_penalty(self, parts: nn.ModuleDict, phase: Phase, windows: Tensor, labels: Tensor) -> Tensor:
        """Return what keeps a critic without noise from running away from the generator, a scalar.

        R1 of Mescheder et al. 2018 (arXiv:1801.04406, equation 9): the critic's squared slope at recordings, here
        in units of a window's root mean square.
        """
        seen = windows.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(_critic(parts, phase)(seen, labels).sum(), seen, create_graph=True)
        size = windows.square().mean(dim=(1, 2), keepdim=True).sqrt()
        return 0.5 * _PENALTY * (slope * size).square().sum(dim=(1, 2)).mean()

    def prepared(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """Return what no step changes of synthetic windows: features, windows to begin at, labels, noise."""
        with torch.no_grad():
            return _generator(parts).prepared(labels, noise)

    def prepared_companion_loss(self, parts: nn.ModuleDict, phase: Phase, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return `companion_loss` of windows so prepared."""
        with torch.no_grad():
            synthetic = _generator(parts).finished(*prepared)
        return self.base.synthetic_loss(_critic(parts, phase)(synthetic, prepared[2]))

    def prepared_public_loss(self, parts: nn.ModuleDict, phase: Phase, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return `public_loss` of windows so prepared."""
        synthetic = _generator(parts).finished(*prepared)
        return self.base.generator_loss(_critic(parts, phase)(synthetic, prepared[2]))

    def constrain(self, parts: nn.ModuleDict, phase: Phase) -> None:
        """Clip the critic's weights to [-0.2, 0.2]."""
        with torch.no_grad():
            for parameter in parts[phase.private_part].parameters():
                parameter.clamp_(-_WEIGHT_CLIP, _WEIGHT_CLIP)

    def sample(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> Tensor:
        """Return synthetic windows in microvolts, shape (window, channel, time)."""
        return parts["generator"](labels, noise)


class FreedGenerator(nn.Module):
    """An anchored generator whose residual reaches far, and which ends with the features that were drawn."""

    def __init__(self, shape: Shape, generator: AnchoredGenerator, *, from_noise: bool) -> None:
        """Take the family's generator apart: its draw, its decoder unless `from_noise`, its residuals."""
        super().__init__()
        self.shape, self.frame = shape, frame_of(shape)
        if from_noise:
            generator.decoder, generator.choices = _NoiseDecoder(shape), _noise_size(shape)
        generator.signal_residual = _FarResidual(generator.signal_residual, channels=len(shape.channels))
        generator.feature_residual = None
        self.inner = generator

    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time), for noise (window, noise_width)."""
        return self.finished(*self.prepared(labels, noise))

    def prepared(self, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features, the windows to begin at, labels and the residual's noise: what training leaves alone."""
        vector, base = self.inner.drawn(labels, noise)
        return vector, base, labels, noise[:, -self.inner.latent :]

    def finished(self, vector: Tensor, base: Tensor, labels: Tensor, latent: Tensor) -> Tensor:
        """Return windows in microvolts of what was prepared."""
        windows = self.inner.with_residual(base, self.inner.label(latent, labels))
        return self.frame.render_together(self.frame.read_together(windows), vector)


class _FarResidual(nn.Module):
    """A residual network that is told the place, and whose answer counts several times."""

    def __init__(self, residual: nn.Module, *, channels: int) -> None:
        super().__init__()
        self.place, self.residual = Place(channels), residual

    def forward(self, base: Tensor, context: Tensor) -> Tensor:
        return _REACH * self.residual(self.place(base), context)


class _NoiseDecoder(nn.Module):
    """White noise with the features asked for, in the place of a public decoder."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.frame = shape, frame_of(shape)

    def forward(self, vector: Tensor, noise: Tensor) -> Tensor:
        return self.frame.render_together(noise.unflatten(1, (len(self.shape.channels), -1)), vector)


def _noise_size(shape: Shape) -> int:
    return len(shape.channels) * frame_of(shape).length


def _generator(parts: nn.ModuleDict) -> FreedGenerator:
    generator = parts["generator"]
    assert isinstance(generator, FreedGenerator)
    return generator


def _critic(parts: nn.ModuleDict, phase: Phase) -> Critic:
    critic = parts[phase.private_part]
    assert isinstance(critic, Critic)
    return critic
