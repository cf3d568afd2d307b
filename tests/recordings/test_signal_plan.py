"""What a study may say about signals and labels, and what is refused in a sentence."""

import pytest

from fedsynth.errors import StudyError
from fedsynth.study import parse_study, rate_ratio

STUDY = """
name = "small"
[signal]
modality = "ecg"
format = "wfdb"
channels = ["I"]
sfreq = 100.0
recorded_sfreq = 300.0
[windows]
n_times = 100
[labels]
names = ["N", "V"]
source = "beats"
positive = "V"
[privacy]
unit = "window"
epsilon = 1.0
delta = 1e-5
[family]
name = "cwgan"
"""


def test_recordings_have_the_rate_of_the_windows_unless_the_study_says_otherwise() -> None:
    told = parse_study(STUDY).signal
    silent = parse_study(STUDY.replace("recorded_sfreq = 300.0", "")).signal

    assert (told.rate_as_recorded, told.resampling) == (300.0, (1, 3))
    assert (silent.rate_as_recorded, silent.resampling) == (100.0, (1, 1))


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [(300.0, 100.0, (1, 3)), (360.0, 180.0, (1, 2)), (173.61, 100.0, (10_000, 17_361)), (250.0, 512.0, (256, 125))],
)
def test_the_ratio_of_two_rates_is_exact_and_in_lowest_terms(
    before: float, after: float, ratio: tuple[int, int]
) -> None:
    assert rate_ratio(before, after) == ratio


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        pytest.param("300.0", "70.0", "must lie inside 0 to 35 Hz", id="band beyond half of the recorded rate"),
        pytest.param("300.0", "299.9999999", "have no ratio of whole numbers up to 100000", id="no ratio"),
        pytest.param("300.0", "10.0", "'signal.recorded_sfreq'", id="recorded rate too low"),
        pytest.param('"wfdb"', '"edf"', 'labels.source = "beats" needs signal.format = "wfdb"', id="beats of EDF"),
        pytest.param('modality = "ecg"', 'modality = "emg"', "'signal.modality'", id="unknown modality"),
        pytest.param("sfreq = 100.0", 'sfreq = 100.0\nmissing = "fill"', "'signal.missing'", id="unknown remedy"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(old: str, new: str, fragment: str) -> None:
    assert STUDY.count(old) == 1 or old == "sfreq = 100.0"

    with pytest.raises(StudyError) as refusal:
        parse_study(STUDY.replace(old, new, 1))

    assert fragment in str(refusal.value)
