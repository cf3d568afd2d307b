"""The messages of a secure sum and the state between them: from fields to canonical bytes, and back.

A message is three parts: the line `fedsynth secure sum v1`, one line of canonical JSON, and a payload, which only
masked vectors have (little-endian uint64), and the state of a site that has sent one. Byte fields are base64. The
JSON must be exactly what this module would write again, so no key stands twice and nothing is said in two ways.
Every message names its kind and the digest of its session:

    keys        site:         site, keys
    cohort      coordinator:  keys by site
    shares      site:         site, sealed by receiver
    sum         coordinator:  step, size, sealed by sender (empty once delivered)
    masked      site:         site, step, size; payload
    agree       coordinator:  step, survivors
    agreement   site:         site, step, signature
    unmask      coordinator:  step, survivors, signatures by site
    revealed    site:         site, step, seeds by survivor, keys by site that dropped out
    state       never sent:   what a site keeps between two messages
    server      never sent:   what the coordinator keeps between two steps
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from fedsynth.errors import PrivacyError, WireError
from fedsynth.secure_aggregation.roster import (
    KEY_BYTES,
    MOST_STEPS,
    PROTOCOL,
    KeySet,
    SecureCohort,
    Session,
    canonical_bytes,
    exchange,
    pair_sign,
    public_bytes_of,
    slices,
)
from fedsynth.secure_aggregation.shamir import SHARE_BYTES, deal, open_share, recover, seal_share

PAIR_OF_SHARES = 2 * SHARE_BYTES  # of the self seed, then of the mask key
LARGEST_VECTOR = 2**25  # words
_CHUNK = 2**15  # words of keystream at a time; 256 KiB stay in the cache
_ZEROS = bytes(8 * _CHUNK)
_LARGEST_STATE = 2**29

Vector = npt.NDArray[np.uint64]
Field = str | int | bytes | Mapping[str, bytes] | Sequence[str]


def pack_message(kind: str, session: Session, *, payload: bytes = b"", **facts: Field) -> bytes:
    """Write one message."""
    body = {name: _plain(value) for name, value in facts.items()}
    header = canonical_bytes({"kind": kind, "session": session.digest, **body})
    return b"".join([PROTOCOL, b"\n", header, b"\n", payload])


class MessageReader:
    """One message, read field by field; what is left over at the end is refused.

    Args:
        data: the message.
        kind: what it must be.
        session: what it must belong to; without one (a state), its digest is left to the caller.
        sender: for the errors, "the coordinator" or a site's name.
        step: the one it must be about, where it is about one.

    Raises:
        WireError: another kind or session, not canonical, too large, a field misshapen; names the sender.
    """

    def __init__(
        self, data: bytes, *, kind: str, session: Session | None, sender: str, step: int | None = None
    ) -> None:
        """Read the two lines, and hold the fields ready."""
        self._kind, self._sender = kind, sender
        prefix = PROTOCOL + b"\n"
        limit = _largest_header(session) if session else _LARGEST_STATE
        end = data.find(b"\n", len(prefix), len(prefix) + limit + 1)
        if not data.startswith(prefix) or end < 0:
            raise self.error(f"is not of the protocol {PROTOCOL.decode()!r}, or its header exceeds {limit} bytes")
        header = bytes(data[len(prefix) : end])
        try:
            found = json.loads(header)
            exact = isinstance(found, dict) and canonical_bytes(found) == header
        except (ValueError, RecursionError) as error:
            raise self.error("has a header that is not JSON") from error
        if not exact:
            raise self.error("has a header that is not canonical JSON")
        self._fields: dict[str, Any] = found
        self._payload = memoryview(data)[end + 1 :]
        if (said := self._take("kind")) != kind:
            raise self.error(
                f"says that it is {str(said)[:20]!r}: it came too early, too late or to the wrong place"
            )
        self.session_digest = self._take("session")
        if session and self.session_digest != session.digest:
            raise self.error(
                "belongs to another session: run, plan, roster, drop-outs, dishonest sites or steps differ. "
                "Compare the digests of the cohort"
            )
        if session and step is not None and self.number("step", least=0, most=session.steps - 1) != step:
            raise self.error(f"is about another step than {step}")

    def error(self, found: str) -> WireError:
        """Return the error for this message, naming its sender."""
        return WireError(f"the message {self._kind!r} from {self._sender} {found}; it was left aside")

    def number(self, name: str, *, least: int, most: int) -> int:
        """Take an integer in [least, most]."""
        value = self._take(name)
        if type(value) is not int or not least <= value <= most:
            raise self.error(f"needs {name} as a whole number from {least} to {most}")
        return value

    def text(self, name: str) -> str:
        """Take a string."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self.error(f"needs {name} as text")
        return value

    def blob(self, name: str, *, size: int | None = None) -> bytes:
        """Take bytes, of one size where one is given."""
        return self._bytes(name, self._take(name), size)

    def blobs(self, name: str, *, size: int | None) -> dict[str, bytes]:
        """Take bytes by name, all of one size where one is given."""
        value = self._take(name)
        if not isinstance(value, dict):
            raise self.error(f"needs {name} by site")
        return {key: self._bytes(name, item, size) for key, item in value.items()}

    def names(self, name: str) -> tuple[str, ...]:
        """Take a list of names, sorted, each once."""
        value = self._take(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"needs {name} as a list of names")
        if value != sorted(set(value)):
            raise self.error(f"needs {name} sorted, and each once")
        return tuple(value)

    def end(self, *, payload: int = 0) -> memoryview:
        """Take the payload of so many bytes; refuse anything else that is left."""
        if self._fields:
            raise self.error(f"has {len(self._fields)} unknown fields")
        if len(self._payload) != payload:
            raise self.error(f"carries {len(self._payload)} bytes where {payload} belong")
        return self._payload

    def _take(self, name: str) -> Any:
        if name not in self._fields:
            raise self.error(f"lacks {name}")
        return self._fields.pop(name)

    def _bytes(self, name: str, value: Any, size: int | None) -> bytes:
        try:
            data = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
        except (binascii.Error, ValueError):
            data = b""
        # Base64 lets unused bits differ; only the form that we write is accepted.
        if _plain(data) != value or (size is not None and len(data) != size):
            raise self.error(f"needs {name} as base64" + (f" of {size} bytes" if size is not None else ""))
        return data


