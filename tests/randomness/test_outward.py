"""Every order there is, to a site with and without one person: whatever is seen from outside is the same.

Beside the right orders come wrong ones of every kind, before each of them; the people may have been asked before,
in another study and another group, or are asked by another study meanwhile; and the site's rules change under way.
What leaves is the same at every order, refusals included, but for private sums, which differ by at most C, and for
keyed hashes. The harness is that of `test_one_person.py`.
"""

import importlib.util
import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsynth.ledger.ledger import Ledger, token
from fedsynth.plan import Plan
from fedsynth.privacy.mechanism import Group, Mechanism
from fedsynth.site import session
from fedsynth.site.holdings import group_of_person
from fedsynth.site.policy import Policy, check_people
from fedsynth.wire.arrays import pack
from fedsynth.wire.order import SETUP_STEP, STAGES, STATEMENT_STEP, Order
from fedsynth.wire.update import REFUSED, Update

_spec = importlib.util.spec_from_file_location("one_person", Path(__file__).with_name("test_one_person.py"))
assert _spec is not None
assert _spec.loader is not None
one_person = importlib.util.module_from_spec(_spec)
sys.modules["one_person"] = one_person  # dataclasses look their module up
_spec.loader.exec_module(one_person)

COMPANY, ODD_NAMES, ME, RUN = one_person.COMPANY, one_person.ODD_NAMES, one_person.ME, one_person.RUN
Person, Said = one_person.Person, one_person.Said
GROUPS: tuple[Group, Group] = ("train", "held-out")
REFUSAL = Update(refused=REFUSED).to_bytes()
play = one_person.play  # a fixture


def names_of(group: Group) -> list[str]:
    return [person.name for person in COMPANY if group_of_person(person.name, held_out=0.2) == group]


def asked(*lines: tuple[str, Group, Sequence[str]]) -> Callable[[Ledger], None]:
    """Return what writes lines of other studies into a ledger: the study, the group it asked, and whom."""

    def write(ledger: Ledger) -> None:
        for number, (study, group, names) in enumerate(lines):
            kinds = ("subject", "recording")
            tokens = [
                token(ledger.key, kind, name if kind == "subject" else Person(name, *NOTHING).digest)
                for name in names
                for kind in kinds
            ]
            sum_ = Mechanism(f"sum {number}", 50.0 + number, 1.0, 1, 1.0, group)
            ledger.charge(
                sum_, nonce=f"{study} {number}", study=study, tokens=tokens, cap=9.0, delta=1e-5, unit="subject"
            )

    return write


NOTHING: tuple[Any, Any] = (None, None)
TRAINS, HELD = ODD_NAMES["train"], ODD_NAMES["held-out"]
EARLIER: dict[str, Callable[[Ledger], None]] = {
    "nobody was asked before": lambda _: None,
    "the person alone was asked before": asked(("e1", "train", [TRAINS]), ("e1", "held-out", [HELD])),
    "the person was asked in the other group": asked(("e1", "held-out", [TRAINS]), ("e1", "train", [HELD])),
    "the person and some others were asked": asked(
        ("e1", "train", [TRAINS, *names_of("train")[:3]]), ("e2", "held-out", [HELD, *names_of("held-out")[:1]])
    ),
    "all but the person were asked": asked(*(("e1", group, names_of(group)) for group in GROUPS)),
    "strangers were asked": asked(("e1", "train", ["STRANGER-1"]), ("e2", "train", ["STRANGER-2"])),
}


def the_same(person: Person) -> Person:
    """Give somebody a recording that one of the company has, too."""
    group: Group = group_of_person(person.name, held_out=0.2)
    return replace(person, recording=names_of(group)[0])


SHARED = "with a recording that another has"
KINDS: dict[str, Callable[[Person], Person]] = {**one_person.ODD, SHARED: the_same}


def headed(order: Order, **changes: Any) -> bytes:
    """Write an order with other header fields; None leaves one out."""
    header = {"run": order.run, "plan": order.plan, "step": order.step, "stage": order.stage} | changes
    text = json.dumps({name: value for name, value in header.items() if value is not None}).encode()
    return b"fedsynth1" + struct.pack(">I", len(text)) + text + pack(order.tensors)


