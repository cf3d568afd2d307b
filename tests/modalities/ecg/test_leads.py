"""ECG leads: Einthoven's identities, the dipole and back, and unknown names."""

import numpy as np
import pytest
import torch

from fedsynth.modalities.ecg.leads import axes_of, keep_identities, lead_name, lead_vector, within_range

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.mark.parametrize(
    ("channel", "name"),
    [("MLII", "II"), ("aVF", "AVF"), ("ECG", ""), ("ECG V2", "V2"), ("MLIII", "III"), ("Fp1", "FP1")],
)
def test_monitors_names_are_understood(channel: str, name: str) -> None:
    assert lead_name(channel) == name


def test_limb_leads_are_differences_of_three_electrodes() -> None:
    """Potentials of the arms and the left leg, written down independently of I and II."""
    right, left, foot = 0.3, -1.1, 2.0
    signal = torch.zeros(1, 12, 1)
    signal[0, :2, 0] = torch.tensor([left - right, foot - right])

    kept = keep_identities(signal, TWELVE)[0, :6, 0]

    expected = [
        left - right,
        foot - right,
        foot - left,
        right - (left + foot) / 2,
        left - (right + foot) / 2,
        foot - (right + left) / 2,
    ]
    assert np.allclose(kept, expected, atol=1e-6)


def test_a_dipole_survives_the_way_to_twelve_leads_and_back() -> None:
    dipole = torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(0))
    axes = axes_of(TWELVE)

    leads = torch.einsum("ca,wat->wct", axes.spread, dipole)
    back = torch.einsum("ac,wct->wat", axes.read, leads)

    assert torch.allclose(back, dipole, atol=1e-5)
    assert torch.allclose(keep_identities(leads, TWELVE), leads, atol=1e-5)


def test_the_order_of_channels_does_not_matter() -> None:
    order = [7, 0, 11, 3, 1, 10, 2, 9, 4, 8, 5, 6]
    shuffled = tuple(TWELVE[place] for place in order)

    assert torch.allclose(axes_of(shuffled).spread, axes_of(TWELVE).spread[order], atol=1e-6)


def test_unknown_leads_share_their_mean() -> None:
    axes = axes_of(("a", "b", "c", "d", "e"))

    assert torch.allclose(axes.read, torch.full((1, 5), 0.2))
    assert axes.vectors is None
    assert lead_vector("a") is None


def test_leads_in_one_plane_do_not_pretend_to_know_the_third_axis() -> None:
    limb_only = axes_of(("I", "II", "III", "aVR"))

    assert limb_only.read.shape == (1, 4)


def electrodes(right: torch.Tensor, left: torch.Tensor, foot: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the six limb leads from the potentials of both arms and the left leg."""
    return {
        "I": left - right,
        "II": foot - right,
        "III": foot - left,
        "aVR": right - (left + foot) / 2,
        "aVL": left - (right + foot) / 2,
        "aVF": foot - (right + left) / 2,
    }


@pytest.mark.parametrize(
    "channels",
    [
        pytest.param(TWELVE, id="twelve"),
        pytest.param(("III", "aVF", "I"), id="without II"),
        pytest.param(("aVL", "V1", "aVR", "aVF"), id="augmented leads alone"),
        pytest.param(("MLII", "II", "I"), id="a lead twice"),
    ],
)
def test_leads_brought_into_range_are_still_those_of_three_electrodes(channels: tuple[str, ...]) -> None:
    potentials = 800 * torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(1))
    leads = electrodes(*potentials)
    chest = torch.full((20, 50), -3000.0)
    signal = torch.stack([leads.get(name.removeprefix("ML"), chest) for name in channels], dim=1)
    assert (signal.abs() > 1000).any()

    found = within_range(signal, channels, 1000.0)

    assert found.abs().max() <= 1000.0
    kept = keep_identities(found, channels)
    assert torch.equal(kept, found)
    for place, name in enumerate(channels):
        if name.startswith("V"):
            assert (found[:, place] == -1000.0).all()
            continue
        # Every limb lead is the same fraction of what it was.
        share = found[:, place] / signal[:, place]
        first = next(spot for spot, other in enumerate(channels) if not other.startswith("V"))
        assert torch.allclose(share, found[:, first] / signal[:, first], rtol=1e-3)
    quiet = (signal.abs() < 999).all(dim=1, keepdim=True).expand_as(signal)
    assert torch.allclose(found[quiet], signal[quiet], atol=1e-3)


def test_leads_that_follow_from_nothing_are_cut_one_by_one() -> None:
    signal = torch.tensor([[[5.0, -1.0], [2.0, -9.0]]])

    assert within_range(signal, ("I", "II"), 3.0).tolist() == [[[3.0, -1.0], [2.0, -3.0]]]
    assert within_range(signal, ("aVR", "V1"), 3.0).tolist() == [[[3.0, -1.0], [2.0, -3.0]]]


def test_what_overflowed_is_brought_into_range_as_a_number() -> None:
    signal = torch.full((1, 12, 3), float("inf"))
    signal[0, 1] = -float("inf")

    found = within_range(signal, TWELVE, 5000.0)

    assert torch.isfinite(found).all()
    assert found.abs().max() <= 5000.0


def test_every_lead_survives_the_way_there_and_back() -> None:
    """Of twelve leads eight were measured; the others follow from I and II."""
    axes = axes_of(TWELVE, every_lead=True)
    measured = torch.randn(4, 8, 50, generator=torch.Generator().manual_seed(0))

    leads = torch.einsum("ca,wat->wct", axes.spread, measured)

    assert axes.number == 8
    assert torch.allclose(leads[:, [0, 1, *range(6, 12)]], measured, atol=1e-5)
    assert torch.allclose(torch.einsum("ac,wct->wat", axes.read, leads), measured, atol=1e-4)
    assert torch.allclose(keep_identities(leads, TWELVE), leads, atol=1e-5)
    assert axes.vectors is not None
    assert axes.vectors[0].tolist() == pytest.approx(lead_vector("I"))


def test_few_or_unknown_leads_are_what_they_were() -> None:
    for channels in (("I", "V1"), ("a", "b", "c", "d", "e")):
        assert torch.equal(axes_of(channels, every_lead=True).spread, axes_of(channels).spread)
