"""An update: what a site answers, as bytes; a closed schema, so that nothing else can leave."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fedsynth.errors import WireError
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.wire.arrays import pack, unpack
from fedsynth.wire.envelope import seal, unseal

_FIELDS = {"refused", "ledger_head", "ledger_length", "train_history", "held_out_history"}


@dataclass(frozen=True)
class Update:
    """The answer to one order.

    `refused` is empty, or the kind of refusal as one word and no more. `tensors` are private sums or what was
    computed from them. The histories hold everything ever charged to the people of
    either group of this study, for a statement.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    refused: str = ""
    ledger_head: str = ""
    ledger_length: int = 0
    train_history: tuple[Mechanism, ...] = ()
    held_out_history: tuple[Mechanism, ...] = ()

    def to_bytes(self) -> bytes:
        """Write the update."""
        header = {
            "refused": self.refused,
            "ledger_head": self.ledger_head,
            "ledger_length": self.ledger_length,
            "train_history": [item.as_json() for item in self.train_history],
            "held_out_history": [item.as_json() for item in self.held_out_history],
        }
        return seal(header, pack(self.tensors))

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
            return cls(
                tensors=unpack(payload),
                refused=str(header["refused"]),
                ledger_head=str(header["ledger_head"]),
                ledger_length=int(header["ledger_length"]),
                train_history=tuple(Mechanism.from_json(item) for item in header["train_history"]),
                held_out_history=tuple(Mechanism.from_json(item) for item in header["held_out_history"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WireError("an update's header cannot be read") from error
