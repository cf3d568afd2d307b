"""A site's last word: what its ledger holds after an answer, signed, so that it stands when the site is away.

The signature is Ed25519 (RFC 8032) by the site's long-term identity, over canonical JSON that names run, plan and
site: a word of another run, or of another site, is worth nothing here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedsynth.errors import PrivacyError, WireError
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.secure_aggregation.roster import canonical_bytes, signer

_PURPOSE = b"fedsynth last word v1\n"
_MOST_EVENTS = 200_000
_HEAD = re.compile(r"[0-9a-f]{64}")
_STEP = re.compile(r"(.*, step )([1-9]\d{0,8})")

Repeated = tuple[tuple[Mechanism, int], ...]
"""A history: each event with how often it follows, counting its number up where its purpose has one."""


@dataclass(frozen=True)
class LastWord:
    """What a site says of its ledger.

    `ledger_head` is the last link, 64 hexadecimal digits; of the ledger's lines `charged` are this run's. `train`
    and `held_out` bound what was ever charged to anybody of either group.
    """

    run: str
    plan: str
    site: str
    ledger_head: str
    ledger_length: int
    charged: int
    train: Repeated = ()
    held_out: Repeated = ()

    @property
    def train_history(self) -> tuple[Mechanism, ...]:
        """Every event of those who trained, oldest first."""
        return _apart(self.train)

    @property
    def held_out_history(self) -> tuple[Mechanism, ...]:
        """Every event of those who were held out, oldest first."""
        return _apart(self.held_out)

    def as_json(self) -> dict[str, Any]:
        """Return the word as it travels."""
        return {
            "run": self.run,
            "plan": self.plan,
            "site": self.site,
            "ledger_head": self.ledger_head,
            "ledger_length": self.ledger_length,
            "charged": self.charged,
            "train": _plain(self.train),
            "held_out": _plain(self.held_out),
        }

    @classmethod
    def from_json(cls, raw: Any) -> "LastWord":
        """Read what `as_json` wrote.

        Raises:
            WireError: anything else.
        """
        try:
            word = cls(
                run=raw["run"],
                plan=raw["plan"],
                site=raw["site"],
                ledger_head=raw["ledger_head"],
                ledger_length=raw["ledger_length"],
                charged=raw["charged"],
                train=_read(raw["train"]),
                held_out=_read(raw["held_out"]),
            )
            names = {type(name) for name in (word.run, word.plan, word.site, word.ledger_head)}
            whole = names == {str} and type(word.ledger_length) is type(word.charged) is int
            sound = whole and 0 <= word.charged <= word.ledger_length and _HEAD.fullmatch(word.ledger_head)
            sound = sound and word.as_json() == raw
        except (KeyError, TypeError, ValueError, OverflowError, PrivacyError) as error:
            raise WireError("a site's word on its ledger cannot be read") from error
        if not sound:
            raise WireError("a site's word on its ledger cannot be read: a number or a field is none it has")
        return word

    def sign(self, identity: bytes) -> bytes:
        """Return the signature by a site's identity, 64 bytes.

        Args:
            identity: Ed25519 private key, 32 raw bytes.
        """
        return signer(identity).sign(_PURPOSE + canonical_bytes(self.as_json()))

    def is_signed(self, signature: bytes, *, key: bytes) -> bool:
        """Whether the identity with this public key, 32 raw bytes, made the signature."""
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, _PURPOSE + canonical_bytes(self.as_json()))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SignedWord:
    """A site's last word with the signature of its identity, 64 bytes."""

    word: LastWord
    signature: bytes

    def as_json(self) -> dict[str, Any]:
        """Return both as they are kept."""
        return {"word": self.word.as_json(), "signature": self.signature.hex()}

    @classmethod
    def from_json(cls, raw: Any) -> "SignedWord":
        """Read what `as_json` wrote; whether the signature holds is for the reader to see.

        Raises:
            WireError: anything else.
        """
        try:
            return cls(LastWord.from_json(raw["word"]), bytes.fromhex(raw["signature"]))
        except (KeyError, TypeError, ValueError) as error:
            raise WireError("a site's signed word cannot be read") from error


def repeated(history: Sequence[Mechanism]) -> Repeated:
    """Join steps that differ in their number alone.

    >>> steps = [Mechanism(f"gradients, step {number}", 3.0, 0.2, 1, 1.0) for number in (1, 2, 3)]
    >>> [(first.purpose, times) for first, times in repeated(steps)]
    [('gradients, step 1', 3)]
    """
    out: list[tuple[Mechanism, int]] = []
    stem, number, rest = "", 0, tuple[Any, ...]()
    for event in history:  # as long as a training; so nothing is built anew here for a step that only follows
        if out and _rest(event) == rest and event.purpose == (f"{stem}{number}" if number else stem):
            out[-1] = (out[-1][0], out[-1][1] + 1)
        else:
            out.append((event, 1))
            found = _STEP.fullmatch(event.purpose)
            stem, number = (found[1], int(found[2])) if found else (event.purpose, 0)
            rest = _rest(event)
        number += number > 0
    return tuple(out)


def _rest(event: Mechanism) -> tuple[Any, ...]:
    """Return everything but the purpose."""
    sizes = event.noise_multiplier, event.sampling_probability, event.steps, event.clipping_norm
    return *sizes, event.group, event.unit, event.noise_shares


def _apart(history: Repeated) -> tuple[Mechanism, ...]:
    return tuple(_later(event, by) for event, times in history for by in range(times))


def _later(event: Mechanism, by: int) -> Mechanism:
    """Return the event `by` steps on: the same, with the next number where its purpose has one."""
    found = _STEP.fullmatch(event.purpose) if by else None
    return replace(event, purpose=f"{found[1]}{int(found[2]) + by}") if found else event


def _plain(history: Repeated) -> list[dict[str, Any]]:
    return [{**event.as_json(), "times": times} for event, times in history]


def _read(raw: Sequence[Mapping[str, Any]]) -> Repeated:
    times = [item["times"] for item in raw]
    if any(type(number) is not int or number < 1 for number in times) or sum(times) > _MOST_EVENTS:
        raise ValueError("a history of so many events")
    return tuple((Mechanism.from_json(dict(item)), number) for item, number in zip(raw, times, strict=True))
