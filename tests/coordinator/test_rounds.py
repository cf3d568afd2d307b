"""The coordinator's rounds, with real sites in process and faults between them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedsynth.coordinator.aggregation import add_sums, mean_state
from fedsynth.coordinator.rounds import Result, run_plan
from fedsynth.coordinator.transport import InProcess
from fedsynth.errors import PrivacyError, RefusedError
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.session import SiteSession
from fedsynth.study import Study
from fedsynth.wire.last_word import repeated
from fedsynth.wire.order import STATEMENT_STEP, Order
from fedsynth.wire.update import REFUSED, Update

Handler = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def plan(tiny: Study) -> Plan:
    return plan_of(tiny)


@pytest.fixture
def handlers(
    tmp_path: Path, make_site: Callable[..., Holdings], make_people: Callable[..., list[Recording]], plan: Plan
) -> dict[str, Handler]:
    out: dict[str, Handler] = {}
    for seed, name in enumerate(("east", "north", "west")):
        make_site(tmp_path / name, make_people(14, seed=seed))
        approve(tmp_path / name, run="run", plan=plan)
        out[name] = SiteSession(tmp_path / name).handle
    return out


Run = Callable[[Plan, Mapping[str, Handler] | InProcess], Result]


@pytest.fixture
def run(tmp_path: Path, pinned: Callable[..., dict[str, bytes]]) -> Run:
    """Return a function that runs a plan with the keys of the sites pinned."""

    def carry(plan: Plan, sites: Mapping[str, Handler] | InProcess) -> Result:
        transport = sites if isinstance(sites, InProcess) else InProcess(sites)
        roster = pinned(tmp_path)
        return run_plan(plan, run="run", transport=transport, composes="this run only", roster=roster)

    return carry


def faulty(handler: Handler, *, steps: set[int], answer: bytes) -> Handler:
    return lambda data: answer if Order.from_bytes(data).step in steps else handler(data)


def test_a_run_ends_with_a_generator_scores_and_the_ledgers_own_statement(
    plan: Plan, handlers: dict[str, Handler], run: Run
) -> None:
    result = run(plan, handlers)

    assert [site.site for site in result.statement.sites] == ["east", "north", "west"]
    for site in result.statement.sites:
        assert site.events == plan.mechanisms("train")
        assert site.held_out == plan.mechanisms("held-out")
        assert site.epsilon == pytest.approx(plan.epsilon())
    assert result.statement.epsilon <= plan.study.privacy.epsilon
    assert result.ledger_lengths == {"east": 4, "north": 4, "west": 4}
    assert [score.source for score in result.scores] == ["private sum"] + ["private count"] * 2
    windows = result.generator.draw(per_label=3, seed="x")
    assert windows.signal.shape == (6, 2, 128)


def test_drawing_is_the_same_for_the_same_seed(plan: Plan, handlers: dict[str, Handler], run: Run) -> None:
    generator = run(plan, handlers).generator

    first, again, other = (generator.draw(per_label=2, seed=seed).signal for seed in ("a", "a", "b"))

    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"garbage", id="garbage"),
        pytest.param(Update(refused=REFUSED).to_bytes(), id="a refusal"),
        pytest.param(Update({"sum": torch.full((3,), torch.nan)}).to_bytes(), id="another shape, not finite"),
    ],
)
def test_a_site_that_fails_is_left_out_and_the_run_goes_on(
    plan: Plan, handlers: dict[str, Handler], run: Run, answer: bytes
) -> None:
    handlers["west"] = faulty(handlers["west"], steps={0}, answer=answer)

    result = run(plan, handlers)

    assert [site.site for site in result.statement.sites] == ["east", "north"]


def test_too_few_sites_end_the_run(plan: Plan, handlers: dict[str, Handler], run: Run) -> None:
    for name in ("west", "north"):
        handlers[name] = faulty(handlers[name], steps={1}, answer=b"garbage")

    with pytest.raises(RefusedError, match="1 sites are left and the study needs 2"):
        run(plan, handlers)


class Absent(InProcess):
    """Sites in this process, of whom some give no answer to some steps, although they may have heard the order."""

    def __init__(self, handlers: Mapping[str, Handler], *, away: Mapping[str, set[int]]) -> None:
        super().__init__(handlers)
        self._away = away

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        for site, answer in super().exchange(orders):
            if Order.from_bytes(orders[site]).step not in self._away.get(site, set()):
                yield site, answer


def test_a_site_that_is_away_at_the_end_is_stated_by_its_last_word(
    plan: Plan, handlers: dict[str, Handler], run: Run
) -> None:
    here = run(plan, Absent(handlers, away={"west": {STATEMENT_STEP}}))

    west = here.statement.sites[-1]
    assert west.site == "west"
    assert (west.events, west.held_out) == (plan.mechanisms("train"), plan.mechanisms("held-out"))
    assert here.ledger_lengths == {"east": 4, "north": 4, "west": 4}
    assert here.statement.unheard == ()


def test_a_site_that_leaves_in_the_middle_is_stated_with_what_it_answered(
    plan: Plan, handlers: dict[str, Handler], run: Run
) -> None:
    """It was charged for the second step, too; nobody saw that answer or can ask any more, and that is said."""
    result = run(plan, Absent(handlers, away={"west": {1, STATEMENT_STEP}}))

    assert result.statement.unheard == (("west", 1),)
    assert any("site west did with 1 order to which" in what for what in result.statement.excludes)

    assert result.ledger_lengths == {"east": 4, "north": 4, "west": 1}
    assert result.statement.sites[-1].events == plan.mechanisms("train")[:1]


def test_a_site_that_was_charged_and_never_heard_is_named(
    plan: Plan, handlers: dict[str, Handler], run: Run, tmp_path: Path
) -> None:
    result = run(plan, Absent(handlers, away={"west": {0, STATEMENT_STEP}}))

    with Ledger(tmp_path / "west" / "ledger") as ledger:
        assert len(ledger) == 1
    assert [site.site for site in result.statement.sites] == ["east", "north"]
    assert result.statement.unheard == (("west", 1),)


def test_a_site_whose_answer_came_too_late_says_at_the_end_that_it_was_charged(
    plan: Plan, handlers: dict[str, Handler], run: Run
) -> None:
    result = run(plan, Absent(handlers, away={"west": {0}}))

    assert result.ledger_lengths == {"east": 4, "north": 4, "west": 1}
    assert result.statement.sites[-1].events == plan.mechanisms("train")[:1]
    assert result.statement.unheard == ()


def test_a_site_whose_answer_was_malformed_is_stated_by_the_word_in_it(
    plan: Plan, handlers: dict[str, Handler], run: Run, tmp_path: Path, said_anew: Callable[..., bytes]
) -> None:
    west, nan = handlers["west"], {"sum": torch.full((3,), torch.nan)}
    handlers["west"] = lambda data: said_anew(west(data), tmp_path / "west", tensors=nan)

    result = run(plan, Absent(handlers, away={"west": {STATEMENT_STEP}}))

    assert result.ledger_lengths == {"east": 4, "north": 4, "west": 1}
    assert [site.site for site in result.statement.sites] == ["east", "north", "west"]


def test_a_contributor_that_does_not_confirm_its_charges_ends_the_run(
    plan: Plan, handlers: dict[str, Handler], run: Run, tmp_path: Path, said_anew: Callable[..., bytes]
) -> None:
    west, word = handlers["west"], {"train": (), "held_out": (), "charged": 0}
    handlers["west"] = lambda data: said_anew(west(data), tmp_path / "west", **word)

    with pytest.raises(PrivacyError, match="west contributed 4 private sums and its ledger does not confirm them"):
        run(plan, handlers)


def test_an_answer_whose_word_was_forged_does_not_count(
    plan: Plan, handlers: dict[str, Handler], run: Run, tmp_path: Path, said_anew: Callable[..., bytes]
) -> None:
    """Not even where the forgery says what is true: nobody could hold the site to it."""
    west = handlers["west"]
    handlers["west"] = lambda data: said_anew(west(data), tmp_path / "east")

    result = run(plan, handlers)

    assert [site.site for site in result.statement.sites] == ["east", "north"]


def test_a_site_without_a_pinned_key_is_not_asked(plan: Plan, handlers: dict[str, Handler]) -> None:
    handlers["west"] = lambda _: pytest.fail("a site was asked")
    transport, roster = InProcess(handlers), {"east": b"e" * 32, "north": b"n" * 32}

    with pytest.raises(PrivacyError, match="no key is pinned for site west"):
        run_plan(plan, run="run", transport=transport, composes="this run only", roster=roster)


def test_the_statement_is_the_largest_over_sites_never_a_mean(
    plan: Plan, handlers: dict[str, Handler], run: Run, tmp_path: Path, said_anew: Callable[..., bytes]
) -> None:
    twice = (*plan.mechanisms("train"), *plan.mechanisms("train"))

    def heavier(data: bytes) -> bytes:
        answer = handlers["west"](data)
        if Order.from_bytes(data).step != STATEMENT_STEP:
            return answer
        return said_anew(answer, tmp_path / "west", train=repeated(twice))

    result = run(plan, {**handlers, "west": heavier})

    assert result.statement.epsilon == pytest.approx(epsilon_pld(twice, delta=1e-5))


def test_sums_that_were_bounded_per_another_unit_have_no_price(
    plan: Plan, handlers: dict[str, Handler], run: Run, tmp_path: Path, said_anew: Callable[..., bytes]
) -> None:
    per_window = tuple(replace(event, unit="window") for event in plan.mechanisms("train"))

    def mixed(data: bytes) -> bytes:
        answer = handlers["west"](data)
        if Order.from_bytes(data).step != STATEMENT_STEP:
            return answer
        both = (*plan.mechanisms("train"), *per_window)
        return said_anew(answer, tmp_path / "west", train=repeated(both))

    with pytest.raises(PrivacyError, match="west was asked about people per window, too"):
        run(plan, {**handlers, "west": mixed})


def test_sums_add_and_states_average_by_public_weight() -> None:
    one, two = {"sum": torch.tensor([1.0, 2.0])}, {"sum": torch.tensor([3.0, 6.0])}

    total = add_sums({"a": one["sum"], "b": two["sum"]}, mechanism=Mechanism("sum", 3.0, 1.0, 1, 0.5))

    assert total.values.tolist() == [4.0, 8.0]
    assert total.noise_std == pytest.approx(1.5 * 2**0.5)
    assert mean_state({"a": one, "b": two}, weights={"a": 3.0, "b": 1.0})["sum"].tolist() == [1.5, 3.0]


def test_joined_weights_are_brought_back_into_the_family_s_set(
    tmp_path: Path,
    tiny: Study,
    make_site: Callable[..., Holdings],
    make_people: Callable[..., list[Recording]],
    run: Run,
    said_anew: Callable[..., bytes],
) -> None:
    """Sites refuse parameters outside it, and a mean of weights at their bound can round to just beyond."""
    plan = plan_of(tiny.model_copy(update={"training": tiny.training.model_copy(update={"rounds": 2})}))
    sent: list[float] = []

    def beyond_the_bound(handler: Handler, folder: Path) -> Handler:
        def handle(data: bytes) -> bytes:
            order, answer = Order.from_bytes(data), handler(data)
            if not any(name.startswith("parts.") for name in order.tensors):
                return answer
            sent.append(
                max(float(v.abs().max()) for n, v in order.tensors.items() if n.startswith("parts.critic."))
            )
            told = Update.from_bytes(answer)
            assert told.refused == ""
            state = {n: v.sign() * 0.06 if n.startswith("critic.") else v for n, v in told.tensors.items()}
            return said_anew(answer, folder, tensors=state)

        return handle

    handlers = {}
    for seed, name in enumerate(("east", "north", "west")):
        make_site(tmp_path / name, make_people(14, seed=seed), study=plan.study)
        approve(tmp_path / name, run="run", plan=plan)
        handlers[name] = beyond_the_bound(SiteSession(tmp_path / name).handle, tmp_path / name)

    run(plan, handlers)

    assert len(sent) == 6
    assert max(sent) <= float(torch.tensor(0.05))
