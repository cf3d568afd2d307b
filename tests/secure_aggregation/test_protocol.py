"""The secure sum among honest parties: right whoever drops out within the limits, refused beyond them."""

import json
from collections.abc import Callable, Collection, Mapping

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedsynth.errors import FedsynthError, PrivacyError, RefusedError, WireError
from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import SecureCohort
from fedsynth.secure_aggregation.server import OpenedTotal, SecureServer

Vector = npt.NDArray[np.uint64]
STAGES = ("keys", "shares", "sum", "agree", "unmask")
SIZE = 5


class Run:
    """Sites and a coordinator in one process; each site is read anew from its state before every message."""

    def __init__(self, n: int, *, dropouts: int = 0, dishonest: int = 0, steps: int = 2) -> None:
        self.identities = {name: Ed25519PrivateKey.generate() for name in "ABCDEFG"[:n]}
        roster = {name: key.public_key().public_bytes_raw() for name, key in self.identities.items()}
        self.cohort = SecureCohort(roster, dropouts=dropouts, dishonest=dishonest)
        self.server = SecureServer(self.cohort, "run 1", steps)
        self.states = {
            name: SecureSite.begin(self.cohort, name, key, "run 1", steps).to_bytes()
            for name, key in self.identities.items()
        }
        self.revealed = 0

    def site(self, name: str) -> SecureSite:
        return SecureSite.from_bytes(self.states[name], cohort=self.cohort, identity=self.identities[name])

    def ask(self, name: str, answer: Callable[[SecureSite], bytes]) -> bytes:
        site = self.site(name)
        reply = answer(site)
        self.states[name] = site.to_bytes()
        return reply

    def begin(self, *, silent: Mapping[str, Collection[str]] | None = None) -> None:
        silent = dict.fromkeys(STAGES, ()) | dict(silent or {})
        for name in sorted(set(self.identities) - set(silent["keys"])):
            self.server.receive(name, self.ask(name, SecureSite.keys))
        for name, data in self.server.ask_shares().items():
            if name not in silent["shares"]:
                self.server.receive(name, self.ask(name, lambda site, data=data: site.shares(data)))

    def step(
        self, step: int, values: Mapping[str, Vector], *, silent: Mapping[str, Collection[str]] | None = None
    ) -> OpenedTotal:
        silent = dict.fromkeys(STAGES, ()) | dict(silent or {})
        for name, data in self.server.ask_sum(step, SIZE).items():
            if name not in silent["sum"]:
                vector = values[name]
                self.server.receive(name, self.ask(name, lambda site, d=data, v=vector: site.mask(step, v, d)))
        for name, data in self.server.ask_agree(step).items():
            if name not in silent["agree"]:
                self.server.receive(name, self.ask(name, lambda site, d=data: site.agree(step, d)))
        for name, data in self.server.ask_unmask(step).items():
            if name not in silent["unmask"]:
                self.server.receive(name, self.ask(name, lambda site, d=data: site.unmask(step, d)))
                self.revealed += 1
        return self.server.total(step)


def vectors(names: Collection[str], *, seed: int = 0) -> dict[str, Vector]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 2**64, SIZE, np.uint64) for name in sorted(names)}


def plain_sum(values: Mapping[str, Vector], names: Collection[str]) -> list[int]:
    """Add with Python's integers, as a second way to know the answer."""
    return [sum(int(values[name][place]) for name in names) % 2**64 for place in range(SIZE)]


def rewritten(data: bytes, **changes: object) -> bytes:
    """Change fields of a message (None removes one) and write it in its canonical form again."""
    prefix, header, payload = data.split(b"\n", 2)
    body = json.loads(header) | changes
    text = json.dumps({k: v for k, v in body.items() if v is not None}, sort_keys=True, separators=(",", ":"))
    return b"\n".join([prefix, text.encode(), payload])


