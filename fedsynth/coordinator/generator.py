"""The trained generator: everything that draws synthetic windows, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsynth.errors import RunError
from fedsynth.families.anchor import Anchor, prior_anchor
from fedsynth.families.registry import family_of
from fedsynth.families.shape import shape_of
from fedsynth.families.synthetic import SyntheticWindows
from fedsynth.rng import torch_generator
from fedsynth.study import Study

_CHUNK = 256
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Generator:
    """A study's generator: its parts' state and the anchor it started from."""

    study: Study
    state: Mapping[str, Tensor]
    anchor: Anchor

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as named tensors, for a file."""
        return {**{f"parts.{name}": value for name, value in self.state.items()}, **self.anchor.tensors()}

    @classmethod
    def from_tensors(cls, study: Study, tensors: Mapping[str, Tensor]) -> "Generator":
        """Read what `tensors` returned."""
        state = {name.removeprefix("parts."): value for name, value in tensors.items() if name.startswith("parts.")}
        return cls(study=study, state=state, anchor=Anchor.from_tensors(dict(tensors)))

    def draw(
        self, *, per_label: int, seed: str, untrained: bool = False, progress: Progress | None = None
    ) -> SyntheticWindows:
        """Draw `per_label` windows of every label; the same for the same seed.

        Args:
            per_label: windows of each label.
            seed: a public name for this drawing.
            untrained: draw from the anchor alone, as if no gradient step had been taken.
            progress: called with (windows drawn, windows in all).

        Raises:
            RunError: trained by code whose parts look different.
        """
        study, shape, family = self.study, shape_of(self.study), family_of(self.study.family)
        parts = family.build(shape, self.anchor)
        if not untrained:
            try:
                parts.load_state_dict(dict(self.state))
            except RuntimeError as error:
                raise RunError(
                    "the generator was trained by another version of the code and this one cannot draw from it; "
                    "install that version, or rehearse again"
                ) from error
        labels = torch.arange(shape.n_labels).repeat_interleave(per_label)
        generator = torch_generator("draw", seed)
        drawn: list[Tensor] = []
        with torch.no_grad():
            for chunk in labels.split(_CHUNK):
                noise = torch.randn(len(chunk), family.noise_width(shape), generator=generator)
                drawn.append(family.sample(parts.eval(), chunk, noise))
                if progress:
                    progress(sum(len(part) for part in drawn), len(labels))
        limit = study.signal.range_uv
        return SyntheticWindows(
            signal=torch.cat(drawn).clamp(-limit, limit).numpy().astype(np.float32),
            labels=labels.numpy(),
            label_names=study.labels.names,
            channels=study.signal.channels,
            sfreq=study.signal.sfreq,
        )


def untrained(study: Study, anchor: Anchor) -> Generator:
    """Return the generator as it stands after the anchor and before any gradient."""
    parts = family_of(study.family).build(shape_of(study), anchor)
    return Generator(study=study, state=parts.state_dict(), anchor=anchor)


def at_prior(study: Study) -> Generator:
    """Return the generator before anything was asked of anybody."""
    return untrained(study, prior_anchor(shape_of(study)))
