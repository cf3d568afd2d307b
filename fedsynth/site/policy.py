"""A site's own rules, from `site.toml`: what it allows, whoever asks. The file never leaves the site."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from fedsynth.errors import ConsentError, RefusedError, StudyError
from fedsynth.privacy.mechanism import Group
from fedsynth.study import PrivacyUnit, Trust
from fedsynth.toml import dumps

if TYPE_CHECKING:  # a site that only tells its name loads neither
    from fedsynth.ledger.ledger import Ledger
    from fedsynth.plan import Plan


class Policy(BaseModel):
    """The rules of one site.

    `ledger` is the folder of the ledger and `ledger_head` the second place of its head, best on another disk; both
    relative to the site's folder or absolute. `largest_epsilon` has no default. `largest_studies` bounds how many
    studies may ever ask about the same people. `units` are those whose promise the site takes, `trust` the kinds of
    trust it gives, and `least_dishonest` how many other sites may work against it under trust `aggregate`.
    `device` is "auto" (CUDA where there is one), "cpu" or "cuda".
    `allow_batched` allows studies that take the gradients of many units at once, for which the coordinator must be
    trusted with the parameters. `kill_switch` names a file; while it exists nothing is answered. With
    `signed_approvals` an approval counts only under the site's signature, and with `approvers`, names and Ed25519
    public keys of people in 64 hexadecimal digits, only under theirs too.
    `windows_key` names a file of 32 random bytes, best kept apart from backups: with it windows lie sealed on the
    disk. `recordings` is the hospital's folder, relative to the site's or absolute.
    `memory_gigabytes` and `step_minutes` bound what one step may use where a process of its own computes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    ledger: str = "ledger"
    ledger_head: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    largest_epsilon: float = Field(gt=0)
    largest_delta: float = Field(default=1e-5, gt=0, lt=1)
    units: tuple[PrivacyUnit, ...] = ("subject",)
    trust: tuple[Trust, ...] = ("site", "aggregate")
    least_dishonest: int = Field(default=0, ge=0)
    allow_batched: bool = Field(default=False, validation_alias=AliasChoices("allow_batched", "together"))
    least_subjects: int = Field(default=1, ge=1)
    largest_studies: int = Field(default=100, ge=1)
    families: tuple[str, ...] = ("cwgan",)
    kill_switch: str = "STOP"
    windows_key: str = ""
    recordings: str = ""
    memory_gigabytes: float = Field(default=8.0, gt=0)
    step_minutes: float = Field(default=240.0, gt=0)
    signed_approvals: bool = False
    approvers: Mapping[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)

    @field_validator("approvers")
    @classmethod
    def _are_different_people(cls, approvers: Mapping[str, str]) -> Mapping[str, str]:
        if len(set(approvers.values())) != len(approvers):
            raise ValueError("two approvers have one key; each person makes a key of their own")
        return approvers

    @property
    def needs_signatures(self) -> bool:
        """Whether an approval counts only under signatures."""
        return self.signed_approvals or bool(self.approvers)

    def to_toml(self) -> str:
        """Return the text of a `site.toml` that says what is set here, and nothing that keeps to its default.

        Raises:
            StudyError: a text, such as a path in another encoding, has no form in UTF-8.
        """
        return dumps(self.model_dump(exclude_unset=True))


def load_policy(folder: Path) -> Policy:
    """Read a site's `site.toml`.

    Raises:
        StudyError: missing or not a policy.
    """
    try:
        return Policy.model_validate_json(_as_json(folder / "site.toml"))
    except FileNotFoundError as error:
        raise StudyError(
            "site.toml cannot be read as a site's policy: there is none; name a site's folder, or begin one with "
            "fedsynth site init FOLDER --name NAME"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise StudyError(f"site.toml cannot be read as a site's policy: {_short(error)}") from error


def check_plan(policy: Policy, plan: "Plan") -> None:
    """Refuse a plan that the site's rules do not allow; nothing here depends on who is held.

    Raises:
        ConsentError: a limit of the site is exceeded; the message names the field for the site's own log.
    """
    privacy, cohort, family = plan.study.privacy, plan.study.cohort, plan.study.family.name
    if privacy.epsilon > policy.largest_epsilon:
        raise ConsentError(
            f"epsilon {privacy.epsilon:g} exceeds this site's {policy.largest_epsilon:g} (largest_epsilon)"
        )
    if privacy.delta > policy.largest_delta:
        raise ConsentError(f"delta {privacy.delta:g} exceeds this site's {policy.largest_delta:g} (largest_delta)")
    if privacy.unit not in policy.units:
        raise ConsentError(
            f"the promise is per {privacy.unit}, and this site allows {' or '.join(policy.units) or 'none'} (units)"
        )
    if privacy.trust not in policy.trust:
        raise ConsentError(
            f"trust {privacy.trust} is not given at this site, only {' or '.join(policy.trust) or 'none'} (trust)"
        )
    if privacy.trust == "aggregate" and cohort.n_dishonest < policy.least_dishonest:
        raise ConsentError(
            f"the study's noise holds with {cohort.n_dishonest} dishonest sites, and this site asks for "
            f"{policy.least_dishonest} (least_dishonest)"
        )
    if family not in policy.families:
        raise ConsentError(
            f"family {family} is not allowed at this site, only {', '.join(policy.families) or 'none'} (families)"
        )
    if plan.study.training.private_step == "batched" and not policy.allow_batched:
        raise ConsentError(
            'plan.private_step = "batched" trusts the coordinator\'s parameters; this site does not (allow_batched)'
        )


def check_people(policy: Policy, plan: "Plan", *, subjects: int) -> None:
    """Refuse a plan for too few people; once, when it is approved, for a later refusal would tell of one of them.

    Raises:
        ConsentError: fewer subjects than the site or the study asks for.
    """
    cohort = plan.study.cohort
    for asks, least in (("this site", policy.least_subjects), ("the study", cohort.least_subjects)):
        if subjects < least:
            raise ConsentError(
                f"this site holds fewer subjects ({subjects}) than the {least} that {asks} asks for "
                "(least_subjects)"
            )


def check_studies(policy: Policy, ledger: "Ledger", plan: "Plan", *, tokens: Mapping[Group, Sequence[str]]) -> None:
    """Refuse a study that would be one too many for some of the people here.

    Raises:
        ConsentError: `largest_studies` other ones were charged to them already.
    """
    for people in tokens.values():
        others = ledger.studies(people) - {plan.digest}
        if len(others) >= policy.largest_studies:
            raise ConsentError(
                f"{len(others)} other studies were charged to people of this site; its policy allows "
                f"{policy.largest_studies} in all (largest_studies)"
            )


def check_switch(policy: Policy, folder: Path) -> None:
    """Refuse everything while the kill switch is thrown.

    Raises:
        RefusedError: the file exists.
    """
    if (folder / policy.kill_switch).exists():
        raise RefusedError(f"the kill switch is thrown: remove {policy.kill_switch} in the site's folder to go on")


def _as_json(path: Path) -> str:
    return json.dumps(tomllib.loads(path.read_text(encoding="utf-8")), default=str)


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not written in UTF-8"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)
