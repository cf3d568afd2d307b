"""Shamir's sharing: any threshold of shares gives the secret, and one fewer gives nothing."""

from collections import Counter
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import PrivacyError, WireError
from fedsynth.secure_aggregation.roster import SecureCohort, Session
from fedsynth.secure_aggregation.shamir import (
    PRIME,
    SHARE_BYTES,
    deal,
    join,
    open_share,
    recover,
    seal_share,
    sealed_size,
    split,
)

SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def session() -> Session:
    roster = {name: name.encode() * 32 for name in "ABC"}
    return Session(SecureCohort(roster, dropouts=0, dishonest=0), "run 1", 1)


def test_the_modulus_is_a_prime_that_holds_every_32_byte_secret() -> None:
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    # Miller and Rabin; a composite number survives one base with probability 1/4 or less.
    for base in range(2, 66):
        orbit = [pow(base, odd * 2**k, PRIME) for k in range(twos)]
        assert orbit[0] == 1 or PRIME - 1 in orbit

    assert 2**256 < PRIME < 2 ** (8 * SHARE_BYTES)


@given(st.data())
def test_any_threshold_of_the_shares_gives_the_secret_back(data: st.DataObject) -> None:
    secret = data.draw(st.integers(0, PRIME - 1))
    points = data.draw(st.lists(st.integers(1, 2000), min_size=1, max_size=9, unique=True))
    threshold = data.draw(st.integers(1, len(points)))
    shares = dict(zip(points, split(secret, threshold=threshold, points=points), strict=True))

    chosen = data.draw(st.permutations(points))[:threshold]

    assert join({point: shares[point] for point in chosen}) == secret
    assert join(shares) == secret


def seen(secret: int, *, threshold: int, points: tuple[int, ...]) -> Counter[tuple[int, ...]]:
    """Count the shares at `points` over every polynomial of the field with 7 elements."""
    found: Counter[tuple[int, ...]] = Counter()
    for coefficients in product(range(7), repeat=threshold - 1):
        drawn = iter(coefficients)
        values = split(
            secret, threshold=threshold, points=range(1, 7), prime=7, draw=lambda _, drawn=drawn: next(drawn)
        )
        found[tuple(values[point - 1] for point in points)] += 1
    return found


@pytest.mark.parametrize("threshold", [2, 3, 4])
def test_one_share_fewer_than_the_threshold_is_equally_likely_under_every_secret(threshold: int) -> None:
    for points in combinations(range(1, 7), threshold - 1):
        uniform = Counter(dict.fromkeys(product(range(7), repeat=threshold - 1), 1))
        assert all(seen(secret, threshold=threshold, points=points) == uniform for secret in range(7))


@pytest.mark.parametrize("threshold", [2, 3, 4])
def test_a_polynomial_of_one_degree_less_would_be_noticed(threshold: int) -> None:
    points = tuple(range(1, threshold))

    assert not seen(0, threshold=threshold - 1, points=points) & seen(1, threshold=threshold - 1, points=points)


def test_coefficients_are_drawn_anew_for_every_secret() -> None:
    assert len({split(5, threshold=2, points=[1, 2])[0] for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("secret", "threshold", "points"),
    [
        pytest.param(PRIME, 2, [1, 2], id="a secret beyond the field"),
        pytest.param(-1, 2, [1, 2], id="a negative secret"),
        pytest.param(1, 3, [1, 2], id="more needed than there are"),
        pytest.param(1, 0, [1, 2], id="nobody needed"),
        pytest.param(1, 2, [1, 1], id="one point twice"),
        pytest.param(1, 2, [0, 1], id="the secret's own point"),
        pytest.param(1, 2, [PRIME, 1], id="the secret's own point, once around"),
    ],
)
def test_a_sharing_that_would_tell_or_lose_the_secret_is_refused(
    secret: int, threshold: int, points: list[int]
) -> None:
    with pytest.raises(PrivacyError):
        split(secret, threshold=threshold, points=points)


@pytest.mark.parametrize("liar", [1, 2, 3, 4, 5])
def test_one_false_share_among_one_more_than_needed_is_survived(liar: int) -> None:
    shares = dict(enumerate(split(int.from_bytes(SECRET, "big"), threshold=4, points=range(1, 6)), start=1))
    shares[liar] ^= 1

    assert recover(shares, threshold=4, mark=bytes, promised=SECRET, what="a secret") == SECRET


@pytest.mark.parametrize("left", [3, 4], ids=["too few", "just enough, one false"])
def test_a_secret_that_shares_do_not_give_is_named(left: int) -> None:
    shares = dict(enumerate(split(int.from_bytes(SECRET, "big"), threshold=4, points=range(1, left + 3)), start=1))
    chosen = {point: shares[point] ^ (point == 2) for point in range(1, left + 1)}

    with pytest.raises(WireError, match="the seed of B"):
        recover(chosen, threshold=4, mark=bytes, promised=SECRET, what="the seed of B")


def test_dealt_shares_stand_in_the_order_of_their_secrets() -> None:
    items = [SECRET, SECRET[::-1], bytes(32), b"\xff" * 32]

    dealt = deal(items, threshold=3, count=5)

    for place, item in enumerate(items):
        cut = {point: shares[place * SHARE_BYTES :][:SHARE_BYTES] for point, shares in dealt.items() if point != 2}
        assert join({point: int.from_bytes(share, "big") for point, share in cut.items()}) == int.from_bytes(
            item, "big"
        )


def test_sealed_shares_open_for_their_receiver_in_their_session(session: Session) -> None:
    shares = deal([SECRET, SECRET], threshold=2, count=3)[1]
    sealed = seal_share(shares, session=session, secret=SECRET, sender="A", receiver="B")

    assert len(sealed) == sealed_size(session)
    assert open_share(sealed, session=session, secret=SECRET, sender="A", receiver="B") == shares


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sender": "C"}, id="another sender"),
        pytest.param({"receiver": "C"}, id="another receiver"),
        pytest.param({"sender": "B", "receiver": "A"}, id="turned around"),
        pytest.param({"secret": bytes(32)}, id="another key"),
        pytest.param({"session": "run 2"}, id="another run"),
        pytest.param({"sealed": b"\0" * 40}, id="other bytes"),
    ],
)
def test_sealed_shares_open_for_nobody_else(session: Session, change: dict[str, object]) -> None:
    sealed = seal_share(bytes(66), session=session, secret=SECRET, sender="A", receiver="B")
    asked: dict[str, object] = {
        "sealed": sealed,
        "session": session,
        "secret": SECRET,
        "sender": "A",
        "receiver": "B",
    }
    asked |= change
    if asked["session"] == "run 2":
        asked["session"] = Session(session.cohort, "run 2", 1)

    with pytest.raises(WireError, match=f"shares from {asked['sender']}"):
        open_share(**asked)  # type: ignore[arg-type]


def test_a_share_beyond_the_field_is_refused_by_who_opens_it(session: Session) -> None:
    sealed = seal_share(b"\xff" * 66, session=session, secret=SECRET, sender="A", receiver="B")

    with pytest.raises(WireError, match="beyond the field"):
        open_share(sealed, session=session, secret=SECRET, sender="A", receiver="B")
