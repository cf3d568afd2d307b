"""What a coordinator and its accomplices see of one site's vector: nothing, until a defence is taken away."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from scipy import stats

from fedsynth.errors import PrivacyError
from fedsynth.secure_aggregation.messages import SiteState, add_keystream, pack_message
from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import KeySet, SecureCohort, Session, exchange
from fedsynth.secure_aggregation.server import SecureServer
from fedsynth.secure_aggregation.shamir import join

Vector = npt.NDArray[np.uint64]
Mask = tuple[bytes, int]
SIZE = 512
CHANCE = 1e-6  # of a false alarm, per comparison


class Play:
    """One step up to the masked vectors, with everything that a coordinator gets to see."""

    def __init__(self, n: int, *, values: dict[str, Vector], dropouts: int = 1, dishonest: int = 0) -> None:
        self.identities = {name: Ed25519PrivateKey.generate() for name in "ABCDEF"[:n]}
        roster = {name: key.public_key().public_bytes_raw() for name, key in self.identities.items()}
        self.cohort = SecureCohort(roster, dropouts=dropouts, dishonest=dishonest)
        self.session = Session(self.cohort, "run 1", 1)
        self.sites = {n: SecureSite.begin(self.cohort, n, key, "run 1", 1) for n, key in self.identities.items()}
        server = SecureServer(self.cohort, "run 1", 1)
        self.published: dict[str, KeySet] = {}
        for name, site in self.sites.items():
            server.receive(name, site.keys())
            self.published[name] = KeySet.from_blob(base64.b64decode(fields(site.keys())["keys"]))
        for name, data in server.ask_shares().items():
            server.receive(name, self.sites[name].shares(data))
        self.masked = {}
        for name, data in server.ask_sum(0, SIZE).items():
            reply = self.sites[name].mask(0, values[name], data)
            self.masked[name] = np.frombuffer(reply.split(b"\n", 2)[2], "<u8")

    def sign(self, names: str, survivors: str, *, by_force: str = "") -> dict[str, bytes]:
        """Ask sites to sign a list; accomplices, whose keys the coordinator has, are not asked."""
        agree = pack_message("agree", self.session, step=0, survivors=list(survivors))
        signed = {n: base64.b64decode(fields(self.sites[n].agree(0, agree))["signature"]) for n in names}
        return signed | {n: self.identities[n].sign(self.session.agreement(0, survivors)) for n in by_force}

    def revealed(self, names: str, survivors: str, signatures: dict[str, bytes], kind: str) -> dict[int, int]:
        """Return the shares of A's secret that sites reveal, by point; a refusal reveals none."""
        request = pack_message("unmask", self.session, step=0, survivors=list(survivors), signatures=signatures)
        found = {}
        for name in names:
            try:
                reply = fields(self.sites[name].unmask(0, request))
            except PrivacyError:
                continue
            found[self.cohort.point(name)] = int.from_bytes(base64.b64decode(reply[kind]["A"]), "big")
        return found

    def without_self_mask(self, vector: Vector, seed: bytes) -> Vector:
        return vector - keystream(self.session.self_mask_key("A", 0, seed))

    def without_pair_masks(self, vector: Vector, key: bytes) -> Vector:
        for peer in sorted(set(self.sites) - {"A"}):
            secret = exchange(key, self.published[peer].masks)
            mask = keystream(self.session.pair_mask_key("A", peer, 0, secret))
            vector = vector - mask  # A comes first in the alphabet, so it adds
        return vector


def fields(data: bytes) -> dict[str, Any]:
    return dict(json.loads(data.split(b"\n", 2)[1]))


def keystream(key: bytes, *, size: int = SIZE) -> Vector:
    """Write AES-256-CTR a second time, all at once."""
    return np.frombuffer(Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(8 * size)), "<u8")


def as_secret(shares: dict[int, int]) -> bytes:
    """Join shares; what is not 32 bytes long was none."""
    return (join(shares) % 2**256).to_bytes(32, "big")


def constant(value: int, names: str = "ABCD") -> dict[str, Vector]:
    return {name: np.full(SIZE, value, np.uint64) for name in names}


def as_sent(play: Play) -> Vector:
    return play.masked["A"]


