"""A coordinator that lies: whatever it tells the sites, each gives one kind of share, for one list, of one run."""

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import PrivacyError, WireError
from fedsynth.secure_aggregation.messages import pack_message
from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import KeySet, SecureCohort, Session
from fedsynth.secure_aggregation.server import SecureServer


class Stage:
    """A coordinator that may do anything, and the sites it talks to."""

    def __init__(
        self, n: int, *, dropouts: int = 0, dishonest: int = 0, context: str = "run 1", like: "Stage | None" = None
    ) -> None:
        self.identities = like.identities if like else {name: Ed25519PrivateKey.generate() for name in "ABCDEF"[:n]}
        roster = {name: key.public_key().public_bytes_raw() for name, key in self.identities.items()}
        self.cohort = SecureCohort(roster, dropouts=dropouts, dishonest=dishonest)
        self.session = Session(self.cohort, context, 2)
        self.server = SecureServer(self.cohort, context, 2)
        self.sites = {n: SecureSite.begin(self.cohort, n, key, context, 2) for n, key in self.identities.items()}

    def public(self) -> dict[str, bytes]:
        """Return everybody's keys, as blobs."""
        return {name: base64.b64decode(fields(site.keys())["keys"]) for name, site in self.sites.items()}

    def exchange_shares(self) -> None:
        for name, site in self.sites.items():
            self.server.receive(name, site.keys())
        for name, data in self.server.ask_shares().items():
            self.server.receive(name, self.sites[name].shares(data))

    def mask(self) -> None:
        self.exchange_shares()
        for name, data in self.server.ask_sum(0, 3).items():
            self.sites[name].mask(0, np.zeros(3, np.uint64), data)

    def ask_agree(self, survivors: Iterable[str]) -> bytes:
        return pack_message("agree", self.session, step=0, survivors=sorted(survivors))

    def sign(self, names: Iterable[str], survivors: Iterable[str]) -> dict[str, bytes]:
        """Let sites sign a list, without asking whether they would."""
        return {n: self.identities[n].sign(self.session.agreement(0, sorted(survivors))) for n in sorted(names)}

    def ask_unmask(self, survivors: Iterable[str], signatures: dict[str, bytes]) -> bytes:
        return pack_message("unmask", self.session, step=0, survivors=sorted(survivors), signatures=signatures)


def fields(data: bytes) -> dict[str, Any]:
    return dict(json.loads(data.split(b"\n", 2)[1]))


@pytest.fixture
def stage() -> Stage:
    return Stage(4, dropouts=1)


def of_another_run(stage: Stage) -> dict[str, bytes]:
    return stage.public() | {"B": Stage(4, dropouts=1, context="run 0", like=stage).public()["B"]}


def of_another_roster(stage: Stage) -> dict[str, bytes]:
    return stage.public() | {"B": Stage(4, like=stage).public()["B"]}


def of_a_wrong_identity(stage: Stage) -> dict[str, bytes]:
    keys = KeySet.of(
        stage.session,
        "B",
        private=[bytes([k]) * 32 for k in (1, 2, 3)],
        seeds=[bytes(32)] * 2,
        identity=stage.identities["C"],
    )
    return stage.public() | {"B": keys.blob}


def of_the_coordinator(stage: Stage) -> dict[str, bytes]:
    theirs = KeySet.from_blob(stage.public()["B"])
    mine = KeySet.from_blob(Stage(4, dropouts=1).public()["B"])
    return stage.public() | {"B": KeySet(theirs.sealing, mine.masks, theirs.commitments, theirs.signature).blob}


def swapped(stage: Stage) -> dict[str, bytes]:
    keys = stage.public()
    return keys | {"B": keys["C"], "C": keys["B"]}


def reused(stage: Stage) -> dict[str, bytes]:
    keys = KeySet.of(
        stage.session,
        "B",
        private=[b"\1" * 32, b"\2" * 32, b"\2" * 32],
        seeds=[bytes(32)] * 2,
        identity=stage.identities["B"],
    )
    return stage.public() | {"B": keys.blob}


def of_small_order(stage: Stage) -> dict[str, bytes]:
    bare = KeySet(bytes([9] + [0] * 31), bytes(64), bytes(64))
    signature = stage.identities["B"].sign(bare.statement(stage.session, "B"))
    return stage.public() | {"B": KeySet(bare.sealing, bare.masks, bare.commitments, signature).blob}


