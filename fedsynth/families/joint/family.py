"""The layers of a pretrained family, trained: its network draws all channels of a window together, label by label.

Adapters move 64 numbers for each label of a network that draws one waveform at a time. Here the network sees a
window's channels side by side and where in the window it is, and every layer learns, or a low-rank addition to
every layer. It is still told the features that the anchor draws, and windows still come out with them: what the
private sums know stays, and what features cannot say (waveforms, moments, phases, what channels have in common) is
the network's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor, FeatureDraw, draw_width, subject_draw_width
from fedsynth.families.joint.inflation import inflate
from fedsynth.families.joint.low_rank import make_low_rank
from fedsynth.families.layers import FARTHEST_FEATURE
from fedsynth.families.pretrained.base import STEER, Source, SourceFamily
from fedsynth.families.pretrained.layers import Signals, Steer
from fedsynth.families.pretrained.weights import load
from fedsynth.families.protocol import Phase
from fedsynth.modalities.registry import codec_of, frame_of, natural, standardise
from fedsynth.modalities.shape import Shape
from fedsynth.rng import public_seed
from fedsynth.study import Start, Train

_LARGEST = 16.0  # weight
_ROWS = 128  # at once
_SIMULATED = 500  # windows that say where raw conditions lie
_LABEL_STD = 0.5  # of a label's vector where a network starts from scratch


@dataclass(frozen=True, kw_only=True)
class JointFamily:
    """A pretrained family's network over all channels.

    `base` names architecture and sampler. `train` says what learns, `start` where: at the public prior, or from
    scratch, with public random weights. `rank` is that of low-rank additions.
    """

    base: SourceFamily
    train: Train = "all"
    start: Start = "prior"
    rank: int = 4
    learning_rate: float = 2e-3

    @property
    def name(self) -> str:
        """Return the base family's name."""
        return self.base.name

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Return one phase, hence one charge, for each stage of the base family that sees recordings."""
        return tuple(
            Phase(
                name=stage,
                private_part=_part(stage),
                public_part=None,
                private_steps=1,
                learning_rate=self.learning_rate,
                public_learning_rate=self.learning_rate,
                optimizer="adam",
                trains_layers=True,
            )
            for stage in self.base.source_type.learned_stages
        )

    def build(self, shape: Shape, anchor: Anchor) -> nn.ModuleDict:
        """Return the anchor's draw and, for each phase, the layers that learn in it.

        Raises:
            StudyError: the weights to start from are missing or of another version.
        """
        signals = Signals(len(shape.channels), located=True)
        raw = frame_of(shape).raw_width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(public_seed("joint", self.name, shape.modality, len(shape.channels)) % 2**32)
            source = self.base.source(raw + codec_of(shape).n_features, signals)
            _centre(source, shape)
            stages = {stage: _Stage(source, stage, shape.n_labels) for stage in self._stages()}
            if self.start == "prior":
                narrow = self.base.source(raw)
                load(narrow, name=self.name, modality=shape.modality)
                inflate(source, narrow.state_dict())
            else:
                for part in stages.values():
                    if part.label is not None:
                        nn.init.normal_(part.label.weight, std=_LABEL_STD)
            if self.train == "low-rank":
                for part in stages.values():
                    make_low_rank(part.layers, rank=self.rank)
        parts = nn.ModuleDict({"body": JointBody(shape, anchor, source, stages)})
        for stage, part in stages.items():
            parts[_part(stage)] = part
        return parts

    def noise_width(self, shape: Shape) -> int:
        """Return the width: the anchor's draw, then the network's noise."""
        return draw_width(shape) + self.base.source_type.noise_width(frame_of(shape).length, len(shape.channels))

    def subject_width(self, shape: Shape) -> int:
        """Return how many of the first numbers of the noise windows of one synthetic subject share."""
        return subject_draw_width(shape)

    def example_noise_width(self, shape: Shape, phase: Phase) -> int:
        """Return what the source's loss takes."""
        return self.base.source_type.loss_width(phase.name, frame_of(shape).length, len(shape.channels))

    def example_loss(
        self, parts: nn.ModuleDict, phase: Phase, windows: Tensor, labels: Tensor, noise: Tensor
    ) -> Tensor:
        """Return each real window's loss, shape (window,)."""
        return self.described_loss(parts, phase, self.describe(parts, windows), labels, noise)

    def describe(self, parts: nn.ModuleDict, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a network is shown of windows: waves (window, channel, length) and conditions."""
        body = _body(parts)
        return body.frame.read_together(windows), body.condition(codec_of(body.shape).features(windows))

    def described_loss(
        self, parts: nn.ModuleDict, phase: Phase, described: tuple[Tensor, ...], labels: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the loss of windows as `describe` shows them, shape (window,)."""
        waves, condition = described
        shift = _shifts(parts, (phase.name,), labels).get(phase.name)
        return _body(parts).source.loss(phase.name, waves, condition, noise, shift=shift)

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
        """Keep every weight within [-16, 16]: a public set from which a site accepts parameters."""
        with torch.no_grad():
            for parameter in parts[phase.private_part].parameters():
                parameter.clamp_(-_LARGEST, _LARGEST)

    def sample(self, parts: nn.ModuleDict, labels: Tensor, noise: Tensor) -> Tensor:
        """Return synthetic windows in microvolts, shape (window, channel, time)."""
        return _body(parts)(labels, noise, _shifts(parts, self._stages(), labels))

    def _stages(self) -> tuple[str, ...]:
        return self.base.source_type.learned_stages


class _Stage(nn.Module):
    """The layers that learn in one phase and, where labels steer them, a vector for each label."""

    def __init__(self, source: Source, stage: str, n_labels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(source.trainable(stage))
        # From a tensor: labels are alike until training parts them.
        table = torch.zeros(n_labels, STEER)
        steered = stage in source.private_stages
        self.label = nn.Embedding.from_pretrained(table, freeze=False) if steered else None
        for module in self.layers.modules():
            if isinstance(module, Steer):
                # Rows are always told their condition.
                del module._parameters["unknown"]
                module.register_buffer("unknown", torch.zeros(STEER), persistent=False)


class JointBody(nn.Module):
    """The anchor's draw, and around the learned layers everything public; it holds none of their weights."""

    draw: FeatureDraw

    def __init__(self, shape: Shape, anchor: Anchor, source: Source, stages: Mapping[str, nn.Module]) -> None:
        """Take the source whose layers stand in the parts of the phases."""
        super().__init__()
        self.shape, self.frame = shape, frame_of(shape)
        self.draw = FeatureDraw(anchor, shape)
        self._around = (source, tuple(stages))

    @property
    def source(self) -> Source:
        """Return the source; its layers are registered as parts of the phases, not here."""
        return self._around[0]

    def condition(self, vector: Tensor) -> Tensor:
        """Return raw conditions of codec features in natural units: the prior's, then standardised features."""
        standard = standardise(vector, self.shape).to(vector.dtype)
        return torch.cat([self.frame.condition(vector), standard], dim=1)

    def forward(self, labels: Tensor, noise: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time), for noise (window, noise_width)."""
        drawn = self.draw(labels, noise[:, : self.draw.width]).clamp(-FARTHEST_FEATURE, FARTHEST_FEATURE)
        vector = natural(drawn, self.shape)
        condition, inner = self.condition(vector), noise[:, self.draw.width :]
        waves = []
        for start in range(0, len(noise), _ROWS):
            rows = slice(start, start + _ROWS)
            some = {stage: shift[rows] for stage, shift in shifts.items()}
            waves.append(self.source.draw(condition[rows], inner[rows], some))
        return self.frame.render_together(torch.cat(waves), vector)


def _centre(source: Source, shape: Shape) -> None:
    """Tell every steering network where conditions of simulated windows lie; standardised features as they are."""
    codec, frame = codec_of(shape), frame_of(shape)
    told = frame.condition(codec.features(codec.simulate(_SIMULATED)))
    for module in source.modules():
        if isinstance(module, Steer):
            module.get_buffer("centre")[: frame.raw_width] = told.mean(dim=0)
            module.get_buffer("spread")[: frame.raw_width] = told.std(dim=0).clamp_min(0.05)


def _body(parts: nn.ModuleDict) -> JointBody:
    body = parts["body"]
    assert isinstance(body, JointBody)
    return body


def _shifts(parts: nn.ModuleDict, stages: tuple[str, ...], labels: Tensor) -> dict[str, Tensor]:
    """Return for each stage that labels steer what they add, shape (window, STEER)."""
    shifts = {}
    for stage in stages:
        part = parts[_part(stage)]
        assert isinstance(part, _Stage)
        if part.label is not None:
            shifts[stage] = part.label(labels)
    return shifts


def _part(stage: str) -> str:
    return f"{stage}_network"