def wrong(order: Order, plan: Plan) -> Iterator[bytes]:
    """Yield orders of every wrong kind that an order can be made into."""
    whole, tensors = order.to_bytes(), dict(order.tensors)
    yield from (b"", b"garbage", whole[:40], whole[:-1] if tensors else whole[:-3])
    yield from (headed(order, **{name: None}) for name in ("run", "plan", "step", "stage"))
    yield from (headed(order, step=value) for value in ("0", True, 0.5, 10**30))
    yield from (headed(order, noise_multiplier=0.0), headed(order, stage="windows"))
    others = [
        replace(order, run="another"),
        replace(order, plan="0" * 64),
        replace(order, step=len(plan.steps)),
        replace(order, step=-3),
        replace(order, step=STATEMENT_STEP, stage="agree"),
        *(replace(order, step=SETUP_STEP, stage=stage) for stage in ("", "agree", "unmask")),
        *(replace(order, step=SETUP_STEP, stage="shares", tensors=odd) for odd in _messages()),
        *(replace(order, step=0, stage=stage, tensors=odd) for stage in STAGES[1:] for odd in _messages()),
    ]
    if tensors:
        name = sorted(tensors)[0]
        value = tensors[name]
        others += [
            replace(order, tensors={}),
            replace(order, tensors={n: v for n, v in tensors.items() if n != name}),
            replace(order, tensors={**tensors, "more": torch.zeros(1)}),
            replace(order, tensors={**tensors, name: value[..., None].clone()}),
            replace(order, tensors={**tensors, name: value.to(torch.float16)}),
            replace(order, tensors={n: v * torch.nan if v.is_floating_point() else v for n, v in tensors.items()}),
        ]
    yield from (other.to_bytes() for other in others)


def _messages() -> Iterator[dict[str, torch.Tensor]]:
    yield {}
    yield {"message": torch.zeros(3, dtype=torch.uint8)}
    yield {"message": torch.zeros(3)}


class Around:
    """What else happens to a site: wrong orders before every right one, statements, and changes of its rules."""

    def __init__(self, plan: Plan, site: Path) -> None:
        """Begin; `site` is its folder, which is made later."""
        self.plan, self.site, self.said, self.rules = plan, site, 0, ""

    def __call__(self, order: Order) -> Iterator[bytes]:
        """Yield what comes before an order."""
        if not self.said:
            self._begin()
        self.said += 1
        yield from wrong(order, self.plan)
        yield Order(RUN, self.plan.digest, STATEMENT_STEP, {}).to_bytes()
        (self.site / "STOP").touch()
        yield order.to_bytes()
        (self.site / "STOP").unlink()
        (self.site / "site.toml").write_text(self.rules.replace("largest_epsilon = 8.0", "largest_epsilon = 0.1"))
        yield order.to_bytes()
        (self.site / "site.toml").write_text(self.rules)

    def _begin(self) -> None:
        """Once everything was approved: other studies ask, and rules on people are made that not all sites meet."""
        with Ledger(self.site / "ledger") as ledger:
            asked(("later", "train", [TRAINS]), ("later", "held-out", [HELD]))(ledger)
        here = (self.site / "site.toml").read_text()
        # With one person of each group more, a site has 14: those without are too few now, and those with them were
        # asked by a study too many.
        self.rules = f"{here}least_subjects = {len(COMPANY) + 1}\nlargest_studies = 1\n"
        (self.site / "site.toml").write_text(self.rules)


Outward = Callable[..., Said]


@pytest.fixture(scope="module")
def outward(play: one_person.Play, tmp_path_factory: pytest.TempPathFactory) -> Outward:
    """Return a function that gives a site of given people every order there is; `play` makes that cheap."""
    folder = tmp_path_factory.mktemp("outward")

    def run(people: list[Person], *, tape: Any, plan: Plan, earlier: str, only: int | None) -> Said:
        place = folder / f"{len(list(folder.iterdir()))}"
        with pytest.MonkeyPatch.context() as patch:
            one_person.break_at_the_mark(patch, plan)
            return one_person.played(
                place,
                people,
                plan,
                tape=tape,
                only=only,
                silent=True,
                monkeypatch=patch,
                earlier=EARLIER[earlier],
                around=Around(plan, place / ME),
            )

    del play  # makes everything cheap that has no say in this
    return run


