"""Consent under signatures: who agreed to a request, in which approval, and whether it was withdrawn since.

An approval has a number that nobody can guess. The people whom the policy names sign request and number, each with
a key of their own; the site signs all of it, with the mark that it left in its ledger. A withdrawal is a file that
bears the number, so that an approval which comes back from a backup is still withdrawn.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import ConsentError, FederationError, RefusedError
from fedsynth.federation import keys
from fedsynth.federation.files import canonical
from fedsynth.federation.proposal import StudyRequest
from fedsynth.federation.roster import Member, load_roster
from fedsynth.federation.standing import standing
from fedsynth.ledger import disk as disk
from fedsynth.site.policy import Policy

APPROVED, IDENTITY = "approved", "identity.key"
FEDERATION = "federation"
"""Where a site keeps its kit, with the keys that it made."""
_WITHDRAWN = ".withdrawn"
_PURPOSE = b"fedsynth approval v1\n"


@dataclass(frozen=True)
class Consent:
    """What stands beside an approved plan.

    `approval` is 32 hexadecimal digits, fresh for each approval; `order` counts them, from 1; `request` is the
    digest of what was asked, and `sites` the public keys of those who take part; `people` maps those who approved
    to their signatures, and `signature` is the site's, all in hexadecimal digits.
    """

    approval: str
    order: int
    request: str
    asked: str
    sites: Mapping[str, str] = field(default_factory=dict)
    people: Mapping[str, str] = field(default_factory=dict)
    signature: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return what is kept."""
        return {**self.__dict__, "sites": dict(self.sites), "people": dict(self.people)}

    @classmethod
    def from_plain(cls, raw: Any) -> "Consent":
        """Read what was kept.

        Raises:
            ConsentError: it is none.
        """
        try:
            people = {str(name): str(signature) for name, signature in raw["people"].items()}
            sites = {str(name): str(key) for name, key in raw["sites"].items()}
            texts = {name: str(raw[name]) for name in ("approval", "request", "asked", "signature")}
            return cls(order=int(raw["order"]), sites=sites, people=people, **texts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConsentError("this site's approval bears no signature that can be read; approve again") from error

    @classmethod
    def begin(cls, folder: Path, request: StudyRequest) -> "Consent":
        """Return the consent to a request that nobody has signed yet."""
        order = 1 + max((consent.order for consent in kept_consents(folder)), default=0)
        sites = {name: key.hex() for name, key in request.identities.items()}
        return cls(secrets.token_hex(16), order, request.digest, request.asked, sites)

    def statement(self, *, site: str, run: str, plan: str) -> bytes:
        """Return what people sign: request and plan by digest, for one run at one site, in this approval."""
        about = {"site": site, "run": run, "plan": plan, "request": self.request, "approval": self.approval}
        return _PURPOSE + canonical(about)

    def sealed_part(self, *, site: str, run: str, plan: str, mark: str, roster: Mapping[str, str]) -> bytes:
        """Return what the site signs: what people did and that they did, with mark and roster."""
        rest = {name: value for name, value in self.to_plain().items() if name != "signature"}
        said = canonical({**rest, "mark": mark, "roster": dict(roster)})
        return self.statement(site=site, run=run, plan=plan) + b"\n" + said

    def signed_by(self, name: str, key: Ed25519PrivateKey, statement: bytes) -> "Consent":
        """Add one person's signature."""
        return replace(self, people={**self.people, name: key.sign(statement).hex()})

    def missing(self, policy: Policy, statement: bytes) -> tuple[str, ...]:
        """Return which of the people whom the policy names have not signed."""
        return tuple(
            name
            for name, public in policy.approvers.items()
            if not keys.made_by(bytes.fromhex(public), _bytes(self.people.get(name, "")), statement)
        )

    def sealed(
        self, folder: Path, policy: Policy, *, run: str, plan: str, mark: str, roster: Mapping[str, str]
    ) -> "Consent":
        """Return the consent under the site's signature.

        Raises:
            ConsentError: somebody whom the policy names has not signed.
        """
        self.check_people(policy, run=run, plan=plan)
        said = self.sealed_part(site=policy.name, run=run, plan=plan, mark=mark, roster=roster)
        return replace(self, signature=identity_of(folder).sign(said).hex())

    def check_people(self, policy: Policy, *, run: str, plan: str) -> None:
        """Refuse a consent that somebody whom the policy names has not signed.

        Raises:
            ConsentError: naming them, for the site's own eyes.
        """
        missing = self.missing(policy, self.statement(site=policy.name, run=run, plan=plan))
        if missing:
            raise ConsentError(
                f"approval by {' and '.join(missing)} is missing: this site's policy asks for "
                f"{' and '.join(policy.approvers)} (approvers)"
            )


def check_consent(
    folder: Path, policy: Policy, raw: Any, *, run: str, plan: str, mark: str, roster: Mapping[str, str]
) -> None:
    """Refuse an approval that is not signed as the policy asks, or that was withdrawn.

    Args:
        folder: the site's.
        policy: the site's.
        raw: the consent as it was kept with the approval; None where there is none.
        run: the name of the run.
        plan: the digest of the plan.
        mark: that the approval left in the ledger.
        roster: public keys in hexadecimal digits, by site.

    Raises:
        ConsentError: no signature, a wrong one, or a withdrawal.
        FederationError: the coordinator is not in good standing any more.
    """
    if raw is None and not policy.needs_signatures:
        return
    consent = Consent.from_plain(raw)
    if is_withdrawn(folder, consent.approval):
        raise ConsentError("this approval was withdrawn; nothing is answered for it")
    consent.check_people(policy, run=run, plan=plan)
    said = consent.sealed_part(site=policy.name, run=run, plan=plan, mark=mark, roster=roster)
    if not keys.made_by(_public(folder), _bytes(consent.signature), said):
        raise ConsentError(
            "this site's approval does not bear this site's signature, or was changed after it; approve again"
        )
    coordinator_of(folder)


def coordinator_of(folder: Path, *, now: datetime | None = None) -> Member:
    """Return the coordinator of a site's federation, in good standing; asked at every order.

    Raises:
        FederationError: the roster names none, or it is expired or revoked.
        FederationFileError: the site has no kit.
    """
    member = load_roster(folder / FEDERATION).coordinator
    if member is None:
        raise FederationError(
            "the roster names no coordinator, or its coordinator was revoked; nothing is answered"
        )
    return standing(folder / FEDERATION, name=member.name, now=now)


def is_withdrawn(folder: Path, approval: str) -> bool:
    """Whether an approval was withdrawn; one whose number is no number counts as withdrawn."""
    if len(approval) != 32 or not set(approval) <= set("0123456789abcdef"):
        return True
    return (folder / APPROVED / f"{approval}{_WITHDRAWN}").exists()


def keep_withdrawal(folder: Path, consent: Consent, body: Mapping[str, Any]) -> None:
    """Write that an approval is withdrawn, with what it was, on the disk before anything else happens."""
    path = folder / APPROVED / f"{consent.approval}{_WITHDRAWN}"
    disk.write_durably(path, json.dumps(body).encode("utf-8"), like=folder)


def kept_bodies(folder: Path) -> list[dict[str, Any]]:
    """Return every approval that is kept, withdrawn ones too, as it was written."""
    place = folder / APPROVED
    paths = [*place.glob("*.json"), *place.glob(f"*{_WITHDRAWN}")]
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)]


def kept_consents(folder: Path) -> list[Consent]:
    """Return the consents of all approvals that are kept, withdrawn ones too."""
    return [Consent.from_plain(body["consent"]) for body in kept_bodies(folder) if body.get("consent")]


def identity_of(folder: Path) -> Ed25519PrivateKey:
    """Return the key that a site signs with.

    Raises:
        RefusedError: it has none.
    """
    if not (folder / IDENTITY).exists():
        raise RefusedError("this site has no key to sign with; fedsynth site request makes one")
    return keys.load_signing_key(folder / IDENTITY, what="this site's signing key")


def _public(folder: Path) -> bytes:
    return identity_of(folder).public_key().public_bytes_raw()


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
