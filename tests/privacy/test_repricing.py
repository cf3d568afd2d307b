"""A statement's events are priced again by each of the accountants that priced them, and by nobody else."""

import importlib.util
from dataclasses import replace

import pytest

from fedsynth.errors import StatementError
from fedsynth.privacy import repricing
from fedsynth.privacy.accountant import epsilon_pld, epsilon_prv
from fedsynth.privacy.making import Making
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement

DELTA = 1e-5
SAMPLED = (Mechanism("gradients", noise_multiplier=1.0, sampling_probability=0.05, steps=400, clipping_norm=1.0),)
WHOLE = (Mechanism("anchor", noise_multiplier=2.0, sampling_probability=1.0, steps=1, clipping_norm=1.0),)
QUIET = (Mechanism("anchor", noise_multiplier=800.0, sampling_probability=1.0, steps=1, clipping_norm=1.0),)


def site(
    events: tuple[Mechanism, ...],
    *,
    held_out: tuple[Mechanism, ...] = (),
    share: float = 1.0,
    second: float = 1.0,
) -> SiteStatement:
    """Return what a site says that spent these: shares of their price by the first and the second accountant."""
    first = max(epsilon_pld(group, delta=DELTA) for group in (events, held_out))
    other = max(epsilon_prv(group, delta=DELTA) for group in (events, held_out))
    return SiteStatement("north", share * first, second * other, DELTA, "0" * 64, events, held_out)


def statement(*sites: SiteStatement) -> PrivacyStatement:
    return PrivacyStatement(
        epsilon=max(site.epsilon for site in sites),
        delta=DELTA,
        unit="subject",
        adjacency="add-or-remove-one",
        trust="site",
        accountant="PLD",
        second_accountant="PRV",
        composes="this run only",
        overlap="assumed none",
        assumes="each site's own code",
        made=Making(0, "in-process", "toy", "1" * 64),
        sites=tuple(replace(site, site=f"site-{number}") for number, site in enumerate(sites)),
    )


@pytest.mark.parametrize("events", [SAMPLED, WHOLE, QUIET, SAMPLED + WHOLE], ids=["drawn", "all", "quiet", "both"])
def test_what_events_cost_is_accepted_and_said(events: tuple[Mechanism, ...]) -> None:
    said = statement(site(events))

    found = repricing.reprice(said)

    assert (found.epsilon, found.epsilon_second) == (said.epsilon, said.sites[0].epsilon_second)
    assert str(found).startswith(f"repriced: {found.epsilon:.2f}"[:-1])


@pytest.mark.parametrize("share", [0.5, 0.98])
@pytest.mark.parametrize("held_out", [False, True])
def test_less_than_sampled_events_cost_passes_closed_forms_and_is_refused(share: float, held_out: bool) -> None:
    groups = (WHOLE[:0], SAMPLED) if held_out else (SAMPLED, ())
    said = statement(site(*groups[:1], held_out=groups[1], share=share))
    said.check()

    with pytest.raises(
        StatementError, match=r"by dp_accounting PLD, and its own events cost \d\.\d+ at delta 1e-05"
    ):
        repricing.reprice(said)


def test_one_site_of_two_is_enough() -> None:
    with pytest.raises(StatementError, match="by dp_accounting PLD"):
        repricing.reprice(statement(site(SAMPLED + WHOLE), site(SAMPLED, share=0.9)))


def test_the_second_accountant_is_held_against_itself() -> None:
    with pytest.raises(StatementError, match="by Opacus PRV"):
        repricing.reprice(statement(site(SAMPLED, second=0.9)))


def test_where_both_accountants_differ_each_agrees_with_itself() -> None:
    """At epsilon .003 they differ by more than the tolerance; nothing is refused for it."""
    said = statement(site(QUIET))

    assert abs(said.epsilon / said.sites[0].epsilon_second - 1) > 10 * repricing.RELATIVE_TOLERANCE
    repricing.reprice(said)


def test_a_promise_above_what_events_cost_is_no_contradiction() -> None:
    assert repricing.reprice(statement(site(WHOLE, share=1.5, second=1.5))).epsilon == pytest.approx(
        epsilon_pld(WHOLE, delta=DELTA)
    )


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(replace(SAMPLED[0], steps=10**9), id="steps"),
        pytest.param(replace(SAMPLED[0], noise_multiplier=0.001), id="noise"),
        pytest.param(replace(SAMPLED[0], noise_multiplier=5e-324, sampling_probability=1e-300), id="smallest"),
    ],
)
def test_no_accountant_is_kept_busy_by_what_nothing_private_holds(event: Mechanism) -> None:
    said = statement(SiteStatement("north", 1.0, 1.0, DELTA, "0" * 64, (event,), ()))

    with pytest.raises(StatementError, match="mean privacy loss"):
        repricing.reprice(said)


def test_more_kinds_of_sums_than_are_priced_are_refused() -> None:
    events = tuple(replace(SAMPLED[0], noise_multiplier=50 + number, steps=1) for number in range(300))

    with pytest.raises(StatementError, match="300 different sums"):
        repricing.reprice(statement(SiteStatement("north", 1.0, 1.0, DELTA, "0" * 64, events, ())))


def test_without_the_second_accountant_the_first_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "opacus" else find(name))

    found = repricing.reprice(statement(site(WHOLE, second=0.5)))

    assert found.epsilon_second is None
    assert repricing.installed() is repricing.reprice


def test_without_an_accountant_nothing_is_repriced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    assert repricing.installed() is None
