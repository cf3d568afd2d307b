"""What was done to private data, apart from what it costs (`fedsynth.privacy.accountant`)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

Group = Literal["train", "held-out"]


@dataclass(frozen=True)
class Mechanism:
    """`steps` private sums in sequence, each a Poisson-sampled Gaussian mechanism on one group of units.

    `noise_multiplier` is the noise's standard deviation in units of `clipping_norm`, the L2 bound on what one
    unit contributes. `group` says who was asked: every unit belongs to exactly one group of its site, chosen by
    a public function of the unit itself, so that the two groups compose in parallel.
    """

    purpose: str
    noise_multiplier: float
    sampling_probability: float
    steps: int
    clipping_norm: float
    group: Group = "train"

    @property
    def is_private(self) -> bool:
        """Whether there is any noise."""
        return self.noise_multiplier > 0 and math.isfinite(self.clipping_norm)

    def as_json(self) -> dict[str, Any]:
        """Return the event as it stands in the ledger and in a release; JSON has no infinity, so that is a word."""
        return {
            "purpose": self.purpose,
            "noise_multiplier": self.noise_multiplier,
            "sampling_probability": self.sampling_probability,
            "steps": self.steps,
            "clipping_norm": self.clipping_norm if math.isfinite(self.clipping_norm) else "inf",
            "group": self.group,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Mechanism":
        """Read what `as_json` wrote."""
        return cls(
            purpose=str(raw["purpose"]),
            noise_multiplier=float(raw["noise_multiplier"]),
            sampling_probability=float(raw["sampling_probability"]),
            steps=int(raw["steps"]),
            clipping_norm=float(raw["clipping_norm"]),
            group="held-out" if raw["group"] == "held-out" else "train",
        )
