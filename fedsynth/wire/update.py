"""An update: what a site answers, as bytes; a closed schema, so that nothing else can leave."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedsynth.errors import WireError
from fedsynth.wire.envelope import seal, unseal
from fedsynth.wire.last_word import LastWord
from fedsynth.wire.packed import pack_arrays

if TYPE_CHECKING:
    from torch import Tensor

REFUSED = "refused"
"""The one word for every refusal. Why, only the site's own log says: the kind of one could tell of a person."""
_FIELDS = {"refused", "word", "signature"}


@dataclass(frozen=True)
class Update:
    """The answer to one order.

    `refused` is empty, or the one word there is, and then nothing else is said. `tensors` are private sums or what
    was computed from them. `word` is the site's on its ledger as it was after the answer, and `signature` that of
    the site's identity over it.
    """

    tensors: "Mapping[str, Tensor]" = field(default_factory=dict)
    refused: str = ""
    word: LastWord | None = None
    signature: bytes = b""

    def to_bytes(self, packed: bytes | None = None) -> bytes:
        """Write the update.

        Args:
            packed: the tensors, where they are packed already and `tensors` is empty.
        """
        word = self.word.as_json() if self.word else None
        header = {"refused": self.refused, "word": word, "signature": self.signature.hex()}
        return seal(header, _pack(self.tensors) if packed is None else packed)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Update":
        """Read an update.

        Raises:
            WireError: malformed, a field too many, or a refusal that says more than that.
        """
        header, payload = unseal(data)
        if set(header) != _FIELDS:
            raise WireError("an update has fields that are missing or unknown")
        refused, word = header["refused"], header["word"]
        if refused not in ("", REFUSED):
            raise WireError(f"an update refuses in its own words; the only one there is is {REFUSED!r}")
        try:
            signature = bytes.fromhex(header["signature"])
        except (TypeError, ValueError) as error:
            raise WireError("an update's signature cannot be read") from error
        from fedsynth.wire.arrays import unpack  # it loads torch

        update = cls(unpack(payload), refused, None if word is None else LastWord.from_json(word), signature)
        if refused and (update.tensors or word is not None):
            raise WireError("an update says more than that it refuses")
        if len(signature) != (0 if word is None else 64):
            raise WireError(
                f"an update is signed with {len(signature)} bytes; a word takes 64, and nothing else any"
            )
        return update


def _pack(tensors: "Mapping[str, Tensor]") -> bytes:
    if not tensors:
        return pack_arrays({})
    from fedsynth.wire.arrays import pack  # it loads torch

    return pack(tensors)