@settings(max_examples=120, deadline=None)
@given(
    n=st.integers(3, 7),
    dropouts=st.integers(0, 3),
    dishonest=st.integers(0, 2),
    stages=st.lists(st.sampled_from((*STAGES, "never", "never", "never", "never")), min_size=7, max_size=7),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_total_is_the_plain_sum_or_nothing_is_unmasked(
    n: int, dropouts: int, dishonest: int, stages: list[str], seed: int
) -> None:
    try:
        run = Run(n, dropouts=dropouts, dishonest=dishonest, steps=1)
    except PrivacyError:
        assume(False)
    names = list(run.identities)
    silent = {stage: [name for name, when in zip(names, stages, strict=False) if when == stage] for stage in STAGES}
    left = {
        stage: [name for name, when in zip(names, stages, strict=False) if when not in earlier]
        for stage, earlier in ((stage, STAGES[: STAGES.index(stage) + 1]) for stage in STAGES)
    }
    least, threshold = max(3, n - dropouts), (n + dishonest) // 2 + 1
    enough = all(len(left[stage]) >= least for stage in ("keys", "shares", "sum"))
    enough = enough and min(len(left["agree"]), len(left["unmask"])) >= threshold
    values = vectors(names, seed=seed)

    try:
        run.begin(silent=silent)
        total = run.step(0, values, silent=silent)
    except RefusedError:
        assert not enough
        assert run.revealed < threshold
    else:
        assert enough
        assert total.survivors == tuple(left["sum"])
        assert total.values.tolist() == plain_sum(values, left["sum"])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("n", "dropouts", "dishonest"), [(5, 2, 0), (7, 2, 1), (6, 1, 2)])
def test_as_many_as_the_circle_allows_may_drop_out_at_any_stage_and_not_one_more(
    n: int, dropouts: int, dishonest: int, stage: str
) -> None:
    allowed = dropouts if stage in ("keys", "shares", "sum") else n - (n + dishonest) // 2 - 1
    for gone, fine in (("ABCDEFG"[:allowed], True), ("ABCDEFG"[: allowed + 1], False)):
        run, silent = Run(n, dropouts=dropouts, dishonest=dishonest), {stage: gone}
        values = vectors(run.identities)
        try:
            run.begin(silent=silent)
            total = run.step(0, values, silent=silent)
        except RefusedError:
            assert not fine
            assert run.revealed <= run.cohort.threshold - 1
        else:
            assert fine
            assert total.values.tolist() == plain_sum(values, total.survivors)


def test_a_site_that_missed_a_step_takes_part_in_the_next() -> None:
    run = Run(4, dropouts=1, steps=5)
    run.begin()

    for step, gone in ((0, "A"), (1, "B"), (3, "A"), (4, "")):
        values = vectors(run.identities, seed=step)
        total = run.step(step, values, silent={"sum": gone})
        assert total.survivors == tuple(sorted(set("ABCD") - set(gone)))
        assert total.values.tolist() == plain_sum(values, total.survivors)


@pytest.mark.parametrize("stage", ["sum", "agree", "unmask"])
def test_a_step_that_fails_does_not_hurt_the_next(stage: str) -> None:
    run = Run(4, dropouts=1)
    run.begin()
    with pytest.raises(RefusedError):
        run.step(0, vectors(run.identities), silent={stage: "ABC"})

    values = vectors(run.identities, seed=1)

    assert run.step(1, values).values.tolist() == plain_sum(values, "ABCD")


def test_a_retry_gets_the_same_bytes_at_every_stage() -> None:
    run, values = Run(3), np.arange(SIZE, dtype=np.uint64)
    stages: list[Callable[[SecureSite, bytes], bytes]] = [
        lambda site, _: site.keys(),
        SecureSite.shares,
        lambda site, data: site.mask(0, values, data),
        lambda site, data: site.agree(0, data),
        lambda site, data: site.unmask(0, data),
    ]
    asks = [
        lambda: dict.fromkeys("ABC", b""),
        run.server.ask_shares,
        lambda: run.server.ask_sum(0, SIZE),
        lambda: run.server.ask_agree(0),
        lambda: run.server.ask_unmask(0),
    ]
    for ask, stage in zip(asks, stages, strict=True):
        requests = ask()
        assert ask() == requests
        for name, data in requests.items():
            first = run.ask(name, lambda site, s=stage, d=data: s(site, d))
            assert run.ask(name, lambda site, s=stage, d=data: s(site, d)) == first
            run.server.receive(name, first)
            run.server.receive(name, first)

    assert run.server.total(0).values.tolist() == [3 * value for value in range(SIZE)]
    assert run.server.total(0).values.tolist() == [3 * value for value in range(SIZE)]


def test_a_site_forgets_the_secrets_of_a_step_with_its_answer() -> None:
    run = Run(3, steps=3)
    run.begin()
    before = json.loads(run.states["A"].split(b"\n")[1])
    run.step(0, vectors("ABC"))
    after = json.loads(run.states["A"].split(b"\n")[1])

    for name in ("seeds", "mask_keys"):
        assert len(before[name]) == 128  # 3 steps of 32 bytes in base64
        assert len(after[name]) == 88
    assert before["sealing"]
    assert after["sealing"] == ""
    assert {len(shares) for shares in after["held"].values()} == {176}  # 2 steps of two shares of 33 bytes
    with pytest.raises(PrivacyError, match="that step is over"):
        run.ask(
            "A",
            lambda site: site.mask(
                0, vectors("A")["A"], run.server.ask_sum(1, SIZE)["A"].replace(b'"step":1', b'"step":0')
            ),
        )


