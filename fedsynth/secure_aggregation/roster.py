"""Who sums in secret: from pinned identities to the numbers, the context and the keys of a session.

The numbers follow the variant for a malicious server of Bonawitz et al. 2017, "Practical secure aggregation for
privacy-preserving machine learning" (doi:10.1145/3133956.3133982), section 4 and theorem 6.5.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedsynth.errors import PrivacyError

PROTOCOL = b"fedsynth secure sum v1"
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MOST_STEPS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LARGEST_CIRCLE = 1000
_LONGEST_CONTEXT = 1024


@dataclass(frozen=True)
class SecureCohort:
    """The sites of a run, and what they are prepared for.

    Every site holds the same cohort before the run begins, from a channel that the coordinator does not control;
    `digest` is what people compare.

    Attributes:
        roster: site name to its long-term Ed25519 public key, 32 bytes.
        dropouts: how many sites may drop out of one step. A total needs three survivors whatever is said here,
            see `tolerated`.
        dishonest: how many sites may tell the coordinator everything they know.

    Raises:
        PrivacyError: nobody could keep the promise with these numbers.
    """

    roster: Mapping[str, bytes] = field(hash=False)
    dropouts: int
    dishonest: int

    def __post_init__(self) -> None:
        """Freeze the roster in the order of its names, and refuse numbers that promise nothing."""
        roster = {name: bytes(self.roster[name]) for name in sorted(self.roster)}
        object.__setattr__(self, "roster", MappingProxyType(roster))
        for name, key in roster.items():
            if not _NAME.fullmatch(name):
                raise PrivacyError(f"{name[:70]!r} cannot name a site: use up to 64 letters, digits, '_', '.', '-'")
            if len(key) != 32:
                raise PrivacyError(f"the identity of {name} has {len(key)} bytes; an Ed25519 public key has 32")
        if len(set(roster.values())) < self.n:
            raise PrivacyError("two sites of the roster share one identity; each site needs a key of its own")
        if not 3 <= self.n <= _LARGEST_CIRCLE:
            raise PrivacyError(
                f"{self.n} sites cannot hide in a sum: it takes 3 to {_LARGEST_CIRCLE}, because of two sites each "
                "learns the other's vector from the total"
            )
        if self.dropouts < 0 or self.dishonest < 0:
            raise PrivacyError(f"dropouts ({self.dropouts}) and dishonest ({self.dishonest}) must not be negative")
        if self.n - self.dropouts < self.threshold:
            raise PrivacyError(
                f"of {self.n} sites {self.dropouts} may drop out and {self.dishonest} may be dishonest, but it "
                f"takes {self.threshold} to unmask a sum so that nobody can be unmasked alone. Allow "
                f"{max(0, self.n - self.threshold)} drop-outs or fewer, or invite more sites"
            )
        if self.noise_sharers < 2:
            raise PrivacyError(
                f"with {self.least_survivors} survivors of whom {self.dishonest} are dishonest, a total would hold "
                f"{self.noise_sharers} honest vectors; it takes 2 to hide one. Invite more sites"
            )

    @property
    def n(self) -> int:
        """How many sites the roster names."""
        return len(self.roster)

    @property
    def threshold(self) -> int:
        """Return how many sites must answer to unmask: the smallest t with 2t > n + dishonest.

        An honest site signs one list of survivors per step and gives one kind of share per peer; a dishonest one
        gives both. Two lists, or both secrets of one peer, would take 2t <= (n - dishonest) + 2 dishonest.
        """
        return (self.n + self.dishonest) // 2 + 1

    @property
    def least_survivors(self) -> int:
        """How many vectors a total holds at least; no site helps to unmask fewer.

        It holds too where the coordinator tells sites of different peers: an honest site signs a list only when it
        has shared masks with everybody on it, and t signatures come from t - dishonest honest survivors or more,
        whose masks cancel only in a sum with every honest site of that list.
        """
        return max(3, self.n - self.dropouts, self.threshold)

    @property
    def tolerated(self) -> int:
        """How many sites may really be missing from a total: `dropouts`, or fewer where three must remain."""
        return self.n - self.least_survivors

    @property
    def noise_sharers(self) -> int:
        """How many honest sites' vectors, and shares of noise, every total is sure to hold."""
        return self.least_survivors - self.dishonest

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of roster and numbers, 64 hexadecimal digits."""
        roster = {name: key.hex() for name, key in self.roster.items()}
        body = {"roster": roster, "dropouts": self.dropouts, "dishonest": self.dishonest}
        return hashlib.sha256(PROTOCOL + b"\n" + canonical_bytes(body)).hexdigest()

    def point(self, site: str) -> int:
        """Return where a site's Shamir shares stand: its place in the sorted roster, from 1."""
        return self._points[site]

    @cached_property
    def _points(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.roster, start=1)}


