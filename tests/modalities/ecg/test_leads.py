"""ECG leads: Einthoven's identities, the dipole and back, and unknown names."""

import numpy as np
import pytest
import torch

from fedsynth.modalities.ecg.leads import axes_of, keep_identities, lead_name, lead_vector

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
