"""The plan that sites approve: the study, every private step with its noise, and the code version, as a digest.

What a plan says can be read without torch; what it takes to carry it out is loaded when it is asked for.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from fedsynth.errors import RunError, StudyError
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.budget import SumRequest, share_budget
from fedsynth.privacy.mechanism import Group, Mechanism
from fedsynth.secure_aggregation.roster import SecureCohort
from fedsynth.source_code import code_in_use
from fedsynth.study import Study, canonical

if TYPE_CHECKING:
    from fedsynth.anchors.estimator import Estimator
    from fedsynth.families.protocol import Family, Phase

StepKind = Literal["anchor", "train", "gradient", "fisher", "assess"]
_FISHER_WEIGHT = 0.25  # against 1 of the anchor's first sum


@dataclass(frozen=True)
class Step:
    """One private charge of the plan. `index` counts those of its kind from 0.

    "anchor" and "assess" are sums over everybody. "train" is a round of local steps at a site that adds all of its
    noise; "gradient" is one such step as a sum over all sites, for secure aggregation. "fisher" is the sum that
    says which weights a site needs, where sites train one after the other.
    """

    kind: StepKind
    index: int
    mechanism: Mechanism


@dataclass(frozen=True)
class Plan:
    """A study with its private steps in order; `code` names the source that will run."""

    study: Study
    steps: tuple[Step, ...]
    code: str

    @cached_property
    def shape(self) -> Shape:
        """Return the shape of the study's windows."""
        return shape_of(self.study)

    @cached_property
    def family(self) -> "Family":
        """Return the family that the study names."""
        from fedsynth.families.registry import family_of

        return family_of(self.study.family)

    @cached_property
    def estimator(self) -> "Estimator":
        """Return the estimator of the anchor."""
        from fedsynth.anchors.estimator import estimator_of

        return estimator_of(self.study)

    @property
    def is_aggregate(self) -> bool:
        """Whether sites add shares and the coordinator sees totals alone."""
        return self.study.privacy.trust == "aggregate"

    def phase(self, step: Step) -> "Phase":
        """Return which of the family's phases a "train", "gradient" or "fisher" step belongs to."""
        return self.family.phases[step.index // _steps_of_a_phase(self.study)]

    def fisher_of(self, number: int) -> tuple[int, Step] | None:
        """Return number and step of the Fisher information of what step `number` trains, if it is asked for."""
        following = self.steps[number + 1]  # scores end every plan
        return (number + 1, following) if following.kind == "fisher" else None

    def round_of(self, step: Step) -> int:
        """Return which round of its phase a "train" step is, from 0."""
        return step.index % _steps_of_a_phase(self.study)

    @property
    def digest(self) -> str:
        """SHA-256 over everything, 64 hexadecimal digits; this is what a hospital approves."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def mechanisms(self, group: Group) -> tuple[Mechanism, ...]:
        """Return what the plan asks of one group of units."""
        return tuple(step.mechanism for step in self.steps if step.mechanism.group == group)

    def epsilon(self) -> float:
        """Return what the plan costs a unit: the larger of the two groups, which compose in parallel."""
        delta = self.study.privacy.delta
        return max(epsilon_pld(self.mechanisms(group), delta=delta) for group in ("train", "held-out"))

    def to_json(self) -> str:
        """Write the plan in one way only."""
        steps = [{"kind": step.kind, "index": step.index, **step.mechanism.as_json()} for step in self.steps]
        return canonical({"study": self.study.to_plain(), "steps": steps, "code": self.code})

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read a plan.

        Raises:
            RunError: it is not one.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            study = Study.model_validate_json(json.dumps(raw["study"]), strict=False)
            steps = tuple(Step(item["kind"], item["index"], Mechanism.from_json(item)) for item in raw["steps"])
            return cls(study=study, steps=steps, code=raw["code"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"the plan cannot be read ({type(error).__name__})") from error


_PLANS: dict[str, Plan] = {}


def plan_of(study: Study) -> Plan:
    """Turn a study into its plan; the same on every machine that runs the same code.

    Raises:
        StudyError: an unknown family or option.
        PrivacyError: no noise reaches epsilon.
    """
    from fedsynth.anchors.estimator import estimator_of
    from fedsynth.evaluation.tally_plan import tally_plan_of
    from fedsynth.families.registry import family_of

    known = _PLANS.get(study.digest)
    if known is not None:
        return known
    family, shape, shares = family_of(study.family), shape_of(study), study.training
    asked: list[tuple[StepKind, int, SumRequest]] = []
    if shares.anchor:
        asked += [("anchor", index, request) for index, request in enumerate(estimator_of(study).requests(shape))]
    each = _steps_of_a_phase(study)
    is_aggregate = _is_stepwise(study)
    for index in range(each * len(family.phases)):
        phase = family.phases[index // each]
        request = SumRequest(
            purpose=f"gradients: {phase.name}, {'step' if is_aggregate else 'round'} {index % each + 1}",
            clipping_norm=shares.gradient_clip,
            sampling_probability=shares.sampling_probability,
            steps=1 if is_aggregate else _local_steps(study),
        )
        asked.append(("gradient" if is_aggregate else "train", index, request))
        if shares.consolidation:
            asked.append(("fisher", index, _fisher_request(study, phase)))
    asked.append(("assess", 0, SumRequest("scores", clipping_norm=tally_plan_of(study).bound, group="held-out")))
    mechanisms = share_budget(
        [request for _, _, request in asked],
        epsilon=study.privacy.epsilon,
        delta=study.privacy.delta,
        gradient_share=shares.gradient_share,
        unit=study.privacy.unit,
        noise_shares=noise_shares(study),
    )
    steps = (Step(kind, index, done) for (kind, index, _), done in zip(asked, mechanisms, strict=True))
    plan = Plan(study=study, steps=tuple(steps), code=str(code_in_use()))
    _PLANS[study.digest] = plan
    return plan


def _fisher_request(study: Study, phase: "Phase") -> SumRequest:
    """Return the sum of a phase's squared gradients.

    Raises:
        StudyError: the phase's loss is a game, of which weights have no Fisher information.
    """
    if phase.public_part:
        raise StudyError(
            f"plan.consolidation = {study.training.consolidation:g} asks how much each weight matters to the loss, "
            f"and that of {study.family.name} is a game between two networks; use consolidation = 0, or a family "
            "with a likelihood, such as vae-ldm. Nothing was opened"
        )
    return SumRequest(f"Fisher information: {phase.name}", study.training.gradient_clip**2, weight=_FISHER_WEIGHT)


def secure_cohort_of(study: Study, roster: Mapping[str, bytes]) -> SecureCohort | None:
    """Return who sums in secret, or None where every site adds all of its noise (or nobody adds any).

    Args:
        study: for trust and cohort.
        roster: the sites' public keys, 32 bytes each.

    Raises:
        PrivacyError: the cohort is too small for the drop-outs and dishonest sites that it allows.
    """
    if study.privacy.trust == "site" or not study.privacy.is_private:
        return None
    return SecureCohort(roster, dropouts=study.cohort.dropouts, dishonest=study.cohort.n_dishonest)


def gradient_steps_of(plan: Plan) -> int:
    """Return how many private gradient steps a plan takes, at each site or over all of them."""
    return sum(step.mechanism.steps for step in plan.steps if step.kind in ("train", "gradient"))


def context_of(*, run: str, plan: str) -> str:
    """Return what the keys of a run's secure aggregation are bound to."""
    return f"run {run} plan {plan}"


def noise_shares(study: Study) -> int:
    """Return in how many shares the noise of a study's sums is drawn.

    Raises:
        PrivacyError: as `secure_cohort_of`.
    """
    secure_cohort = secure_cohort_of(study, stand_in_roster(study))
    return secure_cohort.noise_sharers if secure_cohort else 1


def stand_in_roster(study: Study) -> dict[str, bytes]:
    """Return something in the place of keys: the numbers of a secure_cohort do not depend on them."""
    return {site: hashlib.sha256(site.encode()).digest() for site in study.cohort.sites}


def _steps_of_a_phase(study: Study) -> int:
    """Return how many "train" or "gradient" steps one phase has."""
    return study.n_rounds * (study.training.local_steps if _is_stepwise(study) else 1)


def _is_stepwise(study: Study) -> bool:
    """Whether every step is a sum over all sites; without privacy layers learn in rounds, whomever one trusts."""
    return study.privacy.trust == "aggregate" and not study.learns_plainly


def _local_steps(study: Study) -> int:
    """Return how many steps a site takes in a round."""
    if study.learns_plainly:
        return math.ceil(study.training.minibatch_steps / study.n_rounds)
    return study.training.local_steps
