"""The trained generator: everything that draws synthetic windows, and nothing else.

A draw is a number of made-up subjects with windows each. The noise of a window follows from the seed, its label and
its place among the label's windows alone, so a longer draw begins with the shorter one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor, FeatureDraw
from fedsynth.anchors.estimator import estimator_of
from fedsynth.errors import RunError
from fedsynth.families.protocol import Family
from fedsynth.families.registry import family_of
from fedsynth.modalities.registry import within_range
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.progress import StepProgress
from fedsynth.rng import torch_generator
from fedsynth.study import Study
from fedsynth.synthesis.asked import Asked, Bend
from fedsynth.synthesis.embedding_flow import EmbeddingFlow, found_flow
from fedsynth.synthesis.windows import SyntheticStream, SyntheticWindows

_ROWS = 256  # of noise under one seed; larger batches were slower (benchmarks/README.md)
_NUMBERS = 2**22  # noise or samples in one batch, so that wide windows are drawn in smaller ones


@dataclass(frozen=True)
class Generator:
    """A study's generator: its parts' state and the anchor it started from."""

    study: Study
    state: Mapping[str, Tensor]
    anchor: Anchor

    @cached_property
    def shape(self) -> Shape:
        """Return the shape of its windows."""
        return shape_of(self.study)

    @cached_property
    def family(self) -> Family:
        """Return the family that its parts belong to."""
        return family_of(self.study.family)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as named tensors, for a file."""
        return {**{f"parts.{name}": value for name, value in self.state.items()}, **self.anchor.tensors()}

    @classmethod
    def from_tensors(cls, study: Study, tensors: Mapping[str, Tensor]) -> "Generator":
        """Read what `tensors` returned."""
        state = {name.removeprefix("parts."): value for name, value in tensors.items() if name.startswith("parts.")}
        return cls(study=study, state=state, anchor=Anchor.from_tensors(dict(tensors)))

    def draw(
        self,
        *,
        per_label: int | Sequence[int],
        seed: str,
        windows_per_subject: int = 1,
        untrained: bool = False,
        asked: Asked | None = None,
        progress: StepProgress | None = None,
    ) -> SyntheticWindows:
        """Draw windows into memory; arguments and errors as for `stream`.

        By default every window is another made-up subject, which is what a classifier learns most from.
        """
        return self.stream(
            per_label=per_label,
            seed=seed,
            windows_per_subject=windows_per_subject,
            untrained=untrained,
            asked=asked,
            progress=progress,
        ).gathered()

    def stream(
        self,
        *,
        per_label: int | Sequence[int],
        seed: str,
        windows_per_subject: int,
        untrained: bool = False,
        asked: Asked | None = None,
        progress: StepProgress | None = None,
        batch: int = _ROWS,
    ) -> SyntheticStream:
        """Draw `per_label` windows of every label, label by label, subject by subject; the same for the same seed.

        Memory does not grow with the number of windows. Batches of another size, or other numbers of threads,
        change a result by rounding alone, but where two waveforms are equally near another one may be looked up.

        Args:
            per_label: windows of each label, one number for all or one for each.
            seed: a public name for this drawing.
            windows_per_subject: how many windows share a made-up subject; a label's last one may have fewer.
            untrained: draw from the anchor alone, as if no gradient step had been taken.
            asked: which subjects; by default they are as the private sums left them.
            progress: called with (windows drawn, windows in all).
            batch: windows decoded at once, at most.

        Raises:
            RunError: trained by code whose parts look different.
            StudyError: subjects are asked for by what the study does not have.
        """
        study, shape, family = self.study, self.shape, self.family
        parts, flow = self._parts(family, shape, untrained=untrained), self._flow(untrained=untrained)
        counts = (per_label,) * shape.n_labels if isinstance(per_label, int) else tuple(per_label)
        sizes = [subject_sizes(count, windows_per_subject) for count in counts]
        limit = study.signal.range_uv
        bends = (asked or Asked()).bends(study, self.anchor)
        noises = [
            _Noise.of(family, shape, names=("draw", seed, label), per_subject=windows_per_subject, bend=bend)
            for label, bend in enumerate(bends)
        ]

        def pieces() -> Iterator[NDArray[np.float32]]:
            done = 0
            for label, count in enumerate(counts):
                for rows in noises[label].rows(count):
                    for noise in rows.split(batch):
                        with torch.no_grad():
                            drawn = family.sample(parts, torch.full((len(noise),), label), noise)
                        if flow is not None:
                            drawn = flow(drawn, label=label)
                        done += len(noise)
                        if progress:
                            progress(done, sum(counts))
                        bounded = within_range(
                            drawn, modality=shape.modality, channels=shape.channels, range_uv=limit
                        )
                        yield bounded.numpy().astype(np.float32, copy=False)

        strata, statements = self._told(noises, [len(of_label) for of_label in sizes])
        return SyntheticStream(
            subject_labels=np.repeat(np.arange(len(counts)), [len(of_label) for of_label in sizes]),
            subject_windows=np.concatenate(sizes),
            label_names=study.labels.names,
            channels=study.signal.channels,
            sfreq=study.signal.sfreq,
            n_times=shape.n_times,
            pieces=pieces,
            conditions=study.condition_values,
            subject_strata=strata,
            statements=study.statements.names if study.statements else (),
            subject_statements=statements,
        )

    def released(self, *, progress: StepProgress | None = None) -> SyntheticStream:
        """Stream what the study releases: its windows of each label, its windows a subject, its seed."""
        plan = self.study.release
        return self.stream(
            per_label=self.study.windows_by_label,
            seed=f"release {plan.draw_seed}",
            windows_per_subject=plan.windows_per_subject,
            asked=Asked(plan.conditions),
            progress=progress,
        )

    def _told(
        self, noises: Sequence["_Noise"], subjects: Sequence[int]
    ) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
        """Return each subject's stratum, and which statements it bears, where the study has such."""
        shape = self.shape
        if not shape.conditioned:
            return None, None
        draw = FeatureDraw(self.anchor, shape)
        labels = torch.repeat_interleave(torch.arange(len(subjects)), torch.tensor(list(subjects)))
        firsts = torch.cat([noise.firsts(count) for noise, count in zip(noises, subjects, strict=True)])
        strata = draw.strata_of(labels, firsts).numpy() if shape.strata else None
        return strata, draw.statements_of(labels, firsts).numpy() if shape.n_statements else None

    def _flow(self, *, untrained: bool) -> EmbeddingFlow | None:
        """Return what moves drawn windows to the views of recordings, found once on windows without it."""
        if untrained not in self._flows:
            family, shape = self.family, self.shape
            parts = self._parts(family, shape, untrained=untrained)

            @torch.no_grad()
            def draw(label: int, count: int) -> Tensor:
                noise = _Noise.of(family, shape, names=("flow", label), per_subject=1, bend=None)
                labels = [torch.full((len(rows),), label) for rows in noise.rows(count)]
                drawn = [family.sample(parts, *both) for both in zip(labels, noise.rows(count), strict=True)]
                return torch.cat(drawn)

            self._flows[untrained] = found_flow(self.anchor, shape, draw)
        return self._flows[untrained]

    @cached_property
    def _flows(self) -> dict[bool, EmbeddingFlow | None]:
        return {}

    def _parts(self, family: Family, shape: Shape, *, untrained: bool) -> nn.ModuleDict:
        parts = family.build(shape, self.anchor)
        if not untrained:
            try:
                parts.load_state_dict(dict(self.state))
            except RuntimeError as error:
                raise RunError(
                    "the generator was trained by another version of the code and this one cannot draw from it; "
                    "install that version, or rehearse again"
                ) from error
        return parts.eval()