def test_a_site_that_begins_a_step_forgets_one_that_was_given_up() -> None:
    run = Run(3, steps=3)
    run.begin()
    with pytest.raises(RefusedError):
        run.step(0, vectors("ABC"), silent={"agree": "ABC"})
    run.step(1, vectors("ABC"), silent={"unmask": "C"})

    for name, left in (("A", 44), ("C", 88)):  # one step of 32 bytes in base64, or two
        assert len(json.loads(run.states[name].split(b"\n")[1])["seeds"]) == left


def test_three_must_remain_even_where_a_drop_out_was_allowed_for() -> None:
    run = Run(3, dropouts=1)
    run.begin()

    assert (run.cohort.threshold, run.cohort.least_survivors, run.cohort.tolerated) == (2, 3, 0)
    with pytest.raises(RefusedError, match="takes 3 replies"):
        run.step(0, vectors("ABC"), silent={"sum": "C"})


@pytest.mark.parametrize(
    "values",
    [np.zeros(SIZE, np.int64), np.zeros(SIZE), np.zeros(SIZE + 1, np.uint64), np.zeros((1, SIZE), np.uint64)],
    ids=["signed", "real", "too long", "two axes"],
)
def test_a_site_masks_only_the_words_that_were_asked_for(values: Vector) -> None:
    run = Run(3)
    run.begin()
    data = run.server.ask_sum(0, SIZE)["A"]

    with pytest.raises(WireError, match="asks for 5 words"):
        run.ask("A", lambda site: site.mask(0, values, data))


def test_one_false_share_is_survived_where_one_more_than_needed_answers_and_named_where_not() -> None:
    for silent, survived in (("", True), ("B", False)):
        run, values = Run(3), vectors("ABC")
        run.begin()
        for name, data in run.server.ask_sum(0, SIZE).items():
            run.server.receive(name, run.ask(name, lambda site, v=values[name], d=data: site.mask(0, v, d)))
        for name, data in run.server.ask_agree(0).items():
            run.server.receive(name, run.ask(name, lambda site, d=data: site.agree(0, d)))
        for name, data in run.server.ask_unmask(0).items():
            reply = run.ask(name, lambda site, d=data: site.unmask(0, d))
            if name == "A":
                seeds = json.loads(reply.split(b"\n")[1])["seeds"]
                reply = rewritten(reply, seeds=seeds | {"C": seeds["A"]})
            if name != silent:
                run.server.receive(name, reply)

        if survived:
            assert run.server.total(0).values.tolist() == plain_sum(values, "ABC")
        else:
            with pytest.raises(WireError, match="the self seed of C"):
                run.server.total(0)


