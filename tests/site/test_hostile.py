"""Attacks on a site's answers; each worked once, and would again if its defence were removed."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.anchors.estimator import estimator_of
from fedsynth.errors import BudgetError, ConsentError, LedgerError, PrivacyError
from fedsynth.evaluation.classifier import Classifier
from fedsynth.families.adversarial.cwgan import Cwgan
from fedsynth.ledger.ledger import Ledger
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import UNITS, Mechanism
from fedsynth.privacy.noise import NoiseSource, system_noise
from fedsynth.privacy.private_sum import lattice_step
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings, group_of_person, tokens_of
from fedsynth.site.session import SiteSession
from fedsynth.study import Study
from fedsynth.synthesis.generator import at_prior
from fedsynth.training.private_gradient import Batch, choose_method, gradient_sum
from fedsynth.wire.order import Order
from fedsynth.wire.update import REFUSED, Update

People = Callable[..., list[Recording]]
MakeSite = Callable[..., Holdings]
TRAIN, SCORES = 2, 3  # steps of the tiny plan


@pytest.fixture(scope="module")
def plan(tiny: Study) -> Plan:
    return plan_of(tiny)


def silence(count: int) -> np.ndarray:
    """Stand in for the noise, so that what one person changes can be seen."""
    return np.zeros(count, dtype=np.int64)


def answer(
    folder: Path, plan: Plan, step: int, tensors: dict[str, torch.Tensor], noise: NoiseSource = system_noise
) -> Update:
    session = SiteSession(folder, noise=noise)
    return Update.from_bytes(session.handle(Order("run", plan.digest, step, tensors).to_bytes()))


def site(folder: Path, recordings: list[Recording], plan: Plan, make_site: MakeSite) -> Path:
    make_site(folder, recordings)
    approve(folder, run="run", plan=plan)
    return folder


def hostile_classifier() -> dict[str, torch.Tensor]:
    """A classifier whose power overflows for a loud window and for no other."""
    state = Classifier(2, 2).state_dict()
    return {name: torch.full_like(value, 3e18) if "layers.0" in name else value for name, value in state.items()}


def test_a_classifier_that_overflows_learns_nothing_from_a_failure(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People
) -> None:
    update = answer(
        site(tmp_path / "a", make_people(30, seed=1), plan, make_site), plan, SCORES, hostile_classifier()
    )

    assert update.refused == ""
    assert bool(torch.isfinite(update.tensors["sum"]).all())


def test_whatever_fails_after_the_charge_counts_as_zero(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site(tmp_path / "a", make_people(12, seed=1), plan, make_site)
    monkeypatch.setattr("fedsynth.site.steps.probe", lambda *_, **__: None)
    monkeypatch.setattr(type(estimator_of(plan.study)), "statistics", lambda *_, **__: 1 / 0)

    assert answer(folder, plan, 0, plan.estimator.prior(plan.shape).tensors()).refused == ""


@pytest.mark.parametrize("step", [0, SCORES], ids=["anchor", "scores"])
def test_removing_a_person_from_the_site_moves_the_answer_by_at_most_c(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People, step: int
) -> None:
    everybody = make_people(34, seed=5, per_person=2)
    tensors = [plan.estimator.prior(plan.shape).tensors(), Classifier(2, 2).state_dict()][step == SCORES]
    group = plan.steps[step].mechanism.group
    gone = next(r.subject for r in everybody if group_of_person(r.subject, held_out=0.2) == group)
    sums = [
        answer(site(tmp_path / name, people, plan, make_site), plan, step, tensors, silence).tensors["sum"]
        for name, people in (("all", everybody), ("less", [r for r in everybody if r.subject != gone]))
    ]

    assert 0 < float((sums[0] - sums[1]).norm()) <= plan.steps[step].mechanism.clipping_norm


def test_what_a_person_says_does_not_depend_on_the_company(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People
) -> None:
    """Sums over disjoint people add up to the sum over all of them, to the last bit: nobody moves another's."""
    people = make_people(40, seed=6)
    tensors = plan.estimator.prior(plan.shape).tensors()
    halves = {"all": people, "first": people[:20], "second": people[20:]}

    sums = {
        name: answer(site(tmp_path / name, some, plan, make_site), plan, 0, tensors, silence).tensors["sum"]
        for name, some in halves.items()
    }

    mechanism = plan.steps[0].mechanism
    step = lattice_step(mechanism.clipping_norm, mechanism.noise_multiplier)
    assert float((sums["first"] + sums["second"] - sums["all"]).abs().max()) < 0.5 * step


