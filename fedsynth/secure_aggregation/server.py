"""SecureServer: the coordinator's side of the protocol that `fedsynth.secure_aggregation.protocol` describes.

Between two steps it can be written down and continued by another process. In the middle of a step, whoever calls it
keeps the messages that came, and hands them in again: the same messages lead to the same requests.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from fedsynth.errors import PrivacyError, RefusedError, WireError
from fedsynth.secure_aggregation.messages import (
    LARGEST_VECTOR,
    MessageReader,
    StepRecord,
    Vector,
    pack_message,
)
from fedsynth.secure_aggregation.roster import (
    MOST_STEPS,
    SIGNATURE_BYTES,
    KeySet,
    SecureCohort,
    Session,
    check_keys,
)
from fedsynth.secure_aggregation.shamir import SHARE_BYTES, sealed_size

_TO = ">"  # stands in no site's name
_BETWEEN = ("shares", "revealed")  # what is awaited when no step is under way


@dataclass(frozen=True, eq=False)
class OpenedTotal:
    """The sum of one step modulo 2^64, shape (size,), uint64, and the sites whose vectors it holds."""

    step: int
    survivors: tuple[str, ...]
    values: Vector


class SecureServer:
    """The coordinator's side of a session: it collects replies, and keeps no secret.

    `receive` refuses what does not validate and leaves everything as it was, so that the site concerned counts as
    dropped out unless a better reply follows. Each `ask_...` ends the stage before it and returns the requests of
    the next by site, the same when called again. With too few replies, or out of turn, it raises RefusedError;
    more may then still come, or `ask_sum` give the step up for a later one.
    """

    def __init__(self, cohort: SecureCohort, context: str, steps: int) -> None:
        """Begin to collect keys."""
        self._session, self._circle = Session(cohort, context, steps), cohort
        self._stage, self._seen = "keys", dict[str, bytes]()  # the kind that is awaited, and who sent it
        self._keys: dict[str, KeySet] = {}
        self._sealed: dict[str, dict[str, bytes]] = {}
        self._delivered: set[str] = set()
        self._record = StepRecord(-1, np.zeros(0, np.uint64))

    @classmethod
    def from_bytes(cls, data: bytes, *, cohort: SecureCohort) -> "SecureServer":
        """Continue from what `to_bytes` wrote.

        Raises:
            WireError: it is damaged.
            PrivacyError: it belongs to another cohort.
        """
        reader = MessageReader(data, kind="server", session=None, sender="the coordinator's own file")
        server = cls(cohort, reader.text("context"), reader.number("steps", least=1, most=MOST_STEPS))
        session = server._session
        if reader.session_digest != session.digest:
            raise PrivacyError("the kept state of a secure sum belongs to another cohort; begin a new session")
        keys, sealed = reader.blobs("keys", size=KeySet.size(session)), reader.blobs("sealed", size=None)
        server._keys = {site: KeySet.from_blob(blob) for site, blob in keys.items()}
        server._sealed = {site: {} for site in reader.names("members")}
        for pair, shares in sealed.items():
            dealer, _, receiver = pair.partition(_TO)
            if len(shares) != sealed_size(session) or dealer not in server._sealed or receiver not in keys:
                raise reader.error("has shares that nobody dealt")
            server._sealed[dealer][receiver] = shares
        server._delivered = set(reader.names("delivered"))
        server._stage, server._seen = reader.text("stage"), reader.blobs("seen", size=hashlib.sha256().digest_size)
        server._record.step = reader.number("step", least=-1, most=session.steps - 1)
        if server._stage not in _BETWEEN or not set(server._sealed) <= set(keys):
            raise reader.error("is not of a moment between two steps")
        reader.end()
        return server

    def to_bytes(self) -> bytes:
        """Write what the steps to come need: after `total`, or after the last shares and before any step.

        Raises:
            RefusedError: a step is under way.
        """
        if self._stage not in _BETWEEN:
            raise RefusedError(f"{self._stage!r} is awaited of step {self._record.step}; it cannot be left now")
        due = {
            f"{dealer}{_TO}{receiver}": shares
            for dealer, by_receiver in self._sealed.items()
            for receiver, shares in by_receiver.items()
            if receiver not in self._delivered
        }
        return pack_message(
            "server",
            self._session,
            context=self._session.context,
            steps=self._session.steps,
            stage=self._stage,
            step=self._record.step,
            keys={site: keys.blob for site, keys in self._keys.items()},
            members=sorted(self._sealed),
            sealed=due,
            delivered=sorted(self._delivered),
            seen=self._seen if self._stage == "shares" else {},
        )

    def receive(self, site: str, data: bytes) -> None:
        """Take one site's reply to the stage that is open; the same bytes may come again.

        Args:
            site: whom the transport names as the sender.
            data: its reply.

        Raises:
            WireError: it does not validate, or is a second and different one; names the site.
        """
        if site not in self._circle.roster:
            raise WireError(f"a message came from {site[:64]!r}, whom the roster does not name; it was left aside")
        digest = hashlib.sha256(data).digest()
        if self._seen.get(site) == digest:
            return
        step = self._record.step if self._record.step >= 0 else None
        reader = MessageReader(data, kind=self._stage, session=self._session, sender=site, step=step)
        if reader.text("site") != site or site in self._seen:
            raise reader.error("names another site, or differs from its reply before")
        takes = {"keys": self._take_keys, "shares": self._take_shares, "masked": self._take_masked}
        takes |= {"agreement": self._take_agreement, "revealed": self._take_revealed}
        takes[self._stage](site, reader)
        self._seen[site] = digest

    def ask_shares(self) -> dict[str, bytes]:
        """End the stage of keys; return the requests: everybody's keys."""
        self._advance("keys", "shares", self._circle.least_survivors)
        request = pack_message("cohort", self._session, keys={site: keys.blob for site, keys in self._keys.items()})
        return dict.fromkeys(sorted(self._keys), request)

    def ask_sum(self, step: int, size: int) -> dict[str, bytes]:
        """Open a step, giving up one that is under way; return the requests, with shares not yet delivered."""
        record = self._record
        if not (self._stage == "masked" and (step, size) == (record.step, len(record.values))):
            if not record.step < step < self._session.steps or not 1 <= size <= LARGEST_VECTOR:
                raise RefusedError(
                    f"step {step} with {size} words cannot follow step {record.step}: steps go upwards to "
                    f"{self._session.steps - 1}, with 1 to {LARGEST_VECTOR} words"
                )
            if record.step < 0:
                self._advance("shares", "masked", self._circle.least_survivors)
            self._stage, self._seen = "masked", {}
            self._record = StepRecord(step, np.zeros(size, np.uint64), members=tuple(sorted(self._sealed)))
        requests = {}
        for site in self._record.members:
            due = self._sealed if site not in self._delivered else {}
            sealed = {dealer: shares[site] for dealer, shares in due.items() if dealer != site}
            requests[site] = pack_message("sum", self._session, step=step, size=size, sealed=sealed)
        return requests

    def ask_agree(self, step: int) -> dict[str, bytes]:
        """End the sum of a step; return the requests to sign who survived."""
        survivors = self._advance("masked", "agreement", self._circle.least_survivors, step=step)
        self._record.survivors = survivors or self._record.survivors
        request = pack_message("agree", self._session, step=step, survivors=self._record.survivors)
        return dict.fromkeys(self._record.survivors, request)

    def ask_unmask(self, step: int) -> dict[str, bytes]:
        """End the agreement; return the requests, to those who signed, to unmask the sum."""
        self._advance("agreement", "revealed", self._circle.threshold, step=step)
        survivors, signatures = self._record.survivors, dict(sorted(self._record.signatures.items()))
        request = pack_message("unmask", self._session, step=step, survivors=survivors, signatures=signatures)
        return dict.fromkeys(signatures, request)

    def total(self, step: int) -> OpenedTotal:
        """Rebuild what the survivors revealed, and take the masks off the sum.

        Raises:
            RefusedError: too few of those who signed have answered.
            WireError: the shares of a secret are false; names whose it is. More answers may help.
        """
        if self._stage != "revealed" or step != self._record.step or len(self._seen) < self._circle.threshold:
            raise self._too_few(f"a total of step {step}", self._circle.threshold)
        return OpenedTotal(step, self._record.survivors, self._record.unmasked(self._session, self._keys))

    def _advance(self, stage: str, following: str, needed: int, *, step: int = -1) -> tuple[str, ...]:
        """Go on to the following stage and return who replied; nobody when we are there already."""
        if self._stage == following and step == self._record.step:
            return ()
        if self._stage != stage or step != self._record.step or len(self._seen) < needed:
            raise self._too_few(f"to wait for {following!r}", needed)
        replied, self._seen, self._stage = tuple(sorted(self._seen)), {}, following
        return replied

    def _too_few(self, what: str, needed: int) -> RefusedError:
        return RefusedError(
            f"{what} takes {needed} replies to the stage before it; {self._stage!r} is awaited now, at step "
            f"{self._record.step}, and {len(self._seen)} came. Nothing was unmasked; wait, or leave this step"
        )

    def _take_keys(self, site: str, reader: MessageReader) -> None:
        keys = KeySet.from_blob(reader.blob("keys", size=KeySet.size(self._session)))
        reader.end()
        try:
            check_keys({site: keys}, session=self._session, beside=self._keys)
        except PrivacyError as error:
            raise reader.error(f"was refused: {error}") from error
        self._keys[site] = keys

    def _take_shares(self, site: str, reader: MessageReader) -> None:
        sealed = reader.blobs("sealed", size=sealed_size(self._session))
        reader.end()
        if sealed.keys() != self._keys.keys() - {site}:
            raise reader.error(f"has shares for {len(sealed)} sites, not for the {len(self._keys) - 1} others")
        self._sealed[site] = sealed

    def _take_masked(self, site: str, reader: MessageReader) -> None:
        size = reader.number("size", least=1, most=LARGEST_VECTOR)
        if size != len(self._record.values) or site not in self._record.members:
            raise reader.error(f"has {size} words of {len(self._record.values)}, or no shares came before it")
        self._record.values += np.frombuffer(reader.end(payload=8 * size), "<u8")
        self._delivered.add(site)

    def _take_agreement(self, site: str, reader: MessageReader) -> None:
        signature = reader.blob("signature", size=SIGNATURE_BYTES)
        reader.end()
        statement = self._session.agreement(self._record.step, self._record.survivors)
        if site not in self._record.survivors or not self._session.signed(site, signature, statement):
            raise reader.error("has no signature of a survivor over the list that was sent")
        self._record.signatures[site] = signature

    def _take_revealed(self, site: str, reader: MessageReader) -> None:
        record = self._record
        seeds, keys = reader.blobs("seeds", size=SHARE_BYTES), reader.blobs("keys", size=SHARE_BYTES)
        reader.end()
        gone = set(record.members) - set(record.survivors)
        if site not in record.signatures or (set(seeds), set(keys)) != (set(record.survivors), gone):
            raise reader.error("does not reveal what was asked for")
        for found, kept in ((seeds, record.seeds), (keys, record.keys)):
            for owner, share in found.items():
                kept.setdefault(owner, {})[self._circle.point(site)] = int.from_bytes(share, "big")
