"""Where every bit comes from: fresh entropy, as much as was promised, each byte and each word for one thing only.

A recorded tape stands in for the operating system (`conftest.py`); what the code makes of it is made a second time
here, with AES block by block and arithmetic, and must be the same to the last bit.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy import noise
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.noise import poisson_draw, system_noise
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.secure_aggregation.messages import pack_message
from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import SecureCohort, Session, exchange, pair_sign, public_bytes_of, slices
from fedsynth.secure_aggregation.shamir import PRIME, SHARE_BYTES, deal, seal_share, split

pytestmark = pytest.mark.usefixtures("no_seeded_generator")
Tape = Any  # conftest.Tape
PAIR = [32, 16]  # a key and a first counter


def narrow(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Turn words into the narrow law's digits one by one; ties, of chance 2^-50 each, do not come on the tape."""
    table, out = noise._alias_table(), []
    for word in words.tolist():
        bucket, fraction = word >> 50, word & (2**50 - 1)
        assert fraction != int(table.threshold[bucket])
        out.append((bucket if fraction < int(table.threshold[bucket]) else int(table.other[bucket])) - 20 * 256)
    return np.array(out, dtype=np.int64)


def made_of(tape: Tape, *, first: int, count: int) -> NDArray[np.int64]:
    """Return the noise that four pairs of calls, from pair `first` on, must lead to."""
    digits = [narrow(tape.words(first + level, count)) for level in range(4)]
    return sum((64**level * digit for level, digit in enumerate(digits)), np.zeros(count, np.int64))


def coins_of(tape: Tape, *, pair: int, count: int, q: float) -> list[int]:
    return [unit for unit, word in enumerate(tape.words(pair, count).tolist()) if word >> 11 < q * 2**53]


def used_once(tape: Tape) -> None:
    """No two keystreams share a key, all keys and counters are fresh bytes of the tape, each used in one place."""
    assert len({stream.key for stream in tape.streams}) == len(tape.streams)
    assert len(set(tape.calls)) == len(tape.calls)
    pairs = [(stream.key, stream.nonce) for stream in tape.streams if stream.where == "noise"]
    assert pairs == [tuple(tape.calls[place : place + 2]) for place in range(0, 2 * len(pairs), 2)]


@pytest.mark.parametrize("count", [1, 2, 7, 64, 2500])
def test_noise_is_made_of_four_fresh_keys_and_of_every_word_once(tape: Tape, count: int) -> None:
    drawn = [system_noise(count) for _ in range(3)]

    assert tape.lengths == 3 * 4 * PAIR
    assert [stream.taken for stream in tape.streams] == 12 * [8 * count]
    used_once(tape)
    for number, noises in enumerate(drawn):
        assert noises.tolist() == made_of(tape, first=4 * number, count=count).tolist()


@pytest.mark.parametrize("q", [0.2, 0.5])
def test_a_poisson_draw_takes_a_fresh_key_and_one_word_for_each_unit(tape: Tape, q: float) -> None:
    drawn = [poisson_draw(500, probability=q).tolist() for _ in range(3)]

    assert tape.lengths == 3 * PAIR
    assert [stream.taken for stream in tape.streams] == 3 * [8 * 500]
    used_once(tape)
    assert drawn == [coins_of(tape, pair=pair, count=500, q=q) for pair in range(3)]


@pytest.mark.parametrize(("n_units", "size"), [(64, 64), (9, 33)], ids=["as many units as coordinates", "fewer"])
@pytest.mark.parametrize("shares", [1, 3])
def test_every_step_of_an_allowance_has_coins_and_noise_of_its_own(
    tape: Tape, shares: int, n_units: int, size: int
) -> None:
    """Two sites take turns: neither steps, nor shares of one noise, nor coins have a word in common."""
    mechanism = Mechanism("sum", 1.5, 0.4, 3, 2.0, noise_shares=shares)
    sites = [Allowance(mechanism), Allowance(mechanism)]

    seen = []
    for _ in range(3):
        for allowance in sites:
            step = allowance.step(n_units=n_units, size=size)
            seen.append((step.units.tolist(), step.sum.read_lattice().values.tolist()))

    assert tape.lengths == 6 * 5 * PAIR
    used_once(tape)
    for number, (units, values) in enumerate(seen):
        assert units == coins_of(tape, pair=5 * number, count=n_units, q=0.4)
        assert values == made_of(tape, first=5 * number + 1, count=size).tolist()


