"""Folders of WFDB records: labels by recording, beats, leads by name, and every bad one refused namelessly."""

import logging
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Study, parse_study

CANARY = "Canarywolf"
STUDY = """
name = "small"
[signal]
modality = "ecg"
format = "wfdb"
channels = ["II"]
recorded_sfreq = 200.0
sfreq = 100.0
bandpass = [0.5, 40.0]
range_uv = 5000.0
[windows]
n_times = 100
per_recording = 2
[labels]
names = ["normal", "noise"]
source = "recordings.tsv"
column = "rhythm"
rename = { N = "normal", "~" = "noise" }
positive = "noise"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[cohort]
least_subjects = 2
[family]
name = "cwgan"
"""
RHYTHMS = parse_study(STUDY)
BEATS = parse_study(
    STUDY.replace("recordings.tsv", "beats")
    .replace('["normal", "noise"]', '["N", "V"]')
    .replace('{ N = "normal", "~" = "noise" }', '{ L = "N" }')
    .replace('positive = "noise"', 'positive = "V"\nothers = "leave out"')
)
HEAD = "recording\tparticipant_id\trhythm"
Put = Callable[..., Path]
Annotated = Callable[[Sequence[tuple[int, int]]], bytes]


def rows(seed: int, *, n_times: int = 800) -> list[list[int]]:
    return np.random.default_rng(seed).normal(0, 100, size=(2, n_times)).astype(int).tolist()


