"""Arms: from windows of people to windows of a generator, trained by the product, in one place or over hospitals.

Sites live in memory: they compute what a site of the product computes, order by order, without ledger and files. A
study of a paper asks nobody's permission; `fedsynth rehearse` is for recordings that somebody has to account for.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.coordinator.rounds import train_generator
from fedsynth.evaluation.protocol.material import Material
from fedsynth.modalities.shape import Shape
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.recordings.recording import Windows
from fedsynth.site.steps import prepare
from fedsynth.study import Study
from fedsynth.synthesis.generator import Generator
from fedsynth.wire.last_word import LastWord
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

HOSPITALS = 4
_RUN = "seeds"


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

    With epsilon infinite nothing is promised. `hospitals` is 1 in one central place. `layers` is "adapters", where
    private sums of features are all that is asked, or "all", where every layer of the family learns.
    """

    name: str
    family: str = "cwgan"
    layers: str = "adapters"
    start: str = "prior"
    epsilon: float = math.inf
    hospitals: int = 1
    steps: int = 600

    @property
    def is_private(self) -> bool:
        """Whether anything is promised."""
        return math.isfinite(self.epsilon)


def study_of(arm: Arm, frame: Frame, *, people: int, per_person: int, channels: tuple[str, ...]) -> Study:
    """Return the study of an arm: the default plan with the unit subject."""
    learned: dict[str, object] = {"rounds": 0}
    if arm.layers == "all":
        learned = {"minibatch_steps": arm.steps, "rounds": 3 if arm.hospitals > 1 else 1}
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
            "plan": learned,
        }
    )


def trained(arm: Arm, real: Material, frame: Frame) -> Generator:
    """Train a generator on people's windows as an arm says."""
    channels = frame.shape.channels
    per_person = int(np.bincount(np.unique(real.people, return_inverse=True)[1]).max())
    plan = plan_of(study_of(arm, frame, people=real.n_people, per_person=per_person, channels=channels))
    transport = Sites(plan, deal(real, frame, hospitals=arm.hospitals))
    return train_generator(plan, run=_RUN, transport=transport, roster=transport.roster)


def drawn(generator: Generator, *, per_label: int, seed: str) -> Material:
    """Draw windows, each of another made-up subject."""
    windows = generator.draw(per_label=per_label, seed=seed)
    return Material(windows.signal, windows.labels, windows.subjects)


class Sites:
    """Sites in memory (`fedsynth.coordinator.transport`); each signs with a key of its own."""

    def __init__(self, plan: Plan, windows: Mapping[str, Windows]) -> None:
        """Hold every site's windows."""
        self._plan, self._windows, self._answered = plan, windows, 0
        self._keys = {site: Ed25519PrivateKey.generate() for site in windows}
        self.roster = {site: key.public_key().public_bytes_raw() for site, key in self._keys.items()}

    def sites(self) -> tuple[str, ...]:
        """Return their names."""
        return tuple(self._windows)

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Answer each order."""
        for site, data in orders.items():
            order = Order.from_bytes(data)
            step = self._plan.steps[order.step]
            work = prepare(order, self._plan, step, device=torch.device("cpu"))
            answer = work.run(self._windows[site], Allowance(step.mechanism))
            tensors = {"sum": answer.read()} if isinstance(answer, PrivateSum) else answer
            self._answered += 1
            word = LastWord(_RUN, self._plan.digest, site, "0" * 64, self._answered, 0)
            signature = word.sign(self._keys[site].private_bytes_raw())
            yield site, Update(tensors, word=word, signature=signature).to_bytes()


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