def with_everybody_in_the_total(play: Play) -> Vector:
    """Honestly unmask a total, which rebuilds A's self seed, and take A's self mask off its vector."""
    shares = play.revealed("ABCD", "ABCD", play.sign("ABCD", "ABCD"), "seeds")
    return play.without_self_mask(play.masked["A"], as_secret(shares))


def with_a_called_missing(play: Play) -> Vector:
    """Say that A dropped out, which rebuilds its mask key, though its vector came; take the pair masks off."""
    shares = play.revealed("BCD", "BCD", play.sign("BCD", "BCD"), "keys")
    return play.without_pair_masks(play.masked["A"], as_secret(shares))


def test_one_secret_gives_another_key_for_every_use_step_site_and_run() -> None:
    cohort = SecureCohort({name: name.encode() * 32 for name in "ABC"}, dropouts=0, dishonest=0)
    sessions = [Session(cohort, "run 1", 2), Session(cohort, "run 2", 2), Session(cohort, "run 1", 3)]
    uses = [
        derived
        for session in sessions
        for step in (0, 1)
        for derived in (
            *(session.self_mask_key(name, step, bytes(32)) for name in "AB"),
            *(session.commitment(name, step, bytes(32)) for name in "AB"),
            *(session.pair_mask_key("A", name, step, bytes(32)) for name in "BC"),
        )
    ]

    assert len(set(uses)) == len(uses) == 36
    assert sessions[0].pair_mask_key("B", "A", 0, bytes(32)) == sessions[0].pair_mask_key("A", "B", 0, bytes(32))


@pytest.mark.parametrize("size", [1, 2**15 - 1, 2**15, 100_001])
def test_a_mask_of_any_length_is_the_keystream_of_aes(size: int) -> None:
    values = np.arange(size, dtype=np.uint64)
    added, taken = values.copy(), values.copy()
    add_keystream(added, bytes(range(32)), sign=1)
    add_keystream(taken, bytes(range(32)), sign=-1)

    assert np.array_equal(added, values + keystream(bytes(range(32)), size=size))
    assert np.array_equal(taken, values - keystream(bytes(range(32)), size=size))


def uniformity(view: Callable[[Play], Vector], *, value: int, runs: int = 16) -> float:
    """Return the p-value of a chi-square test of the bytes of one site's vector, over fresh runs."""
    seen = np.concatenate([view(Play(4, values=constant(value))) for _ in range(runs)])
    counts = np.bincount(seen.view(np.uint8), minlength=256)
    return float(stats.chisquare(counts).pvalue)


VIEWS = [as_sent, with_everybody_in_the_total, with_a_called_missing]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("value", [0, 2**63 + 12345])
def test_every_view_of_a_constant_vector_is_uniform(view: Callable[[Play], Vector], value: int) -> None:
    assert uniformity(view, value=value) > CHANCE


def no_self_mask(masks: Iterator[Mask]) -> Iterator[Mask]:
    next(masks)
    return masks


def no_pair_masks(masks: Iterator[Mask]) -> Iterator[Mask]:
    yield next(masks)


def no_masks(_: Iterator[Mask]) -> Iterator[Mask]:
    return iter(())


