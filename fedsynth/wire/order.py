"""An order: what the coordinator asks a site to do, as bytes."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fedsynth.errors import WireError
from fedsynth.wire.arrays import pack, unpack
from fedsynth.wire.envelope import seal, unseal

STATEMENT = -1
"""The step number of an order that opens no data and asks for the site's ledger lines on this study."""


@dataclass(frozen=True)
class Order:
    """Step `step` of the plan with digest `plan` in the run `run`, with the tensors it starts from.

    An order names a step and cannot describe one: noise, clipping, sampling and rounds stand in the plan that
    the site approved.
    """

    run: str
    plan: str
    step: int
    tensors: Mapping[str, Tensor]

    def to_bytes(self) -> bytes:
        """Write the order."""
        return seal({"run": self.run, "plan": self.plan, "step": self.step}, pack(self.tensors))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Order":
        """Read an order.

        Raises:
            WireError: malformed, or a field too many.
        """
        header, payload = unseal(data)
        if set(header) != {"run", "plan", "step"} or type(header["step"]) is not int:
            raise WireError("an order must hold run, plan, step and nothing else")
        return cls(run=str(header["run"]), plan=str(header["plan"]), step=header["step"], tensors=unpack(payload))