KEY_ATTACKS: dict[str, tuple[Callable[[Stage], dict[str, bytes]], str]] = {
    "signed by the wrong identity": (of_a_wrong_identity, "keys of B are not signed"),
    "replaced by the coordinator": (of_the_coordinator, "keys of B are not signed"),
    "two sites swapped": (swapped, "are not signed"),
    "replayed from another run": (of_another_run, "keys of B are not signed"),
    "replayed from another cohort": (of_another_roster, "keys of B are not signed"),
    "one mask key for two steps": (reused, "stands twice"),
    "a point of small order": (of_small_order, "small order"),
    "its own keys changed": (lambda s: s.public() | {"A": Stage(4, like=s).public()["A"]}, "unchanged"),
    "its own keys missing": (lambda s: {n: k for n, k in s.public().items() if n != "A"}, "unchanged"),
    "a stranger": (lambda s: s.public() | {"Z": s.public()["B"]}, "does not name"),
    "too few sites": (lambda s: {n: k for n, k in s.public().items() if n in "AB"}, "it takes 3"),
}


@pytest.mark.parametrize(("attack", "words"), KEY_ATTACKS.values(), ids=KEY_ATTACKS)
def test_a_site_deals_no_shares_on_keys_that_the_roster_does_not_vouch_for(
    stage: Stage, attack: Callable[[Stage], dict[str, bytes]], words: str
) -> None:
    with pytest.raises(PrivacyError, match=words):
        stage.sites["A"].shares(pack_message("cohort", stage.session, keys=attack(stage)))

    honest = pack_message("cohort", stage.session, keys=stage.public())
    assert set(fields(stage.sites["A"].shares(honest))["sealed"]) == set("BCD")


def test_a_site_refuses_the_messages_of_another_run_or_roster(stage: Stage) -> None:
    for other in (Stage(4, dropouts=1, context="run 0", like=stage), Stage(4, like=stage), Stage(4, dropouts=1)):
        with pytest.raises(WireError, match="another session"):
            stage.sites["A"].shares(pack_message("cohort", other.session, keys=other.public()))


def test_shares_are_dealt_once(stage: Stage) -> None:
    stage.exchange_shares()
    fewer = {name: blob for name, blob in stage.public().items() if name != "D"}

    with pytest.raises(PrivacyError, match="given once"):
        stage.sites["A"].shares(pack_message("cohort", stage.session, keys=fewer))


@pytest.mark.parametrize("turn", [{"B": "C", "C": "B"}, {"B": "D", "D": "B"}])
def test_shares_swapped_by_the_coordinator_are_not_opened(stage: Stage, turn: dict[str, str]) -> None:
    stage.exchange_shares()
    sealed = {by: shares["A"] for by, shares in stage.server._sealed.items() if by != "A"}
    moved = {turn.get(by, by): shares for by, shares in sealed.items()}

    with pytest.raises(WireError, match="not sealed for A"):
        stage.sites["A"].mask(
            0, np.zeros(3, np.uint64), pack_message("sum", stage.session, step=0, size=3, sealed=moved)
        )


@pytest.mark.parametrize("peers", ["", "B", "BCZ"], ids=["nobody", "too few", "a stranger"])
def test_a_site_masks_only_among_enough_peers_that_it_knows(stage: Stage, peers: str) -> None:
    stage.exchange_shares()
    sealed = {peer: stage.server._sealed.get(peer, stage.server._sealed["B"])["A"] for peer in peers}
    data = pack_message("sum", stage.session, step=0, size=3, sealed=sealed)

    with pytest.raises(PrivacyError, match="whose keys it has verified"):
        stage.sites["A"].mask(0, np.zeros(3, np.uint64), data)


def test_a_site_that_was_told_of_fewer_peers_signs_no_list_with_the_others() -> None:
    stage = Stage(5, dropouts=1)
    stage.exchange_shares()
    sealed = {peer: stage.server._sealed[peer]["A"] for peer in "CDE"}
    stage.sites["A"].mask(
        0, np.zeros(3, np.uint64), pack_message("sum", stage.session, step=0, size=3, sealed=sealed)
    )

    with pytest.raises(PrivacyError, match="whose shares never came"):
        stage.sites["A"].agree(0, stage.ask_agree("ABCDE"))
    with pytest.raises(PrivacyError, match="its peers are settled"):
        stage.sites["A"].mask(0, np.zeros(3, np.uint64), stage.server.ask_sum(0, 3)["A"])


