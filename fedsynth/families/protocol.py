"""What a family is: hyperparameters and pure functions; it holds no optimizer and keeps no window."""

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.modalities.shape import Shape


@dataclass(frozen=True)
class Phase:
    """One stretch of private training.

    `private_part` is the only part whose gradient may see windows; `public_part`, where there is one, learns
    through it as post-processing: `public_steps` steps after every `private_steps` private ones. `optimizer` moves
    both.
    With `trains_layers` whole networks learn; without privacy they do so by ordinary minibatches.
    """

    name: str
    private_part: str
    public_part: str | None
    private_steps: int
    learning_rate: float
    public_learning_rate: float
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    public_steps: int = 1
    trains_layers: bool = False


class Family(Protocol):
    """A generator family. Rows are independent, and reading windows writes no buffer.

    A part that was pretrained and stays as it is holds its weights in non-persistent buffers
    (`fedsynth.families.layers.frozen`), so that it is in no message.
    """

    @property
    def name(self) -> str:
        """Return the name used in a study."""
        ...

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return the phases in order."""
        ...

    def build(self, shape: Shape, anchor: Anchor) -> nn.ModuleDict:
        """Return fresh parts that start at the anchor; the same on every machine."""
        ...

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:
        """Return how many standard normal numbers the loss of one real window takes; 0 where it draws nothing."""
        ...

    def noise_width(self, shape: Shape) -> int:
        """Return how many standard normal numbers one synthetic window takes."""
        ...

    def subject_width(self, shape: Shape) -> int:
        """Return how many of the first numbers of the noise windows of one synthetic subject share."""
        ...

    def example_loss(
        self, parts: nn.ModuleDict, phase: Phase, windows: Tensor, labels: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the loss of each real window, shape (window,): the only function that sees any.

        Args:
            parts: as from `build`.
            phase: the one being trained.
            windows: microvolts, shape (window, channel, time).
            labels: shape (window,).
            noise: standard normal, shape (window, example_noise_width); an argument so that a loss can be replayed.
        """
        ...

    def companion_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor | None:
        """Return the public term of the private part's loss, a scalar, or None where there is none.

        A critic's mean over synthetic windows, for example.
        """
        ...

    def public_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the public part's loss, a scalar; post-processing."""
        ...

    def constrain(self, parts: nn.ModuleDict, phase: Phase) -> None:
        """Bring parameters back into their set after a step: weight clipping."""
        ...

    def sample(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> Tensor:
        """Return synthetic windows in microvolts, shape (window, channel, time).

        Args:
            parts: as from `build`, trained or not.
            labels: shape (window,).
            noise: standard normal, shape (window, noise_width).
        """
        ...
