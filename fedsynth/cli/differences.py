"""Which differences between labels a plan can carry, for `check` and `rehearse`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsynth.evaluation.blind_spots import Differences
    from fedsynth.plan import Plan


def differences(plan: "Plan") -> "Differences":
    """Return what a plan can carry, from the public table."""
    from fedsynth.anchors.moments.coherence import PURPOSE
    from fedsynth.evaluation.blind_spots import differences_of

    asks = any(step.mechanism.purpose == PURPOSE for step in plan.steps)
    return differences_of(plan.study, asks_coherence=asks)
