"""Made-up subjects that are asked for: as counted or as asked, and where in the distribution of a feature."""

import pytest
import torch

from fedsynth.anchors.asked import asked_shares, bent, moved, strata_picked

VALUES = {"age": ("young", "old"), "sex": ("F", "M")}
COUNTED = torch.tensor([[0.4, 0.1, 0.2, 0.3], [0.1, 0.1, 0.1, 0.7]], dtype=torch.float64)


def test_values_asked_for_have_their_weights_and_the_others_are_as_counted_among_them() -> None:
    found = asked_shares(COUNTED, VALUES, {"sex": {"F": 3, "M": 1}})

    assert found[0].tolist() == pytest.approx([0.75 * 2 / 3, 0.25 * 0.25, 0.75 / 3, 0.25 * 0.75])
    assert found.sum(dim=1).tolist() == pytest.approx([1, 1])


def test_one_combination_can_be_asked_for_alone() -> None:
    found = asked_shares(COUNTED, VALUES, {"age": {"old": 1}, "sex": {"F": 2}})

    assert found.tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]]


def test_nothing_asked_is_what_was_counted() -> None:
    assert torch.allclose(asked_shares(COUNTED, VALUES, {}), COUNTED)


def test_bent_numbers_pick_what_was_asked_for_among_shares_as_counted() -> None:
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    asked = asked_shares(COUNTED, VALUES, {"sex": {"F": 3, "M": 1}})[0]

    found = strata_picked(bent(normal, counted=COUNTED[0], asked=asked), COUNTED[0])
    shares = torch.bincount(found, minlength=4) / len(found)

    assert shares.tolist() == pytest.approx(asked.tolist(), abs=0.01)
    assert torch.equal(found, strata_picked(normal, asked))


def test_the_smallest_shares_can_be_asked_for() -> None:
    counted = torch.full((100,), 1e-3, dtype=torch.float64)
    counted[0] = 1 - 99e-3

    for stratum in range(100):
        asked = torch.nn.functional.one_hot(torch.tensor(stratum), 100).to(torch.float64)
        found = strata_picked(bent(torch.randn(50), counted=counted, asked=asked), counted)

        assert set(found.tolist()) == {stratum}


def test_subjects_asked_for_lie_between_quantiles_along_directions_and_elsewhere_as_before() -> None:
    normal = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([[1.0, 0, 0, 0, 0], [0.6, 0.8, 0, 0, 0]], dtype=torch.float64)

    found = moved(normal, rows, between=[(0.9, 0.9), (0.0, 1.0)]).to(torch.float64)

    assert (found @ rows[0]).tolist() == pytest.approx([1.2816] * len(found), abs=1e-3)
    before = (normal.to(torch.float64) @ rows[1]).clamp(-3.719, 3.719)  # the outermost quantiles that are drawn
    assert (found @ rows[1]).tolist() == pytest.approx(before.tolist(), abs=1e-3)
    assert torch.allclose(found[:, 2:], normal[:, 2:].to(torch.float64), atol=1e-5)


def test_between_two_quantiles_subjects_are_as_many_as_everywhere() -> None:
    normal = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)

    along = moved(normal, rows, between=[(0.5, 1.0)])[:, 1]

    assert float(along.min()) >= -1e-3
    assert float(along.median()) == pytest.approx(0.6745, abs=0.03)  # the third quartile


def test_along_a_direction_in_which_subjects_do_not_differ_nothing_moves() -> None:
    normal = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))

    assert torch.equal(moved(normal, torch.zeros(1, 3, dtype=torch.float64), between=[(0.9, 1.0)]), normal)