@dataclass
class SiteState:
    """What a site keeps between two messages, and what is made of it. Secret, all of it.

    Byte strings hold one item per step, the first being for step `first`; what came before is forgotten.

    Attributes:
        session: what the secrets are for.
        me: the site's name.
        seeds: the site's own self seeds, 32 bytes per step.
        mask_keys: its X25519 private keys for the pair masks, 32 bytes per step.
        sealing: its X25519 private key for sealed shares; empty once they were opened.
        first: the first step that is not forgotten.
        held: the shares it holds, by the site whose secrets they are of, itself included: 66 bytes per step.
        sealing_keys: its peers' sealing keys; empty once shares were opened.
        mask_publics: its peers' mask keys, 32 bytes per step.
        shares_request, shares_reply: digest of the cohort's keys, and the answer for a retry.
        delivered: digest of the sealed shares that were opened.
        step: the step begun last, or -1; the remaining fields are about it.
        masked: the masked vector as it was sent first, for a retry; kept until the step is unmasked.
        survivors: the list that was signed, or nothing.
        unmask_request, unmask_reply: digest of the request, and the answer for a retry.
    """

    session: Session
    me: str
    seeds: bytes
    mask_keys: bytes
    sealing: bytes
    first: int = 0
    held: dict[str, bytes] = field(default_factory=dict)
    sealing_keys: dict[str, bytes] = field(default_factory=dict)
    mask_publics: dict[str, bytes] = field(default_factory=dict)
    shares_request: bytes = b""
    shares_reply: bytes = b""
    delivered: bytes = b""
    step: int = -1
    masked: bytes = b""
    survivors: tuple[str, ...] = ()
    unmask_request: bytes = b""
    unmask_reply: bytes = b""

    @classmethod
    def from_bytes(cls, data: bytes, *, cohort: SecureCohort) -> "SiteState":
        """Read what `to_bytes` wrote.

        Raises:
            WireError: damaged.
            PrivacyError: it belongs to another cohort.
        """
        reader = MessageReader(data, kind="state", session=None, sender="this site's own file")
        session = Session(cohort, reader.text("context"), reader.number("steps", least=1, most=MOST_STEPS))
        if reader.session_digest != session.digest:
            raise PrivacyError("the kept state of a secure sum belongs to another cohort; begin a new session")
        first = reader.number("first", least=0, most=session.steps)
        left = session.steps - first
        state = cls(
            session=session,
            me=reader.text("me"),
            seeds=reader.blob("seeds", size=KEY_BYTES * left),
            mask_keys=reader.blob("mask_keys", size=KEY_BYTES * left),
            sealing=reader.blob("sealing"),
            first=first,
            held=reader.blobs("held", size=PAIR_OF_SHARES * left),
            sealing_keys=reader.blobs("sealing_keys", size=KEY_BYTES),
            mask_publics=reader.blobs("mask_publics", size=KEY_BYTES * left),
            shares_request=reader.blob("shares_request"),
            shares_reply=reader.blob("shares_reply"),
            delivered=reader.blob("delivered"),
            step=reader.number("step", least=-1, most=session.steps - 1),
            survivors=reader.names("survivors"),
            unmask_request=reader.blob("unmask_request"),
            unmask_reply=reader.blob("unmask_reply"),
        )
        state.masked = bytes(reader.end(payload=reader.number("masked", least=0, most=_LARGEST_STATE)))
        return state

    def to_bytes(self) -> bytes:
        """Write the state, with the site's name and its session."""
        names = [item.name for item in fields(self) if item.name not in ("session", "masked")]
        facts: dict[str, Any] = {name: getattr(self, name) for name in names}
        facts |= {"context": self.session.context, "steps": self.session.steps, "masked": len(self.masked)}
        return pack_message("state", self.session, payload=self.masked, **facts)

    def deal(self, peers: Mapping[str, KeySet]) -> dict[str, bytes]:
        """Share every secret in the cohort; keep this site's own shares, and return the peers' under seal."""
        cohort = self.session.cohort
        both = zip(slices(self.seeds, KEY_BYTES), slices(self.mask_keys, KEY_BYTES), strict=True)
        dealt = deal([secret for step in both for secret in step], threshold=cohort.threshold, count=cohort.n)
        self.held = {self.me: dealt[cohort.point(self.me)]}
        self.sealing_keys = {peer: keys.sealing for peer, keys in peers.items()}
        self.mask_publics = {peer: keys.masks for peer, keys in peers.items()}
        sealed = {}
        for peer, keys in peers.items():
            key = exchange(self.sealing, keys.sealing)
            sealed[peer] = seal_share(
                dealt[cohort.point(peer)], session=self.session, secret=key, sender=self.me, receiver=peer
            )
        return sealed

    def open(self, sealed: Mapping[str, bytes]) -> None:
        """Open the shares for this site; whoever sent some is its peer from now on, and no key can open them again.

        Raises:
            WireError: shares that are not what they should be; nothing was kept.
        """
        opened = {}
        for peer, data in sealed.items():
            key = exchange(self.sealing, self.sealing_keys[peer])
            opened[peer] = open_share(data, session=self.session, secret=key, sender=peer, receiver=self.me)
        self.held |= opened
        self.mask_publics = {peer: self.mask_publics[peer] for peer in opened}
        self.sealing, self.sealing_keys, self.shares_reply = b"", {}, b""

    def masks(self, step: int) -> Iterator[tuple[bytes, int]]:
        """Yield key and sign of every mask of a step: the self mask, then one per peer."""
        yield self.session.self_mask_key(self.me, step, self._of(step, self.seeds, KEY_BYTES)), 1
        private = self._of(step, self.mask_keys, KEY_BYTES)
        for peer, publics in sorted(self.mask_publics.items()):
            secret = exchange(private, self._of(step, publics, KEY_BYTES))
            yield self.session.pair_mask_key(self.me, peer, step, secret), pair_sign(self.me, peer)

    def shares_of(self, site: str, step: int) -> tuple[bytes, bytes]:
        """Return the shares held of a site's self seed, and of its mask key. Never reveal both."""
        both = self._of(step, self.held[site], PAIR_OF_SHARES)
        return both[:SHARE_BYTES], both[SHARE_BYTES:]

    def forget(self, first: int) -> None:
        """Drop the secrets of every step before `first`."""
        gone = max(0, first - self.first)
        self.first += gone
        self.seeds = self.seeds[KEY_BYTES * gone :]
        self.mask_keys = self.mask_keys[KEY_BYTES * gone :]
        self.held = {site: shares[PAIR_OF_SHARES * gone :] for site, shares in self.held.items()}
        self.mask_publics = {site: keys[KEY_BYTES * gone :] for site, keys in self.mask_publics.items()}

    def _of(self, step: int, items: bytes, size: int) -> bytes:
        return items[size * (step - self.first) :][:size]