def test_a_second_vector_of_one_step_is_refused(stage: Stage) -> None:
    stage.exchange_shares()
    values, data = np.arange(3, dtype=np.uint64), stage.server.ask_sum(0, 3)["A"]
    first = stage.sites["A"].mask(0, values, data)

    with pytest.raises(PrivacyError, match="second vector"):
        stage.sites["A"].mask(0, values + np.uint64(1), data)
    shorter = pack_message("sum", stage.session, step=0, size=2, sealed={})
    with pytest.raises(PrivacyError, match="second vector"):
        stage.sites["A"].mask(0, values[:2], shorter)
    assert stage.sites["A"].mask(0, values, data) == first


@pytest.mark.parametrize(
    ("survivors", "words"),
    [
        pytest.param("AB", "agreed on 3", id="two, so that A learns B's vector"),
        pytest.param("A", "agreed on 3", id="itself alone"),
        pytest.param("BCD", "leaves this site out", id="without the site"),
        pytest.param("ABZ", "whose shares never came", id="a stranger"),
    ],
)
def test_a_site_signs_no_list_that_would_uncover_somebody(stage: Stage, survivors: str, words: str) -> None:
    stage.mask()

    with pytest.raises(PrivacyError, match=words):
        stage.sites["A"].agree(0, stage.ask_agree(survivors))


def test_a_site_signs_nothing_before_it_has_sent_its_vector(stage: Stage) -> None:
    stage.exchange_shares()

    with pytest.raises(PrivacyError, match="no vector was sent"):
        stage.sites["A"].agree(0, stage.ask_agree("ABC"))


def test_two_halves_that_are_told_different_survivors_unmask_nothing() -> None:
    stage = Stage(6, dropouts=1)
    stage.mask()
    halves = {"ABC": "ABCDE", "DEF": "BCDEF"}
    signatures: dict[str, dict[str, bytes]] = {}
    for half, survivors in halves.items():
        for name in half:
            stage.sites[name].agree(0, stage.ask_agree(survivors))
        signatures[half] = stage.sign(half, survivors)
    everything = signatures["ABC"] | signatures["DEF"]

    for half, survivors in halves.items():
        for name in half:
            for claimed in (signatures[half], {n: s for n, s in everything.items() if n in survivors}):
                with pytest.raises(PrivacyError, match="signature"):
                    stage.sites[name].unmask(0, stage.ask_unmask(survivors, claimed))
            with pytest.raises(PrivacyError, match="another list was signed"):
                stage.sites[name].agree(0, stage.ask_agree("ABCDEF"))


def test_nobody_gives_both_kinds_of_shares_of_one_site(stage: Stage) -> None:
    stage.mask()
    stage.sites["B"].agree(0, stage.ask_agree("ABCD"))
    all_four = stage.ask_unmask("ABCD", stage.sign("ABC", "ABCD"))
    without_a = stage.ask_unmask("BCD", stage.sign("BCD", "BCD"))
    with pytest.raises(PrivacyError, match="signed no such list"):
        stage.sites["B"].unmask(0, without_a)

    reply = stage.sites["B"].unmask(0, all_four)

    assert (fields(reply)["keys"], set(fields(reply)["seeds"])) == ({}, set("ABCD"))
    assert stage.sites["B"].unmask(0, all_four) == reply
    with pytest.raises(PrivacyError, match="signed no such list"):
        stage.sites["B"].unmask(0, without_a)
    with pytest.raises(PrivacyError, match="on another request"):
        stage.sites["B"].unmask(0, stage.ask_unmask("ABCD", stage.sign("ABCD", "ABCD")))


@pytest.mark.parametrize(
    ("signers", "signed"),
    [
        pytest.param("AB", "ABC", id="too few"),
        pytest.param("ABD", "ABC", id="by one that dropped out"),
        pytest.param("ABC", "ABD", id="over another list"),
    ],
)
def test_a_site_unmasks_only_on_signatures_of_enough_survivors(stage: Stage, signers: str, signed: str) -> None:
    stage.mask()
    stage.sites["A"].agree(0, stage.ask_agree("ABC"))

    with pytest.raises(PrivacyError, match="signature"):
        stage.sites["A"].unmask(0, stage.ask_unmask("ABC", stage.sign(signers, signed)))


