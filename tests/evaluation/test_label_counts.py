"""A label's private count says whether anybody stands behind it."""

import pytest
import torch

from fedsynth.evaluation.evidence import NOBODY, chance_level, says_nothing
from fedsynth.evaluation.label_counts import label_counts, labels_of_nobody


@pytest.mark.parametrize(
    ("count", "noise", "nobody"),
    [
        pytest.param(0.0, 0.0, True, id="nobody, exactly"),
        pytest.param(-7.0, 4.0, True, id="less than nobody"),
        pytest.param(7.8, 4.0, True, id="within the noise"),
        pytest.param(7.9, 4.0, False, id="beyond it"),
        pytest.param(1.0, 0.0, False, id="one, exactly"),
    ],
)
def test_a_label_within_the_noise_of_nobody_is_marked(count: float, noise: float, nobody: bool) -> None:
    counts = torch.tensor([100.0, count])

    scores = label_counts(counts, noise_std=noise, label_names=("rest", "AUROC"), unit="subject")

    assert labels_of_nobody(scores) == (("AUROC",) if nobody else ())
    assert says_nothing(scores[1], labels=2) == (NOBODY if nobody else "")
    assert chance_level(scores[1], labels=2) is None


def test_a_count_keeps_its_noise_and_names_its_unit() -> None:
    rest, task = label_counts(torch.tensor([3.0, -2.0]), noise_std=1.0, label_names=("a", "b"), unit="recording")

    assert rest.name == "recordings that trained with label a"
    assert (task.value, task.low, task.high) == (-2.0, pytest.approx(-3.96), pytest.approx(-0.04))
    assert (task.source, task.windows, task.direction) == ("private count", "", 0)
