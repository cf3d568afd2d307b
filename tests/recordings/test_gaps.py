"""Gaps: no window and no filter crosses one, and what annotations say lands on the right sample behind one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import RecordingError
from fedsynth.recordings.gaps import elapsed_length, parts, split, stored_beats, stored_stretches
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Beats, Gap, Recording, Stretch
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Study, parse_study

SFREQ = 100
STUDY = """
name = "small"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3"]
sfreq = 100.0
[windows]
n_times = 100
per_recording = 9
artefacts = "keep"
[labels]
names = ["rest", "task"]
source = "SOURCE"
others = "leave out"
positive = "task"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[cohort]
least_subjects = 1
[family]
name = "cwgan"
"""


def study(source: str, more: str = "") -> Study:
    return parse_study(STUDY.replace("SOURCE", source).replace('positive = "task"', f'positive = "task"\n{more}'))


Note = tuple[float, float, str]


def interrupted(folder: Path, signal: np.ndarray, onsets: Sequence[float], notes: Sequence[Note] = ()) -> Path:
    """Write an EDF+D file whose data records of a second begin at `onsets`, by moving the stamps of a whole one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sub-a_eeg.edf"
    spare = [edfio.EdfAnnotation(0, None, "x" * 30)] * len(onsets)
    edfio.Edf(
        [edfio.EdfSignal(signal, SFREQ, label="C3", physical_dimension="uV", physical_range=(-500, 500))],
        annotations=spare,
    ).write(path)
    data = bytearray(path.read_bytes())
    data[192:197] = b"EDF+D"
    head = int(data[184:192])
    width = (len(data) - head) // len(onsets)
    for record, onset in enumerate(onsets):
        place = head + record * width + 2 * SFREQ
        room = head + (record + 1) * width - place
        text = f"+{onset:g}\x14\x14\0"
        if record == 0:
            text += "".join(f"+{a:g}\x15{b:g}\x14{c}\x14\0" for a, b, c in notes)
        assert len(text) <= room
        data[place : place + room] = text.encode().ljust(room, b"\0")
    path.write_bytes(bytes(data))
    return folder


def noise(seconds: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 30, SFREQ * seconds).clip(-499, 499)


ONSETS = [0, 1, 2, 3, 10.25, 11.25, 12.25, 13.25, 14.25, 15.25]


def test_windows_of_a_file_with_a_gap_are_those_of_its_two_halves(tmp_path: Path) -> None:
    signal = noise(10)
    (tmp_path / "participants.tsv").write_text("participant_id\tgroup\nsub-a\ttask\n")
    plan = study("participants.tsv")
    halves = []
    for name, seconds in (("one", slice(0, 400)), ("two", slice(400, 1000))):
        folder = interrupted(tmp_path / name, signal[seconds], range((seconds.stop - seconds.start) // 100))
        (folder / "participants.tsv").write_text("participant_id\tgroup\nsub-a\ttask\n")
        halves += read_site(folder, site="north", study=plan)
    folder = interrupted(tmp_path / "whole", signal, ONSETS)
    (folder / "participants.tsv").write_text("participant_id\tgroup\nsub-a\ttask\n")

    [whole] = read_site(folder, site="north", study=plan)

    assert whole.gaps == (Gap(400, 625),)
    expected = np.concatenate([windows_of([half], study=study("participants.tsv")).signal for half in halves])
    found = windows_of([whole], study=plan)
    assert len(expected) == 10
    assert len(found.signal) == 9  # at most nine of a recording, over both halves
    for window in found.signal:
        assert np.abs(expected - window).max(axis=(1, 2)).min() == 0
    assert set(found.recordings.tolist()) == {0}


def test_events_behind_a_gap_are_on_the_right_sample_and_none_is_cut_across_it(tmp_path: Path) -> None:
    signal = noise(10)
    notes = [(1.5, 0, "task"), (3.5, 0, "task"), (5, 0, "task"), (10.3, 0, "rest"), (12.75, 0, "task")]
    folder = interrupted(tmp_path / "in", signal, ONSETS, notes)

    [one] = read_site(folder, site="north", study=study("events"))

    assert one.beats is not None
    # 12.75 s is 2.5 s behind the beginning of the second half, which is sample 400.
    assert [(int(s) - 50, int(x)) for s, x in zip(one.beats.samples, one.beats.labels, strict=True)] == [
        (150, 1), (405, 0), (650, 1),
    ]  # fmt: skip
    windows = windows_of([one], study=study("events"))
    assert windows.labels.tolist() == [1, 0, 1]
    alone = Recording(signal[None, 400:].astype(np.float32), 100.0, ("C3",), "a", "task", "x")
    np.testing.assert_allclose(
        windows.signal[1:, 0],
        [windows_of([with_beat(alone, 55)], study=study("events")).signal[0, 0],
         windows_of([with_beat(alone, 300)], study=study("events")).signal[0, 0]],
        atol=0.05,
    )  # fmt: skip


def with_beat(recording: Recording, sample: int) -> Recording:
    return replace(recording, label="", beats=Beats(np.array([sample]), np.array([1])))


def test_intervals_and_what_stands_before_them_count_the_time_that_is_missing(tmp_path: Path) -> None:
    signal = noise(10)
    folder = interrupted(tmp_path / "in", signal, ONSETS, [(11, 2, "task")])
    plan = study("intervals", 'before = { rest = { of = "task", seconds = 8.5 } }')

    [one] = read_site(folder, site="north", study=plan)

    # Eight and a half seconds before 11 s is 2.5 s, in the first half.
    assert one.stretches == (Stretch(250, 400, 0), Stretch(400, 475, 0), Stretch(475, 675, 1))
    windows = windows_of([one], study=plan)
    assert windows.labels.tolist() == [0, 1, 1]


gaps_drawn = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 500)), max_size=4).map(
    lambda pairs: tuple(
        Gap(sum(first for first, _ in pairs[: i + 1]), missing) for i, (_, missing) in enumerate(pairs)
    )
)