def with_an_idle_bit(text: str) -> str:
    """Set a bit that base64 with one '=' does not use: another text of the same bytes."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    changed = text[:-2] + letters[letters.index(text[-2]) + 1] + "="
    assert base64.b64decode(changed, validate=True) == base64.b64decode(text)
    return changed


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        pytest.param("keys", lambda f: {"keys": with_an_idle_bit(f["keys"])}, id="base64 with idle bits set"),
        pytest.param("keys", lambda f: {"keys": f["keys"][:-4]}, id="keys cut short"),
        pytest.param("keys", lambda f: {"keys": [f["keys"]]}, id="keys as a list"),
        pytest.param("shares", lambda f: {"sealed": {"B": f["sealed"]["B"]}}, id="shares for one peer of three"),
        pytest.param("shares", lambda f: {"sealed": f["sealed"] | {"A": f["sealed"]["B"]}}, id="shares for itself"),
        pytest.param("shares", lambda _: {"sealed": "B"}, id="shares for nobody in particular"),
        pytest.param("agreement", lambda _: {"signature": base64.b64encode(bytes(64)).decode()}, id="no signature"),
        pytest.param("revealed", lambda f: {"seeds": {"A": f["seeds"]["A"]}}, id="one seed of three"),
        pytest.param("revealed", lambda f: {"seeds": f["seeds"] | {"D": f["seeds"]["A"]}}, id="a seed too many"),
        pytest.param("revealed", lambda _: {"keys": {}}, id="no mask key"),
    ],
)
def test_the_coordinator_leaves_aside_a_reply_that_does_not_fit_and_goes_on_with_a_better_one(
    stage: Stage, kind: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Run one step in which D sends no vector, and A first sends a spoiled reply of one kind."""
    server, sites = stage.server, stage.sites
    rounds: list[tuple[str, Callable[[], dict[str, bytes]], Callable[[SecureSite, bytes], bytes]]] = [
        ("keys", lambda: dict.fromkeys("ABCD", b""), lambda site, _: site.keys()),
        ("shares", server.ask_shares, SecureSite.shares),
        ("masked", lambda: server.ask_sum(0, 3), lambda site, data: site.mask(0, np.ones(3, np.uint64), data)),
        ("agreement", lambda: server.ask_agree(0), lambda site, data: site.agree(0, data)),
        ("revealed", lambda: server.ask_unmask(0), lambda site, data: site.unmask(0, data)),
    ]
    for current, ask, answer in rounds:
        for name, data in ask().items():
            reply = answer(sites[name], data)
            if name == "A" and current == kind:
                head, body, rest = reply.split(b"\n", 2)
                spoiled = json.dumps(
                    json.loads(body) | change(json.loads(body)), sort_keys=True, separators=(",", ":")
                )
                with pytest.raises(WireError, match="from A"):
                    server.receive(name, b"\n".join([head, spoiled.encode(), rest]))
            if (name, current) != ("D", "masked"):
                server.receive(name, reply)

    assert server.total(0).values.tolist() == [3, 3, 3]


def test_a_masked_vector_of_another_size_is_left_aside(stage: Stage) -> None:
    stage.exchange_shares()
    stage.server.ask_sum(0, 3)
    longer = pack_message("masked", stage.session, payload=bytes(32), site="A", step=0, size=4)

    with pytest.raises(WireError, match="has 4 words of 3"):
        stage.server.receive("A", longer)


@pytest.mark.parametrize("survivors", [["B", "A", "C"], ["A", "A", "B", "C"], "ABC", [1, 2, 3]])
def test_a_list_of_survivors_has_one_form(stage: Stage, survivors: Any) -> None:
    stage.mask()
    request = json.dumps(
        {"kind": "agree", "session": stage.session.digest, "step": 0, "survivors": survivors},
        sort_keys=True,
        separators=(",", ":"),
    )

    with pytest.raises(WireError, match="needs survivors"):
        stage.sites["A"].agree(0, b"fedsynth secure sum v1\n" + request.encode() + b"\n")
