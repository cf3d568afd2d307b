"""A whole site with and without one person: what leaves differs by a sum that moved at most C, and by nothing else.

Noise is silent, entropy is a tape, and everybody's coins hang on the name and the step alone. So two sites that
differ in one person answer an order with the same bytes wherever that person was not drawn, and where the person
was, their sums differ by what one contribution may say. The ledger's head is left out, and the signature over it:
it is a keyed hash of who was charged, made with a key that no one else has.
"""

import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from fedsynth import plan as plan_module
from fedsynth.evaluation import asked
from fedsynth.evaluation.classifier import Classifier
from fedsynth.families.adversarial.cwgan import Cwgan
from fedsynth.ledger.ledger import Ledger
from fedsynth.modalities.eeg import decoder
from fedsynth.plan import Plan, Step, context_of, plan_of, secure_cohort_of
from fedsynth.privacy import accountant
from fedsynth.privacy import allowance as allowance_module
from fedsynth.privacy.budget import SumRequest
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.private_sum import lattice_step
from fedsynth.recordings.recording import Recording, Windows
from fedsynth.secure_aggregation.messages import pack_message
from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import Session
from fedsynth.site import steps as steps_module
from fedsynth.site.approval import approve
from fedsynth.site.holdings import group_of_person, keep
from fedsynth.site.session import SiteSession
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.generator import at_prior
from fedsynth.wire.last_word import LastWord
from fedsynth.wire.message import as_tensors, message_in
from fedsynth.wire.order import SETUP_STEP, STATEMENT_STEP, Order
from fedsynth.wire.update import Update

ME, PEERS, RUN = "east", ("north", "south"), "run"
SHAPE = (2, 96)
MARK = 77.0
"""The first sample of somebody at whom the code itself breaks, in tests of failures."""


@dataclass(frozen=True)
class Person:
    """One person's windows and labels, under a name that decides the group."""

    name: str
    signal: NDArray[np.float32]
    labels: NDArray[np.int64]
    recording: str = ""

    @property
    def digest(self) -> str:
        """The digest of the recording, by which a person is known, too."""
        return hashlib.sha256((self.recording or self.name).encode()).hexdigest()


def usual(name: str, *, windows: int = 3, seed: int = 0) -> Person:
    rng = np.random.default_rng([seed, *name.encode()])
    signal = (15 * rng.normal(size=(windows, *SHAPE))).astype(np.float32)
    return Person(name, signal, np.full(windows, rng.integers(2), np.int64))


def named(group: str, count: int, prefix: str) -> list[str]:
    names = (f"{prefix}-{number}" for number in range(1000))
    return [name for name in names if group_of_person(name, held_out=0.2) == group][:count]


COMPANY = [usual(name) for group in ("train", "held-out") for name in named(group, 6, "P")]
ODD_NAMES = {group: named(group, 1, "ODD")[0] for group in ("train", "held-out")}


def touched(person: Person, place: tuple[Any, ...], value: float) -> Person:
    signal = person.signal.copy()
    signal[place] = value
    return replace(person, signal=signal)


ODD: dict[str, Callable[[Person], Person]] = {
    "like everybody": lambda one: one,
    "raising": lambda one: touched(one, (slice(None), 0, 0), MARK),
    "raising in one of its windows": lambda one: touched(one, (1, 0, 0), MARK),
    "with a label that nobody has": lambda one: replace(one, labels=np.full_like(one.labels, 99)),
    "with a negative label": lambda one: replace(one, labels=np.full_like(one.labels, -7)),
    "one sample not a number": lambda one: touched(one, (1, 1, 5), np.nan),
    "one sample infinite": lambda one: touched(one, (0, 0, 9), -np.inf),
    "nothing but not numbers": lambda one: touched(one, (...,), np.nan),
    "huge": lambda one: replace(one, signal=one.signal * np.float32(1e30)),
    "as large as floats go": lambda one: replace(
        one, signal=np.copysign(np.finfo(np.float32).max, one.signal).astype(np.float32)
    ),
    "loud": lambda one: replace(one, signal=one.signal * np.float32(1e4)),
    "flat": lambda one: touched(one, (...,), 0.0),
    "windows that repeat": lambda one: replace(
        one, signal=np.repeat(one.signal[:1], 40, axis=0), labels=np.repeat(one.labels[:1], 40)
    ),
    "somebody else's windows": lambda one: replace(one, signal=COMPANY[0].signal, labels=COMPANY[0].labels),
    "many windows": lambda one: usual(one.name, windows=300),
    "a single window": lambda one: replace(one, signal=one.signal[:1], labels=one.labels[:1]),
}


