"""What public facts allow to be asked."""

import math
from typing import Any

from fedsynth.modalities.affordable import asks_every_lead, expected_noise
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import shape_of
from fedsynth.study import Study, parse_study

TWELVE = '["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]'


def ecg(text: str, **privacy: Any) -> Study:
    """Return the tiny study as one of twelve-lead ECG, with other people and another promise."""
    study = parse_study(
        text.replace('"eeg"', '"ecg"').replace('format = "edf"', 'format = "wfdb"').replace('["C3", "C4"]', TWELVE)
    )
    units = privacy.pop("expected_units", study.cohort.expected_units)
    return study.model_copy(
        update={
            "privacy": study.privacy.model_copy(update=privacy),
            "cohort": study.cohort.model_copy(update={"expected_units": units}),
        }
    )


def test_without_privacy_every_lead_is_asked_for(tiny: Study, tiny_text: str) -> None:
    free = ecg(tiny_text, epsilon=math.inf, trust="site")

    assert expected_noise(free) == 0.0
    assert asks_every_lead(free)
    assert not asks_every_lead(tiny.model_copy(update={"privacy": free.privacy}))
    assert codec_of(shape_of(free)).n_features > 2.5 * codec_of(shape_of(ecg(tiny_text))).n_features


def test_few_people_with_a_promise_are_asked_for_the_dipole_and_many_for_every_lead(tiny_text: str) -> None:
    few, many = (ecg(tiny_text, epsilon=8.0, trust="aggregate", expected_units=units) for units in (100, 5000))

    assert not asks_every_lead(few)
    assert asks_every_lead(many)
    assert shape_of(many).every_lead
