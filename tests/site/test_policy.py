"""A site's policy: every limit refuses by name and number, in the site's own log, before anything is approved."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsynth.errors import ConsentError, RefusedError, StudyError
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.mechanism import Group, Mechanism
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings, load_holdings
from fedsynth.site.policy import Policy, check_plan, check_studies, load_policy
from fedsynth.site.session import SiteSession
from fedsynth.study import parse_study
from fedsynth.wire.order import SETUP_STEP, STATEMENT_STEP, Order
from fedsynth.wire.update import REFUSED, Update

MakeSite = Callable[..., Holdings]
PEOPLE = 12


@pytest.fixture(scope="module")
def plan(tiny_text: str) -> Plan:
    """Return a plan without gradient rounds: epsilon 8, delta 1e-5, family cwgan, at least 4 subjects."""
    return plan_of(parse_study(tiny_text.replace("rounds = 1", "rounds = 0")))


@pytest.fixture
def site(tmp_path: Path, make_site: MakeSite, make_people: Callable[..., list[Recording]]) -> Path:
    make_site(tmp_path / "east", make_people(PEOPLE, seed=1))
    return tmp_path / "east"


def rule(site: Path, policy: str) -> None:
    """Give a site another policy; what is not said keeps to its default."""
    least = "" if "largest_epsilon" in policy else "largest_epsilon = 8.0\n"
    (site / "site.toml").write_text(f'name = "east"\n{least}{policy}\n', encoding="utf-8")


def ask(site: Path, plan: Plan, *, step: int = 0) -> Update:
    tensors = plan.estimator.prior(plan.shape).tensors() if step == 0 else {}
    return Update.from_bytes(SiteSession(site).handle(Order("run", plan.digest, step, tensors).to_bytes()))


def charged(site: Path) -> int:
    with Ledger(site / "ledger") as ledger:
        return len(ledger)


LIMITS = {
    "epsilon": ("largest_epsilon = 7.99", ["epsilon 8 ", "7.99", "largest_epsilon"]),
    "delta": ("largest_delta = 9e-6", ["delta 1e-05", "9e-06", "largest_delta"]),
    "unit": ('units = ["recording", "window"]', ["per subject", "recording or window", "units"]),
    "no unit": ("units = []", ["per subject", "allows none", "units"]),
    "trust": ('trust = ["aggregate"]', ["trust site", "only aggregate", "trust"]),
    "family": ('families = ["wavegan", "prior"]', ["family cwgan", "wavegan, prior", "families"]),
    "no family": ("families = []", ["family cwgan", "only none", "families"]),
    "subjects": ("least_subjects = 13", ["fewer subjects (12)", "the 13 that this site", "least_subjects"]),
}


@pytest.mark.parametrize(("policy", "said"), LIMITS.values(), ids=list(LIMITS))
def test_a_limit_refuses_the_approval_and_names_field_and_values(
    site: Path, plan: Plan, policy: str, said: list[str]
) -> None:
    rule(site, policy)

    with pytest.raises(ConsentError) as refusal:
        approve(site, run="run", plan=plan)

    assert [word for word in said if word not in str(refusal.value)] == []
    assert not (site / "approved").exists()


PUBLIC = {name: limit for name, limit in LIMITS.items() if name != "subjects"}


def test_too_few_people_are_refused_once_and_not_when_an_order_comes(site: Path, plan: Plan) -> None:
    """At the order it would tell everybody that somebody left."""
    approve(site, run="run", plan=plan)
    rule(site, "least_subjects = 13")

    assert ask(site, plan).refused == ""


@pytest.mark.parametrize(("policy", "said"), PUBLIC.values(), ids=list(PUBLIC))
def test_a_limit_that_is_lowered_later_refuses_orders_of_a_plan_approved_before(
    site: Path, plan: Plan, policy: str, said: list[str], site_log: Any
) -> None:
    approve(site, run="run", plan=plan)
    rule(site, policy)

    update = ask(site, plan)

    assert update == Update(refused=REFUSED)
    assert site_log.kinds == ["ConsentError"]
    assert [word for word in said if word not in site_log.text] == []
    assert charged(site) == 0


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param("largest_epsilon = 8.0", id="epsilon"),
        pytest.param("largest_delta = 1e-5", id="delta"),
        pytest.param('units = ["subject"]', id="unit"),
        pytest.param('trust = ["site"]', id="trust"),
        pytest.param("least_dishonest = 2", id="nobody can be dishonest where every site adds all noise"),
        pytest.param('families = ["cwgan"]', id="family"),
        pytest.param("least_subjects = 12", id="subjects"),
    ],
)
def test_a_limit_that_is_just_met_allows(site: Path, plan: Plan, policy: str) -> None:
    rule(site, policy)

    approve(site, run="run", plan=plan)

    assert ask(site, plan).refused == ""


def test_a_site_may_ask_how_many_others_the_noise_survives(tiny_text: str) -> None:
    def asked(dishonest: int) -> Plan:
        together = f'trust = "aggregate"\n[cohort]\nsites = ["a", "b", "c"]\ndishonest = {dishonest}\n'
        return plan_of(parse_study(tiny_text.replace("rounds = 1", "rounds = 0").replace("[cohort]\n", together)))

    policy = Policy(name="a", largest_epsilon=8.0, least_dishonest=1)

    with pytest.raises(ConsentError, match=r"with 0 dishonest sites, and this site asks for 1 \(least_dishonest\)"):
        check_plan(policy, asked(0))
    check_plan(policy, asked(1))


def test_a_promise_about_recordings_needs_a_site_that_allows_it(site: Path, tiny_text: str) -> None:
    text = tiny_text.replace('unit = "subject"', 'unit = "recording"').replace("rounds = 1", "rounds = 0")
    weaker = plan_of(parse_study(text))
    assert weaker.study.privacy.unit == "recording"

    with pytest.raises(ConsentError, match=r"per recording, and this site allows subject \(units\)"):
        approve(site, run="run", plan=weaker)


def test_what_a_policy_writes_it_reads_again(tmp_path: Path) -> None:
    policy = Policy(
        name='sh"adow\\ é\x7f',
        largest_epsilon=math.inf,
        largest_delta=1e-7,
        units=("window",),
        trust=(),
        together=True,
        ledger="/some where/else",
    )
    (tmp_path / "site.toml").write_text(policy.to_toml(), encoding="utf-8")

    assert load_policy(tmp_path) == policy
    assert "families" not in policy.to_toml()
    with pytest.raises(StudyError, match=r"'\\udc80' has no form in UTF-8"):
        Policy(name="\udc80", largest_epsilon=8.0).to_toml()


def test_the_study_too_may_ask_for_more_subjects_than_a_site_has(site: Path, tiny_text: str) -> None:
    text = tiny_text.replace("rounds = 1", "rounds = 0").replace("least_subjects = 4", "least_subjects = 13")

    with pytest.raises(ConsentError, match=r"fewer subjects \(12\) than the 13 that the study"):
        approve(site, run="run", plan=plan_of(parse_study(text)))


def test_a_study_without_privacy_needs_a_site_that_allows_infinity(site: Path, tiny_text: str) -> None:
    text = tiny_text.replace("epsilon = 8.0", "epsilon = inf").replace("rounds = 1", "rounds = 0")
    bare = plan_of(parse_study(text))
    assert math.isinf(bare.study.privacy.epsilon)

    with pytest.raises(ConsentError, match="epsilon inf exceeds this site's 8"):
        approve(site, run="run", plan=bare)
    rule(site, "largest_epsilon = inf")
    approve(site, run="run", plan=bare)

    assert ask(site, bare).refused == ""


def charge(site: Path, *, study: str, group: Group) -> None:
    """Let another study ask almost nothing of the people here."""
    tokens = load_holdings(site / "holdings").tokens[group]
    loud = Mechanism("sum", 1e4, 1.0, 1, 1.0, group)
    with Ledger(site / "ledger") as ledger:
        ledger.charge(loud, nonce=study, study=study, tokens=tokens, cap=20.0, delta=1e-5, unit="subject")


@pytest.mark.parametrize("group", ["train", "held-out"])
def test_studies_are_counted_per_person_up_to_the_largest_number(site: Path, tiny_text: str, group: Group) -> None:
    text = tiny_text.replace("rounds = 1", "rounds = 0").replace("epsilon = 8.0", "epsilon = 7.9")
    plan = plan_of(parse_study(text))
    rule(site, "largest_studies = 2")
    charge(site, study="first", group=group)

    approve(site, run="run", plan=plan)
    charge(site, study="second", group=group)
    with pytest.raises(ConsentError, match=r"2 other studies .* allows 2 in all \(largest_studies\)"):
        approve(site, run="again", plan=plan)

    # What was approved is answered, whoever was asked since: a refusal would tell of them.
    assert ask(site, plan).refused == ""
    assert charged(site) == 3


def test_a_study_under_way_is_not_counted_among_the_others(site: Path, plan: Plan) -> None:
    """One study is allowed, and its second step comes after its first was charged."""
    rule(site, "largest_studies = 1")
    approve(site, run="run", plan=plan)
    assert ask(site, plan).refused == ""

    with Ledger(site / "ledger") as ledger:
        tokens = load_holdings(site / "holdings").tokens
        assert ledger.studies(tokens["train"]) == {plan.digest}
        check_studies(load_policy(site), ledger, plan, tokens=tokens)


def test_people_of_another_site_folder_are_other_people(site: Path, plan: Plan) -> None:
    rule(site, "largest_studies = 1")
    loud = Mechanism("sum", 1e4, 1.0, 1, 1.0)
    with Ledger(site / "ledger") as ledger:
        ledger.charge(loud, nonce="x", study="x", tokens=["stranger"], cap=8.0, delta=1e-5, unit="subject")

    approve(site, run="run", plan=plan)

    assert ask(site, plan).refused == ""


@pytest.mark.parametrize("switch", ["STOP", "halt/now"])
def test_the_kill_switch_stops_every_kind_of_order_and_approval_until_it_is_gone(
    site: Path, plan: Plan, switch: str, site_log: Any
) -> None:
    rule(site, f'kill_switch = "{switch}"')
    approve(site, run="run", plan=plan)
    (site / switch).parent.mkdir(exist_ok=True)
    (site / switch).touch()

    refused = [ask(site, plan, step=step).refused for step in (0, 2, STATEMENT_STEP, SETUP_STEP)]
    with pytest.raises(RefusedError, match="kill switch"):
        approve(site, run="again", plan=plan)

    assert refused == [REFUSED] * 4
    assert site_log.kinds == ["RefusedError"] * 4
    assert switch in site_log.text
    assert charged(site) == 0
    (site / switch).unlink()
    assert ask(site, plan).refused == ""


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        pytest.param('name = "east"', "largest_epsilon", id="no largest epsilon"),
        pytest.param("largest_epsilon = 8.0", "name", id="no name"),
        pytest.param('name = "east"\nlargest_epsilon = 0.0', "largest_epsilon", id="epsilon of nothing"),
        pytest.param('name = "east"\nlargest_epsilon = nan', "largest_epsilon", id="epsilon is no number"),
        pytest.param('name = "east"\nlargest_epsilon = "8"', "largest_epsilon", id="epsilon as text"),
        pytest.param('name = "east"\nlargest_epsilon = 8.0\nlargest_delta = 1.0', "largest_delta", id="delta of 1"),
        pytest.param('name = "east"\nlargest_epsilon = 8.0\nleast_subjects = 0', "least_subjects", id="nobody"),
        pytest.param('name = "east"\nlargest_epsilon = 8.0\nlargest_studies = 0', "largest_studies", id="no study"),
        pytest.param('name = "east"\nlargest_epsilon = 8.0\nlargest_eps = 1.0', "largest_eps", id="misspelt"),
        pytest.param('name = "east"\nlargest_epsilon = 2026-01-01', "largest_epsilon", id="epsilon as a date"),
        pytest.param('name = "east', "Unterminated string", id="not TOML"),
        pytest.param(b'name = "east"\nlargest_epsilon = 8.0  # \xff', "not written in UTF-8", id="not text"),
    ],
)
def test_a_policy_that_cannot_be_read_allows_nothing(
    site: Path, plan: Plan, policy: str | bytes, said: str, site_log: Any
) -> None:
    approve(site, run="run", plan=plan)
    (site / "site.toml").write_bytes(policy if isinstance(policy, bytes) else policy.encode())

    with pytest.raises(StudyError, match=said):
        load_policy(site)
    assert ask(site, plan).refused == REFUSED
    assert site_log.kinds == ["StudyError"]
    assert charged(site) == 0


def test_a_policy_that_is_gone_allows_nothing(site: Path, plan: Plan, site_log: Any) -> None:
    approve(site, run="run", plan=plan)
    (site / "site.toml").unlink()

    assert ask(site, plan).refused == REFUSED
    assert site_log.kinds == ["StudyError"]


def test_limits_that_nobody_wrote_are_the_cautious_ones(plan: Plan) -> None:
    policy = Policy(name="east", largest_epsilon=8.0)

    assert (policy.largest_delta, policy.units) == (1e-5, ("subject",))
    assert (policy.families, policy.kill_switch) == (("cwgan",), "STOP")
    check_plan(policy, plan)