@pytest.mark.parametrize(
    ("fault", "view"),
    [
        pytest.param(no_masks, as_sent, id="as sent, without any mask"),
        pytest.param(no_pair_masks, with_everybody_in_the_total, id="in the total, without pair masks"),
        pytest.param(no_self_mask, with_a_called_missing, id="called missing, without a self mask"),
    ],
)
def test_a_view_is_no_longer_uniform_once_its_mask_is_left_out(
    fault: Callable[[Iterator[Mask]], Iterator[Mask]],
    view: Callable[[Play], Vector],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = SiteState.masks
    monkeypatch.setattr(SiteState, "masks", lambda state, step: fault(whole(state, step)))

    assert uniformity(view, value=12345, runs=2) < CHANCE


def distances(*, first: int, second: int) -> list[float]:
    """Compare two sites' vectors of one run, and one site's over two inputs: p-values of Kolmogorov-Smirnov."""
    one, other = Play(4, values=constant(first)), Play(4, values=constant(first) | {"B": constant(second)["B"]})
    pairs = [
        (one.masked["A"], one.masked["B"]),
        (other.masked["A"], other.masked["B"]),
        (one.masked["B"], other.masked["B"]),
        (one.masked["A"] + one.masked["B"], other.masked["B"]),
    ]
    return [float(stats.ks_2samp(a / 2.0**64, b / 2.0**64).pvalue) for a, b in pairs]


def test_two_vectors_look_alike_whether_their_inputs_do_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(distances(first=7, second=2**62)) > CHANCE

    monkeypatch.setattr(SiteState, "masks", lambda *_: iter(()))
    assert min(distances(first=7, second=2**62)) < CHANCE


def test_no_word_comes_twice_from_one_input_at_three_sites_in_three_runs() -> None:
    plays = [Play(3, values=constant(5), dropouts=0) for _ in range(3)]
    words = [play.masked[name] for play in plays for name in "ABC"]

    assert max(Counter(np.concatenate(words).tolist()).values()) == 1


def attack(*, gifts: int) -> tuple[Vector, Vector, int, int]:
    """Let a coordinator and its accomplices E and F try to open A's vector, of six sites.

    It tells A and B that everybody survived, C and D that A dropped out, and lets E and F sign both lists. E and F
    give away their states. `gifts` more honest sites' shares of each kind are added for nothing.

    Returns:
        The guess, the truth, and how many shares of A's seed and of its mask key were gathered.
    """
    truth = np.random.default_rng(3).integers(0, 2**64, SIZE, np.uint64)
    play = Play(6, values=constant(1, "BCDEF") | {"A": truth}, dishonest=2)
    both = {name: site._state.shares_of("A", 0) for name, site in play.sites.items()}
    kept = {name: [int.from_bytes(share, "big") for share in shares] for name, shares in both.items()}
    seeds, keys = ({play.cohort.point(name): kept[name][kind] for name in "EF"} for kind in (0, 1))

    seeds |= play.revealed("AB", "ABCDEF", play.sign("AB", "ABCDEF", by_force="EF"), "seeds")
    keys |= play.revealed("CD", "BCDEF", play.sign("CD", "BCDEF", by_force="EF"), "keys")
    seeds |= {play.cohort.point(name): kept[name][0] for name in "AB"[:gifts]}
    keys |= {play.cohort.point(name): kept[name][1] for name in "CD"[:gifts]}

    guess = play.without_self_mask(play.without_pair_masks(play.masked["A"], as_secret(keys)), as_secret(seeds))
    return guess, truth, len(seeds), len(keys)


def test_a_coordinator_with_as_many_accomplices_as_agreed_cannot_open_a_vector() -> None:
    guess, truth, seeds, keys = attack(gifts=0)

    assert (seeds, keys) == (2, 2)  # E's and F's own: no list had the five signatures it takes
    assert not np.any(guess == truth)


def test_one_share_fewer_than_the_threshold_of_both_secrets_does_not_open_a_vector() -> None:
    guess, truth, seeds, keys = attack(gifts=2)

    assert (seeds, keys) == (4, 4)
    assert not np.any(guess == truth)


def test_the_same_attack_opens_the_vector_where_the_threshold_is_one_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecureCohort, "threshold", property(lambda cohort: (cohort.n + cohort.dishonest) // 2))

    guess, truth, seeds, keys = attack(gifts=0)

    assert (seeds, keys) == (4, 4)
    assert guess.tolist() == truth.tolist()


def accomplices_view(values: dict[str, Vector]) -> Vector:
    """Take off A's vector what an honest total and D's own keys allow: the self mask, and that shared with D."""
    play = Play(4, values=values, dropouts=0, dishonest=1)
    shares = play.revealed("ABC", "ABCD", play.sign("ABC", "ABCD", by_force="D"), "seeds")
    secret = exchange(play.sites["D"]._state.mask_keys, play.published["A"].masks)
    opened = play.without_self_mask(play.masked["A"], as_secret(shares))
    return opened - keystream(play.session.pair_mask_key("A", "D", 0, secret))


def test_an_accomplice_takes_off_its_own_mask_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    values = constant(2**40)
    assert stats.chisquare(np.bincount(accomplices_view(values).view(np.uint8), minlength=256)).pvalue > CHANCE

    whole = SiteState.masks
    only = {"A": (0, 3), "B": (0,), "C": (0,), "D": (0, 1)}  # the self masks, and what A and D share
    monkeypatch.setattr(
        SiteState,
        "masks",
        lambda state, step: [mask for place, mask in enumerate(whole(state, step)) if place in only[state.me]],
    )
    assert accomplices_view(values).tolist() == values["A"].tolist()
