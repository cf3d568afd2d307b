"""RunState: everything a run carries from one step to the next, to bytes and back in a closed form."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedsynth.errors import RunError, WireError
from fedsynth.evaluation.score import Score
from fedsynth.wire.arrays import pack, unpack
from fedsynth.wire.envelope import seal, unseal
from fedsynth.wire.last_word import SignedWord
from fedsynth.wire.message import as_tensors, message_in

_GROUPS = ("generator", "trainer", "classifier", "secure", "random", "words")
_FIELDS = {"step", "alive", "units", "done", "asked", "scores", "windows", "training"}


@dataclass(frozen=True)
class RunState:
    """A run between two steps, or with its windows drawn and not yet scored.

    Attributes:
        step: of the plan, which comes next.
        alive: sites that are still asked.
        units: what each site's share in a mean is.
        done: the steps that each site is known to have answered, by number.
        asked: the steps that each site was sent an order for.
        words: each site's last word on its ledger, whose signature was looked at when it came.
        generator: parts and anchor.
        random: the state of torch's generator, which makes the public side of training.
        trainer: the optimizers, where gradients are taken here.
        training: whether there is a trainer.
        windows: SHA-256 of the archive that was drawn, and `classifier` what was trained on it.
        classifier: see `windows`.
        scores: of those windows.
        secure: the server of secure sums, once keys were exchanged.
    """

    step: int
    alive: tuple[str, ...]
    units: Mapping[str, float]
    done: Mapping[str, tuple[int, ...]]
    asked: Mapping[str, tuple[int, ...]]
    words: Mapping[str, SignedWord]
    generator: Mapping[str, Tensor]
    random: Tensor
    trainer: Mapping[str, Tensor] = field(default_factory=dict)
    training: bool = False
    windows: str = ""
    classifier: Mapping[str, Tensor] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    secure: bytes = b""

    def to_bytes(self) -> bytes:
        """Write it: JSON and safetensors."""
        header: dict[str, Any] = {
            "step": self.step,
            "alive": list(self.alive),
            "units": dict(self.units),
            "done": {site: _stretches(steps) for site, steps in self.done.items()},
            "asked": {site: _stretches(steps) for site, steps in self.asked.items()},
            "scores": [asdict(score) for score in self.scores],
            "windows": self.windows,
            "training": self.training,
        }
        groups = {
            "generator": self.generator,
            "trainer": self.trainer,
            "classifier": self.classifier,
            "secure": as_tensors(self.secure),
            "words": as_tensors(json.dumps({site: word.as_json() for site, word in self.words.items()}).encode()),
            "random": {"state": self.random},
        }
        tensors = {f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()}
        return seal(header, pack(tensors))

    @classmethod
    def from_bytes(cls, data: bytes) -> "RunState":
        """Read what `to_bytes` wrote.

        Raises:
            RunError: it is something else.
        """
        try:
            header, payload = unseal(data)
            if set(header) != _FIELDS:
                raise ValueError("fields")
            groups: dict[str, dict[str, Tensor]] = {group: {} for group in _GROUPS}
            for name, value in unpack(payload).items():
                group, _, rest = name.partition("/")
                groups[group][rest] = value
            words = json.loads(message_in(groups["words"]))
            return cls(
                step=int(header["step"]),
                alive=tuple(map(str, header["alive"])),
                units={str(site): float(units) for site, units in header["units"].items()},
                done=_steps(header["done"]),
                asked=_steps(header["asked"]),
                words={site: SignedWord.from_json(raw) for site, raw in words.items()},
                generator=groups["generator"],
                random=groups["random"]["state"].to(torch.uint8),
                trainer=groups["trainer"],
                training=bool(header["training"]),
                windows=str(header["windows"]),
                classifier=groups["classifier"],
                scores=tuple(Score(**raw) for raw in header["scores"]),
                secure=message_in(groups["secure"]),
            )
        except (WireError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                "the state kept of this run cannot be read; it was written by another version. Nothing was asked"
            ) from error


def _steps(found: Mapping[str, list[list[int]]]) -> dict[str, tuple[int, ...]]:
    return {
        str(site): tuple(step for first, count in stretches for step in range(first, first + count))
        for site, stretches in found.items()
    }


def _stretches(steps: Iterable[int]) -> list[list[int]]:
    """Return numbers as [first, how many] of each unbroken stretch: thousands of steps stay one short line."""
    found: list[list[int]] = []
    for step in steps:
        if found and step == sum(found[-1]):
            found[-1][1] += 1
        else:
            found.append([step, 1])
    return found
