"""What adversarial families share: a critic that alone sees recordings, and a generator that learns through it.

A family adds its two networks, three losses of the critic's values and the words of its initial weights' seed. A
discriminator is a critic too: its value of a window is the logit of the window being real.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor, draw_width, subject_draw_width
from fedsynth.families.adversarial.critic import Critic
from fedsynth.families.adversarial.generator import AnchoredGenerator
from fedsynth.families.protocol import Phase
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.rng import public_seed


@dataclass(frozen=True, kw_only=True)
class AdversarialFamily(ABC):
    """Hyperparameters that adversarial families share; a subclass is a frozen dataclass with its own beside them.

    `latent` is the width of the residuals' noise, `weight_clip` the bound on every weight of the critic.
    """

    name: str
    latent: int = 100
    weight_clip: float = 0.1
    generator_learning_rate: float = 1e-4

    @property
    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Return the one phase, as `in_turn` makes it."""

    @abstractmethod
    def networks(self, shape: Shape, anchor: Anchor) -> tuple[AnchoredGenerator, Critic]:
        """Return generator and critic with fresh weights from torch's generator, which is seeded for this."""

    @staticmethod
    @abstractmethod
    def real_loss(values: Tensor) -> Tensor:
        """Return the critic's loss for each of its values of real windows, shape (window,)."""

    @staticmethod
    @abstractmethod
    def synthetic_loss(values: Tensor) -> Tensor:
        """Return the critic's loss for its values of synthetic windows, a mean."""

    @staticmethod
    @abstractmethod
    def generator_loss(values: Tensor) -> Tensor:
        """Return the generator's loss for the critic's values of its windows, a mean."""

    @property
    def seed(self) -> tuple[str | int, ...]:
        """Return the words of the public seed that initial weights come from."""
        return (self.name, self.latent)

    def in_turn(self, critic: str, *, steps: int, learning_rate: float) -> tuple[Phase, ...]:
        """Return the one phase: `steps` private steps of the part called `critic`, then one of the generator."""
        phase = Phase(
            name=critic,
            private_part=critic,
            public_part="generator",
            private_steps=steps,
            learning_rate=learning_rate,
            public_learning_rate=self.generator_learning_rate,
        )
        return (phase,)

    def build(self, shape: Shape, anchor: Anchor) -> nn.ModuleDict:
        """Return generator and critic; initial weights come from a public seed."""
        (phase,) = self.phases
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(public_seed(*self.seed) % 2**32)
            generator, critic = self.networks(shape, anchor)
        parts = nn.ModuleDict({"generator": generator, phase.private_part: critic})
        self.constrain(parts, phase)
        return parts

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:  # noqa: ARG002
        """Return 0: the value of a real window draws nothing."""
        return 0

    def noise_width(self, shape: Shape) -> int:
        """Return the width: the anchor's draw, the decoder's choices, the residuals' latent."""
        return draw_width(shape) + codec_of(shape).noise_width + self.latent

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
        return self.real_loss(parts[phase.private_part](windows, labels))

    def companion_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the critic's mean loss for synthetic windows; the generator takes no gradient of it."""
        with torch.no_grad():
            synthetic = self.sample(parts, labels, noise)
        return self.synthetic_loss(parts[phase.private_part](synthetic, labels))

    def public_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the generator's mean loss for its windows."""
        return self.generator_loss(parts[phase.private_part](self.sample(parts, labels, noise), labels))

    def constrain(self, parts: nn.ModuleDict, phase: Phase) -> None:
        """Clip the critic's weights to [-weight_clip, weight_clip]."""
        with torch.no_grad():
            for parameter in parts[phase.private_part].parameters():
                parameter.clamp_(-self.weight_clip, self.weight_clip)

    def sample(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> Tensor:
        """Return synthetic windows in microvolts, shape (window, channel, time)."""
        return parts["generator"](labels, noise)
