"""The plan that sites approve: the study, every private step with its noise, and the code version, as a digest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from fedsynth.errors import RunError
from fedsynth.evaluation.tally import tally_bound
from fedsynth.families.estimator import estimator_of
from fedsynth.families.registry import family_of
from fedsynth.families.shape import shape_of
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.budget import Wish, share_budget
from fedsynth.privacy.mechanism import Group, Mechanism
from fedsynth.privacy.roster import Circle
from fedsynth.study import Study, canonical

Kind = Literal["anchor", "train", "gradient", "assess"]


@dataclass(frozen=True)
class Step:
    """One private charge of the plan. `index` counts those of its kind from 0.

    "anchor" and "assess" are sums over everybody. "train" is a round of local steps at a site that adds all of its
    noise; "gradient" is one such step as a sum over all sites, for secure aggregation.
    """

    kind: Kind
    index: int
    mechanism: Mechanism

    def phase(self, study: Study) -> int:
        """Return which of the family's phases a "train" or "gradient" step belongs to."""
        return self.index // _of_a_phase(study)


@dataclass(frozen=True)
class Plan:
    """A study with its private steps in order; `code` names the source that will run."""

    study: Study
    steps: tuple[Step, ...]
    code: str

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
        return canonical({"study": self.study.model_dump(mode="json"), "steps": steps, "code": self.code})

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
    known = _PLANS.get(study.digest)
    if known is not None:
        return known
    family, shape, shares = family_of(study.family), shape_of(study), study.plan
    asked: list[tuple[Kind, int, Wish]] = []
    if shares.anchor:
        asked += [("anchor", index, wish) for index, wish in enumerate(estimator_of(study).wishes(shape))]
    each = _of_a_phase(study)
    together = study.privacy.trust == "aggregate"
    for index in range(each * len(family.phases)):
        phase = family.phases[index // each]
        wish = Wish(
            purpose=f"gradients: {phase.name}, {'step' if together else 'round'} {index % each + 1}",
            clipping_norm=shares.gradient_clip,
            sampling_probability=shares.sampling_probability,
            steps=1 if together else shares.local_steps,
        )
        asked.append(("gradient" if together else "train", index, wish))
    asked.append(("assess", 0, Wish("scores", clipping_norm=tally_bound(), group="held-out")))
    mechanisms = share_budget(
        [wish for _, _, wish in asked],
        epsilon=study.privacy.epsilon,
        delta=study.privacy.delta,
        gradient_share=shares.gradient_share,
        unit=study.privacy.unit,
        noise_shares=noise_shares(study),
    )
    steps = (Step(kind, index, done) for (kind, index, _), done in zip(asked, mechanisms, strict=True))
    plan = Plan(study=study, steps=tuple(steps), code=code_version())
    _PLANS[study.digest] = plan
    return plan


def circle_of(study: Study, roster: Mapping[str, bytes]) -> Circle | None:
    """Return who sums in secret, or None where every site adds all of its noise (or nobody adds any).

    Args:
        study: for trust and cohort.
        roster: the sites' public keys, 32 bytes each.

    Raises:
        PrivacyError: the cohort is too small for the drop-outs and dishonest sites that it allows.
    """
    if study.privacy.trust == "site" or not study.privacy.is_private:
        return None
    return Circle(roster, dropouts=study.cohort.dropouts, dishonest=study.cohort.dishonest)


def context_of(*, run: str, plan: str) -> str:
    """Return what the keys of a run's secure aggregation are bound to."""
    return f"run {run} plan {plan}"


def noise_shares(study: Study) -> int:
    """Return in how many shares the noise of a study's sums is drawn.

    Raises:
        PrivacyError: as `circle_of`.
    """
    circle = circle_of(study, stand_in_roster(study))
    return circle.noise_sharers if circle else 1


def stand_in_roster(study: Study) -> dict[str, bytes]:
    """Return something in the place of keys: the numbers of a circle do not depend on them."""
    return {site: hashlib.sha256(site.encode()).digest() for site in study.cohort.sites}


def _of_a_phase(study: Study) -> int:
    """Return how many "train" or "gradient" steps one phase has."""
    shares = study.plan
    return study.n_rounds * (shares.local_steps if study.privacy.trust == "aggregate" else 1)


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the package version and a digest of its source and weights, e.g. "0.1.0+3f2a9c41..." with 64 digits.

    Of sources and weights, not of what Python made of them: bytecode and extensions beside them are not looked at.
    """
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.safetensors")]):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(data)}\0".encode() + data)
    return f"{version('fedsynth')}+{digest.hexdigest()}"