def contribution(kind: str, size: int) -> torch.Tensor:
    row = torch.linspace(-3, 3, size, dtype=torch.float64)[None]
    bad = {"not finite": torch.nan, "huge": 1e300}.get(kind)
    return row if bad is None else row.index_fill(1, torch.tensor([size // 2]), bad)


@pytest.mark.parametrize("kind", ["nobody", "somebody", "not finite", "huge"])
def test_the_noise_of_a_sum_does_not_look_at_what_was_added(tape: Tape, kind: str) -> None:
    """Take the same people's sum without noise from the noisy one: what is left is the tape's, bit by bit."""
    size = 200
    noisy, silent = (
        PrivateSum(size, clipping_norm=2.0, noise_multiplier=1.5, noise=source)
        for source in (system_noise, lambda count: np.zeros(count, np.int64))
    )
    for sums in (noisy, silent):
        for _ in range(0 if kind == "nobody" else 3):
            sums.add(contribution(kind, size))

    left = noisy.read_lattice().values - silent.read_lattice().values

    assert left.tolist() == made_of(tape, first=0, count=size).tolist()


def test_threads_do_not_share_a_word(tape: Tape) -> None:
    drawn: list[NDArray[np.int64]] = []
    threads = [threading.Thread(target=lambda: drawn.append(system_noise(500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(tape.lengths) == {32: 32, 16: 32}
    assert len({stream.key for stream in tape.streams}) == 32
    assert len(np.unique(np.concatenate(drawn))) > 3990  # 4000 of about 2^28 likely values: 0.05 pairs expected


def draws_of_coefficients(tape: Tape) -> list[int]:
    """Return the field elements on the tape: 257 bits of 33 bytes, drawn again where they exceed the field."""
    found = [int.from_bytes(call, "big") >> 7 for call in tape.calls if len(call) == 33]
    return [number for number in found if number < PRIME]


def polynomial(values: list[int], points: list[int]) -> list[int]:
    """Return the coefficients, from the constant up, of the polynomial through the points (Newton's form)."""
    divided, out = [value % PRIME for value in values], [0] * len(points)
    for order in range(1, len(points)):
        for place in range(len(points) - 1, order - 1, -1):
            below = pow(points[place] - points[place - order], -1, PRIME)
            divided[place] = (divided[place] - divided[place - 1]) * below % PRIME
    basis = [1] + [0] * (len(points) - 1)
    for number, point in enumerate(points):
        out = [(a + divided[number] * b) % PRIME for a, b in zip(out, basis, strict=True)]
        basis = [(up - point * here) % PRIME for up, here in zip([0, *basis[:-1]], basis, strict=True)]
    return out


@pytest.mark.parametrize("threshold", [2, 3, 5])
def test_every_coefficient_of_a_sharing_is_a_fresh_number(tape: Tape, threshold: int) -> None:
    """Shares are joined to polynomials again; their coefficients are the tape's numbers, each used once."""
    items = [bytes(32), b"\xff" * 32, bytes(range(32)), bytes(32)]

    dealt = deal(items, threshold=threshold, count=6)

    fresh = draws_of_coefficients(tape)
    assert set(tape.lengths) == {33}
    assert len(set(fresh)) == len(fresh) == len(items) * (threshold - 1)
    for place, item in enumerate(items):
        shares = {point: int.from_bytes(slices(data, SHARE_BYTES)[place], "big") for point, data in dealt.items()}
        found = polynomial(list(shares.values()), list(shares))
        mine = fresh[place * (threshold - 1) :][: threshold - 1]
        assert found == [int.from_bytes(item, "big"), *mine[::-1], *[0] * (6 - threshold)]


def test_a_secret_shared_twice_is_shared_by_other_polynomials(tape: Tape) -> None:
    first, second = (split(5, threshold=4, points=range(1, 6)) for _ in range(2))

    assert len({*first, *second}) == 10
    assert len(set(tape.calls)) == len(tape.calls)


class Sites:
    """The sites of one secure sum, up to the point at which vectors are masked."""

    def __init__(self, names: str, *, steps: int) -> None:
        identities = {name: Ed25519PrivateKey.from_private_bytes(name.encode() * 32) for name in names}
        roster = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
        self.session = Session(SecureCohort(roster, dropouts=1, dishonest=0), "run", steps)
        cohort = self.session.cohort
        self.sites = {name: SecureSite.begin(cohort, name, key, "run", steps) for name, key in identities.items()}
        blobs = {name: site._own_keys().blob for name, site in self.sites.items()}
        self.request = pack_message("cohort", self.session, keys=blobs)

    def share(self) -> None:
        for site in self.sites.values():
            site.shares(self.request)


def test_seeds_and_keys_of_a_run_are_fresh_for_every_site_and_step(tape: Tape) -> None:
    run = Sites("ABCD", steps=3)

    assert tape.lengths == 4 * [96, 96, 32]
    for number, site in enumerate(run.sites.values()):
        state = site._state
        assert [state.seeds, state.mask_keys, state.sealing] == tape.calls[3 * number : 3 * number + 3]
    pieces = [piece for call in tape.calls for piece in slices(call, 32)]
    assert len(set(pieces)) == len(pieces) == 4 * 7


def test_shares_travel_under_fresh_nonces_and_carry_neither_secret_nor_point_zero(
    tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Sites("ABCD", steps=2)
    sealed: list[tuple[bytes, bytes, bytes]] = []
    encrypt = AESGCM.encrypt

    class Recording:
        def __init__(self, key: bytes) -> None:
            self._key = key

        def encrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes:
            sealed.append((self._key, nonce, data))
            return encrypt(AESGCM(self._key), nonce, data, bound)

    monkeypatch.setattr("fedsynth.secure_aggregation.shamir.AESGCM", Recording)
    before = len(tape.calls)
    run.share()

    nonces = [call for call in tape.calls[before:] if len(call) == 12]
    assert set(tape.lengths[before:]) == {33, 12}
    assert [nonce for _, nonce, _ in sealed] == nonces
    assert len({(key, nonce) for key, nonce, _ in sealed}) == len(set(nonces)) == 12
    # Of 4 sites x 2 steps x 2 secrets, with threshold 3: two coefficients each, none of them twice.
    coefficients = draws_of_coefficients(tape)
    assert len(set(coefficients)) == len(coefficients) == 4 * 2 * 2 * 2
    for number, (name, site) in enumerate(run.sites.items()):
        state = site._state
        mine = [state.held[name], *(data for _, _, data in sealed[3 * number : 3 * number + 3])]
        points = [run.session.cohort.point(peer) for peer in (name, *(p for p in run.sites if p != name))]
        assert sorted(points) == [1, 2, 3, 4]
        pairs = zip(slices(state.seeds, 32), slices(state.mask_keys, 32), strict=True)
        for place, secret in enumerate(secret for pair in pairs for secret in pair):
            values = [int.from_bytes(slices(data, SHARE_BYTES)[place], "big") for data in mine]
            assert int.from_bytes(secret, "big") not in values
            assert polynomial(values, points)[0] == int.from_bytes(secret, "big")


def test_a_mask_is_never_used_twice_and_is_the_keystream_of_its_seed(tape: Tape, law: Any) -> None:
    """Three sites, three steps, two of a vector longer than one chunk: masks are made again from what was drawn."""
    run, sizes = Sites("ABC", steps=3), [5, 2**15 + 9, 2**15 + 9]
    states = {name: site._state for name, site in run.sites.items()}
    for name, state in states.items():
        peers = [peer for peer in states if peer != name]
        state.mask_publics = {
            peer: b"".join(public_bytes_of(key) for key in slices(states[peer].mask_keys, 32)) for peer in peers
        }
    drawn = {name: (slices(state.seeds, 32), slices(state.mask_keys, 32)) for name, state in states.items()}

    keys = Counter[bytes]()
    for step, size in enumerate(sizes):
        for name in states:
            before, vector = len(tape.streams), np.arange(size, dtype=np.uint64)
            expected = vector + law.keystream(
                run.session.self_mask_key(name, step, drawn[name][0][step]), bytes(16), size
            )
            for peer in sorted(set(states) - {name}):
                secret = exchange(drawn[name][1][step], public_bytes_of(drawn[peer][1][step]))
                mask = law.keystream(run.session.pair_mask_key(name, peer, step, secret), bytes(16), size)
                expected = expected + mask if pair_sign(name, peer) > 0 else expected - mask
            masked = _masked(run, name, step, vector)
            assert np.array_equal(masked, expected)
            here = tape.streams[before:]
            assert [stream.taken for stream in here] == 3 * [8 * size]
            keys.update(stream.key for stream in here)

    # A self mask's key is met at its own site, a pair's at both ends; nothing else ever.
    assert Counter(keys.values()) == {1: 3 * 3, 2: 3 * 3}


def _masked(run: Sites, name: str, step: int, vector: NDArray[np.uint64]) -> NDArray[np.uint64]:
    site = run.sites[name]
    site._state.delivered = b"settled"  # the peers' keys are known here, nobody's shares are needed
    request = pack_message("sum", run.session, step=step, size=len(vector), sealed={})
    reply = site.mask(step, vector, request)
    return np.frombuffer(reply.split(b"\n", 2)[2], "<u8")


def test_the_key_of_a_ledger_is_32_fresh_bytes(tape: Tape, tmp_path: Path) -> None:
    """Tokens of people are made with it."""
    keys = []
    for name in "ab":
        with Ledger(tmp_path / name) as ledger:
            keys.append(ledger.key)

    assert keys[0] != keys[1]
    assert all(tape.calls.count(key) == 1 and len(key) == 32 for key in keys)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda: system_noise(3).tobytes(), id="noise"),
        pytest.param(lambda: poisson_draw(200, probability=0.5).tobytes(), id="coins"),
        pytest.param(lambda: repr(split(1, threshold=3, points=[1, 2, 3])).encode(), id="shares"),
        pytest.param(lambda: Sites("ABC", steps=1).sites["A"].to_bytes(), id="seeds and keys"),
        pytest.param(lambda: _sealed_nonce(), id="nonces"),
    ],
)
def test_a_child_of_fork_repeats_neither_its_parent_nor_its_sibling(draw: Callable[[], bytes]) -> None:
    """With the system's own entropy: whatever a process kept in hand before it forked would come out twice."""
    draw()  # what is kept from call to call is kept now
    said = [_said_by_a_child(draw), _said_by_a_child(draw), draw(), draw()]

    assert len(set(said)) == 4
    if len(said[0]) == 24:  # noise: three numbers of 8 bytes, no one of which may come again
        numbers = [number for one in said for number in np.frombuffer(one, np.int64).tolist()]
        assert len(set(numbers)) >= 11


def _sealed_nonce() -> bytes:
    session = Session(SecureCohort({name: name.encode() * 32 for name in "ABC"}, dropouts=0, dishonest=0), "r", 1)
    return seal_share(bytes(66), session=session, secret=bytes(32), sender="A", receiver="B")


def _said_by_a_child(draw: Callable[[], bytes]) -> bytes:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with os.fdopen(write, "wb") as pipe:
                pipe.write(draw())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    assert said
    return said