def study_of(text: str, *, trust: str, way: str) -> Study:
    sites = ", ".join(f'"{name}"' for name in (ME, *PEERS))
    text = text.replace('unit = "subject"', f'unit = "subject"\ntrust = "{trust}"')
    text = text.replace("[cohort]\nleast_sites = 2", f"[cohort]\nsites = [{sites}]\nleast_sites = 3")
    text = text.replace("n_times = 128", f"n_times = {SHAPE[1]}")
    return parse_study(text.replace("[plan]", f'[plan]\nprivate_step = "{way}"'))


def keep_site(
    folder: Path,
    people: list[Person],
    plan: Plan,
    roster: dict[str, bytes],
    earlier: Callable[[Ledger], None] = lambda _: None,
) -> None:
    """Make a site of these people in this order; all that is secret in it comes from the tape.

    `earlier` writes what stood in the ledger before the plan was approved.
    """
    folder.mkdir(parents=True)
    policy = f'name = "{ME}"\nlargest_epsilon = 8.0\nallow_batched = true\n'
    (folder / "site.toml").write_text(policy, encoding="utf-8")
    counts = [len(person.labels) for person in people]
    numbers = np.repeat(np.arange(len(people)), counts)
    windows = Windows(
        signal=np.concatenate([person.signal for person in people]),
        labels=np.concatenate([person.labels for person in people]),
        subjects=numbers,
        recordings=numbers,
        label_names=plan.study.labels.names,
        channels=plan.study.signal.channels,
        sfreq=100.0,
    )
    empty = np.zeros((2, 1), np.float32)
    recordings = [Recording(empty, 100.0, ("C3", "C4"), person.name, "rest", person.digest) for person in people]
    with Ledger(folder / "ledger") as ledger:
        keep(folder / "holdings", recordings=recordings, windows=windows, study=plan.study, key=ledger.key)
        earlier(ledger)
    (folder / "identity.key").write_bytes(identity(ME).private_bytes_raw())
    approve(folder, run=RUN, plan=plan, roster=roster)


