"""References on constants, whose differences are seen."""

import numpy as np
import pytest

from fedsynth.recording_plan import SignalPlan
from fedsynth.recordings.reference import derivation, derive, recorded_channels

LEVELS = {"Fp1": 40.0, "F7": 25.0, "T3": 7.0, "A1": 4.0, "A2": 2.0}


def plan(reference: str, *channels: str) -> SignalPlan:
    return SignalPlan.model_validate(
        {"modality": "eeg", "format": "edf", "channels": channels, "sfreq": 128.0, "reference": reference}
    )


@pytest.mark.parametrize(
    ("reference", "channels", "levels"),
    [
        pytest.param("as recorded", ("Fp1", "F7"), [40.0, 25.0], id="as recorded"),
        pytest.param("average", ("Fp1", "F7", "T3"), [16.0, 1.0, -17.0], id="the mean of three is 24"),
        pytest.param("linked ears", ("Fp1", "T3"), [37.0, 4.0], id="the mean of both ears is 3"),
        pytest.param("bipolar", ("Fp1-F7", "F7-T3"), [15.0, 18.0], id="one electrode less the next"),
    ],
)
def test_a_channel_is_the_difference_of_two_places(
    reference: str, channels: tuple[str, ...], levels: list[float]
) -> None:
    study = plan(reference, *channels)
    recorded = recorded_channels(study)
    signal = np.array([[LEVELS[name]] * 3 for name in recorded], dtype=np.float32)

    derived = derive(signal, derivation(study, recorded))

    np.testing.assert_allclose(derived, np.array([[level] * 3 for level in levels]), atol=1e-5)


@pytest.mark.parametrize(
    ("reference", "channels", "said"),
    [
        pytest.param("bipolar", ("Fp1-F7", "Cz"), "two places", id="one place"),
        pytest.param("bipolar", ("Fp1-Fp1",), "two places", id="a place less itself"),
        pytest.param("average", ("Cz",), "at least two", id="the mean of one is that one"),
        pytest.param("linked ears", ("Cz", "A1"), "no channels of the study", id="an ear"),
    ],
)
def test_a_reference_that_cannot_be_is_refused(reference: str, channels: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(reference, *channels)
