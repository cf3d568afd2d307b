"""Which differences between labels a plan can carry, for `check` and `rehearse`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsynth.evaluation.blind_spots import Differences
    from fedsynth.plan import Plan


def differences(plan: "Plan") -> "Differences":
    """Return what a plan can carry, from the public table."""
    from fedsynth.anchors.moments.beat_series import PURPOSE as BEATS
    from fedsynth.anchors.moments.coherence import PURPOSE as COHERENCE
    from fedsynth.anchors.moments.event_related import PURPOSE as EVENTS
    from fedsynth.anchors.moments.modulation import PURPOSE as MODULATION
    from fedsynth.anchors.moments.responses import PURPOSE as RESPONSES
    from fedsynth.evaluation.blind_spots import differences_of

    asked = {step.mechanism.purpose for step in plan.steps}
    return differences_of(
        plan.study,
        asks_coherence=COHERENCE in asked,
        asks_events=EVENTS in asked,
        asks_modulation=MODULATION in asked,
        asks_beats=BEATS in asked,
        asks_responses=RESPONSES in asked,
    )
