"""Requests to sites: one study and its plan, for one run, signed by the coordinator.

A site reads it, shows it in plain words, and approves or not; nothing in it is executed. The plan is text here:
what it asks for is computed again at the site before it is approved.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import FederationError, FederationFileError
from fedsynth.federation import keys
from fedsynth.federation.files import canonical, read, read_json
from fedsynth.federation.roster import Member

SIGNING_KEY = "signing.key"
_TYPE = "fedsynth study request v1"
_FIELDS = ("federation", "run", "plan", "asked", "note")


@dataclass(frozen=True)
class StudyRequest:
    """What a coordinator asks of sites.

    `plan` is the plan's JSON, which names study, private steps and code; `identities` are the sites' public keys,
    32 bytes each, by name, for those that take part; `asked` a date and `note` a sentence, both for people.
    """

    federation: str
    run: str
    plan: str
    identities: dict[str, bytes]
    asked: str
    note: str = ""

    @property
    def plan_digest(self) -> str:
        """SHA-256 of the plan, 64 hexadecimal digits: what a site approves."""
        return hashlib.sha256(self.plan.encode()).hexdigest()

    @property
    def statement(self) -> bytes:
        """Return what the coordinator signs."""
        body = {name: getattr(self, name) for name in _FIELDS}
        body["identities"] = {name: key.hex() for name, key in self.identities.items()}
        return _TYPE.encode() + b"\n" + canonical(body)

    @property
    def digest(self) -> str:
        """SHA-256 of the request, 64 hexadecimal digits: what people sign who approve it."""
        return hashlib.sha256(self.statement).hexdigest()

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """Write the request with the coordinator's signature."""
        body = read_json(self.statement.partition(b"\n")[2], what="the request")
        return canonical({"type": _TYPE, **body, "signature": key.sign(self.statement).hex()}) + b"\n"


def read_request(data: bytes, *, coordinator: Member | None) -> StudyRequest:
    """Read a request and verify that the coordinator of the roster signed it.

    Args:
        data: of the file.
        coordinator: in good standing; None where the roster names none.

    Raises:
        FederationFileError: malformed.
        FederationError: somebody else signed it, or it was changed.
    """
    raw = read_json(data, what="the request")
    if raw.get("type") != _TYPE or set(raw) != {"type", *_FIELDS, "identities", "signature"}:
        raise FederationFileError("this is no request for a study, or one of another version of fedsynth")
    if not all(isinstance(raw[name], str) for name in _FIELDS) or not isinstance(raw["identities"], dict):
        raise FederationFileError("a field of the request is of another kind")
    what = "the request's list of sites"
    request = StudyRequest(
        **{name: raw[name] for name in _FIELDS},
        identities={str(name): keys.from_hex(key, size=32, what=what) for name, key in raw["identities"].items()},
    )
    signature = keys.from_hex(raw["signature"], size=64, what="the request's signature")
    if coordinator is None or not keys.made_by(coordinator.identity, signature, request.statement):
        raise FederationError(
            "the request is not signed by the coordinator that the roster names; it is not shown and cannot be "
            "approved. Ask the coordinator whether it sent one"
        )
    return request


def load_request(path: Path, *, coordinator: Member | None) -> StudyRequest:
    """Read a request from a file; errors as `read_request`."""
    return read_request(read(path, what="the request"), coordinator=coordinator)