@pytest.fixture(scope="module")
def plan_for(play: one_person.Play, tiny_text: str) -> Callable[[str], Plan]:
    """Return a function that makes the plan for one kind of trust."""
    del play  # makes its price cheap
    return lambda trust: one_person.plan_of(one_person.study_of(tiny_text, trust=trust, way="isolated"))


@pytest.fixture(scope="module")
def without(outward: Outward) -> Outward:
    """Return what the company alone said, once for each kind of run and past."""
    kept: dict[tuple[str, str], Said] = {}

    def run(*, tape: Any, plan: Plan, earlier: str) -> Said:
        key = (plan.digest, earlier)
        if key not in kept:
            kept[key] = outward(COMPANY, tape=tape, plan=plan, earlier=earlier, only=None)
        return kept[key]

    return run


def _effort(turn: int, other: int, nth: int) -> list[pytest.MarkDecorator]:
    """Every kind of person under one trust and with one past in `make test-all`; the rest in `make test-long`."""
    if (turn, other) in ((0, 0), (1, 1)) and nth in (0, 3):
        return []
    is_of_the_square = other == turn % 2 and nth == turn % len(EARLIER)
    return [pytest.mark.slow if is_of_the_square else pytest.mark.long]


CASES = [
    pytest.param(kind, trust, earlier, id=f"{kind}, {trust}, {earlier}", marks=_effort(turn, other, nth))
    for turn, kind in enumerate(KINDS)
    for other, trust in enumerate(("site", "aggregate"))
    for nth, earlier in enumerate(EARLIER)
]


@pytest.mark.parametrize(("kind", "trust", "earlier"), CASES)
def test_nothing_that_is_seen_from_outside_depends_on_one_person(
    outward: Outward,
    without: Outward,
    plan_for: Callable[[str], Plan],
    tape: Any,
    kind: str,
    trust: str,
    earlier: str,
) -> None:
    plan = plan_for(trust)
    odd = [KINDS[kind](one_person.usual(name)) for name in ODD_NAMES.values()]
    less = without(tape=tape, plan=plan, earlier=earlier)

    more = outward([*COMPANY[:3], *odd, *COMPANY[3:]], tape=tape, plan=plan, earlier=earlier, only=1)

    # With a recording that another has, the two are one unit: what it says becomes another, by 2 C at most.
    one_person.moved(more, less, tolerance=1.0 if kind == SHARED else 0.0)
    refused = [answer.data == REFUSAL for answer in more.answers]
    assert refused == [answer.data == REFUSAL for answer in less.answers]
    answered = len(refused) - sum(refused)
    rights = len(plan.steps) * (3 if trust == "aggregate" else 1) + 2 * (trust == "aggregate") + 1
    # Every right order was answered, and a statement before each; under secure aggregation a message also where
    # something strange came with it.
    assert answered == 2 * rights if trust == "site" else answered > 2 * rights
    assert sum(refused) > 30 * rights
    words = [answer.update.word for answer in more.answers if answer.data != REFUSAL]
    assert all(word is not None and word.ledger_length >= 2 for word in words)


def test_the_harness_sees_a_site_that_counts_its_people_again(
    outward: Outward, plan_for: Callable[[str], Plan], tape: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A companion: a rule on people that is looked at with every order parts the two sites at once."""
    check = session.check_plan

    def counting(policy: Policy, plan: Plan) -> None:
        check(policy, plan)
        check_people(policy, plan, subjects=len(people))

    monkeypatch.setattr(session, "check_plan", counting)
    said = []
    for people in (COMPANY, [*COMPANY, *(one_person.usual(name) for name in ODD_NAMES.values())]):
        said.append(outward(people, tape=tape, plan=plan_for("site"), earlier="nobody was asked before", only=1))

    with pytest.raises(AssertionError):
        one_person.moved(said[1], said[0])