def subject_sizes(per_label: int, per_subject: int) -> NDArray[np.int64]:
    """Return how many windows each made-up subject of one label holds, shape (subject,)."""
    starts = np.arange(0, per_label, per_subject)
    return np.minimum(per_subject, per_label - starts).astype(np.int64)


def untrained(study: Study, anchor: Anchor) -> Generator:
    """Return the generator as it stands after the anchor and before any gradient."""
    start = Generator(study=study, state={}, anchor=anchor)
    return replace(start, state=start.family.build(start.shape, anchor).state_dict())


def at_prior(study: Study) -> Generator:
    """Return the generator before anything was asked of anybody."""
    return untrained(study, estimator_of(study).prior(shape_of(study)))


@dataclass(frozen=True)
class _Noise:
    """The noise of one label's windows: `width` numbers each, of which a subject's windows share the first.

    It is drawn in blocks of `size`, each under a seed of its own. `bend` leads to the subjects that are asked for.
    """

    names: tuple[str | int, ...]
    width: int
    shared: int
    size: int
    per_subject: int
    bend: Bend | None

    @classmethod
    def of(
        cls, family: Family, shape: Shape, *, names: tuple[str | int, ...], per_subject: int, bend: Bend | None
    ) -> "_Noise":
        width = family.noise_width(shape)
        size = max(1, min(_ROWS, _NUMBERS // max(width, len(shape.channels) * shape.n_times)))
        return cls(names, width, family.subject_width(shape), size, per_subject, bend)

    def rows(self, count: int) -> Iterator[Tensor]:
        """Yield the noise of the first windows, shape (window, width)."""
        size = self.size
        for start in range(0, count, size):
            # Whole blocks are drawn and cut, so that a window's noise does not depend on how many follow it.
            own = torch.randn(size, self.width, generator=torch_generator(*self.names, "windows", start // size))
            rows = torch.arange(start, min(start + size, count))
            noise = own[: len(rows)]
            subjects = rows // self.per_subject
            for block in torch.unique(subjects // size):
                mine = subjects // size == block
                noise[mine, : self.shared] = self._subjects(int(block))[subjects[mine] % size]
            yield noise

    def firsts(self, subjects: int) -> Tensor:
        """Return what the first subjects share, shape (subject, shared)."""
        blocks = [self._subjects(block) for block in range(math.ceil(subjects / self.size))]
        return torch.cat([*blocks, torch.empty(0, self.shared)])[:subjects]

    def _subjects(self, block: int) -> Tensor:
        """Return what subjects of a block share, shape (size, shared)."""
        theirs = torch.randn(self.size, self.shared, generator=torch_generator(*self.names, "subjects", block))
        return theirs if self.bend is None else self.bend(theirs)
