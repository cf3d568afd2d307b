"""Known people: the units of a site that are no canaries, opened one at a time; and canaries beside them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedsynth.audit.canaries import Canary, Unit
from fedsynth.recordings.intake import Labels
from fedsynth.recordings.people import people_of
from fedsynth.recordings.windows import windows_of
from fedsynth.rehearsal.sites import Held
from fedsynth.site.holdings import groups_of
from fedsynth.study import Study


class KnownUnits:
    """The privacy units of the group that trains, of whom no window is held until it is asked for."""

    def __init__(self, held: Held, *, study: Study) -> None:
        self._held = held
        groups = groups_of(held.recordings, held_out=study.training.held_out)
        counts = np.bincount(held.windows.recordings, minlength=len(groups)).tolist()
        train = [number for number, group in enumerate(groups) if group == "train" and counts[number]]
        people = people_of(held.recordings)
        unit = study.privacy.unit
        self._pieces: list[tuple[tuple[int, ...], slice]]
        if unit == "subject":
            mine = [tuple(n for n in train if people[n] == one) for one in sorted({people[n] for n in train})]
            self._pieces = [(numbers, slice(None)) for numbers in mine]
        elif unit == "recording":
            self._pieces = [((number,), slice(None)) for number in train]
        else:
            self._pieces = [((n,), slice(row, row + 1)) for n in train for row in range(counts[n])]

    def __len__(self) -> int:
        return len(self._pieces)

    def every(self, stride: int, *, first: int = 0) -> Iterator[Unit]:
        """Yield every so-manieth unit, beginning with `first`; no windows but those of its recordings are held."""
        numbers: tuple[int, ...] = ()
        opened: list[Unit] = []
        for wanted, part in self._pieces[first::stride]:
            if wanted != numbers:
                opened.clear()
                opened.append(self._open(wanted))
                numbers = wanted
            yield Unit(opened[0].signal[part], opened[0].labels[part], opened[0].covariates[part])

    def _open(self, numbers: Sequence[int]) -> Unit:
        windows = self._held.windows
        labels = [windows.labels[windows.recordings == number] for number in numbers]
        own = [self._held.recordings[number].covariates for number in numbers]
        covariates = np.repeat(np.array(own, dtype=np.int64), [len(some) for some in labels], axis=0)
        return Unit(
            torch.from_numpy(_joined([self._held.rows(number) for number in numbers])),
            torch.from_numpy(np.concatenate(labels)),
            torch.from_numpy(covariates),
        )


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def with_canaries(held: Held, canaries: Sequence[Canary], *, study: Study) -> Held:
    """Return what a site holds whose people some canaries have joined; windows of canaries alone are in memory."""
    recordings = [recording for canary in canaries for recording in canary.recordings]
    made_up, first = windows_of(recordings, study=study), len(held.recordings)

    def rows(number: int) -> NDArray[np.float32]:
        return held.rows(number) if number < first else made_up.signal[made_up.recordings == number - first]

    labels = np.concatenate([held.windows.labels, made_up.labels])
    numbers = np.concatenate([held.windows.recordings, made_up.recordings + first])
    return Held([*held.recordings, *recordings], Labels(labels, numbers, made_up.label_names), rows)
