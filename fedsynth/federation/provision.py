"""Provisioning: from requests that people confirmed to certificates, a new edition of the roster, and kits.

Every change of membership is here: certify, renew, rotate, revoke. Each counts the edition up, keeps it in the
authority's register first, and then writes kits for those whom it concerns and a notice for everybody else.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from fedsynth.errors import FederationError
from fedsynth.federation.authority import Authority, Certified, Register
from fedsynth.federation.charter import Charter
from fedsynth.federation.files import check_vacant, make_folder, read
from fedsynth.federation.kit import write_kit, write_notice
from fedsynth.federation.membership import MembershipRequest, load_membership
from fedsynth.federation.names import host_and_port
from fedsynth.federation.roster import Member, Revocation, Revoked, Roster
from fedsynth.federation.words import same_words


@dataclass(frozen=True)
class Provisioned:
    """What was done: who was certified now, who still has to send a request, and the edition that says so."""

    edition: int
    certified: tuple[Member, ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class Provisioner:
    """An authority at work for a charter.

    `lock` is the file of pinned packages that goes into every kit, so that a site can compare what it installed.
    """

    authority: Authority
    charter: Charter
    now: datetime
    lock: Path | None = None

    def read_requests(self, folder: Path) -> dict[str, MembershipRequest]:
        """Read every request in a folder, of participants whom the charter names and who are not certified yet.

        Raises:
            FederationError: a stranger's, two of one participant, of another role, other keys than those certified,
                keys that two participants share or that were revoked; or a proof of possession that does not hold.
            FederationFileError: malformed.
        """
        found: dict[str, MembershipRequest] = {}
        for path in sorted(folder.glob("*.json")):
            request = load_membership(path)
            self._check_role(request)
            if request.name in found:
                raise FederationError(
                    f"two requests are by {request.name}; keep the one whose words it reads to you"
                )
            found[request.name] = request
        register = self.authority.load_register()
        for name, request in found.items():
            known = register.certified.get(name)
            if known and not _same_keys(known, request):
                raise FederationError(
                    f"{name} is certified with other keys than this request's; nobody was certified. If it made "
                    f"new ones: fedsynth federation rotate {name}"
                )
        self._check_keys([*found.values()], register)
        return {name: request for name, request in found.items() if name not in register.certified}

    def certify(self, requests: Mapping[str, MembershipRequest], confirmed: Mapping[str, str]) -> Register:
        """Certify those whose words were said; the register is kept before it is returned.

        Args:
            requests: by name.
            confirmed: by name, the words as the participant said them.

        Raises:
            FederationError: words are wrong, or of nobody who asked; nobody was certified.
        """
        strangers = sorted(set(confirmed) - set(requests))
        if strangers:
            raise FederationError(
                f"words were given for {strangers[0]}, of whom there is no new request; nobody was certified"
            )
        for name, said in confirmed.items():
            check_words(requests[name], said)
        register = self.authority.load_register()
        made = {name: self._certificate(requests[name]) for name in confirmed}
        return self._keep(replace(register, certified={**register.certified, **made}))

    def renew(self, name: str) -> Register:
        """Give a member a new certificate for the keys that it has; errors as `_member`."""
        register = self.authority.load_register()
        known = _member(register, name)
        request = MembershipRequest(known.member.role, name, known.tls, known.member.identity, known.member.node)
        self._check_role(request)
        return self._keep(replace(register, certified={**register.certified, name: self._certificate(request)}))

    def rotate(self, request: MembershipRequest, said: str) -> Register:
        """Certify a member's new keys and revoke the old ones.

        Raises:
            FederationError: nobody of that name, wrong words, or a key that is not new.
        """
        register = self.authority.load_register()
        old = _member(register, request.name)
        self._check_role(request)
        check_words(request, said)
        if old.member.identity == request.identity or old.tls == request.tls:
            raise FederationError(
                f"the request of {request.name} holds a key that it had before; nothing was changed. Have it make "
                "new ones, or renew the old ones"
            )
        self._check_keys([request], register)
        gone = self._revocation(old.member, reason="keys were rotated")
        certified = {**register.certified, request.name: self._certificate(request)}
        return self._keep(replace(register, certified=certified, revoked=(*register.revoked, gone)))

    def revoke(self, name: str, *, reason: str) -> Register:
        """Take a member off the roster and put its certificate and keys on the lists; errors as `_member`."""
        register = self.authority.load_register()
        gone = self._revocation(_member(register, name).member, reason=reason)
        certified = {other: one for other, one in register.certified.items() if other != name}
        return self._keep(replace(register, certified=certified, revoked=(*register.revoked, gone)))

    def roster(self, register: Register) -> Roster:
        """Return the roster of a register."""
        members = {name: one.member for name, one in register.certified.items()}
        lock = hashlib.sha256(read(self.lock, what="the lock file")).hexdigest() if self.lock else ""
        return Roster(
            name=self.charter.name,
            edition=register.edition,
            issued=self.now.replace(microsecond=0),
            addresses=self.charter.addresses,
            coordinator=next((one for one in members.values() if one.role == "coordinator"), None),
            sites={name: one for name, one in members.items() if one.role == "site"},
            lock_sha256=lock,
        )

    def hand_out(self, register: Register, *, out: Path, kits_for: Sequence[str]) -> None:
        """Write a kit for each of those named, and a notice for all the others, into a new folder.

        Raises:
            RefusedError: something stands in the folder.
        """
        check_vacant(out)
        make_folder(out)
        roster, revoked = self.roster(register), Revoked(register.edition, register.revoked)
        make_folder(out / "kits")
        for name in kits_for:
            write_kit(
                out / "kits" / name,
                register.certified[name],
                authority=self.authority,
                roster=roster,
                revoked=revoked,
                lock=self.lock,
                now=self.now,
            )
        write_notice(out / "notice", authority=self.authority, roster=roster, revoked=revoked, now=self.now)

    def _keep(self, register: Register) -> Register:
        later = replace(register, edition=register.edition + 1)
        self.authority.save_register(later)
        return later

    def _certificate(self, request: MembershipRequest) -> Certified:
        hosts: tuple[str, ...] = ()
        if request.role == "coordinator":
            hosts = tuple(dict.fromkeys(host_and_port(address)[0] for address in self.charter.addresses))
        return self.authority.certify(request, hosts=hosts, now=self.now, days=self.charter.valid_days)

    def _revocation(self, member: Member, *, reason: str) -> Revocation:
        since = self.now.replace(microsecond=0)
        return Revocation(member.name, member.serial, member.identity, member.node, since, reason)

    def _check_role(self, request: MembershipRequest) -> None:
        if request.name not in self.charter.participants:
            raise FederationError(
                f"a request is by {request.name}, whom the charter does not name; nobody was certified. It names "
                f"{', '.join(self.charter.participants)}"
            )
        role = "coordinator" if request.name == self.charter.coordinator else "site"
        if request.role != role:
            raise FederationError(f"{request.name} asks to be a {request.role} and the charter says {role}")

    def _check_keys(self, requests: Sequence[MembershipRequest], register: Register) -> None:
        """Refuse keys that two participants share, and those that were revoked."""
        held: dict[bytes, str] = {}
        for entry in register.revoked:
            held |= {entry.identity: "a revoked certificate", entry.node.encode(): "a revoked certificate"}
        for name, one in register.certified.items():
            held |= dict.fromkeys((one.member.identity, one.member.node.encode(), one.tls.encode()), name)
        held.pop(b"", None)
        for request in requests:
            for key in (request.identity, request.node.encode(), request.tls.encode()):
                if key and held.get(key, request.name) != request.name:
                    raise FederationError(
                        f"a key in the request of {request.name} is that of {held[key]}; nobody was certified. "
                        "Every participant makes keys of its own"
                    )
                held[key] = request.name


def check_words(request: MembershipRequest, said: str) -> None:
    """Refuse words that are not the request's fingerprint.

    Raises:
        FederationError: they are others.
    """
    if not same_words(said, request.words):
        raise FederationError(
            f"the words said for {request.name} are not those of the request that is here; nobody was certified. "
            f"Somebody may have sent another request in its name: have {request.name} read its words again"
        )


def _member(register: Register, name: str) -> Certified:
    if name not in register.certified:
        raise FederationError(
            f"{name} is not certified; nothing was changed. Certified are {', '.join(register.certified) or 'none'}"
        )
    return register.certified[name]


def _same_keys(known: Certified, request: MembershipRequest) -> bool:
    found = (known.tls, known.member.identity, known.member.node)
    return found == (request.tls, request.identity, request.node)


def waiting(charter: Charter, register: Register) -> tuple[str, ...]:
    """Return the participants of a charter who are not certified."""
    return tuple(name for name in charter.participants if name not in register.certified)