@settings(deadline=None)
@given(gaps=gaps_drawn, rest=st.integers(1, 50), data=st.data())
def test_every_stored_sample_has_one_place_in_time(gaps: tuple[Gap, ...], rest: int, data: st.DataObject) -> None:
    n_times = (gaps[-1].start if gaps else 0) + rest
    elapsed = elapsed_length(n_times, gaps)
    held = np.full(elapsed, -1)
    places = [i + sum(gap.n_times for gap in gaps if gap.start <= i) for i in range(n_times)]
    held[places] = np.arange(n_times)

    beats = stored_beats(Beats(np.arange(elapsed), np.arange(elapsed)), n_times=n_times, gaps=gaps)

    assert [places[i] for i in beats.samples] == beats.labels.tolist()
    assert len(beats.samples) == n_times
    first = data.draw(st.integers(0, elapsed - 1))
    last = data.draw(st.integers(first + 1, elapsed))
    stretches = stored_stretches([Stretch(first, last, 3)], n_times=n_times, gaps=gaps)
    covered = [i for one in stretches for i in range(one.start, one.stop)]
    assert covered == [int(i) for i in held[first:last] if i >= 0]
    bounds = parts(n_times, gaps)
    assert all(any(a <= one.start and one.stop <= b for a, b in bounds) for one in stretches)


@pytest.mark.parametrize("at_least", [1, 3, 6])
def test_a_recording_is_split_at_its_gaps_with_all_that_belongs_to_each_part(at_least: int) -> None:
    whole = Recording(
        np.arange(10, dtype=np.float32)[None], 1.0, ("C3",), "a", "", "x",
        beats=Beats(np.array([2, 3, 9]), np.array([0, 1, 0])), stretches=(Stretch(1, 6, 1),),
        gaps=(Gap(3, 50), Gap(8, 0)),
    )  # fmt: skip

    found = split(whole, at_least=at_least)

    lengths = [3, 5, 2]
    kept = [n for n in lengths if n >= at_least]
    assert [one.signal.shape[1] for one in found] == kept
    assert all(one.gaps == () for one in found)
    if at_least == 1:
        assert [one.beats.samples.tolist() for one in found if one.beats] == [[2], [0], [1]]
        assert [one.stretches for one in found] == [(Stretch(1, 3, 1),), (Stretch(0, 3, 1),), ()]


def test_a_recording_whose_parts_are_all_too_short_is_refused(tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "in", noise(4), [0, 3, 6, 9])
    (folder / "participants.tsv").write_text("participant_id\tgroup\nsub-a\ttask\n")
    text = STUDY.replace("n_times = 100", "n_times = 101").replace("SOURCE", "participants.tsv")
    with pytest.raises(RecordingError, match="too short: 100 samples of 400 between gaps"):
        read_site(folder, site="north", study=parse_study(text))


def test_beats_of_a_record_with_a_gap_are_counted_with_it(
    tmp_path: Path, put_record: Callable[..., Path], annotated: Callable[..., bytes]
) -> None:
    rng = np.random.default_rng(2)
    for number, n_times in ((1, 300), (2, 400)):
        wave = (rng.normal(0, 300, (1, n_times))).astype(int).tolist()
        put_record(tmp_path, f"s_{number}", wave, labels=("C3",), sfreq="100")
    (tmp_path / "a.hea").write_text("a/3 1 100 750\ns_1 300\n~ 50\ns_2 400\n")
    (tmp_path / "a.atr").write_bytes(annotated([(100, 1), (320, 5), (450, 5)]))
    text = STUDY.replace("SOURCE", "beats").replace('"edf"', '"wfdb"').replace('"eeg"', '"ecg"')
    text = text.replace('others = "leave out"', 'rename = { N = "rest", V = "task" }')
    (tmp_path / "recordings.toml").write_text('files = ["a.hea"]\nperson = { path = "(a)" }\n')

    [one] = read_site(tmp_path, site="north", study=parse_study(text))

    assert one.gaps == (Gap(300, 50),)
    assert one.beats is not None
    assert one.beats.samples.tolist() == [100, 400]
