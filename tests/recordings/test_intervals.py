"""Intervals and events: a window with a label lies where the annotation says, to the sample."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import RecordingError, StudyError
from fedsynth.recording_plan import BeforePlan, LabelPlan
from fedsynth.recordings.intervals import events_of, stretches_of, windows_in
from fedsynth.recordings.recording import DOUBTFUL, Mark, Recording, Stretch
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Study, parse_study

NAMES = ("normal", "preictal", "ictal")


def plan(**more: object) -> LabelPlan:
    given: dict[str, object] = {"names": NAMES, "source": "intervals", "positive": "ictal", "background": "normal"}
    given |= {"before": {"preictal": BeforePlan(of="ictal", seconds=20.0)}, "rename": {"seizure": "ictal"}}
    return LabelPlan.model_validate(given | more)


def shown(stretches: tuple[Stretch, ...]) -> list[tuple[int, int, str]]:
    return [(one.start, one.stop, NAMES[one.label]) for one in stretches]


@pytest.mark.parametrize(
    ("marks", "more", "expected"),
    [
        pytest.param([], {}, [(0, 1000, "normal")], id="nothing"),
        pytest.param(
            [Mark(500, 0, "seizure"), Mark(800, 50, "ictal")],
            {},
            [(0, 300, "normal"), (300, 500, "preictal"), (800, 850, "ictal")],
            id="a seizure of which only the onset is known",
        ),
        pytest.param([Mark(500, 0, "normal")], {}, [(0, 1000, "normal")], id="a point of the background"),
        pytest.param(
            [Mark(500, 100, "seizure")],
            {},
            [(0, 300, "normal"), (300, 500, "preictal"), (500, 600, "ictal"), (600, 1000, "normal")],
            id="before, in and after",
        ),
        pytest.param(
            [Mark(500, 100, "seizure")],
            {"gap_seconds": 15.0},
            [(0, 150, "normal"), (300, 500, "preictal"), (500, 600, "ictal"), (750, 1000, "normal")],
            id="normal keeps its distance",
        ),
        pytest.param(
            [Mark(500, 100, "seizure")],
            {"before": {"preictal": BeforePlan(of="ictal", seconds=20.0, gap_seconds=5.0)}},
            [(0, 300, "normal"), (300, 450, "preictal"), (500, 600, "ictal"), (600, 1000, "normal")],
            id="preictal ends before the onset",
        ),
        pytest.param(
            [Mark(100, 100, "seizure"), Mark(300, 100, "ictal")],
            {},
            [(0, 100, "preictal"), (100, 200, "ictal"), (200, 300, "preictal"), (300, 400, "ictal"),
             (400, 1000, "normal")],
            id="two seizures, the first near the beginning",
        ),
        pytest.param(
            [Mark(500, 100, "seizure")], {"background": None}, [(300, 500, "preictal"), (500, 600, "ictal")],
            id="no background",
        ),
        pytest.param(
            [Mark(400, 200, "seizure"), Mark(500, 200, "normal")],
            {"before": {}},
            [(0, 400, "normal"), (400, 500, "ictal"), (600, 1000, "normal")],
            id="where two labels overlap nobody knows",
        ),
        pytest.param(
            [Mark(400, 200, "seizure"), Mark(500, 50, "movement")],
            {"before": {}, "others": "leave out"},
            [(0, 400, "normal"), (400, 500, "ictal"), (550, 600, "ictal"), (600, 1000, "normal")],
            id="what is left out takes its part away",
        ),
        pytest.param(
            [Mark(400, None, DOUBTFUL)], {"before": {}}, [(0, 400, "normal")], id="a doubtful end labels nothing"
        ),
        pytest.param(
            [Mark(0, None, "normal"), Mark(300, None, "ictal"), Mark(900, None, "normal")],
            {"before": {}, "background": None},
            [(0, 300, "normal"), (300, 900, "ictal"), (900, 1000, "normal")],
            id="rhythms last until the next",
        ),
        pytest.param(
            [Mark(-50, 100, "seizure"), Mark(990, 100, "seizure"), Mark(2000, 10, "seizure")],
            {"before": {}},
            [(0, 50, "ictal"), (50, 990, "normal"), (990, 1000, "ictal")],
            id="beyond the ends",
        ),
    ],
)  # fmt: skip
def test_annotations_become_stretches(
    marks: list[Mark], more: dict[str, object], expected: list[tuple[int, int, str]]
) -> None:
    assert shown(stretches_of(marks, plan(**more), n_times=1000, sfreq=10.0)) == expected


def test_a_text_that_is_none_of_the_studys_is_refused_without_repeating_it() -> None:
    with pytest.raises(RecordingError, match="not one of the study's names") as refusal:
        stretches_of([Mark(1, 1, "Canarywolf")], plan(), n_times=10, sfreq=1.0)

    assert "wolf" not in str(refusal.value)


marks_drawn = st.lists(
    st.builds(
        Mark, st.integers(-50, 1100), st.one_of(st.none(), st.integers(0, 400)), st.sampled_from(["seizure", "x"])
    ),
    max_size=6,
).map(lambda marks: sorted(marks, key=lambda mark: mark.start))


@settings(deadline=None)
@given(marks=marks_drawn, gap=st.integers(0, 20), n_times=st.integers(3, 90), at_most=st.integers(1, 9))
def test_every_window_lies_inside_its_annotation_to_the_sample(
    marks: list[Mark], gap: int, n_times: int, at_most: int
) -> None:
    labels = plan(others="leave out", gap_seconds=float(gap))
    stretches = stretches_of(marks, labels, n_times=1000, sfreq=10.0)

    starts, found = windows_in(stretches, n_times=n_times, at_most=at_most)

    opened = sorted(mark.start for mark in marks if mark.n_times is None)
    ends = [
        next((s for s in opened if s > mark.start), 1000) if mark.n_times is None else mark.start + mark.n_times
        for mark in marks
    ]
    fits = np.zeros(1000, bool)
    others = np.zeros(1000, bool)
    for mark, end in zip(marks, ends, strict=True):
        (fits if mark.text == "seizure" else others)[max(0, mark.start) : max(0, end)] = True
    for start, label in zip(starts.tolist(), found.tolist(), strict=True):
        window = slice(start, start + n_times)
        assert start + n_times <= 1000
        assert not others[window].any()
        if NAMES[label] == "ictal":
            assert fits[window].all()
        else:
            assert not fits[window].any()
        near = slice(max(0, start - 10 * gap), start + n_times + 10 * gap)
        if NAMES[label] == "normal":
            assert not fits[near].any()
            assert not others[near].any()
    for label in range(3):
        mine = starts[found == label]
        assert len(mine) <= at_most
        assert (np.diff(mine) >= n_times).all()


def test_events_are_where_a_window_begins_after_its_offset() -> None:
    labels = LabelPlan(names=("target", "standard"), source="events", positive="target", offset_seconds=-0.2)

    beats = events_of(
        [Mark(300, 0, "standard"), Mark(100, 50, "target")], labels, n_times=1000, sfreq=100.0, window=64
    )

    assert (beats.samples - 32).tolist() == [80, 280]
    assert beats.labels.tolist() == [0, 1]


STUDY = parse_study("""
name = "small"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3"]
recorded_sfreq = 200.0
sfreq = 100.0
range_uv = 100000.0
[windows]
n_times = 64
per_recording = 30
artefacts = "keep"
[labels]
names = ["normal", "preictal", "ictal"]
source = "intervals"
background = "normal"
positive = "ictal"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[family]
name = "cwgan"
""")


def burst(study: Study, start: int, stop: int, *, subject: str, seed: int = 0) -> Recording:
    """Quiet noise with a loud stretch, which is labelled as ictal."""
    signal = np.random.default_rng(seed).normal(0, 1, (1, 6000)).astype(np.float32)
    signal[:, start:stop] += 1000 * np.sin(2 * np.pi * 20 * np.arange(stop - start) / 200)
    stretches = stretches_of([Mark(start, stop - start, "ictal")], study.labels, n_times=6000, sfreq=200.0)
    return Recording(signal, 200.0, ("C3",), subject, "", f"{subject}{seed}", None, (), stretches)


@pytest.mark.parametrize(("start", "stop"), [(2000, 3000), (2001, 3001), (1999, 2200), (0, 700), (5301, 6000)])
def test_windows_labelled_ictal_hold_the_burst_and_others_do_not(start: int, stop: int) -> None:
    windows = windows_of([burst(STUDY, start, stop, subject="a")], study=STUDY)

    power = (windows.signal[:, 0].astype(float) ** 2).mean(axis=1)
    middle = windows.labels == 2
    assert middle.sum() == ((stop // 2) - -(-start // 2)) // 64
    assert power[middle].min() > 3e5  # a sine of 1000 uV has 5e5, less what the filter takes at its ends
    assert np.median(power[~middle]) < 100


def test_no_sample_of_one_person_enters_anothers_window(caplog: pytest.LogCaptureFixture) -> None:
    loud, quiet = burst(STUDY, 2000, 3000, subject="a", seed=1), burst(STUDY, 100, 900, subject="b", seed=2)
    alone = windows_of([quiet], study=STUDY)
    changed = burst(STUDY, 10, 5000, subject="a", seed=3)

    with caplog.at_level(logging.WARNING):
        for first in (loud, changed):
            both = windows_of([first, quiet], study=STUDY)
            np.testing.assert_array_equal(both.signal[both.subjects == 1], alone.signal)
            np.testing.assert_array_equal(both.labels[both.subjects == 1], alone.labels)


@pytest.mark.parametrize(
    ("labels", "fragment"),
    [
        ('background = "calm"', "names a label that is not one of names"),
        ('source = "events"\nbackground = "normal"', "need source"),
        ("offset_seconds = 1.0", 'offset_seconds needs source = "events"'),
        ('before = { ictal = { of = "storm", seconds = 3 } }', "names a label that is not one of names"),
    ],
)
def test_a_study_that_contradicts_itself_about_intervals_is_refused(labels: str, fragment: str) -> None:
    base = """
name = "small"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3"]
sfreq = 100.0
[windows]
n_times = 64
[labels]
names = ["normal", "ictal"]
SOURCE
positive = "ictal"
LABELS
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[family]
name = "cwgan"
"""
    source = "" if "source" in labels else 'source = "intervals"'
    with pytest.raises(StudyError, match=fragment):
        parse_study(base.replace("SOURCE", source).replace("LABELS", labels))