@dataclass(frozen=True)
class Session:
    """One run of a cohort: `context` names run and plan, `steps` sums will be asked for.

    Signatures and derived keys are bound to all of it, so that nothing made for another run is of use in this one.

    Raises:
        PrivacyError: no context, or a number of steps outside 1 to 10 000.
    """

    cohort: SecureCohort
    context: str
    steps: int

    def __post_init__(self) -> None:
        """Refuse what could not tell two runs apart, or would fill the memory."""
        if not 0 < len(self.context) <= _LONGEST_CONTEXT:
            raise PrivacyError(
                f"the context of a secure sum has {len(self.context)} characters; name the run and the plan in 1 "
                f"to {_LONGEST_CONTEXT}"
            )
        if not 1 <= self.steps <= MOST_STEPS:
            raise PrivacyError(f"keys for {self.steps} steps were asked for; a session holds 1 to {MOST_STEPS}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of context, cohort and steps, 64 hexadecimal digits; stands in every message."""
        return hashlib.sha256(self.statement("session")).hexdigest()

    def statement(self, purpose: str, **facts: Any) -> bytes:
        """Return bytes that say one thing about this session: the prefix, a line break, canonical JSON."""
        about = {"context": self.context, "cohort": self.cohort.digest, "steps": self.steps}
        return PROTOCOL + b"\n" + canonical_bytes({"purpose": purpose, **about, "facts": facts})

    def derive(self, secret: bytes, purpose: str, **facts: Any) -> bytes:
        """Derive 32 bytes from a secret by HKDF-SHA256 (RFC 5869), for one purpose in this session."""
        return HKDF(SHA256(), 32, salt=None, info=self.statement(purpose, **facts)).derive(secret)

    def self_mask_key(self, site: str, step: int, seed: bytes) -> bytes:
        """Return the key of the mask that a site adds for itself."""
        return self.derive(seed, "self mask", site=site, step=step)

    def pair_mask_key(self, site: str, peer: str, step: int, secret: bytes) -> bytes:
        """Return the key of the mask that two sites share, whichever of them asks."""
        return self.derive(secret, "pair mask", sites=sorted([site, peer]), step=step)

    def commitment(self, site: str, step: int, seed: bytes) -> bytes:
        """Return what a site publishes of a self seed: it hides 32 random bytes, and fits no others."""
        return self.derive(seed, "seed commitment", site=site, step=step)

    def agreement(self, step: int, survivors: Sequence[str]) -> bytes:
        """Return what the survivors of a step sign."""
        return self.statement("survivors", step=step, survivors=list(survivors))

    def signed(self, site: str, signature: bytes, statement: bytes) -> bool:
        """Whether the pinned identity of `site` made this signature."""
        try:
            Ed25519PublicKey.from_public_bytes(self.cohort.roster[site]).verify(signature, statement)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class KeySet:
    """What a site publishes for a session, signed by its identity.

    Attributes:
        sealing: X25519 public key under which its peers seal shares for it.
        masks: X25519 public keys for the pair masks, 32 bytes per step, one after the other. They are fresh per
            step because the private key of a site that drops out is rebuilt.
        commitments: to the self seeds, 32 bytes per step, so that a seed rebuilt from false shares is noticed.
        signature: Ed25519, by the site's identity.
    """

    sealing: bytes
    masks: bytes
    commitments: bytes
    signature: bytes = b""

    @classmethod
    def of(
        cls,
        session: Session,
        site: str,
        *,
        private: Sequence[bytes],
        seeds: Sequence[bytes],
        identity: Ed25519PrivateKey,
    ) -> "KeySet":
        """Make and sign the public side of a site's secrets.

        Args:
            session: what the keys are for.
            site: whose they are.
            private: X25519 private keys: for sealing, then for the masks of each step.
            seeds: self seeds of each step.
            identity: of the site.
        """
        public = [public_bytes_of(key) for key in private]
        commitments = [session.commitment(site, step, seed) for step, seed in enumerate(seeds)]
        keys = cls(public[0], b"".join(public[1:]), b"".join(commitments))
        return replace(keys, signature=identity.sign(keys.statement(session, site)))

    @staticmethod
    def size(session: Session) -> int:
        """Return how many bytes the keys of one site take in a message."""
        return KEY_BYTES * (1 + 2 * session.steps) + SIGNATURE_BYTES

    @classmethod
    def from_blob(cls, blob: bytes) -> "KeySet":
        """Cut what `blob` joined; the reader has checked the size."""
        body, signature = blob[:-SIGNATURE_BYTES], blob[-SIGNATURE_BYTES:]
        half = (len(body) + KEY_BYTES) // 2
        return cls(body[:KEY_BYTES], body[KEY_BYTES:half], body[half:], signature)

    @property
    def blob(self) -> bytes:
        """The keys and their signature as they travel."""
        return self.sealing + self.masks + self.commitments + self.signature

    @property
    def public_keys(self) -> list[bytes]:
        """The sealing key, then the mask key of each step."""
        return [self.sealing, *slices(self.masks, KEY_BYTES)]

    def statement(self, session: Session, site: str) -> bytes:
        """Return what the signature is over."""
        body = {"sealing": self.sealing.hex(), "masks": self.masks.hex(), "commitments": self.commitments.hex()}
        return session.statement("keys", site=site, **body)

    def is_usable(self) -> bool:
        """Whether every X25519 key contributes: a point of small order would give a secret that all know."""
        probe = X25519PrivateKey.generate()
        try:
            for key in self.public_keys:
                probe.exchange(X25519PublicKey.from_public_bytes(key))
        except ValueError:
            return False
        return True


def check_keys(
    found: Mapping[str, KeySet], *, session: Session, beside: Mapping[str, KeySet] | None = None
) -> None:
    """Refuse keys that the roster does not vouch for, or that stand twice, also `beside` those already checked.

    Raises:
        PrivacyError: a stranger, a key that its site's pinned identity did not sign for this session, a key that
            contributes nothing, or one that stands twice.
    """
    for site, keys in found.items():
        if site not in session.cohort.roster:
            raise PrivacyError(
                f"keys came for {site[:64]!r}, whom the pinned roster does not name; nothing was sent"
            )
        if not session.signed(site, keys.signature, keys.statement(session, site)):
            raise PrivacyError(
                f"the keys of {site} are not signed for this session by the identity that the roster pins. Nothing "
                "was sent; compare rosters, contexts and identities with that site"
            )
        if not keys.is_usable():
            raise PrivacyError(f"a key of {site} is a point of small order, with which every secret is known")
    every = [key for keys in [*found.values(), *(beside or {}).values()] for key in keys.public_keys]
    if len(set(every)) < len(every):
        raise PrivacyError(
            "one public key stands twice; every site needs fresh ones for every step. Nothing was sent"
        )


def canonical_bytes(value: Any) -> bytes:
    """Write JSON in its one accepted form: sorted keys, no spaces, ASCII, no line break."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def signer(identity: Ed25519PrivateKey | bytes) -> Ed25519PrivateKey:
    """Return a long-term key, from its 32 raw bytes where it is given as bytes.

    Raises:
        PrivacyError: another number of bytes.
    """
    if isinstance(identity, Ed25519PrivateKey):
        return identity
    if len(identity) != 32:
        raise PrivacyError(f"an identity of {len(identity)} bytes was given; an Ed25519 private key has 32")
    return Ed25519PrivateKey.from_private_bytes(identity)


def exchange(private: bytes, public: bytes) -> bytes:
    """Return the X25519 secret (RFC 7748) of two raw keys, which `check_keys` has seen."""
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def public_bytes_of(private: bytes) -> bytes:
    """Return the X25519 public key of a private one, both raw."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def pair_sign(site: str, peer: str) -> int:
    """Return how `site` adds the mask it shares with `peer`: one of the two adds, the other subtracts."""
    return 1 if site < peer else -1


def slices(data: bytes, size: int) -> list[bytes]:
    """Cut bytes into parts of one size."""
    return [data[start : start + size] for start in range(0, len(data), size)]