def table(folder: Path, *lines: str) -> None:
    (folder / "recordings.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, put_record: Put, annotated: Annotated) -> Path:
    """Make a site of three records of two people; in the third, the leads stand the other way round."""
    folder = tmp_path / "north"
    places = [folder, folder / "more", folder]
    for number, (place, leads) in enumerate(zip(places, [("V1", "II"), ("V1", "II"), ("II", "V1")], strict=True)):
        header = put_record(
            place,
            f"{CANARY}_{number}",
            rows(number),
            labels=leads,
            form=212,
            sfreq="200",
            comment=f"# {CANARY}, 80 M",
        )
        marks = [(5, 1), (150, 28), (300, 2), (500, 5), (600, 8), (795, 1)]
        header.with_suffix(".atr").write_bytes(annotated(marks))
    table(folder, HEAD, f"{CANARY}_0\t{CANARY}a\tN", f"{CANARY}_1\t{CANARY}a\t~", f"{CANARY}_2\t{CANARY}b\tN")
    return folder


def test_a_record_has_the_label_and_the_person_of_its_row_and_the_lead_of_its_name(site: Path) -> None:
    recordings = read_site(site, site="north", study=RHYTHMS)

    assert [item.label for item in recordings] == ["normal", "normal", "noise"]  # "more/…" sorts last
    assert [item.subject[-1] for item in recordings] == ["a", "b", "a"]
    assert {(item.sfreq, item.channels) for item in recordings} == {(200.0, ("II",))}
    # 200 steps per millivolt: 5 uV each.
    assert recordings[0].signal.tolist() == [[5 * value for value in rows(0)[1]]]
    assert recordings[1].signal.tolist() == [[5 * value for value in rows(2)[0]]]
    assert len({item.digest for item in recordings}) == 3


def test_windows_have_the_rate_of_the_study(site: Path) -> None:
    windows = windows_of(read_site(site, site="north", study=RHYTHMS), study=RHYTHMS)

    assert windows.signal.shape == (6, 1, 100)
    assert windows.sfreq == 100.0
    assert windows.subjects.tolist() == [0, 0, 1, 1, 0, 0]


def test_beats_bear_the_labels_and_their_windows_stay_inside_the_recording(site: Path) -> None:
    recordings = read_site(site, site="north", study=BEATS)
    windows = windows_of(recordings, study=BEATS)

    beats = recordings[0].beats
    assert beats is not None
    assert (recordings[0].label, beats.samples.tolist()) == ("", [5, 300, 500, 795])
    assert beats.labels.tolist() == [0, 0, 1, 0]
    # At 100 Hz the beats stand at 2.5, 150, 250 and 397.5 of 400 samples, and a window takes 50 on either side.
    assert windows.labels.tolist() == [0, 1] * 3
    assert windows.recordings.tolist() == [0, 0, 1, 1, 2, 2]
    assert windows.subjects.tolist() == [0, 0, 1, 1, 0, 0]


def test_a_beat_of_another_class_is_refused_unless_the_study_leaves_it_out(site: Path) -> None:
    labels = BEATS.labels.model_copy(update={"others": "refuse"})

    with pytest.raises(RecordingError, match=r"not one of the study's names \(N, V\)"):
        read_site(site, site="north", study=BEATS.model_copy(update={"labels": labels}))


def test_a_record_without_a_beat_of_the_study_is_left_out(site: Path, annotated: Annotated) -> None:
    (site / f"{CANARY}_0.atr").write_bytes(annotated([(300, 8), (400, 28)]))

    assert len(read_site(site, site="north", study=BEATS)) == 2


def test_records_without_the_lead_are_left_out_where_the_study_says_so(
    site: Path, put_record: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put_record(site, f"{CANARY}_3", rows(9), labels=("V1", CANARY), form=212, sfreq="200")
    with (site / "recordings.tsv").open("a") as file:
        file.write(f"{CANARY}_3\t{CANARY}c\tN\n")
    signal = RHYTHMS.signal.model_copy(update={"missing": "leave out"})

    with pytest.raises(RecordingError, match=r"recording 3 of 4 .* channel 'II' of the study is missing"):
        read_site(site, site="north", study=RHYTHMS)
    with caplog.at_level(logging.WARNING):
        recordings = read_site(site, site="north", study=RHYTHMS.model_copy(update={"signal": signal}))

    assert len(recordings) == 3
    assert "1 of 4 recordings have no channel" in caplog.text
    assert CANARY not in caplog.text


def test_the_person_may_stand_in_the_name_and_the_label_in_participants_tsv(site: Path) -> None:
    (site / "participants.tsv").write_text(f"participant_id\trhythm\n{CANARY}\tN\n")
    labels = RHYTHMS.labels.model_copy(update={"source": "participants.tsv"})
    cohort = RHYTHMS.cohort.model_copy(update={"least_subjects": 1})

    recordings = read_site(
        site, site="north", study=RHYTHMS.model_copy(update={"labels": labels, "cohort": cohort})
    )

    assert {item.subject for item in recordings} == {CANARY}


def test_the_same_samples_under_another_header_have_the_same_digest(site: Path) -> None:
    before = read_site(site, site="north", study=RHYTHMS)
    header = site / f"{CANARY}_0.hea"
    header.write_text(header.read_text().replace("200(0)/mV", "100(0)/mV").replace(f"# {CANARY}", "# anonymous"))

    after = read_site(site, site="north", study=RHYTHMS)

    assert [item.digest for item in after] == [item.digest for item in before]
    np.testing.assert_array_equal(after[0].signal, 2 * before[0].signal)


def change(old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / f"{CANARY}_0.hea"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return spoil


def signal_file(do: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: do(folder / f"{CANARY}_0.dat") and None


def annotations(do: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: do(folder / f"{CANARY}_0.atr") and None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[1000] ^= 4
    path.write_bytes(bytes(data))


def twin(folder: Path) -> None:
    for suffix in (".hea", ".dat"):
        (folder / "more" / f"{CANARY}_0{suffix}").write_bytes((folder / f"{CANARY}_0{suffix}").read_bytes())


def queue(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


A, B, C = (f"{CANARY}_{n}\t{CANARY}{p}\tN" for n, p in ((0, "a"), (1, "a"), (2, "b")))
FIRST = "recording 1 of 3 (in name order)"
BAD: dict[str, tuple[Study, Callable[[Path], None], tuple[str, ...]]] = {
    "header empty": (RHYTHMS, lambda f: (f / f"{CANARY}_0.hea").write_bytes(b"") and None, (FIRST, "is empty")),
    "segments that are signals": (
        RHYTHMS,
        change(f"{CANARY}_0 2", f"{CANARY}_0/2 2"),
        (FIRST, "a segment of the record is not"),
    ),
    "path out of the folder": (
        RHYTHMS,
        change(f"{CANARY}_0.dat", f"../north/{CANARY}_0.dat"),
        (FIRST, "no other file is opened"),
    ),
    "no signal file": (RHYTHMS, signal_file(Path.unlink), (FIRST, "signal file that its header names is missing")),
    "a queue for a signal file": (RHYTHMS, signal_file(queue), (FIRST, "is missing beside it")),
    "truncated": (
        RHYTHMS,
        signal_file(lambda path: path.write_bytes(path.read_bytes()[:-2])),
        (FIRST, "is truncated: 800 samples of 2 signals in format 212 take 2400 bytes, and it holds 2398"),
    ),
    "longer": (
        RHYTHMS,
        signal_file(lambda path: path.write_bytes(path.read_bytes() + b"\0\0\0")),
        (FIRST, "is longer than its header says"),
    ),
    "changed": (RHYTHMS, signal_file(flip), (FIRST, "do not add up to the checksum")),
    "another rate": (RHYTHMS, change(" 200 800", " 360 800"), (FIRST, "360 Hz", "recordings at 200 Hz")),
    "no gain": (RHYTHMS, change("200(0)/mV", "0/mV"), (FIRST, "channel 'II' has no gain")),
    "volts that are millivolts": (RHYTHMS, change("(0)/mV", "/V"), (FIRST, "channel 'II' is not plausible")),
    "no table": (RHYTHMS, lambda f: (f / "recordings.tsv").unlink(), ("recordings.tsv is missing",)),
    "no column": (RHYTHMS, lambda f: table(f, f"recording\t{CANARY}", A), ("0 columns 'participant_id'",)),
    "no column of labels": (
        RHYTHMS,
        lambda f: table(f, HEAD.replace("rhythm", CANARY), A),
        ("0 columns 'rhythm'",),
    ),
    "no row": (RHYTHMS, lambda f: table(f, HEAD, B, C), (FIRST, "belongs to no row of recordings.tsv")),
    "two rows": (RHYTHMS, lambda f: table(f, HEAD, A, B, C, A), ("row 5 is of a recording that has a row before",)),
    "nobody": (RHYTHMS, lambda f: table(f, HEAD, A, f"{CANARY}_1\t\tN", C), ("row 3 names no participant",)),
    "unknown label": (
        RHYTHMS,
        lambda f: table(f, HEAD, A.replace("\tN", f"\t{CANARY}"), B, C),
        (FIRST, "not one of the study's names (normal, noise)"),
    ),
    "two files of a name": (RHYTHMS, twin, ("two files in different folders have one name",)),
    "too few subjects": (
        RHYTHMS,
        lambda f: table(f, HEAD, A, B, C.replace(f"{CANARY}b", f"{CANARY}a")),
        ("too few subjects: 1",),
    ),
    "no annotations": (BEATS, annotations(Path.unlink), (FIRST, "annotations (.atr) are missing")),
    "annotations cut short": (
        BEATS,
        annotations(lambda path: path.write_bytes(path.read_bytes()[:-2])),
        (FIRST, "without an end mark"),
    ),
    "annotations of a longer record": (
        BEATS,
        annotations(lambda path: path.write_bytes((1024 + 900).to_bytes(2, "little") + b"\0\0")),
        (FIRST, "beyond the recording"),
    ),
}


@pytest.mark.parametrize(
    ("study", "spoil", "fragments"), [pytest.param(*case, id=name) for name, case in BAD.items()]
)
def test_a_bad_site_is_refused_with_its_cause_and_without_naming_anybody(
    site: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    study: Study,
    spoil: Callable[[Path], None],
    fragments: tuple[str, ...],
) -> None:
    spoil(site)

    with pytest.raises(RecordingError) as refusal:
        read_site(site, site="north", study=study)

    message = str(refusal.value)
    said = message + caplog.text + "".join(capfd.readouterr())
    for fragment in ("site 'north'", "Nothing was written", *fragments):
        assert fragment in message
    assert "wolf" not in said.lower()
    assert str(site.parent) not in said
    assert refusal.value.__suppress_context__ or refusal.value.__cause__ is None


def test_the_command_of_a_refusal_shows_the_name_of_the_header(site: Path) -> None:
    (site / f"{CANARY}_2.dat").unlink()

    with pytest.raises(RecordingError) as refusal:
        read_site(site, site="north", study=RHYTHMS)
    found = re.search(r"shown by: (.*)$", str(refusal.value))

    assert found is not None
    shown = subprocess.run(found[1], shell=True, cwd=site.parent, check=True, capture_output=True, text=True).stdout
    assert shown.strip() == f"north/{CANARY}_2.hea"


def test_a_recording_must_last_one_window_at_its_own_rate(site: Path, put_record: Put) -> None:
    # 100 samples at 100 Hz begin at 0 and end at 0.99 s, which is sample 198 at 200 Hz.
    for n_times in (199, 198):
        put_record(site, f"{CANARY}_0", rows(0, n_times=n_times), labels=("V1", "II"), form=212, sfreq="200")
        if n_times == 199:
            assert len(windows_of(read_site(site, site="north", study=RHYTHMS), study=RHYTHMS).labels) == 5
    with pytest.raises(RecordingError, match="too short: 198 samples, and one window takes 199"):
        read_site(site, site="north", study=RHYTHMS)


REAL = pytest.mark.skipif(
    "FEDSYNTH_DATA" not in os.environ, reason="FEDSYNTH_DATA names no folder of real recordings"
)


def real(name: str, tmp_path: Path) -> tuple[Study, list[Recording]]:
    """Read a public data set through examples/deal.py and its example study, as one hospital."""
    examples = Path(__file__).parents[3] / "examples"
    command = [
        sys.executable,
        str(examples / "deal.py"),
        str(Path(os.environ["FEDSYNTH_DATA"]) / name),
        str(tmp_path / "d"),
    ]
    subprocess.run([*command, "--hospitals", "1", "--link"], check=True, capture_output=True)
    study = parse_study((examples / name / "study.toml").read_text())
    return study, read_site(
        tmp_path / "d" / "hospital-1", site="hospital-1", study=study, options=SiteOptions(follow_links=True)
    )


@REAL
def test_the_records_of_cinc_2017_are_read_with_their_published_labels(tmp_path: Path) -> None:
    study, recordings = real("cinc2017", tmp_path)

    assert Counter(item.label for item in recordings) == {"N": 1100, "A": 588, "O": 700, "noise": 112}
    seconds = [item.signal.shape[1] / item.sfreq for item in recordings]
    assert 9 <= min(seconds) <= max(seconds) <= 61
    windows = windows_of(recordings, study=study)
    assert windows.signal.shape[1:] == (1, 900)
    assert 50 < windows.signal.std() < 1000


@REAL
def test_the_ecgs_of_ptb_xl_keep_einthovens_law(tmp_path: Path) -> None:
    _, recordings = real("ptbxl", tmp_path)

    assert Counter(item.label for item in recordings)["normal"] == 257
    assert {item.signal.shape for item in recordings} == {(12, 1000)}
    for item in recordings:
        first, second, third, right, left, foot = item.signal[:6]
        # In steps of 1 uV, each of them rounded.
        assert np.abs(second - first - third).max() <= 2
        assert np.abs(right + (first + second) / 2).max() <= 2
        assert np.abs(left - (first - third) / 2).max() <= 2
        assert np.abs(foot - (second + third) / 2).max() <= 2


@REAL
def test_the_beats_of_mit_bih_stand_in_the_middle_of_their_windows(tmp_path: Path) -> None:
    study, recordings = real("mitbih", tmp_path)
    windows = windows_of(recordings, study=study)

    assert len(recordings) == 22
    normal = windows.signal[windows.labels == study.labels.names.index("N"), 0]
    slope = np.abs(np.diff(normal, axis=1)).mean(axis=0)
    assert abs(int(slope.argmax()) - study.windows.n_times // 2) <= 5  # within 28 ms of the annotation
    assert (np.bincount(windows.labels) > 100).all()


@REAL
@pytest.mark.parametrize("name", ["cinc2017", "mitbih", "ptbxl"])
def test_real_records_agree_with_wfdb(tmp_path: Path, name: str) -> None:
    wfdb = pytest.importorskip("wfdb")
    study, recordings = real(name, tmp_path)
    headers = sorted((tmp_path / "d" / "hospital-1").rglob("*.hea"), key=os.fsencode)

    for header, ours in list(zip(headers, recordings, strict=True))[:40]:
        theirs = wfdb.rdrecord(str(header.with_suffix("")))
        leads = [theirs.sig_name.index(channel) for channel in study.signal.channels]
        np.testing.assert_allclose(ours.signal.T, 1000 * theirs.p_signal[:, leads], atol=1e-3)
        if ours.beats is not None:
            marks = wfdb.rdann(str(header.with_suffix("")), "atr")
            names = [study.labels.rename.get(symbol) for symbol in marks.symbol]
            kept = [(sample, name) for sample, name in zip(marks.sample.tolist(), names, strict=True) if name]
            found = [study.labels.names[label] for label in ours.beats.labels]
            assert list(zip(ours.beats.samples.tolist(), found, strict=True)) == kept
