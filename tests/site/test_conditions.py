"""The sum of covariates' effects at a site: each person brings windows and covariates of the person's own."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsynth.plan import Plan, Step, plan_of
from fedsynth.privacy.allowance import Allowance
from fedsynth.recordings.recording import Windows
from fedsynth.site.steps import prepare
from fedsynth.study import parse_study
from fedsynth.wire.order import Order

CONDITIONS = '[conditions.age]\nbands = [40, 60]\n[conditions.sex]\nvalues = ["F", "M"]\nmissing = "leave out"\n'
STRATA = np.array([7, 7, 0, 3, 3, 3, 5])
PEOPLE = np.array([0, 0, 1, 2, 2, 2, 3])


@pytest.fixture(scope="module")
def plan(tiny_text: str) -> Plan:
    return plan_of(parse_study(tiny_text.replace("[privacy]", f"{CONDITIONS}[privacy]")))


def windows(rows: np.ndarray) -> Windows:
    """Return the windows of some of four people, whose labels differ too."""
    signal = np.random.default_rng(0).normal(0, 20, (len(PEOPLE), 2, 128)).astype(np.float32)
    return Windows(
        signal=signal[rows],
        labels=(PEOPLE % 2)[rows],
        subjects=np.unique(PEOPLE[rows], return_inverse=True)[1].astype(np.int64),
        recordings=PEOPLE[rows],
        label_names=("rest", "task"),
        channels=("C3", "C4"),
        sfreq=100.0,
        covariates=STRATA[rows][:, None],
    )


def asked(plan: Plan) -> tuple[int, Step]:
    [found] = [
        (number, step)
        for number, step in enumerate(plan.steps)
        if step.mechanism.purpose == "anchor: effects of conditions"
    ]
    return found


def total(plan: Plan, rows: np.ndarray) -> Tensor:
    """Return the sum of the step that asks of covariates, over some of the windows, with silent noise."""
    number, step = asked(plan)
    estimator, shape = plan.estimator, plan.shape
    tensors = estimator.prior(shape).tensors() | {"anchor.done": torch.tensor([step.index])}
    order = Order("run", plan.digest, number, tensors)
    work = prepare(order, plan, step, device=torch.device("cpu"))
    silent = Allowance(step.mechanism, noise=lambda count: np.zeros(count, dtype=np.int64))
    found = work.run(windows(rows), silent)
    assert not isinstance(found, dict)
    return found.read()


def test_the_sum_is_that_of_each_person_alone(plan: Plan) -> None:
    """Were a covariate taken from a window of somebody else, one person would move what another brings."""
    alone = [total(plan, np.flatnonzero(person == PEOPLE)) for person in range(4)]

    together = total(plan, np.arange(len(PEOPLE)))

    assert torch.allclose(together, torch.stack(alone).sum(dim=0), atol=1e-3)


def test_a_person_without_others_moves_the_sum_by_at_most_its_bound(plan: Plan) -> None:
    _, step = asked(plan)
    everybody = total(plan, np.arange(len(PEOPLE)))

    for person in range(4):
        less = total(plan, np.flatnonzero(person != PEOPLE))

        assert float((everybody - less).norm()) <= step.mechanism.clipping_norm


def test_people_are_counted_in_their_own_stratum(plan: Plan) -> None:
    _, step = asked(plan)
    shape = plan.shape
    cells = total(plan, np.arange(len(PEOPLE)))[: 2 * shape.n_strata].view(2, -1)

    counted = (cells / cells.max() > 0.5).nonzero().tolist()

    assert counted == [[0, 3], [0, 7], [1, 0], [1, 5]]
    assert step.mechanism.is_private
