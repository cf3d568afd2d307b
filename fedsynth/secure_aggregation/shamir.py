"""Shamir's secret sharing: from secrets to shares under seal, and back from any `threshold` of them.

Shamir 1979, "How to share a secret" (doi:10.1145/359168.359176). One point fewer than the threshold says nothing
about the secret, whatever computer looks at it. Coefficients come from the operating system's entropy.
"""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedsynth.errors import PrivacyError, WireError
from fedsynth.secure_aggregation.roster import Session, slices

PRIME = 2**256 + 297  # the smallest prime above 2^256, so that every 32-byte secret has its own residue
SHARE_BYTES = 33
SECRET_BYTES = 32
SEALING_BYTES = 12 + 16  # nonce and tag of AES-256-GCM


def split(
    secret: int,
    *,
    threshold: int,
    points: Sequence[int],
    prime: int = PRIME,
    draw: Callable[[int], int] = secrets.randbelow,
) -> list[int]:
    """Return the value at each point of a random polynomial whose value at 0 is the secret.

    Args:
        secret: in [0, prime).
        threshold: how many values give the secret back; the polynomial's degree is one less.
        points: distinct, in [1, prime).
        prime: of the field.
        draw: an integer in [0, its argument); secret and uniform outside tests.

    Raises:
        PrivacyError: a secret, threshold or points that cannot be shared; nothing was drawn.

    >>> sum(split(0, threshold=1, points=[1, 2]))
    0
    >>> join({3: split(42, threshold=2, points=[3, 5])[0]}) == 42  # one point is not enough
    False
    """
    if not 0 <= secret < prime:
        raise PrivacyError("this secret is too large to be shared: it must be below the prime of the field")
    if not 1 <= threshold <= len(points) or len({point % prime for point in points} - {0}) < len(points):
        raise PrivacyError(f"threshold {threshold} does not fit {len(points)} points, distinct and other than 0")
    coefficients = [draw(prime) for _ in range(threshold - 1)]
    values = []
    for point in points:
        value = 0
        for coefficient in coefficients:
            value = (value + coefficient) * point % prime
        values.append((value + secret) % prime)
    return values


def join(shares: Mapping[int, int], *, prime: int = PRIME) -> int:
    """Return the value at 0 of the polynomial of least degree through all the shares.

    Args:
        shares: point to value. It is the secret when they are at least `threshold`, and all true.
        prime: of the field.

    >>> join(dict(zip([1, 4], split(42, threshold=2, points=[1, 4]))))
    42
    """
    points = tuple(sorted(shares))
    weights = _weights_at_zero(points, prime)
    return sum(shares[point] * weight for point, weight in zip(points, weights, strict=True)) % prime


def recover(
    shares: Mapping[int, int], *, threshold: int, mark: Callable[[bytes], bytes], promised: bytes, what: str
) -> bytes:
    """Return the 32-byte secret whose mark was promised, though a few shares be false.

    Every run of `threshold` neighbours is tried, the last point being followed by the first: one false share is
    survived as soon as one more than the threshold answered.

    Args:
        shares: point to value.
        threshold: of the sharing.
        mark: what a secret is known by, such as its public key.
        promised: the mark of the true secret.
        what: the secret, for the error.

    Raises:
        WireError: fewer shares than the threshold, or none of the runs gives the secret.
    """
    points = sorted(shares)
    for start in range(len(points) if len(points) >= threshold else 0):
        chosen = (points[start:] + points[:start])[:threshold]
        value = join({point: shares[point] for point in chosen})
        if value < 2 ** (8 * SECRET_BYTES):
            secret = value.to_bytes(SECRET_BYTES, "big")
            if mark(secret) == promised:
                return secret
    raise WireError(
        f"{len(points)} shares do not give {what} as it was promised; it takes {threshold} true ones. Either that "
        "site dealt false shares, or some that answered changed theirs: leave the step, and find out whose"
    )


def deal(items: Sequence[bytes], *, threshold: int, count: int) -> dict[int, bytes]:
    """Share many 32-byte secrets among the points 1 to `count`.

    Returns:
        Point to its shares, joined in the order of the secrets, 33 bytes each, big-endian.
    """
    points = range(1, count + 1)
    dealt: dict[int, list[bytes]] = {point: [] for point in points}
    for item in items:
        values = split(int.from_bytes(item, "big"), threshold=threshold, points=points)
        for point, value in zip(points, values, strict=True):
            dealt[point].append(value.to_bytes(SHARE_BYTES, "big"))
    return {point: b"".join(shares) for point, shares in dealt.items()}


def sealed_size(session: Session) -> int:
    """Return how many bytes the sealed shares from one site to another take: two secrets per step."""
    return SEALING_BYTES + 2 * SHARE_BYTES * session.steps


def seal_share(shares: bytes, *, session: Session, secret: bytes, sender: str, receiver: str) -> bytes:
    """Encrypt shares for one receiver: 12 bytes of nonce, then AES-256-GCM under a key for this direction.

    Args:
        shares: all steps' shares.
        session: bound by key and associated data, as are both names.
        secret: the X25519 secret of the two sealing keys.
        sender: who dealt the shares.
        receiver: who may read them.
    """
    nonce = os.urandom(12)
    key, bound = _sealing(session, secret, sender=sender, receiver=receiver)
    return nonce + AESGCM(key).encrypt(nonce, shares, bound)


def open_share(sealed: bytes, *, session: Session, secret: bytes, sender: str, receiver: str) -> bytes:
    """Decrypt what `seal_share` made for the same session, sender and receiver.

    Raises:
        WireError: made for anything else, changed under way, or not shares; names the sender.
    """
    key, bound = _sealing(session, secret, sender=sender, receiver=receiver)
    try:
        shares = AESGCM(key).decrypt(sealed[:12], sealed[12:], bound)
    except InvalidTag as error:
        raise WireError(f"the shares from {sender} were not sealed for {receiver} in this session") from error
    if any(int.from_bytes(share, "big") >= PRIME for share in slices(shares, SHARE_BYTES)):
        raise WireError(f"the shares from {sender} hold a number beyond the field")
    return shares


def _sealing(session: Session, secret: bytes, *, sender: str, receiver: str) -> tuple[bytes, bytes]:
    key = session.derive(secret, "sealed shares", sender=sender, receiver=receiver)
    return key, session.statement("sealed shares", sender=sender, receiver=receiver)


@lru_cache(maxsize=256)
def _weights_at_zero(points: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """Lagrange's weights at 0."""
    weights = []
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above = above * other % prime
                below = below * (other - point) % prime
        weights.append(above * pow(below, -1, prime) % prime)
    return tuple(weights)
