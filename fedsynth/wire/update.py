"""An update: what a site answers, as bytes; a closed schema, so that nothing else can leave."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fedsynth.errors import WireError
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.wire.envelope import seal, unseal
from fedsynth.wire.packed import pack_arrays

if TYPE_CHECKING:
    from torch import Tensor

_FIELDS = {"refused", "ledger_head", "ledger_length", "train_history", "held_out_history"}
_MOST_EVENTS = 200_000
_STEP = re.compile(r"(.*, step )([1-9]\d{0,8})")


@dataclass(frozen=True)
class Update:
    """The answer to one order.

    `refused` is empty, or the kind of refusal as one word and no more. `tensors` are private sums or what was
    computed from them. The histories hold everything ever charged to the people of either group of this study, for
    a statement; on the wire, steps that differ in their number alone are one entry.
    """

    tensors: "Mapping[str, Tensor]" = field(default_factory=dict)
    refused: str = ""
    ledger_head: str = ""
    ledger_length: int = 0
    train_history: tuple[Mechanism, ...] = ()
    held_out_history: tuple[Mechanism, ...] = ()

    def to_bytes(self, packed: bytes | None = None) -> bytes:
        """Write the update.

        Args:
            packed: the tensors, where they are packed already and `tensors` is empty.
        """
        header = {
            "refused": self.refused,
            "ledger_head": self.ledger_head,
            "ledger_length": self.ledger_length,
            "train_history": _joined(self.train_history),
            "held_out_history": _joined(self.held_out_history),
        }
        return seal(header, _pack(self.tensors) if packed is None else packed)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Update":
        """Read an update.

        Raises:
            WireError: malformed, or a field too many.
        """
        header, payload = unseal(data)
        if set(header) != _FIELDS:
            raise WireError("an update has fields that are missing or unknown")
        try:
            from fedsynth.wire.arrays import unpack  # it loads torch

            return cls(
                tensors=unpack(payload),
                refused=str(header["refused"]),
                ledger_head=str(header["ledger_head"]),
                ledger_length=int(header["ledger_length"]),
                train_history=_apart(header["train_history"]),
                held_out_history=_apart(header["held_out_history"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WireError("an update's header cannot be read") from error


def _pack(tensors: "Mapping[str, Tensor]") -> bytes:
    if not tensors:
        return pack_arrays({})
    from fedsynth.wire.arrays import pack  # it loads torch

    return pack(tensors)


def _joined(history: Sequence[Mechanism]) -> list[dict[str, Any]]:
    runs: list[tuple[Mechanism, int]] = []
    for event in history:
        if runs and event == _later(*runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((event, 1))
    return [{**event.as_json(), "times": times} for event, times in runs]


def _apart(runs: Sequence[Mapping[str, Any]]) -> tuple[Mechanism, ...]:
    times = [run["times"] for run in runs]
    if any(type(number) is not int or number < 1 for number in times) or sum(times) > _MOST_EVENTS:
        raise ValueError(f"a history of {sum(times)} events")
    events = [Mechanism.from_json(dict(run)) for run in runs]
    return tuple(_later(event, by) for event, number in zip(events, times, strict=True) for by in range(number))


def _later(event: Mechanism, by: int) -> Mechanism:
    """Return the event `by` steps on: the same, with the next number where its purpose has one."""
    found = _STEP.fullmatch(event.purpose)
    return replace(event, purpose=f"{found[1]}{int(found[2]) + by}") if found else event