def identity(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def orders(plan: Plan) -> list[dict[str, torch.Tensor]]:
    """Return what comes with the order of every step, as if nobody had said anything to those before."""
    torch.manual_seed(11)
    anchor, shape, estimator = plan.estimator.prior(plan.shape), plan.shape, plan.estimator
    parts = {f"parts.{name}": value.clone() for name, value in at_prior(plan.study).state.items()}
    public = {"seen_units": torch.tensor([10.0]), "label_shares": torch.tensor([0.5, 0.5])}
    out: list[dict[str, torch.Tensor]] = []
    for step in plan.steps:
        if step.kind == "anchor":
            out.append(dict(anchor.tensors()))
            total = torch.zeros(estimator.statistic_size(shape, step=step.index), dtype=torch.float64)
            total[:2] = 5.0
            anchor = estimator.advance(anchor, shape, total=total, noise_std=1.0)
        elif step.kind == "assess":
            out.append(dict(Classifier(2, 2).state_dict()))
        else:
            out.append(parts | (public if step.kind == "train" else {}))
    return out


class Coins:
    """In the place of Poisson draws: a unit's coin is a function of its person's name and of the step alone."""

    def __init__(self, people: list[Person], *, only: int | None) -> None:
        """Begin; where not everybody is drawn, the odd person is drawn at step `only` of training, or never."""
        self.people, self.only, self.step, self.group = people, only, 0, "train"

    def __call__(self, count: int, *, probability: float) -> NDArray[np.int64]:
        units: dict[str, str] = {}  # two names with one recording are one unit
        for one in self.people:
            if group_of_person(one.name, held_out=0.2) == self.group:
                units.setdefault(one.digest, one.name)
        names = list(units.values())
        assert count == len(names)
        drawn = [self._drawn(name, probability) for name in names]
        self.step += 1
        return np.flatnonzero(drawn)

    def _drawn(self, name: str, probability: float) -> bool:
        if name in ODD_NAMES.values() and probability < 1:
            return self.step == self.only
        hashed = hashlib.sha256(f"{self.step} {name}".encode()).digest()
        return (
            int.from_bytes(hashed[:8], "big") < max(probability, 0.6) * 2**64
        )  # more company than the study draws


@dataclass(frozen=True)
class Answer:
    """What left a site for one order: all bytes, a masked vector among them; and the sums that stand behind it."""

    data: bytes
    step: Step | None
    sums: tuple[torch.Tensor, ...]
    masked: NDArray[np.uint64] | None = None

    @property
    def update(self) -> Update:
        return Update.from_bytes(self.data)


@dataclass
class Said:
    """Everything that left a site, in order, and how much entropy was taken, call by call."""

    answers: list[Answer] = field(default_factory=list)
    entropy: list[int] = field(default_factory=list)


def played(
    folder: Path,
    people: list[Person],
    plan: Plan,
    *,
    tape: Any,
    only: int | None,
    silent: bool,
    monkeypatch: pytest.MonkeyPatch,
    earlier: Callable[[Ledger], None] = lambda _: None,
    around: Callable[[Order], Iterator[bytes]] = lambda _: iter(()),
) -> Said:
    """Make the site and give it every order of the plan, the exchange of keys and a statement.

    `earlier` writes what stood in the ledger before, and `around` says what else comes before an order.
    """
    tape.rewind()
    roster = {}
    if plan.is_aggregate:
        roster = {name: identity(name).public_key().public_bytes_raw() for name in (ME, *PEERS)}
    keep_site(folder / ME, people, plan, roster, earlier)
    said, seen = Said(), list[torch.Tensor]()
    coins, session = Coins(people, only=only), SiteSession(folder / ME, observe=seen.append)
    if silent:
        session = SiteSession(folder / ME, noise=lambda count: np.zeros(count, np.int64), observe=seen.append)
        monkeypatch.setattr(allowance_module, "poisson_draw", coins)
    before = len(tape.calls)

    def ask(step: int, tensors: dict[str, torch.Tensor], stage: str = "") -> Update:
        if step >= 0:
            coins.group = plan.steps[step].mechanism.group
            coins.step = plan.steps[step].index if plan.steps[step].kind == "gradient" else 0
        torch.manual_seed(step + 10)  # what training draws in public
        order = Order(RUN, plan.digest, step, tensors, stage)
        seen.clear()
        said.answers += [Answer(session.handle(one), None, tuple(seen)) for one in around(order)]
        data = session.handle(order.to_bytes())
        update, masked = Update.from_bytes(data), None
        if plan.is_aggregate and step >= 0 and not stage:
            masked = np.frombuffer(message_in(update.tensors).split(b"\n", 2)[2], "<u8")
        said.answers.append(Answer(data, plan.steps[step] if step >= 0 else None, tuple(seen), masked))
        return update

    if plan.is_aggregate:
        _play_in_secret(plan, roster, ask)
    else:
        for step, tensors in enumerate(orders(plan)):
            ask(step, tensors)
    ask(STATEMENT_STEP, {})
    said.entropy = tape.lengths[before:]
    return said


def _play_in_secret(plan: Plan, roster: dict[str, bytes], ask: Callable[..., Update]) -> None:
    """Be the coordinator and the two other sites, whose vectors are nothing but zeros."""
    cohort = secure_cohort_of(plan.study, roster)
    assert cohort is not None
    session = Session(cohort, context_of(run=RUN, plan=plan.digest), len(plan.steps))
    peers = {name: SecureSite.begin(cohort, name, identity(name), session.context, session.steps) for name in PEERS}
    keys = {name: site._own_keys().blob for name, site in peers.items()}
    mine = message_in(ask(SETUP_STEP, {}, "keys").tensors)
    keys[ME] = _blob(mine, "keys")
    request = pack_message("cohort", session, keys=keys)
    ask(SETUP_STEP, as_tensors(request), "shares")
    shares = {name: _blob(site.shares(request), "sealed", ME) for name, site in peers.items()}
    for step, tensors in enumerate(orders(plan)):
        work = steps_module.prepare(
            Order(RUN, plan.digest, step, tensors), plan, plan.steps[step], device=torch.device("cpu")
        )
        request = pack_message("sum", session, step=step, size=work.size, sealed=shares if step == 0 else {})
        ask(step, tensors | as_tensors(request))
        survivors = sorted((ME, *PEERS))
        agree = pack_message("agree", session, step=step, survivors=survivors)
        signature = _blob(message_in(ask(step, as_tensors(agree), "agree").tensors), "signature")
        statement = session.agreement(step, survivors)
        signatures = {name: identity(name).sign(statement) for name in PEERS} | {ME: signature}
        unmask = pack_message("unmask", session, step=step, survivors=survivors, signatures=signatures)
        ask(step, as_tensors(unmask), "unmask")


def _blob(message: bytes, *path: str) -> bytes:
    found: Any = json.loads(message.split(b"\n", 2)[1])
    for name in path:
        found = found[name]
    return base64.b64decode(found)


def break_at_the_mark(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    """Let the code of every contribution break at marked windows: of statistics, losses and scores."""

    def at(windows: Any) -> None:
        if bool((torch.as_tensor(windows)[:, 0, 0] == MARK).any()):
            raise ArithmeticError("this person cannot be computed")

    estimator = type(plan.estimator)
    loss, answer, statistics_of = Cwgan.example_loss, asked.answer, estimator.statistics

    def example_loss(self: Any, parts: Any, phase: Any, windows: Any, *rest: Any) -> Any:
        at(windows)
        return loss(self, parts, phase, windows, *rest)

    def answered(classifier: Any, windows: Any) -> Any:
        at(windows)
        return answer(classifier, windows)

    def statistics(self: Any, anchor: Any, shape: Any, *, signal: Any, labels: Any, covariates: Any = None) -> Any:
        at(signal)
        return statistics_of(self, anchor, shape, signal=signal, labels=labels, covariates=covariates)

    monkeypatch.setattr(estimator, "statistics", statistics)
    monkeypatch.setattr(Cwgan, "example_loss", example_loss)
    monkeypatch.setattr(asked, "answer", answered)


def moved(more: Said, less: Said, *, tolerance: float = 0.0) -> list[tuple[str, int, int]]:
    """Hold two sites' answers against each other; return (kind, index, sum) wherever a sum moved, by at most C.

    A move of no more than `tolerance` of C is rounding: who else is in a batch decides how it is added up.
    """
    assert more.entropy == less.entropy
    out: list[tuple[str, int, int]] = []
    for here, there in zip(more.answers, less.answers, strict=True):
        one, two = here.update, there.update
        assert one.refused == two.refused
        if one.refused:
            assert here.data == there.data
            continue
        assert len(here.data) == len(there.data)
        assert without_head(one) == without_head(two)
        forms = [{name: (t.dtype, t.shape) for name, t in update.tensors.items()} for update in (one, two)]
        assert forms[0] == forms[1]
        pairs = enumerate(zip(here.sums, there.sums, strict=True))
        first = next((number for number, pair in pairs if not torch.equal(*pair)), None)
        if first is None:
            assert without_keyed_hashes(here.data) == without_keyed_hashes(there.data)
            continue
        # Later sums of this order were computed from this one on, which was given away with its noise.
        assert here.step is not None
        mechanism = here.step.mechanism
        unit = lattice_step(
            mechanism.clipping_norm, mechanism.noise_multiplier, noise_shares=mechanism.noise_shares
        )
        whole = [torch.round(sums[first] / unit).to(torch.int64) for sums in (here.sums, there.sums)]
        steps = (whole[0] - whole[1]).tolist()
        squared, bound = sum(step**2 for step in steps), mechanism.clipping_norm / unit
        assert squared <= (bound * (1 + tolerance)) ** 2
        if squared > (bound * tolerance) ** 2:
            out.append((here.step.kind, here.step.index, first))
        if here.masked is not None and there.masked is not None:
            # What left under equal masks differs by the same whole numbers, modulo 2^64.
            assert (here.masked - there.masked).view(np.int64).tolist() == steps
    return out


def without_head(update: Update) -> LastWord:
    """Return all that an answer says besides its sums, but for the keyed hash."""
    assert update.word is not None
    return replace(update.word, ledger_head="")


def without_keyed_hashes(data: bytes) -> bytes:
    """Return an answer's bytes but for the head of the ledger, and the signature over it."""
    update = Update.from_bytes(data)
    assert update.word is not None
    return data.replace(update.word.ledger_head.encode(), b"").replace(update.signature.hex().encode(), b"")


Play = Callable[..., Said]


@pytest.fixture(scope="module")
def play(tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Return a function that plays a whole run with a site of given people.

    What has no say in what people contribute is made cheap: the price of a mechanism, and the size of a public
    bank of waveforms, for a shape of windows that no other test uses.
    """
    folder, logged = tmp_path_factory.mktemp("sites"), logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what fails is meant to, and is told at length
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "share_budget", cheap_budget)
        patch.setattr(plan_module, "_PLANS", {})
        patch.setattr(accountant, "_pld", lambda *_: 1.0)
        patch.setattr(decoder, "_COUNT", 64)
        patch.setattr(os, "fsync", lambda _: None)

        @lru_cache
        def plan(trust: str, way: str) -> Plan:
            return plan_of(study_of(tiny_text, trust=trust, way=way))

        def run(
            people: list[Person],
            *,
            tape: Any,
            trust: str,
            way: str,
            only: int | None = None,
            silent: bool = True,
        ) -> Said:
            with pytest.MonkeyPatch.context() as one:
                break_at_the_mark(one, plan(trust, way))
                place = folder / f"{len(list(folder.iterdir()))}"
                whole = plan(trust, way)
                return played(place, people, whole, tape=tape, only=only, silent=silent, monkeypatch=one)

        yield run
    logging.disable(logged)


def cheap_budget(requests: list[SumRequest], *, unit: str, noise_shares: int, **_: Any) -> tuple[Mechanism, ...]:
    """Give every sum sigma = 2."""
    return tuple(
        Mechanism(
            ask.purpose,
            2.0,
            ask.sampling_probability,
            ask.steps,
            ask.clipping_norm,
            group=ask.group,
            unit=unit,
            noise_shares=noise_shares,
        )
        for ask in requests
    )


def with_one_more(kind: str, place: int) -> list[Person]:
    """Put an odd person of each group among the company; the groups' sums have nothing to do with each other."""
    odd = [ODD[kind](usual(name)) for name in ODD_NAMES.values()]
    return [*COMPANY[:place], *odd, *COMPANY[place:]]


@pytest.fixture(scope="module")
def company(play: Play) -> Play:
    """Return a function that plays the run of the company alone, once for each kind of run."""
    kept: dict[tuple[str, str], Said] = {}

    def run(*, tape: Any, trust: str, way: str) -> Said:
        if (trust, way) not in kept:
            kept[trust, way] = play(COMPANY, tape=tape, trust=trust, way=way)
        return kept[trust, way]

    return run


EVERYBODY_ASKED = [("anchor", 0, 0), ("anchor", 1, 0), ("assess", 0, 0)]
SILENT = {"raising", "raising in one of its windows", "nothing but not numbers"}
"""What cannot be computed counts as zero: then nothing at all moves."""
LOUD = {"like everybody", "many windows", "windows that repeat", "a single window"}
"""What moves every sum, so that the harness is seen to look."""
PLACES = {"first": (0, 1), "in the middle": (3, None), "last": (len(COMPANY), 0)}
"""Where the odd people stand in the site's files, and the training step at which the one who trains is drawn."""
RUNS = {"site": ("site", "isolated"), "aggregate": ("aggregate", "isolated"), "batched": ("site", "batched")}
RUNS |= {"batched aggregate": ("aggregate", "batched")}
CASES = [
    pytest.param(kind, run, place, id=f"{kind}, {run}, {place}", marks=[] if quick else [pytest.mark.slow])
    for turn, kind in enumerate(ODD)
    for number, run in enumerate(RUNS)
    for nth, place in enumerate(PLACES)
    for quick in [nth == (turn + number) % 3 and number < 3]
]


@pytest.mark.parametrize(("kind", "run", "place"), CASES)
def test_one_person_more_moves_nothing_but_sums_and_those_by_at_most_c(
    play: Play, company: Play, tape: Any, kind: str, run: str, place: str
) -> None:
    """Book-keeping sums in float32, so that its bound holds up to the rounding that docs/privacy.md names."""
    trust, way = RUNS[run]
    how = {"tape": tape, "trust": trust, "way": way}
    less, (position, only) = company(**how), PLACES[place]

    more = play(with_one_more(kind, position), **how, only=only)
    found = moved(more, less, tolerance=1e-5 * (way == "batched"))

    assert not any(answer.update.refused for answer in more.answers)
    drawn = [] if only is None else [("train", 0, only) if trust == "site" else ("gradient", only, 0)]
    could = {*EVERYBODY_ASKED, *drawn}
    assert set(found) <= (set() if kind in SILENT else could)
    if kind in LOUD:
        assert set(found) == could


def test_the_harness_sees_a_person_counted_twice(play: Play, company: Play, tape: Any) -> None:
    """One recording under eight names is eight people: they say more than one may, and that must be refused."""
    how = {"tape": tape, "trust": "site", "way": "isolated"}
    names = named("train", 9, "ODD")
    crowd = [replace(usual(ODD_NAMES["train"]), name=name) for name in names if name != ODD_NAMES["train"]]

    with pytest.raises(AssertionError, match="<="):
        moved(play([*COMPANY, *crowd], **how), company(**how))


@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_every_sum_of_a_run_takes_coins_and_noise_of_its_own(play: Play, tape: Any, trust: str) -> None:
    """Two sums of the anchor, two gradients, one of scores: five pairs of calls each, beside keys and shares."""
    said = play(COMPANY, tape=tape, trust=trust, way="isolated", silent=False)

    pairs = 5 * 5 * 2
    if trust == "site":
        assert said.entropy == pairs // 2 * [32, 16]
    else:
        # Three sites with seeds, keys and a sealing key; 2 x 3 nonces; coefficients that are drawn until they fit.
        begun, rest = said.entropy[:9], [length for length in said.entropy[9:] if length != 33]
        assert begun == 3 * [32 * 5, 32 * 5, 32]
        assert sorted(rest) == sorted(pairs // 2 * [32, 16] + 6 * [12])
    streams = [(stream.key, stream.nonce) for stream in tape.streams if stream.where == "noise"]
    assert len({key for key, _ in streams}) == len(streams) == pairs // 2
    assert {call for pair in streams for call in pair} <= set(tape.calls)
