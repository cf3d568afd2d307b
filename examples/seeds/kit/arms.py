"""Arms: from windows of people to windows of a generator, trained by the product, in one place or over hospitals.

Sites live in memory (`fedsynth.rehearsal.in_memory`): a study of a paper asks nobody's permission.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from fedsynth.evaluation.protocol.material import Material
from fedsynth.modalities.shape import Shape
from fedsynth.plan import plan_of
from fedsynth.recordings.recording import Windows
from fedsynth.rehearsal.in_memory import train_in_memory
from fedsynth.study import Study
from fedsynth.synthesis.generator import Generator

HOSPITALS = 4


@dataclass(frozen=True)
class Frame:
    """What windows look like, and the labels' names; `range_uv` bounds what is drawn."""

    shape: Shape
    names: tuple[str, ...]
    positive: str
    range_uv: float = 2000.0


@dataclass(frozen=True)
class Arm:
    """One way to a generator.

    With epsilon infinite nothing is promised. `hospitals` is 1 in one central place; more are averaged, or train
    one after the other, held by `consolidation`. `layers` is "adapters", where private sums of features are all
    that is asked, or "all", where every layer of the family learns, by so many `steps` of `rows` windows at each
    hospital.
    """

    name: str
    family: str = "cwgan"
    layers: str = "adapters"
    start: str = "prior"
    epsilon: float = math.inf
    hospitals: int = 1
    steps: int = 600
    rows: int = 64
    order: str = "averaged"
    consolidation: float = 0.0

    @property
    def is_private(self) -> bool:
        """Whether anything is promised."""
        return math.isfinite(self.epsilon)

    def learning(self, steps: int) -> "Arm":
        """Return the arm with so many steps in all, shared by its hospitals."""
        return replace(self, steps=max(1, steps // self.hospitals))


def study_of(arm: Arm, frame: Frame, *, people: int, per_person: int, channels: tuple[str, ...]) -> Study:
    """Return the study of an arm: the default plan with the unit subject."""
    learned: dict[str, object] = {"rounds": 0}
    if arm.layers == "all":
        learned = {
            "minibatch_steps": arm.steps,
            "minibatch_windows": arm.rows,
            "rounds": 3 if arm.hospitals > 1 else 1,
        }
    if arm.order == "sequential":
        learned |= {"rounds": 1, "order": arm.order, "consolidation": arm.consolidation}
    return Study.model_validate(
        {
            "name": "seeds",
            "signal": {
                "modality": frame.shape.modality,
                "format": "edf",
                "channels": channels,
                "sfreq": frame.shape.sfreq,
                "bandpass": frame.shape.bandpass,
                "range_uv": frame.range_uv,
            },
            "windows": {"n_times": frame.shape.n_times, "per_recording": per_person},
            "labels": {"names": frame.names, "source": "participants.tsv", "positive": frame.positive},
            "privacy": {"unit": "subject", "epsilon": arm.epsilon, "delta": 1e-5},
            "cohort": {
                "least_sites": arm.hospitals,
                "least_subjects": 1,
                "sites": tuple(f"hospital-{number + 1}" for number in range(arm.hospitals)),
                "expected_units": max(1, people // arm.hospitals),
            },
            "family": {"name": arm.family, "train": arm.layers, "start": arm.start},
            "plan": {**learned, "responses": False},  # which would cost a minute for every drawing
        }
    )


def trained(arm: Arm, real: Material, frame: Frame) -> Generator:
    """Train a generator on people's windows as an arm says."""
    channels = frame.shape.channels
    per_person = int(np.bincount(np.unique(real.people, return_inverse=True)[1]).max())
    plan = plan_of(study_of(arm, frame, people=real.n_people, per_person=per_person, channels=channels))
    return train_in_memory(plan, deal(real, frame, hospitals=arm.hospitals))


def drawn(generator: Generator, *, per_label: int, seed: str) -> Material:
    """Draw windows, each of another made-up subject."""
    windows = generator.draw(per_label=per_label, seed=seed)
    return Material(windows.signal, windows.labels, windows.subjects)


def deal(real: Material, frame: Frame, *, hospitals: int) -> dict[str, Windows]:
    """Deal people out to hospitals in turn, label by label, so that each has all labels where there are people."""
    people, first = np.unique(real.people, return_index=True)
    order = people[np.argsort(real.labels[first], kind="stable")]
    place = {int(person): number % hospitals for number, person in enumerate(order)}
    where = np.array([place[int(person)] for person in real.people])
    dealt = {}
    for number in range(hospitals):
        mine = real.at(where == number)
        numbers = np.unique(mine.people, return_inverse=True)[1].astype(np.int64)
        dealt[f"hospital-{number + 1}"] = Windows(
            signal=mine.signal,
            labels=mine.labels,
            subjects=numbers,
            recordings=numbers,
            label_names=frame.names,
            channels=frame.shape.channels,
            sfreq=frame.shape.sfreq,
        )
    return dealt
