"""Electrode names and places, compared with MNE's template head."""

import math

import mne
import numpy as np
import pytest

from fedsynth.montage import canonical_channel, scalp_position

TEN_TWENTY = (
    *("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8"),
    *("O1", "O2", "T3", "T4", "T5", "T6"),
)
TEN_TEN = (
    *("Fpz", "AF3", "AF8", "F1", "F6", "FC5", "FC2", "FT7", "FT10", "C1", "C6", "T9", "TP7", "TP8", "CP1", "CPz"),
    *("P5", "P10", "PO3", "POz", "PO8", "Oz", "Iz", "I1"),
)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        pytest.param("EEG Fp1", "Fp1", id="the prefix of EDF+"),
        pytest.param("EEG FP1-Ref", "Fp1", id="capitals and a reference"),
        pytest.param("eeg fp1-le", "Fp1", id="small letters, linked ears"),
        pytest.param("EEG C3-REF", "C3", id="reference in capitals"),
        pytest.param("Fc5.", "FC5", id="one dot"),
        pytest.param("Cz..", "Cz", id="two dots"),
        pytest.param(" CPZ ", "CPz", id="blanks"),
        pytest.param("T3", "T7", id="T3 is T7"),
        pytest.param("EEG T4-LE", "T8", id="T4 is T8"),
        pytest.param("t5", "P7", id="T5 is P7"),
        pytest.param("T6", "P8", id="T6 is P8"),
        pytest.param("EEG", "EEG", id="a lone channel called EEG"),
        pytest.param("FP1-F7", "FP1-F7", id="a bipolar derivation stays one"),
        pytest.param("Status", "STATUS", id="anything else in capitals"),
    ],
)
def test_two_labels_of_one_channel_have_one_spelling(label: str, name: str) -> None:
    assert canonical_channel(label) == name
    assert canonical_channel(name) == name


@pytest.mark.parametrize("name", TEN_TWENTY + TEN_TEN)
def test_places_agree_with_the_template_head_of_mne(name: str) -> None:
    # MNE 1.14 gives the template another name.
    known = mne.channels.get_builtin_montages()
    template = "colin27_1005" if "colin27_1005" in known else "standard_1005"
    place = mne.channels.make_standard_montage(template).get_positions()["ch_pos"][name]

    cosine = np.dot(place, scalp_position(name)) / np.linalg.norm(place)

    assert math.degrees(math.acos(cosine)) < 15


@pytest.mark.parametrize("name", TEN_TWENTY + TEN_TEN)
def test_places_lie_on_the_unit_sphere(name: str) -> None:
    place = scalp_position(name)

    assert place is not None
    assert math.hypot(*place) == pytest.approx(1)


@pytest.mark.parametrize(
    ("left", "right"), [("Fp1", "Fp2"), ("C3", "C4"), ("T7", "T8"), ("PO9", "PO10"), ("I1", "I2")]
)
def test_odd_numbers_are_the_mirror_image_on_the_left(left: str, right: str) -> None:
    x, y, z = scalp_position(left) or (0, 0, 0)

    assert x < 0
    assert scalp_position(right) == (-x, y, z)


def test_the_vertex_is_on_top_and_the_forehead_in_front() -> None:
    assert scalp_position("Cz") == (0, 0, 1)
    assert scalp_position("fz")[1] > 0 > scalp_position("PZ")[1]  # type: ignore[index]


@pytest.mark.parametrize(
    "name", ["EEG", "A1", "M2", "EOG", "Fp3", "T1", "TPz", "C7", "FT3", "C11", "F1h", "C", "1", ""]
)
def test_a_name_outside_the_system_has_no_place(name: str) -> None:
    assert scalp_position(name) is None
