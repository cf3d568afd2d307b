"""What is too weak to be called private is refused before anything is opened, and what is honest is not."""

import math

import pytest

from fedsynth.errors import PrivacyError, StudyError
from fedsynth.plan import plan_of
from fedsynth.privacy.budget import SumRequest, share_budget
from fedsynth.privacy.mechanism import LEAST_NOISE_MULTIPLIER
from fedsynth.privacy.statement import LARGEST_EPSILON
from fedsynth.study import parse_study


@pytest.mark.parametrize("epsilon", ["20.1", "100.0", "1e4"])
def test_a_finite_epsilon_beyond_the_largest_is_refused(tiny_text: str, epsilon: str) -> None:
    with pytest.raises(StudyError, match="promises nothing that deserves the name; ask for 20"):
        parse_study(tiny_text.replace("epsilon = 8.0", f"epsilon = {epsilon}"))


@pytest.mark.parametrize("epsilon", ["0.5", "20.0", "inf"])
def test_what_is_private_or_openly_not_is_accepted(tiny_text: str, epsilon: str) -> None:
    assert parse_study(tiny_text.replace("epsilon = 8.0", f"epsilon = {epsilon}")).privacy.epsilon > 0


@pytest.mark.parametrize(
    ("delta", "least", "accepted"),
    [
        pytest.param("1e-3", 100, True, id="one tenth of one over the people"),
        pytest.param("1e-3", 101, False, id="a little more"),
        pytest.param("1e-5", 10_000, True, id="many people, small delta"),
        pytest.param("1e-5", 10_001, False, id="more people than delta allows"),
    ],
)
def test_delta_stays_below_a_tenth_of_one_over_the_least_people(
    tiny_text: str, delta: str, least: int, accepted: bool
) -> None:
    text = tiny_text.replace("delta = 1e-5", f"delta = {delta}").replace(
        "least_subjects = 4", f"least_subjects = {least}"
    )
    if accepted:
        assert parse_study(text).privacy.delta == float(delta)
        return
    with pytest.raises(StudyError, match="away with a chance of"):
        parse_study(text)


@pytest.mark.parametrize(("q", "steps"), [(1e-5, 1), (1e-6, 100), (1e-5, 10)])
def test_a_lottery_is_refused_whatever_it_costs(monkeypatch: pytest.MonkeyPatch, q: float, steps: int) -> None:
    """At delta = 1e-5, q = 1e-5 and one step, accountants say epsilon = 0 for any noise at all."""
    monkeypatch.setattr("fedsynth.privacy.budget.least_noise", lambda *_, **__: 5.0)
    requests = [
        SumRequest("sums", clipping_norm=1.0),
        SumRequest("gradients", clipping_norm=1.0, sampling_probability=q, steps=steps),
    ]

    with pytest.raises(PrivacyError, match="gradients: a unit is drawn with a chance of"):
        share_budget(requests, epsilon=1.0, delta=1e-5, gradient_share=0.5)


def test_noise_that_hides_nobody_is_refused_although_its_price_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit drawn with a chance of 2e-4 is covered by delta for the most part, so that little noise would do."""
    monkeypatch.setattr("fedsynth.privacy.budget.least_noise", lambda *_, **__: 0.23)
    request = SumRequest("gradients", clipping_norm=1.0, sampling_probability=2e-4, steps=1)

    with pytest.raises(PrivacyError, match=f"{LEAST_NOISE_MULTIPLIER:g} is the least"):
        share_budget([request], epsilon=8.0, delta=1e-5, gradient_share=0.5)


@pytest.mark.slow
def test_every_sum_of_an_honest_plan_has_at_least_the_least_noise(tiny_text: str) -> None:
    text = tiny_text.replace("epsilon = 8.0", f"epsilon = {LARGEST_EPSILON}").replace("rounds = 1", "rounds = 0")
    plan = plan_of(parse_study(text))

    assert min(step.mechanism.noise_multiplier for step in plan.steps) >= LEAST_NOISE_MULTIPLIER


@pytest.mark.parametrize(
    ("sites", "said", "n_dishonest"),
    [
        pytest.param(3, "", 0, id="three sites"),
        pytest.param(4, "", 1, id="four sites, nothing said"),
        pytest.param(4, "dishonest = 2", 2, id="four sites, two said"),
    ],
)
def test_among_four_sites_one_is_expected_to_work_with_the_coordinator(
    tiny_text: str, sites: int, said: str, n_dishonest: int
) -> None:
    names = [f"site{number}" for number in range(sites)]
    text = tiny_text.replace("[cohort]", f"[cohort]\nsites = {names}\n{said}".replace("'", '"'))

    assert parse_study(text).cohort.n_dishonest == n_dishonest


def test_nobody_dishonest_among_four_that_add_shares_is_refused(tiny_text: str) -> None:
    text = tiny_text.replace("delta = 1e-5", 'delta = 1e-5\ntrust = "aggregate"').replace(
        "[cohort]", '[cohort]\nsites = ["a", "b", "c", "d"]\ndishonest = 0'
    )

    with pytest.raises(StudyError, match=r"cohort\.dishonest must be 1 or more"):
        parse_study(text)


def test_a_dishonest_site_costs_its_share_of_the_noise(tiny_text: str) -> None:
    """With n sites of which d tell all, n - d shares make up the noise, so that every share is larger."""

    def shares(dishonest: int) -> int:
        text = tiny_text.replace("delta = 1e-5", 'delta = 1e-5\ntrust = "aggregate"').replace(
            "[cohort]", f'[cohort]\nsites = ["a", "b", "c", "d", "e"]\ndishonest = {dishonest}'
        )
        text = text.replace("rounds = 1", "rounds = 0")
        return plan_of(parse_study(text)).steps[0].mechanism.noise_shares

    assert (shares(1), shares(2)) == (4, 3)
    assert math.isclose(1 / shares(1), 0.25)
