"""What a plan asks of covariates, in words and in numbers, before anybody opens data."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsynth.plan import Plan


@dataclass(frozen=True)
class AskedCondition:
    """A covariate of a study: its values, and the noise that one value's effect would carry.

    `noise` is in standard deviations of the public prior along an axis of the features, with the declared units
    spread evenly over labels and values.
    """

    name: str
    values: tuple[str, ...]
    noise: float


@dataclass(frozen=True)
class AskedConditions:
    """All of them, how many combinations are counted in every label, and how many statements.

    `borne_by` is how many units bear a statement whose effect carries as much noise as one standard deviation of
    the public prior.
    """

    conditions: tuple[AskedCondition, ...]
    combinations: int
    features: int
    statements: int = 0
    borne_by: float = 0.0

    def sentences(self) -> str:
        """Return what `fedsynth check` prints; nothing where a study has neither conditions nor statements."""
        return self._about_conditions() + self._about_statements()

    def _about_statements(self) -> str:
        if not self.statements:
            return ""
        return (
            f"{self.statements} statements, and pairs of them, are counted in the same private sum, and what each "
            f"adds to {self.features} features is asked. Where {self.borne_by:.0f} people bear a statement, "
            "noise on its effect is one standard deviation of the public prior; what far fewer bear is lost. "
            "Scores are not told by statement.\n"
        )

    def _about_conditions(self) -> str:
        if not self.conditions:
            return ""
        named = "; ".join(f"{one.name}: {', '.join(one.values)}" for one in self.conditions)
        n_values = sum(len(one.values) for one in self.conditions)
        lost = ", ".join(f"{one.name} {one.noise:.2f}" for one in self.conditions)
        return (
            f"Conditions ({named}): {self.combinations} combinations are counted in every label, and what each of "
            f"{n_values} values adds to {self.features} features is asked, in one private sum. Noise on a value's "
            f"effect, in standard deviations of the public prior: {lost}. Effects that noise explains are "
            "taken for none. All labels share them: that age does something else in one label is not asked.\n"
        )


def asked_conditions(plan: "Plan") -> AskedConditions:
    """Return what a plan asks of covariates."""
    from fedsynth.anchors.moments.conditions import PURPOSE
    from fedsynth.modalities.registry import codec_of

    study, shape = plan.study, plan.shape
    features = codec_of(shape).n_features
    if not shape.conditioned:
        return AskedConditions((), 1, features)
    [asked] = [one for one in plan.mechanisms("train") if one.purpose == PURPOSE]
    sites = len(study.cohort.sites) or study.cohort.least_sites
    std = 0.0
    if asked.is_private:
        std = asked.noise_multiplier * asked.clipping_norm * math.sqrt(sites / asked.noise_shares)
    units = study.cohort.expected_units * sites
    found = [
        AskedCondition(name, values, round(std * len(values) / units, 4))
        for name, values in study.condition_values.items()
    ]
    return AskedConditions(tuple(found), shape.n_strata, features, shape.n_statements, round(std, 2))
