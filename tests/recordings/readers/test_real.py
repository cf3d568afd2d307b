"""Real files: the format samples with the right answer for each, and windows beside other readers' samples.

`FEDSYNTH_DATA` names a folder with the public sets, as docs/benchmark.md says; without it these tests are skipped.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.people import people_of
from fedsynth.recordings.readers.edf import read_edf
from fedsynth.recordings.readers.edf_header import LONGEST_HEADER, parse_header
from fedsynth.recordings.readers.samples import Notes, Request, Samples, gather
from fedsynth.recordings.readers.seizure_lists import chb_mit_marks, seizeit_marks, siena_marks
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.readers.text import read_text
from fedsynth.recordings.recording import DOUBTFUL, Gap
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Study, load_study

pytestmark = pytest.mark.skipif(
    "FEDSYNTH_DATA" not in os.environ, reason="FEDSYNTH_DATA names no folder of real recordings"
)
DATA = Path(os.environ.get("FEDSYNTH_DATA", "nowhere"))
MALFORMED = DATA / "malformed"
EXAMPLES = Path(__file__).parents[3] / "examples"

REFUSED = {
    "damaged/digital_min_eq_max.edf": (b"3Hz +5/-5 V", "digital minimum"),
    "damaged/physical_min_eq_max.edf": (b"3Hz +5/-5 V", "physical minimum and maximum"),
    "damaged/nrecords_overstated.edf": (None, "is truncated"),
    "damaged/record_duration_zero.edf": (None, "duration of a data record is 0 seconds"),
    "damaged/empty.edf": (None, "is empty"),
    "damaged/not_edf.edf": (None, "not an EDF or BDF file"),
    "wfdb/test_edfann.edf": (None, "is missing: none of the file's 1 signals"),
}
"""What is refused: for which channel, or all of them, and why."""
SAMPLES = (
    sorted(str(path.relative_to(MALFORMED)) for path in MALFORMED.rglob("*.[eb]df")) if MALFORMED.is_dir() else []
)


def read(path: Path, label: str, sfreq: float) -> Samples:
    notes = Notes()
    return gather(read_edf(path, Request((label,), sfreq), notes), notes)


def test_all_the_samples_are_there() -> None:
    assert len(SAMPLES) == 99


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_of_the_format_is_read_as_edfio_reads_it_or_refused_for_the_right_cause(name: str) -> None:
    import edfio

    path = MALFORMED / name
    channel, cause = REFUSED.get(name, (None, ""))
    head, size = path.read_bytes()[:LONGEST_HEADER], path.stat().st_size
    if cause and channel is None and name != "wfdb/test_edfann.edf":
        with pytest.raises(RecordingError, match=cause):
            parse_header(head, file_size=size)
        return
    header = parse_header(head, file_size=size)
    labels = Counter(signal.label for signal in header.signals)
    if name == "wfdb/test_edfann.edf":
        with pytest.raises(RecordingError, match=cause):
            read(path, "C3", 100.0)
        return
    theirs = None
    if header.n_records and "nrecords_minus1" not in name and "bad_startdate" not in name:
        theirs = (edfio.read_bdf if path.suffix == ".bdf" else edfio.read_edf)(path).signals
    compared = 0
    for signal in header.signals[:6]:  # each reads the whole file
        if signal.is_annotations or not signal.samples_per_record:
            continue
        sfreq = header.rate(signal)
        asked = (path, signal.label, sfreq)
        if labels[signal.label] > 1 or signal.voltage is None or (channel or b"").decode() == signal.label:
            with pytest.raises(RecordingError, match=cause or r"there \d+ times|are one|unit"):
                read(*asked)
            continue
        ours = read(*asked)
        assert ours.signal.shape == (1, header.n_records * signal.samples_per_record)
        assert np.isfinite(ours.signal).all()
        same = [one for one in theirs or () if one.label == signal.label.strip()]
        if len(same) == 1:
            scale = {"uV": 1.0, "mV": 1e3, "V": 1e6}[signal.voltage]
            np.testing.assert_allclose(ours.signal[0], scale * same[0].data, rtol=2e-6, atol=1e-3 * scale)
            compared += 1
    assert compared or theirs is None or cause or name in ("mne/duplicate_channel_labels.edf",)


def test_the_gap_of_a_discontinuous_sample_is_where_its_time_stamps_say() -> None:
    path = MALFORMED / "damaged" / "edfplus_D_gap30s.edf"
    header = parse_header(path.read_bytes()[:LONGEST_HEADER], file_size=path.stat().st_size)
    [signal] = [one for one in header.signals if one.label == "Fp1"]

    found = read(path, "Fp1", header.rate(signal))

    assert found.signal.shape == (1, 698 * signal.samples_per_record)
    assert found.gaps == (Gap(349 * signal.samples_per_record, round(30 * header.rate(signal))),)


@pytest.mark.parametrize(
    "name", ["eegmmidb/S001/S001R03.edf", "malformed/mne/test_edf_stim_channel.edf", "malformed/mne/test.bdf"]
)
def test_real_files_agree_with_mne(name: str) -> None:
    mne = pytest.importorskip("mne")
    path = DATA / name
    header = parse_header(path.read_bytes()[:LONGEST_HEADER], file_size=path.stat().st_size)
    raw = (mne.io.read_raw_bdf if path.suffix == ".bdf" else mne.io.read_raw_edf)(
        path, preload=True, verbose="ERROR"
    )
    compared = 0
    for signal in header.signals[:6]:
        if signal.voltage and signal.label in raw.ch_names:
            ours = read(path, signal.label, header.rate(signal))
            theirs = 1e6 * raw.get_data(picks=[signal.label])
            np.testing.assert_allclose(ours.signal, theirs, rtol=2e-6, atol=1e-3)
            compared += 1
    assert compared


def test_the_annotations_of_real_files_agree_with_mne() -> None:
    mne = pytest.importorskip("mne")
    for path in sorted((DATA / "eegmmidb").rglob("*.edf")):
        raw = mne.io.read_raw_edf(path, verbose="ERROR")
        ours = read(path, "C3", 160.0).marks

        assert [mark.text for mark in ours] == list(raw.annotations.description)
        assert [mark.start for mark in ours] == [round(onset * 160) for onset in raw.annotations.onset]
        assert [mark.n_times for mark in ours] == [round(d * 160) for d in raw.annotations.duration]


def test_the_published_lists_of_seizures_are_read() -> None:
    folder = MALFORMED / "epilepsy2bids"
    siena = {
        path.stem: siena_marks(path, sfreq=512.0, n_times=1024, root=None)
        for path in sorted((folder / "siena").rglob("*.edf"))
    }
    assert {name: len(marks) for name, marks in siena.items()} == dict.fromkeys(siena, 1)
    # 19:39:33 to 19:58:36 is 1143 s; the end of PN00-3 is typed an hour too late.
    assert (siena["PN00-1"][0].start, siena["PN00-1"][0].n_times) == (1143 * 512, 70 * 512)
    assert [name for name, marks in siena.items() if marks[0].text == DOUBTFUL] == ["PN00-3"]
    chb = {
        path.stem: chb_mit_marks(path, sfreq=256.0, n_times=512, root=None)
        for path in sorted((folder / "chbmit").rglob("*.edf"))
    }
    assert sum(map(len, chb.values())) == 10  # five of each patient, as published
    assert [(mark.start, mark.n_times) for mark in chb["chb08_02"]] == [(2670 * 256, 171 * 256)]
    seizeit = [seizeit_marks(path, sfreq=250.0, root=None) for path in sorted((folder / "seizeit").rglob("*.edf"))]
    assert len(seizeit) == 10
    assert [mark.text for marks in seizeit for mark in marks].count(DOUBTFUL) == 2  # two ends are "None"
    assert sum(map(len, seizeit)) == 7


def example(name: str, preset: str) -> Study:
    study = load_study(EXAMPLES / name / "study.toml")
    rename = dict(study.labels.rename)
    if name == "ptbxl":
        rename = {"NORM": "normal", **dict.fromkeys(("MI", "STTC", "CD", "HYP"), "abnormal")}
    source = study.labels.source if study.labels.source in ("beats", "events") else "layout"
    return study.model_copy(
        update={
            "labels": study.labels.model_copy(update={"source": source, "rename": rename}),
            "recordings": study.recordings.model_copy(update={"preset": preset}),
            "cohort": study.cohort.model_copy(update={"least_subjects": 1}),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset", "folder", "recordings", "people", "labels", "windows"),
    [
        pytest.param("bonn", "bonn", "bonn", 400, 400, dict.fromkeys("ZONFS", 80), 3154, id="bonn"),
        pytest.param("epilepsy", "guinea-bissau", "guinea_bissau", 72, 72, {"epilepsy": 38, "control": 34}, 1558,
                     id="guinea-bissau"),
        pytest.param("ptbxl", "ptbxl", "ptbxl", 413, 396, {"normal": 257, "abnormal": 156}, 825, id="ptbxl"),
        pytest.param("cinc2017", "cinc2017", "cinc2017", 2500, 2500, {"N": 1100, "A": 588, "O": 700, "noise": 112},
                     7038, id="cinc2017"),
        pytest.param("mitbih", "mitbih", "mitbih", 22, 22, {"": 22}, 5617, id="mitbih"),
        pytest.param("eegmmidb", "eegmmidb", "eegmmidb", 3, 1, {"": 3}, 68, id="eegmmidb"),
    ],
)  # fmt: skip
def test_folders_as_published_have_the_published_numbers(
    name: str, preset: str, folder: str, recordings: int, people: int, labels: dict[str, int], windows: int
) -> None:
    study = example(name, preset)

    found = read_site(DATA / folder, site="north", study=study)

    assert (len(found), len(set(people_of(found)))) == (recordings, people)
    assert Counter(one.label for one in found) == labels
    assert len(windows_of(found, study=study).labels) == windows


def test_bonn_is_read_as_numpy_reads_it() -> None:
    for path in sorted((DATA / "bonn").rglob("*1.txt")):
        notes = Notes()
        ours = gather(read_text(path, Request(("EEG",), 173.61), notes), notes)
        np.testing.assert_array_equal(ours.signal[0], np.loadtxt(path))
