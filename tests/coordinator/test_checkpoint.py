"""A coordinator that dies at any exchange goes on where it was: one charge a step, and the same result."""

import contextlib
import functools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedsynth.coordinator.checkpoint import FOLDER, KEY, Checkpoint, Heard, step_reached
from fedsynth.coordinator.run_folder import RunFacts, RunFolder, coordinate
from fedsynth.errors import RefusedError, RunError
from fedsynth.evaluation.classifier import Classifier, classifier_plan
from fedsynth.ledger.ledger import Ledger
from fedsynth.modalities.shape import Shape
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.accountant import epsilon_pld, epsilon_prv
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.identity import make_identity
from fedsynth.site.session import SiteSession
from fedsynth.study import parse_study
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

SITES = ("east", "north", "south", "west")
EVERYBODY = ("[plan]", "[plan]\nsampling_probability = 1.0")
AGGREGATE = (
    ("delta = 1e-5", 'delta = 1e-5\ntrust = "aggregate"'),
    ("least_sites = 2", f"least_sites = 3\ndropouts = 1\nsites = {json.dumps(SITES)}"),
)


class Crash(BaseException):
    """What no handler of errors sees, as little as a kill."""


def the_same_noise(count: int) -> NDArray[np.int64]:
    """Stand in for entropy, so that two runs can be compared bit by bit."""
    return np.random.default_rng(count).integers(-(2**20), 2**20, count)


@dataclass
class Sites:
    """Real sites that begin anew with every order; the coordinator dies at one moment of one exchange.

    `moment` is how many answers have come in by then, or -1 for all of them and kept.
    """

    folder: Path
    dies_at: int = 0
    moment: int = 0
    away: tuple[str, ...] = ()
    back_after: int = 0
    kill: Callable[[], object] = lambda: (_ for _ in ()).throw(Crash())
    exchanges: int = 0
    refused: int = 0

    def sites(self) -> tuple[str, ...]:
        return tuple(site for site in SITES if site not in self.away or self.exchanges >= self.back_after)

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        self.exchanges += 1
        dies = self.exchanges == self.dies_at
        for number, (site, data) in enumerate(orders.items()):
            if dies and number == self.moment:
                self.kill()
            with torch.random.fork_rng(devices=[]):  # a site is another process
                torch.manual_seed(1)
                answer = SiteSession(self.folder / "sites" / site, noise=the_same_noise).handle(data)
            self.refused += bool(Update.from_bytes(answer).refused)
            yield site, answer
        if dies and self.moment == len(orders):
            self.kill()

    def lines(self) -> dict[str, int]:
        found = {}
        for site in SITES:
            with Ledger(self.folder / "sites" / site / "ledger") as ledger:
                found[site] = len(ledger)
        return found


Begin = Callable[..., Path]