BAD = {
    "nothing": lambda data: data[:0],
    "another protocol": lambda data: data.replace(b"v1", b"v2", 1),
    "no header": lambda data: data.split(b"\n", 1)[0] + b"\n",
    "not JSON": lambda data: data.replace(b"{", b"[", 1),
    "spaces in JSON": lambda data: data.replace(b'":', b'": ', 1),
    "a field twice": lambda data: data.replace(b"{", b'{"kind":"masked",', 1),
    "a huge header": lambda data: rewritten(data, site="A" * 10**6),
    "an unknown field": lambda data: rewritten(data, more=1),
    "a field missing": lambda data: rewritten(data, size=None),
    "another kind": lambda data: rewritten(data, kind="keys"),
    "another session": lambda data: rewritten(data, session="0" * 64),
    "another site": lambda data: rewritten(data, site="B"),
    "another step": lambda data: rewritten(data, step=1),
    "a step that is not whole": lambda data: rewritten(data, step=0.0),
    "a step that is true or false": lambda data: rewritten(data, step=False),
    "a size beyond the payload": lambda data: rewritten(data, size=SIZE + 1),
    "a size that fits nowhere": lambda data: rewritten(data, size=2**40),
    "a payload cut short": lambda data: data[:-1],
    "a payload too long": lambda data: data + b"\0",
    "deep JSON": lambda data: data.split(b"\n", 1)[0] + b"\n" + b"[" * 5000 + b"\n",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_message_is_left_aside_and_its_site_named(bad: Callable[[bytes], bytes]) -> None:
    run, values = Run(4, dropouts=1), vectors("ABCD")
    run.begin()
    requests = run.server.ask_sum(0, SIZE)
    replies = {n: run.ask(n, lambda site, n=n: site.mask(0, values[n], requests[n])) for n in "ABCD"}

    with pytest.raises(WireError, match="from A"):
        run.server.receive("A", bad(replies["A"]))

    for name in "BCD":
        run.server.receive(name, replies[name])
    assert (
        run.server._record.values.tolist()
        == sum(
            (np.frombuffer(replies[n].split(b"\n", 2)[2], "<u8") for n in "BCD"), np.zeros(SIZE, np.uint64)
        ).tolist()
    )
    assert sorted(run.server.ask_agree(0)) == ["B", "C", "D"]


def test_a_stranger_and_a_second_different_reply_are_left_aside() -> None:
    run, other = Run(3), Run(3)
    reply = run.ask("A", SecureSite.keys)
    run.server.receive("A", reply)

    with pytest.raises(WireError, match="'Z'"):
        run.server.receive("Z", reply)
    with pytest.raises(WireError, match="differs from its reply before"):
        run.server.receive("A", rewritten(reply, more=1))
    with pytest.raises(WireError, match="from B"):
        run.server.receive(
            "B", rewritten(other.ask("B", SecureSite.keys), session=json.loads(reply.split(b"\n")[1])["session"])
        )


@pytest.mark.parametrize(
    ("n", "dropouts", "dishonest", "words"),
    [
        pytest.param(2, 0, 0, "2 sites cannot hide", id="two sites"),
        pytest.param(5, 3, 0, "takes 3 to unmask", id="a majority may drop out"),
        pytest.param(7, 3, 2, "takes 5 to unmask", id="drop-outs and dishonest sites together"),
        pytest.param(3, 0, 2, "would hold 1 honest", id="one honest site"),
        pytest.param(4, -1, 0, "must not be negative", id="negative"),
    ],
)
def test_a_circle_that_can_promise_nothing_is_refused(n: int, dropouts: int, dishonest: int, words: str) -> None:
    with pytest.raises(PrivacyError, match=words):
        SecureCohort({f"site-{k}": bytes([k]) * 32 for k in range(n)}, dropouts=dropouts, dishonest=dishonest)


@given(n=st.integers(3, 60), dropouts=st.integers(0, 60), dishonest=st.integers(0, 60))
def test_a_circle_never_lets_both_secrets_of_a_site_be_rebuilt(n: int, dropouts: int, dishonest: int) -> None:
    try:
        cohort = SecureCohort({f"{k}": bytes([k]) * 32 for k in range(n)}, dropouts=dropouts, dishonest=dishonest)
    except PrivacyError:
        assume(False)
    t = cohort.threshold

    assert 2 * t > (n - dishonest) + 2 * dishonest >= 2 * (t - 1)
    assert t <= cohort.least_survivors <= n
    assert cohort.noise_sharers == cohort.least_survivors - dishonest >= 2
    assert cohort.tolerated <= dropouts


def test_the_digest_of_a_circle_depends_on_every_part_and_not_on_the_order() -> None:
    roster = {name: name.encode() * 32 for name in "ABCDE"}
    cohort = SecureCohort(roster, dropouts=1, dishonest=0)
    others = [
        SecureCohort(roster, dropouts=2, dishonest=0),
        SecureCohort(roster, dropouts=1, dishonest=1),
        SecureCohort(roster | {"E": b"F" * 32}, dropouts=1, dishonest=0),
    ]

    assert SecureCohort(dict(reversed(roster.items())), dropouts=1, dishonest=0).digest == cohort.digest
    assert len({cohort.digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize("place", [0, 30, 200, -40])
def test_a_damaged_or_foreign_state_is_refused(place: int) -> None:
    run, other = Run(3), Run(3)
    data = bytearray(run.states["A"])
    data[place] ^= 0x80

    with pytest.raises(FedsynthError):
        SecureSite.from_bytes(bytes(data), cohort=run.cohort, identity=run.identities["A"])
    with pytest.raises(PrivacyError, match="another cohort"):
        SecureSite.from_bytes(run.states["A"], cohort=other.cohort, identity=other.identities["A"])
    with pytest.raises(PrivacyError, match="pins another identity"):
        SecureSite.from_bytes(run.states["A"], cohort=run.cohort, identity=run.identities["B"].private_bytes_raw())
    with pytest.raises(PrivacyError, match="an identity of 31 bytes"):
        SecureSite.from_bytes(run.states["A"], cohort=run.cohort, identity=bytes(31))
