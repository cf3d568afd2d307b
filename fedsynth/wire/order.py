"""An order: what the coordinator asks a site to do, as bytes.

A site first reads what an order names, with its tensors still packed: that takes neither torch nor their memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsynth.errors import WireError
from fedsynth.wire.envelope import seal, unseal
from fedsynth.wire.packed import packed_message, unpack_arrays

if TYPE_CHECKING:
    from torch import Tensor

STATEMENT_STEP = -1
"""The step number of an order that opens no data and asks for the site's ledger lines on this study."""
SETUP_STEP = -2
"""The step number of the orders by which sites exchange the keys of secure aggregation, once for all steps."""
STAGES = ("", "keys", "shares", "agree", "unmask")
"""What an order wants of its step: the private sum itself (""), or a message of secure aggregation."""


@dataclass(frozen=True)
class Order:
    """Step `step` of the plan with digest `plan` in the run `run`, with the tensors it starts from.

    `stage` is one of `STAGES`.

    An order names a step and cannot describe one: noise, clipping, sampling and rounds stand in the plan that
    the site approved.
    """

    run: str
    plan: str
    step: int
    tensors: "Mapping[str, Tensor]"
    stage: str = ""

    def to_bytes(self) -> bytes:
        """Write the order."""
        from fedsynth.wire.arrays import pack  # it loads torch

        header = {"run": self.run, "plan": self.plan, "step": self.step, "stage": self.stage}
        return seal(header, pack(self.tensors))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Order":
        """Read an order.

        Raises:
            WireError: malformed, a field too many, or a stage that nobody knows.
        """
        from fedsynth.wire.arrays import unpack  # it loads torch

        order = PackedOrder.from_bytes(data)
        return cls(order.run, order.plan, order.step, unpack(order.packed), order.stage)


@dataclass(frozen=True)
class PackedOrder:
    """An order whose tensors are still the bytes that came."""

    run: str
    plan: str
    step: int
    stage: str
    packed: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "PackedOrder":
        """Read what an order names.

        Raises:
            WireError: malformed, too large, a field too many, or a stage that nobody knows.
        """
        header, packed = unseal(data)
        odd = sorted(set(header) ^ {"run", "plan", "step", "stage"})
        if odd or type(header["step"]) is not int:
            named = ", ".join(repr(name[:40]) for name in odd[:5]) or "step is no whole number"
            raise WireError(f"an order must hold run, plan, step, stage and nothing else: {named}")
        if header["stage"] not in STAGES:
            raise WireError(f"an order names a stage that is none of the {len(STAGES)} known")
        unpack_arrays(packed)  # what is malformed is refused even where its tensors are not used
        return cls(str(header["run"]), str(header["plan"]), header["step"], header["stage"], packed)

    def message(self) -> bytes:
        """Return the message of secure aggregation that came with the order.

        Raises:
            WireError: there is none.
        """
        return packed_message(self.packed)
