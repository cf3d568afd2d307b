"""What was done to private data, apart from what it costs (`fedsynth.privacy.accountant`)."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fedsynth.errors import PrivacyError

Group = Literal["train", "held-out"]
UNITS = ("window", "recording", "subject")
"""Privacy units, finest first; what was promised per window promises nothing per subject."""
LEAST_NOISE_MULTIPLIER = 0.25
"""Of a single private sum: below it, whoever is drawn stands out of the noise by more than four deviations."""


@dataclass(frozen=True)
class Mechanism:
    """`steps` private sums in sequence, each a Poisson-sampled Gaussian mechanism on one group of units.

    `noise_multiplier` is the noise's standard deviation in units of `clipping_norm`, the L2 bound on what one
    unit contributes. `group` says who was asked: every unit belongs to exactly one group of its site, chosen by
    a public function of the unit itself, so that the two groups compose in parallel. With `noise_shares` above 1
    the noise is drawn in that many equal shares at as many sites, and the mechanism is what the total of secure
    aggregation does; a site's own sum, which nobody sees, carries one share.
    """

    purpose: str
    noise_multiplier: float
    sampling_probability: float
    steps: int
    clipping_norm: float
    group: Group = "train"
    unit: str = "subject"
    noise_shares: int = 1

    def __post_init__(self) -> None:
        """Refuse what no private sum is: a price must never fall by writing nonsense."""
        silent = self.noise_multiplier == 0 and math.isinf(self.clipping_norm)
        noisy = 0 < self.noise_multiplier < math.inf and 0 < self.clipping_norm < math.inf
        bare = self.noise_multiplier == 0 and 0 < self.clipping_norm < math.inf
        if type(self.steps) is not int or self.steps < 1 or not 0 < self.sampling_probability <= 1:
            raise PrivacyError(f"no mechanism has {self.steps} steps at q = {self.sampling_probability}")
        if type(self.noise_shares) is not int or self.noise_shares < 1 or (self.noise_shares > 1 and not noisy):
            raise PrivacyError(f"no mechanism draws its noise in {self.noise_shares} shares")
        if not (silent or noisy or bare) or self.unit not in UNITS or self.group not in ("train", "held-out"):
            raise PrivacyError(f"no mechanism has sigma = {self.noise_multiplier}, C = {self.clipping_norm}")

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
            "unit": self.unit,
            "noise_shares": self.noise_shares,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Mechanism":
        """Read what `as_json` wrote."""
        return cls(
            purpose=str(raw["purpose"]),
            noise_multiplier=float(raw["noise_multiplier"]),
            sampling_probability=float(raw["sampling_probability"]),
            steps=raw["steps"],
            clipping_norm=float(raw["clipping_norm"]),
            group=raw["group"],
            unit=str(raw["unit"]),
            noise_shares=raw["noise_shares"],
        )


def trainings(mechanisms: Sequence[Mechanism]) -> tuple[Mechanism, ...]:
    """Join the steps of one training that were charged one by one, for a reader; the price is the same.

    >>> steps = [Mechanism(f"gradients: critic, step {n}", 3.0, 0.2, 1, 1.0) for n in (1, 2, 3)]
    >>> [(joined.purpose, joined.steps) for joined in trainings(steps)]
    [('gradients: critic', 3)]
    """
    out: list[Mechanism] = []
    for mechanism in mechanisms:
        training = re.sub(r", step \d+$", "", mechanism.purpose)
        if training == mechanism.purpose:
            out.append(mechanism)
            continue
        same = replace(mechanism, purpose=training)
        if out and replace(out[-1], steps=same.steps) == same:
            out[-1] = replace(same, steps=out[-1].steps + same.steps)
        else:
            out.append(same)
    return tuple(out)
