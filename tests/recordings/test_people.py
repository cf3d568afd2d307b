"""One person is one unit, under however many names, and adds to a sum once."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedsynth.plan import plan_of
from fedsynth.privacy.allowance import Allowance
from fedsynth.recordings.people import people_of
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.site.steps import prepare
from fedsynth.study import Study
from fedsynth.wire.order import Order

People = Callable[..., list[Recording]]


def under(recording: Recording, name: str) -> Recording:
    """The same samples under another name."""
    return Recording(recording.signal, recording.sfreq, recording.channels, name, recording.label, recording.digest)


def test_names_over_the_same_samples_are_one_person_however_far_apart(make_people: People) -> None:
    a, b, c = make_people(3, seed=1)
    chain = [
        under(a, "one"),
        under(b, "one"),
        under(b, "two"),
        under(c, "two"),
        under(c, "three"),
        under(a, "four"),
    ]

    assert people_of(chain) == [0] * 6


@pytest.mark.parametrize("unit", ["subject", "recording", "window"])
def test_a_recording_held_under_two_names_moves_a_sum_by_at_most_c(
    tiny: Study, make_people: People, unit: str
) -> None:
    """It once moved one by 9.155 where C was 4.577."""
    study = tiny.model_copy(update={"privacy": tiny.privacy.model_copy(update={"unit": unit})})
    plan = plan_of(study)
    step = plan.steps[0]
    others, [loud] = make_people(6, seed=1), make_people(1, seed=2)
    loud = Recording(1e4 * loud.signal, 100.0, loud.channels, loud.subject, loud.label, "loud")

    def total(recordings: list[Recording]) -> torch.Tensor:
        order = Order("run", plan.digest, 0, plan.estimator.prior(plan.shape).tensors())
        work = prepare(order, plan, step, device=torch.device("cpu"))
        silent = Allowance(step.mechanism, noise=lambda count: np.zeros(count, dtype=np.int64))
        return work.run(windows_of(recordings, study=study), silent).read()  # type: ignore[union-attr]

    twice = [*others, under(loud, "one name"), under(loud, "another")]
    moved = float((total(twice) - total(others)).norm())
    bound = step.mechanism.clipping_norm * (1 if unit != "window" else study.windows.per_recording)

    assert 0.3 * step.mechanism.clipping_norm < moved <= bound * (1 + 1e-9)
    assert np.allclose(total(twice), total([*others, loud]))
