"""An order: what the coordinator asks a site to do, as bytes."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fedsynth.errors import WireError
from fedsynth.wire.arrays import pack, unpack
from fedsynth.wire.envelope import seal, unseal

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
    tensors: Mapping[str, Tensor]
    stage: str = ""

    def to_bytes(self) -> bytes:
        """Write the order."""
        header = {"run": self.run, "plan": self.plan, "step": self.step, "stage": self.stage}
        return seal(header, pack(self.tensors))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Order":
        """Read an order.

        Raises:
            WireError: malformed, a field too many, or a stage that nobody knows.
        """
        header, payload = unseal(data)
        odd = sorted(set(header) ^ {"run", "plan", "step", "stage"})
        if odd or type(header["step"]) is not int:
            named = ", ".join(repr(name[:40]) for name in odd[:5]) or "step is no whole number"
            raise WireError(f"an order must hold run, plan, step, stage and nothing else: {named}")
        if header["stage"] not in STAGES:
            raise WireError(f"an order names a stage that is none of the {len(STAGES)} known")
        return cls(
            run=str(header["run"]),
            plan=str(header["plan"]),
            step=header["step"],
            tensors=unpack(payload),
            stage=header["stage"],
        )
