"""Sources: pretrained public generators of single waveforms, and what every family built on one shares.

A source turns a condition and noise into a waveform. It is trained on simulated signals alone, ships with the
package and is frozen. A family adds one adapter for each private phase: a vector for each label, zero at first,
that is added to what steers the source. Until one has moved, windows are exactly those of anchor and source.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor, FeatureDraw, draw_width, subject_draw_width
from fedsynth.families.layers import FARTHEST_FEATURE, frozen
from fedsynth.families.pretrained.layers import SINGLE, Signals
from fedsynth.families.pretrained.weights import load
from fedsynth.families.protocol import Phase
from fedsynth.families.structure import LabelStructure
from fedsynth.modalities.registry import frame_of, natural
from fedsynth.modalities.shape import Shape
from fedsynth.rng import uniform_of

STEER = 64
"""Width of the vector that steers a source, and of a label's vector in an adapter."""

_LARGEST = 2.0  # number in an adapter; a steering vector's are about 1
_ROWS = 128  # at once: activations of so many waveforms fit in a cache


class Source(nn.Module, ABC):
    """A network, or several, from conditions and noise to waveforms of about unit variance.

    Widths and what is trainable are those of one denoiser of samples, unless a subclass says otherwise.
    """

    stages: ClassVar[tuple[str, ...]]
    """Names of the losses in the order of pretraining."""
    private_stages: ClassVar[tuple[str, ...]]
    """Those that are private phases as well, each with an adapter."""
    learned_stages: ClassVar[tuple[str, ...]]
    """Those in which, together, every layer that draws can learn from recordings."""

    def __init__(self, signals: Signals = SINGLE) -> None:
        """Draw `signals`: one waveform, or the channels of a window together."""
        super().__init__()
        self.signals = signals

    @staticmethod
    def noise_width(length: int, channels: int = 1) -> int:
        """Return how many standard normal numbers a row takes: one for each sample of each channel."""
        return channels * length

    @staticmethod
    def loss_width(stage: str, length: int, channels: int = 1) -> int:  # noqa: ARG004
        """Return how many standard normal numbers a loss takes: one for each sample, one for the noise level."""
        return 1 + channels * length

    def rows(self, waves: Tensor) -> Tensor:
        """Return waveforms or noise, (row, length) or (row, channel x length), as (row, channel, length)."""
        return waves.reshape(len(waves), self.signals.channels, -1)

    def given(self, waves: Tensor) -> Tensor:
        """Return (row, channel, length) as `draw` gives it: without the axis where a single waveform is drawn."""
        return waves if self.signals.located else waves[:, 0]

    @abstractmethod
    def draw(self, condition: Tensor, noise: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Return waveforms, shape (row, length); of channels together (row, channel, length).

        Args:
            condition: raw, shape (row, raw).
            noise: shape (row, noise_width).
            shifts: for each private stage what is added to the steering vector, shape (row, STEER).
        """

    @abstractmethod
    def loss(
        self,
        stage: str,
        waves: Tensor,
        condition: Tensor,
        noise: Tensor,
        *,
        shift: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of each waveform, shape (row,); a mean over samples, so that long ones weigh no more.

        Args:
            stage: which loss.
            waves: unit variance, shape (row, length), or (row, channel, length).
            condition: raw, shape (row, raw).
            noise: shape (row, loss_width).
            shift: added to the steering vector, shape (row, STEER); None adds nothing.
            known: 1 where the row is told its condition and 0 where not, shape (row,); None tells all.
        """

    @classmethod
    def zero_shifts(cls, rows: int) -> dict[str, Tensor]:
        """Return shifts that add nothing."""
        return {stage: torch.zeros(rows, STEER) for stage in cls.private_stages}

    def trainable(self, stage: str) -> list[nn.Module]:  # noqa: ARG002
        """Return what a stage of pretraining moves: everything."""
        return list(self.children())

    def fit_scale(self, stage: str, waves: Tensor, condition: Tensor) -> None:
        """Take in what a finished stage of pretraining says of simulated waveforms, such as a scale."""


@dataclass(frozen=True, kw_only=True)
class SourceFamily(ABC):
    """What the families on a pretrained source have in common; a subclass is a frozen dataclass.

    `steps` are those in which a source draws.
    """

    source_type: ClassVar[type[Source]]

    name: str
    steps: int
    learning_rate: float = 1e-3

    @abstractmethod
    def source(self, raw: int, signals: Signals = SINGLE) -> Source:
        """Return a fresh source for raw conditions of `raw` numbers."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return one phase, hence one charge, for each adapter."""
        return tuple(
            Phase(
                name=stage,
                private_part=_adapter(stage),
                public_part=None,
                private_steps=1,
                learning_rate=self.learning_rate,
                public_learning_rate=self.learning_rate,
            )
            for stage in self.source_type.private_stages
        )

    def build(self, shape: Shape, anchor: Anchor) -> nn.ModuleDict:
        """Return the anchor's draw, the frozen source with the weights that ship, and the adapters at zero.

        Raises:
            StudyError: the weights are missing or of another version.
        """
        with torch.random.fork_rng(devices=[]):
            source = self.source(frame_of(shape).raw_width)
        load(source, name=self.name, modality=shape.modality)
        frozen(source)
        body = Body(shape, anchor, source)
        parts = nn.ModuleDict({"body": body})
        for stage in self.source_type.private_stages:
            # Built from a tensor: drawing initial weights would move the global generator.
            parts[_adapter(stage)] = nn.Embedding.from_pretrained(torch.zeros(shape.n_labels, STEER), freeze=False)
        return parts

    def noise_width(self, shape: Shape) -> int:
        """Return the width: the anchor's draw, the sources, their mixing."""
        frame = frame_of(shape)
        inner = frame.n_sources * self.source_type.noise_width(frame.length)
        return draw_width(shape) + inner + frame.mixing_width

    def subject_width(self, shape: Shape) -> int:
        """Return how many of the first numbers of the noise windows of one synthetic subject share."""
        return subject_draw_width(shape)

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:
        """Return the width of a loss's noise: which channel is read, then what the source's loss takes."""
        return 1 + self.source_type.loss_width(phase.name, frame_of(shape).length)

    def example_loss(
        self, parts: nn.ModuleDict, phase: Phase, windows: Tensor, labels: Tensor, noise: Tensor
    ) -> Tensor:
        """Return each real window's loss, shape (window,); its gradient reaches the phase's adapter alone."""
        body = _body(parts)
        waves, condition = body.frame.read(windows, uniform_of(noise[:, 0]))
        shift = parts[phase.private_part](labels)
        return body.source.loss(phase.name, waves, condition, noise[:, 1:], shift=shift)

    def companion_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return None: the loss has no public term."""
        return None

    def public_loss(self, parts: nn.ModuleDict, phase: Phase, labels: Tensor, noise: Tensor) -> Tensor:
        """Raise: no phase has a public part, so nobody asks.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"phase {phase.name} of {self.name} has no public part")

    def constrain(self, parts: nn.ModuleDict, phase: Phase) -> None:
        """Keep every number of the adapter within [-2, 2]: a public set from which a site accepts parameters."""
        with torch.no_grad():
            for parameter in parts[phase.private_part].parameters():
                parameter.clamp_(-_LARGEST, _LARGEST)

    def sample(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> Tensor:
        """Return synthetic windows in microvolts, shape (window, channel, time)."""
        shifts = {stage: parts[_adapter(stage)](labels) for stage in self.source_type.private_stages}
        return parts["body"](labels, noise, shifts)


class Body(nn.Module):
    """Everything public: the anchor's draw, the frozen source and the frame around it."""

    draw: FeatureDraw
    source: Source

    def __init__(self, shape: Shape, anchor: Anchor, source: Source) -> None:
        """Take a source that is frozen already."""
        super().__init__()
        self.shape, self.frame = shape, frame_of(shape)
        self.draw, self.source = FeatureDraw(anchor, shape), source
        self.structure = LabelStructure(shape, anchor)

    def forward(self, labels: Tensor, noise: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time), for noise (window, noise_width)."""
        drawn = self.draw(labels, noise[:, : self.draw.width]).clamp(-FARTHEST_FEATURE, FARTHEST_FEATURE)
        windows = self.decode(natural(drawn, self.shape), noise[:, self.draw.width :], shifts)
        made: Tensor = self.structure(labels, windows)
        return made

    def decode(self, vector: Tensor, noise: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Return windows in microvolts that have the features asked for.

        Args:
            vector: features in natural units, shape (window, feature).
            noise: standard normal, what is left of the window's noise after the anchor's draw.
            shifts: for each private stage what is added to the steering vector, shape (window, STEER).
        """
        frame = self.frame
        width = self.source.noise_width(frame.length)
        inner, mixing = noise.split([frame.n_sources * width, frame.mixing_width], dim=1)
        condition = frame.condition(vector).repeat_interleave(frame.n_sources, dim=0)
        shifts = {stage: shift.repeat_interleave(frame.n_sources, dim=0) for stage, shift in shifts.items()}
        rows = zip(condition.split(_ROWS), inner.reshape(-1, width).split(_ROWS), _pieces(shifts), strict=False)
        waves = torch.cat([self.source.draw(told, some, added) for told, some, added in rows])
        return frame.render(waves.unflatten(0, (-1, frame.n_sources)), vector, mixing)


def _pieces(shifts: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the shifts of one piece of rows after another."""
    pieces = {stage: shift.split(_ROWS) for stage, shift in shifts.items()}
    for number in range(max(len(parts) for parts in pieces.values())):
        yield {stage: parts[number] for stage, parts in pieces.items()}


def _body(parts: nn.ModuleDict) -> Body:
    body = parts["body"]
    assert isinstance(body, Body)
    return body


def _adapter(stage: str) -> str:
    return f"{stage}_adapter"