PRICES = [functools.wraps(price)(functools.cache(price)) for price in (epsilon_pld, epsilon_prv)]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do once what takes long and keeps nothing: prices, and the training of a classifier."""
    for price in PRICES:
        monkeypatch.setattr(f"fedsynth.coordinator.statement.{price.__name__}", price)

    def classifier(signal: torch.Tensor, labels: torch.Tensor, *, shape: Shape, **_: object) -> Classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(labels))
            made = Classifier(len(shape.channels), shape.n_labels, plan=classifier_plan(shape))
        with torch.no_grad():  # it follows from the windows, as a trained one does
            next(made.parameters()).view(-1)[0] = float(torch.as_tensor(signal).double().sum()) % 1
        return made

    monkeypatch.setattr("fedsynth.evaluation.asked.train_classifier", classifier)


@pytest.fixture(scope="module")
def plans(tiny_text: str) -> dict[str, Plan]:
    text = tiny_text.replace(*EVERYBODY)
    aggregate = text
    for old, new in AGGREGATE:
        aggregate = aggregate.replace(old, new)
    return {"site": plan_of(parse_study(text)), "aggregate": plan_of(parse_study(aggregate))}


@pytest.fixture
def begin(
    tmp_path: Path,
    plans: dict[str, Plan],
    make_site: Callable[..., Holdings],
    make_people: Callable[..., list[Recording]],
) -> Begin:
    def make(trust: str, name: str = "begun", run: str = "run") -> Path:
        plan, folder = plans[trust], tmp_path / name
        for seed, site in enumerate(SITES):
            make_site(folder / "sites" / site, make_people(10, seed=seed), study=plan.study)
        roster = {site: make_identity(folder / "sites" / site) for site in SITES}
        for site in SITES:
            approve(folder / "sites" / site, run=run, plan=plan, roster=roster if plan.is_aggregate else None)
        keys = {site: key.hex() for site, key in roster.items()}
        facts = RunFacts(run, "in-process", "recordings", SITES, "this run only", keys)
        RunFolder(folder).begin(facts=facts, plan=plan, study_text=plan.study.to_toml())
        return folder

    return make


def copy_of(begun: Path, name: str) -> Path:
    return Path(shutil.copytree(begun, begun.with_name(name)))


RESULTS = ("generator.safetensors", "windows.npz", "scores.json", "statement.json", "ledgers.json")


def results(folder: Path) -> dict[str, bytes]:
    """Return what a run leaves; heads differ from ledger to ledger, since marks and keys do."""
    found = {name: (folder / name).read_bytes() for name in RESULTS if name != "statement.json"}
    statement = json.loads((folder / "statement.json").read_text())
    return {**found, "statement": json.dumps(statement, sort_keys=True).encode()}


def carried_out(folder: Path, **how: object) -> Sites:
    torch.manual_seed(0)
    sites = Sites(folder, **how)  # type: ignore[arg-type]
    coordinate(folder, transport=sites)
    return sites


@pytest.mark.slow
@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_a_run_that_dies_at_any_exchange_goes_on_to_the_same_end(
    begin: Begin, plans: dict[str, Plan], trust: str
) -> None:
    """Before the first answer, between two, and when all are there and none is kept, in turn."""
    begun, steps = begin(trust), len(plans[trust].steps)
    whole = copy_of(begun, "whole")
    n_exchanges = carried_out(whole).exchanges
    expected = results(whole)
    assert n_exchanges == (steps + 1 if trust == "site" else 2 + 3 * steps + 1)

    for number in range(1, n_exchanges + 1):
        folder = copy_of(begun, f"dies at {number}")
        with pytest.raises(Crash):
            carried_out(folder, dies_at=number, moment=(0, 2, 4)[number % 3])

        torch.manual_seed(99)
        after = Sites(folder)
        coordinate(folder, transport=after)

        assert after.lines() == dict.fromkeys(SITES, steps), number
        assert after.refused == 0
        assert after.exchanges == n_exchanges - number + 1
        found = results(folder)
        assert {name for name in expected if expected[name] != found[name]} == set(), number
        assert not (folder / FOLDER).exists()
        assert not (folder / KEY).exists()
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_a_run_that_dies_again_and_again_pays_once(begin: Begin, plans: dict[str, Plan], trust: str) -> None:
    """Killed for real, each time one exchange further, from the first to the last."""
    folder, deaths = begin(trust), 0
    while True:
        child = os.fork()
        if child == 0:
            try:
                kill = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
                coordinate(folder, transport=Sites(folder, dies_at=3, moment=deaths % 5, kill=kill))
            finally:
                os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            break
        deaths += 1
        assert deaths < 40

    assert RunFolder(folder).finished
    assert deaths > 1
    assert set(Sites(folder).lines().values()) == {len(plans[trust].steps)}


def test_a_run_in_the_middle_of_a_secure_sum_hears_what_was_kept(begin: Begin, plans: dict[str, Plan]) -> None:
    """A site that was in the sum and is away afterwards stays in it, and one that was not stays out."""
    folder, steps = begin("aggregate"), len(plans["aggregate"].steps)
    with pytest.raises(Crash):  # keys, shares and a sum with everybody in it are kept; signatures are asked for
        carried_out(folder, dies_at=4, moment=0)

    after = Sites(folder, away=("south",), back_after=3 * steps - 1)  # for the statement
    coordinate(folder, transport=after)

    assert after.refused == 0
    assert after.lines() == {**dict.fromkeys(SITES, steps), "south": 1}


@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_a_site_that_never_comes_back_after_a_crash_is_stated_by_what_it_said_before(
    begin: Begin, plans: dict[str, Plan], trust: str
) -> None:
    folder, plan = begin(trust), plans[trust]
    with pytest.raises(Crash):  # the first step is over
        carried_out(folder, dies_at=3 if trust == "site" else 6, moment=0)
    charged = Sites(folder).lines()["south"]

    coordinate(folder, transport=Sites(folder, away=("south",), back_after=10**6))

    statement, lengths = RunFolder(folder).statement(), RunFolder(folder).ledger_lengths()
    assert [site.site for site in statement.sites] == sorted(SITES)
    assert charged < len(plan.steps)
    assert lengths == {**dict.fromkeys(SITES, len(plan.steps)), "south": charged}
    south = next(site for site in statement.sites if site.site == "south")
    assert south.events == plan.mechanisms("train")[:charged]


def test_a_site_that_was_asked_before_the_crash_and_is_gone_is_counted_as_asked(
    begin: Begin, plans: dict[str, Plan]
) -> None:
    """It was charged, and nobody heard its answer: what it may have spent stands in the statement."""
    folder, plan = begin("site"), plans["site"]
    with pytest.raises(Crash):
        carried_out(folder, dies_at=2, moment=4)
    assert Sites(folder).lines()["south"] == 2

    coordinate(folder, transport=Sites(folder, away=("south",), back_after=10**6))

    statement = RunFolder(folder).statement()
    south = next(site for site in statement.sites if site.site == "south")
    assert south.events == plan.mechanisms("train")[:1]
    assert statement.unheard == (("south", 1),)


def test_what_sites_know_to_follow_from_an_exchange_is_not_forgotten(begin: Begin) -> None:
    """The transport breaks when one site has signed the list of those in the sum: it would not sign another."""
    folder = begin("aggregate")

    def broken() -> None:
        raise RunError("the line is down")

    with pytest.raises(RunError, match="the line is down"):
        carried_out(folder, dies_at=4, moment=1, kill=broken)
    kept = sorted(path.name for path in (folder / FOLDER).glob("*.answers"))
    after = Sites(folder)
    coordinate(folder, transport=after)

    assert len(kept) == 1  # the masked vectors
    assert after.refused == 0
    assert RunFolder(folder).finished


def test_optimizers_go_on_over_a_crash(begin: Begin) -> None:
    """Between two gradient steps taken by the coordinator."""
    begun = begin("aggregate")
    whole, folder = copy_of(begun, "whole"), copy_of(begun, "dies")
    carried_out(whole)
    with pytest.raises(Crash):
        carried_out(folder, dies_at=2 + 3 * 3 + 2)

    go_on(folder)

    name = "generator.safetensors"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()


def interrupted(folder: Path, *, dies_at: int = 3) -> Path:
    with pytest.raises(Crash):
        carried_out(folder, dies_at=dies_at)
    return folder


def go_on(folder: Path, **how: object) -> None:
    coordinate(folder, transport=Sites(folder), **how)  # type: ignore[arg-type]


def test_a_run_that_ended_for_want_of_sites_goes_on_when_they_are_back(
    begin: Begin, plans: dict[str, Plan]
) -> None:
    folder = begin("site")
    answers = Sites.exchange

    def silent(sites: Sites, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        for site, answer in answers(sites, orders):
            if sites.exchanges < 2 or site == "east":
                yield site, answer

    sites = Sites(folder)
    sites.exchange = lambda orders: silent(sites, orders)  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match="1 sites are left and the study needs 2"):
        coordinate(folder, transport=sites)

    go_on(folder)

    assert set(Sites(folder).lines().values()) == {len(plans["site"].steps)}
    assert RunFolder(folder).finished


def test_the_step_that_a_run_goes_on_with_is_told_without_the_key(begin: Begin) -> None:
    folder = interrupted(begin("site"))
    (folder / KEY).unlink()

    assert step_reached(folder) == 2
    assert step_reached(folder.parent) is None


def test_a_caller_may_keep_the_key(begin: Begin) -> None:
    folder, key = begin("site"), bytes(range(32))
    with pytest.raises(Crash):
        coordinate(folder, transport=Sites(folder, dies_at=3), key=key)

    assert not (folder / KEY).exists()
    with pytest.raises(RunError, match="key is missing"):
        go_on(folder)
    with pytest.raises(RunError, match="sealed with another key"):
        go_on(folder, key=bytes(32))
    go_on(folder, key=key)
    assert RunFolder(folder).finished


def test_nobody_else_may_read_a_checkpoint_and_its_bytes_show_nothing_of_an_answer(begin: Begin) -> None:
    folder = interrupted(begin("site"))

    files = [folder / KEY, *(folder / FOLDER).iterdir()]
    assert len(files) >= 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert not any(b"safetensors" in path.read_bytes() or b"parts." in path.read_bytes() for path in files)


def state_of(folder: Path) -> Path:
    return max((folder / FOLDER).glob("*.state"))


def foreign(begin: Begin) -> Callable[[Path], object]:
    other = interrupted(begin("site", "other", "another run"))

    def swap(folder: Path) -> None:
        shutil.copy(state_of(other), state_of(folder))
        shutil.copy(other / KEY, folder / KEY)

    return swap


def older(folder: Path) -> None:
    """Put the state of an earlier step, rightly sealed, in the place of the last one."""
    now = state_of(folder)
    run = RunFolder(folder)
    key = (folder / KEY).read_bytes()
    shutil.rmtree(folder / FOLDER)
    earlier = Checkpoint(folder, run=run.facts().run, plan=run.plan().digest, key=key)
    earlier.keep_state(b"earlier", step=0)
    state_of(folder).rename(now)


DAMAGES = [
    pytest.param(lambda f: state_of(f).write_bytes(state_of(f).read_bytes()[:-1]), "was changed", id="cut short"),
    pytest.param(
        lambda f: state_of(f).write_bytes(state_of(f).read_bytes().replace(b'"step": 2', b'"step": 1')),
        "was changed",
        id="another step",
    ),
    pytest.param(lambda f: state_of(f).write_bytes(b"nonsense"), "is no record of a run", id="nonsense"),
    pytest.param(lambda f: (f / KEY).write_bytes(bytes(32)), "another key", id="another key"),
    pytest.param(lambda f: (f / KEY).write_bytes(b"short"), "key is damaged", id="a damaged key"),
    pytest.param(lambda f: (f / KEY).unlink(), "key is missing", id="no key"),
    pytest.param(older, "record 1: an old one in the place of another", id="an old one"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_a_checkpoint_that_is_not_the_last_of_this_run_is_refused_by_name(
    begin: Begin, damage: Callable[[Path], object], said: str
) -> None:
    folder = interrupted(begin("site"))
    damage(folder)
    before = Sites(folder).lines()

    with pytest.raises(RunError, match=said):
        go_on(folder)

    assert Sites(folder).lines() == before


def test_a_checkpoint_of_another_run_is_refused_by_name(begin: Begin) -> None:
    swap = foreign(begin)
    folder = interrupted(begin("site"))
    swap(folder)

    with pytest.raises(RunError, match=r"is of another run \('another run', not 'run'\)"):
        go_on(folder)


def test_a_record_that_is_missing_is_noticed(begin: Begin) -> None:
    folder = begin("aggregate")
    with pytest.raises(Crash):
        carried_out(folder, dies_at=5)
    gone = min((folder / FOLDER).glob("*.answers"))
    gone.unlink()

    with pytest.raises(RunError, match="is missing"):
        go_on(folder)


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_goes_on(
    begin: Begin, plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begin("site")
    keep = Checkpoint.keep

    def full(checkpoint: Checkpoint, heard: Heard) -> None:
        if checkpoint._number > 2:
            monkeypatch.setattr("fedsynth.ledger.disk.os.fsync", no_space)
        keep(checkpoint, heard)

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoint, "keep", full)
    with pytest.raises(RunError, match=r"could not keep what it has reached \(No space left on device\)"):
        go_on(folder)
    monkeypatch.undo()

    go_on(folder)

    assert set(Sites(folder).lines().values()) == {len(plans["site"].steps)}


def test_two_coordinators_of_one_run_are_not_let_in(begin: Begin) -> None:
    folder, inside = begin("site"), list[str]()

    def second() -> None:
        with pytest.raises(RefusedError) as refused:
            go_on(folder)
        inside.append(str(refused.value))
        raise Crash

    with pytest.raises(Crash):
        carried_out(folder, dies_at=2, kill=second)

    assert "another process is making this run" in inside[0]


def test_what_was_heard_is_read_again_as_it_came() -> None:
    heard = Heard({"east": b"one", "west": b"", "north": bytes(9)}, b"state")

    assert Heard.from_bytes(heard.to_bytes()) == heard


def test_every_order_after_a_crash_is_the_order_before_it(begin: Begin) -> None:
    """A site keeps its answer to the first; were the second another, the answer would belong to nothing."""
    begun = begin("site")
    seen: dict[str, list[bytes]] = {}
    answers = Sites.exchange

    for name, dies_at in (("whole", 0), ("dies", 3)):
        folder = copy_of(begun, name)
        for attempt in (dies_at, 0) if dies_at else (0,):
            torch.manual_seed(0)
            sites = Sites(folder, dies_at=attempt, moment=4)

            def listen(orders: Mapping[str, bytes], name: str = name, sites: Sites = sites):  # type: ignore[no-untyped-def]
                seen.setdefault(name, []).extend(orders.values())
                yield from answers(sites, orders)

            sites.exchange = listen  # type: ignore[method-assign]
            with contextlib.suppress(Crash):
                coordinate(folder, transport=sites)

    def told(name: str) -> dict[tuple[int, str], set[bytes]]:
        found: dict[tuple[int, str], set[bytes]] = {}
        for data in seen[name]:
            order = Order.from_bytes(data)
            found.setdefault((order.step, order.stage), set()).add(data)
        return found

    assert told("dies") == told("whole")
    assert len(seen["dies"]) > len(seen["whole"])