def crafted(plan: Plan, **changes: object) -> Plan:
    first = plan.steps[0]
    return replace(plan, steps=(replace(first, mechanism=replace(first.mechanism, **changes)), *plan.steps[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sampling_probability": 0.001, "noise_multiplier": 0.7}, id="priced as sampled"),
        pytest.param({"noise_multiplier": 1e-6}, id="less noise"),
        pytest.param({"clipping_norm": 1e6}, id="a wider bound"),
        pytest.param({"group": "held-out"}, id="another group"),
        pytest.param({"unit": "window"}, id="a finer unit"),
    ],
)
def test_a_plan_that_its_study_does_not_lead_to_is_not_approved(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People, changes: dict[str, object]
) -> None:
    make_site(tmp_path / "a", make_people(12, seed=1))

    with pytest.raises(ConsentError, match="not those that its study leads to"):
        approve(tmp_path / "a", run="run", plan=crafted(plan, **changes))


def test_a_plan_for_other_code_is_not_approved(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People
) -> None:
    make_site(tmp_path / "a", make_people(12, seed=1))

    with pytest.raises(ConsentError, match="this site runs"):
        approve(tmp_path / "a", run="run", plan=replace(plan, code="0.0.0+000000000000"))


@pytest.mark.parametrize(
    ("sigma", "q", "steps", "bound"),
    [
        pytest.param(1.0, 1.0, 0, 1.0, id="no step"),
        pytest.param(1.0, 1.0, -1, 1.0, id="a refund"),
        pytest.param(1.0, 0.0, 1, 1.0, id="nobody drawn"),
        pytest.param(1.0, 1.5, 1, 1.0, id="more than everybody"),
        pytest.param(float("nan"), 1.0, 1, 1.0, id="noise is nan"),
        pytest.param(1.0, 1.0, 1, float("inf"), id="noise without bound"),
    ],
)
def test_no_mechanism_is_written_that_would_be_priced_below_what_it_does(
    sigma: float, q: float, steps: int, bound: float
) -> None:
    with pytest.raises(PrivacyError):
        Mechanism("sum", sigma, q, steps, bound)


@pytest.mark.parametrize(("before", "after"), itertools.permutations(UNITS, 2))
def test_what_was_promised_per_one_unit_bars_a_promise_per_another(tmp_path: Path, before: str, after: str) -> None:
    # One window more of somebody who has some moves a sum clipped per person by up to twice its bound.
    with Ledger(tmp_path) as ledger:
        first = Mechanism("sum", 50.0, 1.0, 1, 1.0, "train", before)
        ledger.charge(first, nonce="1", study="a", tokens=["t"], cap=8.0, delta=1e-5, unit=before)

        with pytest.raises(BudgetError, match=f"bounded per {before}; that has no price per {after}"):
            ledger.afford([replace(first, unit=after)], tokens=["t"], cap=8.0, delta=1e-5, unit=after)
        ledger.afford([first], tokens=["t"], cap=8.0, delta=1e-5, unit=before)


def test_the_same_person_is_known_by_name_and_by_recording(make_people: People) -> None:
    key, people = b"k" * 32, make_people(40, seed=3)
    renamed = [replace(item, subject="X" + item.subject) for item in people]
    later = [replace(item, digest="later " + item.digest) for item in people]

    def known(recordings: list[Recording]) -> set[str]:
        groups = tokens_of(recordings, held_out=0.2, key=key)
        return {*groups["train"], *groups["held-out"]}

    assert len(known(people) & known(renamed)) == 40
    assert len(known(people) & known(later)) == 40


def test_a_ledger_that_was_deleted_after_the_approval_freezes_the_site(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People, site_log: Any
) -> None:
    folder = tmp_path / "a"
    make_site(folder, make_people(12, seed=1))
    before = Mechanism("sum", 500.0, 1.0, 1, 1.0)
    with Ledger(folder / "ledger") as ledger:
        ledger.charge(before, nonce="x", study="s", tokens=["t"], cap=8.0, delta=1e-5, unit="subject")
    approve(folder, run="run", plan=plan)
    for path in (folder / "ledger").iterdir():
        path.unlink()

    assert answer(folder, plan, 0, plan.estimator.prior(plan.shape).tensors()).refused == REFUSED
    assert site_log.kinds == [LedgerError.__name__]


def train_order(plan: Plan, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    parts = {f"parts.{name}": value.clone() for name, value in at_prior(plan.study).state.items()}
    public = {"seen_units": torch.tensor([10.0]), "label_shares": torch.tensor([0.5, 0.5])}
    return {**parts, **public, **changes}


def test_parameters_that_training_cannot_have_led_to_are_refused_uncharged(
    tmp_path: Path, plan: Plan, make_site: MakeSite, make_people: People, site_log: Any
) -> None:
    """A bias of 1e25 made a float32 norm overflow, one way of computing and not the other."""
    folder = site(tmp_path / "a", make_people(14, seed=1), plan, make_site)
    bias = torch.full_like(at_prior(plan.study).state["critic.head.2.bias"], 1e25)

    told = answer(folder, plan, TRAIN, train_order(plan, **{"parts.critic.head.2.bias": bias}))
    assert (told.refused, site_log.kinds) == (REFUSED, ["WireError"])
    with Ledger(folder / "ledger") as ledger:
        assert len(ledger) == 0
    assert answer(folder, plan, TRAIN, train_order(plan)).refused == ""


@pytest.mark.parametrize("loud", [torch.inf, 1e30, 3e3], ids=["infinite", "overflowing", "loud"])
def test_no_unit_makes_its_company_be_computed_another_way(loud: float) -> None:
    """Book-keeping failed on one unit once, and up to 256 windows of others were computed anew, one by one."""
    shape = Shape(channels=("C3", "C4"), n_times=128, sfreq=100.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")
    family = Cwgan(latent=8)
    phase, parts = family.phases[0], family.build(shape, prior_anchor(shape))
    with torch.no_grad():
        parts["critic"].head[0].weight[0, 40] = 1e38
        parts["critic"].head[2].weight.zero_()
        parts["critic"].head[2].bias.fill_(1e25)
        parts["critic"].head[4].weight.fill_(1e-20)
    quiet = 10 * torch.randn(6, 2, 128, generator=torch.Generator().manual_seed(1))
    windows = torch.cat([quiet, torch.full((1, 2, 128), loud) * torch.sign(quiet[:1])])
    batch = Batch(windows, torch.zeros(7, dtype=torch.long), torch.arange(7))
    mechanism = Mechanism("gradients", 1.0, 1.0, 1, 1.0)

    without, everybody = (
        gradient_sum(
            family,
            parts,
            phase=phase,
            shape=shape,
            batch=batch,
            rows=batch.rows()[:count],
            allowance=Allowance(mechanism, noise=silence),
            method="factored",
        ).read()
        for count in (6, 7)
    )

    assert float((everybody - without).norm()) <= 1 + 1e-4


def test_the_way_to_a_gradient_sum_is_chosen_by_the_study_alone(tiny: Study) -> None:
    shape = shape_of(tiny)
    parts = Cwgan().build(shape, prior_anchor(shape))
    phase = Cwgan().phases[0]
    windows = tiny.model_copy(
        update={
            "privacy": tiny.privacy.model_copy(update={"unit": "window"}),
            "training": tiny.training.model_copy(update={"private_step": "batched"}),
        }
    )

    assert choose_method(parts, phase=phase, study=tiny) == "loop"
    assert choose_method(parts, phase=phase, study=windows) == "factored"


def test_a_site_takes_units_together_only_where_its_policy_trusts_the_coordinator(
    tmp_path: Path, tiny: Study, make_site: MakeSite, make_people: People
) -> None:
    study = tiny.model_copy(update={"training": tiny.training.model_copy(update={"private_step": "batched"})})
    make_site(tmp_path / "a", make_people(14, seed=1), study=study)
    make_site(tmp_path / "b", make_people(14, seed=1), policy="together = true", study=study)

    with pytest.raises(ConsentError, match="trusts the coordinator"):
        approve(tmp_path / "a", run="run", plan=plan_of(study))
    approve(tmp_path / "b", run="run", plan=plan_of(study))