@dataclass
class StepRecord:
    """What the coordinator gathers of one step.

    Attributes:
        step: which.
        values: the sum of the masked vectors, shape (size,), uint64.
        members: the sites that exchanged shares.
        survivors: those whose vectors are in the sum.
        signatures: over the survivors, by site.
        seeds, keys: revealed shares of self seeds and mask keys: whose they are, by the point of who revealed them.
    """

    step: int
    values: Vector
    members: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()
    signatures: dict[str, bytes] = field(default_factory=dict)
    seeds: dict[str, dict[int, int]] = field(default_factory=dict)
    keys: dict[str, dict[int, int]] = field(default_factory=dict)

    def unmasked(self, session: Session, published: Mapping[str, KeySet]) -> Vector:
        """Return the sum without its masks: the survivors' self masks, and what they share with who dropped out.

        Raises:
            WireError: the shares revealed of a secret do not fit what its site published; names that site.
        """
        step, threshold, values = self.step, session.cohort.threshold, self.values.copy()
        for site, shares in sorted(self.seeds.items()):
            seed = recover(
                shares,
                threshold=threshold,
                mark=partial(session.commitment, site, step),
                promised=slices(published[site].commitments, KEY_BYTES)[step],
                what=f"the self seed of {site} at step {step}",
            )
            add_keystream(values, session.self_mask_key(site, step, seed), sign=-1)
        for gone, shares in sorted(self.keys.items()):
            private = recover(
                shares,
                threshold=threshold,
                mark=public_bytes_of,
                promised=slices(published[gone].masks, KEY_BYTES)[step],
                what=f"the mask key of {gone} at step {step}",
            )
            for site in self.survivors:
                secret = exchange(private, slices(published[site].masks, KEY_BYTES)[step])
                mask = session.pair_mask_key(site, gone, step, secret)
                add_keystream(values, mask, sign=-pair_sign(site, gone))
        return values


def add_keystream(values: Vector, key: bytes, *, sign: int) -> None:
    """Add (sign 1) or subtract (sign -1) the keystream of AES-256-CTR from counter 0, modulo 2^64, in place.

    Args:
        values: shape (size,), uint64.
        key: 32 bytes, used for one vector and for nothing else; the stream is read as little-endian uint64.
        sign: 1 or -1.
    """
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
    block = bytearray(len(_ZEROS) + 15)
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK]
        stream.update_into(_ZEROS[: 8 * len(part)], block)
        (np.add if sign > 0 else np.subtract)(part, np.frombuffer(block, "<u8", len(part)), out=part)


def _plain(value: Field) -> Any:
    """Turn a field into what JSON has."""
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(value)


def _largest_header(session: Session) -> int:
    """Four thirds for base64 of the largest entry per site, with room for its name and quotes."""
    return 4096 + session.cohort.n * (512 + 2 * PAIR_OF_SHARES * session.steps)
