"""Faults by their kinds, in every format that can have them: the right samples, or the right cause of refusal."""

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzzing.attempt import study_of
from fuzzing.seeds import EVENTS, N_TIMES, SEEDS, SFREQ, Site, signal

from fedsynth.errors import RecordingError
from fedsynth.recordings.people import is_copy, people_of
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Gap, Recording

WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
LABEL, UNIT, LOW, HIGH, DIGITAL_LOW, DIGITAL_HIGH = 0, 2, 3, 4, 5, 6
C3_AND_C4 = (0, 2)
WHOLE = [(0, 50, 0), (50, 250, 1), (250, 400, 0)]


def put(folder: Path, site: Site) -> Path:
    for name, data in site.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def edf(column: int, value: bytes, *, where: tuple[int, ...] = C3_AND_C4, kind: str = "edf") -> Site:
    """Return the EDF site with a column of the header replaced for some signals."""
    [(name, data)] = SEEDS[kind][1]().items()
    for signal_number in where:
        start = 256 + 4 * sum(WIDTHS[:column]) + signal_number * WIDTHS[column]
        data = data[:start] + value.ljust(WIDTHS[column]) + data[start + WIDTHS[column] :]
    return {name: data}


def changed(kind: str, name: str, *pairs: tuple[bytes, bytes]) -> Site:
    """Return a site with words of one file replaced."""
    site = SEEDS[kind][1]()
    for old, new in pairs:
        assert old in site[name]
        site[name] = site[name].replace(old, new)
    return site


def arrays(**other: object) -> Site:
    file = io.BytesIO()
    np.savez_compressed(
        file, **({"signal": signal(1), "channels": ["C3", "X", "C4"], "sfreq": SFREQ, "unit": "uV"} | other)
    )
    return {"sub-a_eeg.npz": file.getvalue(), "sub-a_events.tsv": b"onset\tduration\ttrial_type\n0.5\t2\tT1\n"}


HEAD, DATA, MARKS = "sub-a_eeg.vhdr", "sub-a_eeg.eeg", "sub-a_eeg.vmrk"


def head(*pairs: tuple[bytes, bytes]) -> Site:
    return changed("brainvision", HEAD, *pairs)


def segment(start: bytes) -> Site:
    return changed(
        "brainvision", MARKS, (b"[Marker Infos]", b"[Marker Infos]\nMk9=New Segment,," + start + b",1,0")
    )


def big_endian() -> Site:
    site = head((b"BinaryFormat=INT_16", b"BinaryFormat=INT_16\r\nUseBigEndianOrder=YES"))
    return site | {DATA: np.frombuffer(site[DATA], "<i2").astype(">i2").tobytes()}


def wfdb(*pairs: tuple[bytes, bytes]) -> Site:
    return changed("wfdb 16", "sub-a.hea", *pairs)


def text(factor: float) -> Site:
    return {"sub-a.txt": "\n".join(f"{x * factor:.9f}" for x in signal(1)[0]).encode()}


def beside(name: str, content: str, kind: str = "edf") -> Site:
    return SEEDS[kind][1]() | {name: content.encode()}


RHYTHM_FAR_AWAY = struct.pack("<HHHHH", 59 << 10, 0, 60000, 28 << 10, 63 << 10 | 2) + b"(N\0\0"
EVENT_HEAD = "onset\tduration\ttrial_type\n"
MICRO = "0.5,µV".encode()
RIGHT: dict[str, tuple[str, Callable[[], Site]]] = {
    "unit: capitals": ("edf", lambda: edf(UNIT, b"UV")),
    "unit: a word": ("edf", lambda: edf(UNIT, b"uVolt")),
    "unit: micro sign in UTF-8 taken for Latin-1": ("edf", lambda: edf(UNIT, "Â\xb5V".encode())),
    "unit: small v": ("edf", lambda: edf(UNIT, b"\xb5v")),
    "unit: nanovolts of WFDB": ("wfdb", lambda: wfdb((b"2000(0)/mV", b"0.002(0)/nV"))),
    "unit: micro sign of WFDB": ("wfdb", lambda: wfdb((b"2000(0)/mV", b"2(0)/\xb5V"))),
    "unit: nanovolts of BrainVision": ("brainvision", lambda: head((MICRO, b"500,nV"))),
    "unit: twice encoded": ("brainvision", lambda: head((MICRO, b"0.5,\xc3\x82\xc2\xb5V"))),
    "unit: Latin-1": ("brainvision", lambda: head((MICRO, b"0.5,\xb5V"))),
    "unit: none is microvolts in BrainVision": ("brainvision", lambda: head((MICRO, b"0.5"))),
    "unit: nanovolts of an array": ("npz", lambda: arrays(signal=signal(1) * 1000, unit="nV")),
    "numbers: a point and zeros": ("edf", lambda: edf(LOW, b"-16384.0")),
    "numbers: decimal comma": ("edf", lambda: edf(HIGH, b"16383,5")),
    "gain: negative in BrainVision": (
        "brainvision",
        lambda: head((b"C3,,0.5", b"C3,,-0.5")) | {
            DATA: (np.frombuffer(head()[DATA], "<i2").reshape(-1, 3) * [-1, 1, 1]).astype("<i2").tobytes()
        },
    ),
    "header: most significant byte first": ("brainvision", big_endian),
    "header: names that stand for the own": (
        "brainvision", lambda: head((b"DataFile=sub-a_eeg.", b"DataFile=$b."), (b"=sub-a_eeg.vmrk", b"=$b.vmrk")),
    ),
    "header: the number of samples": (
        "brainvision", lambda: head((b"NumberOfChannels=3", b"NumberOfChannels=3\r\nDataPoints=400")),
    ),
    "lines: a control character of Latin-1": (
        "brainvision", lambda: head((b"; Canary", b"; \xc2\x85[Common Infos]")),
    ),
    "lines: bytes of every kind in a comment": (
        "wfdb", lambda: wfdb((b"#Dx", b"# \xc5\x81\x1b[2J\x85\x0b\x1c \xce\xa9\n#Dx")),
    ),
    "lines: a separator in a name": (
        "edf", lambda: beside("sub-a_events.tsv", f"{EVENT_HEAD}0.5\t2\tT1\n3\t0\tna\u2028me\x85\x0b\n"),
    ),
    "lines: CR alone": ("text", lambda: {"sub-a.txt": SEEDS["text"][1]()["sub-a.txt"].replace(b"\n", b"\r")}),
    "annotations: another spelling of their signal": (
        "edf", lambda: edf(LABEL, b"EDF annotations", where=(3,)),
    ),
    "annotations: two signals of them": ("edf", lambda: edf(LABEL, b"EDF Annotations", where=(1,))),
    "sidecar: another unit": (
        "edf", lambda: beside("sub-a_channels.tsv", "name\tunits\nEEG C3-Ref\tmV\nC4\tuV\n"),
    ),
    "sidecar: a rounded rate": ("edf", lambda: beside("sub-a_eeg.json", '{"SamplingFrequency": 100.4}')),
    "names: not UTF-8": ("edf", lambda: {os.fsdecode(b"sub-\xff_eeg.edf"): SEEDS["edf"][1]()["sub-a_eeg.edf"]}),
    "names: a dash and a line": ("edf", lambda: {"-rf\nx_eeg.edf": SEEDS["edf"][1]()["sub-a_eeg.edf"]}),
}  # fmt: skip
"""What gives the samples of the seed."""


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_odd_and_sure_is_read_right(tmp_path: Path, name: str) -> None:
    form, make = RIGHT[name]

    [one] = read_site(put(tmp_path / "north", make()), site="north", study=study_of(form))

    rows = signal(1)[[0, 2]] if form != "text" else signal(1)[[0]]
    np.testing.assert_allclose(one.signal, rows, atol=2e-3)
    if form in ("edf", "brainvision", "npz"):
        assert one.stretches is not None
        assert [(s.start, s.stop, s.label) for s in one.stretches] == WHOLE


WRONG: dict[str, tuple[str, Callable[[], Site], str]] = {
    "unit: millivolts called nanovolts": ("edf", lambda: edf(UNIT, b"nV"), "1000 times too small"),
    "unit: microvolts called millivolts": ("edf", lambda: edf(UNIT, b"mVolt"), "1000 times too large"),
    "unit: mega or milli": ("edf", lambda: edf(UNIT, b"MV"), "a unit that is not known"),
    "unit: kilovolts": ("edf", lambda: edf(UNIT, b"kV"), "a unit that is not known"),
    "unit: more than a unit": ("edf", lambda: edf(UNIT, b"uV rms"), "a unit that is not known"),
    "unit: of a gain": ("wfdb", lambda: wfdb((b"2000(0)/mV", b"2000(0)/uV")), "1000 times too small"),
    "unit: text in millivolts": ("text", lambda: text(1e-3), "1000 times too small"),
    "unit: text in nanovolts": ("text", lambda: text(1e3), "1000 times too large"),
    "unit: text in volts": ("text", lambda: text(1e-6), "1000000 times too small"),
    "unit: array in millivolts": ("npz", lambda: arrays(signal=signal(1) / 1000), "1000 times too small"),
    "unit: an array and its sidecar": (
        "npz", lambda: arrays() | {"sub-a_eeg.json": b'{"unit": "mV"}'}, "give another unit",
    ),
    "unit: table in nanovolts": (
        "delimited", lambda: changed("delimited", "sub-a_eeg.json", (b'"uV"', b'"nV"')), "1000 times too small",
    ),
    "limits: unsigned": ("edf", lambda: edf(DIGITAL_HIGH, b"65535"), "outside the 16-bit whole numbers"),
    "limits: unsigned of BDF": (
        "edf", lambda: edf(DIGITAL_HIGH, b"16777215", kind="bdf"), "outside the 24-bit whole numbers",
    ),
    "limits: reversed": ("edf", lambda: edf(DIGITAL_LOW, b"32767"), "is not below its digital maximum"),
    "gain: zero": ("edf", lambda: edf(LOW, b"16383.5"), "are equal"),
    "gain: overflows": ("edf", lambda: edf(HIGH, b"1e300"), "not finite"),
    "gain: nearly zero": ("edf", lambda: edf(LOW, b"16383.49"), "flat|not plausible"),
    "gain: zero of WFDB": ("wfdb", lambda: wfdb((b"2000(0)/mV", b"0(0)/mV")), "has no gain"),
    "gain: zero of BrainVision": ("brainvision", lambda: head((b"C3,,0.5", b"C3,,0")), "is 0"),
    "gain: nan of BrainVision": ("brainvision", lambda: head((b"C3,,0.5", b"C3,,nan")), "not a finite number"),
    "gain: infinite array": ("npz", lambda: arrays(signal=np.full((3, 400), np.inf)), "not finite"),
    "channels: twice in EDF": ("edf", lambda: edf(LABEL, b"eeg c3", where=(1,)), "is there 2 times"),
    "channels: twice in WFDB": ("wfdb", lambda: wfdb((b"Canarywolf\nsub", b"C3\nsub")), "is there 2 times"),
    "channels: twice in BrainVision": ("brainvision", lambda: head((b"Ch3=C4", b"Ch3=C3")), "is there 2 times"),
    "channels: twice in an array": ("npz", lambda: arrays(channels=["C3", "C3", "C4"]), "is there 2 times"),
    "channels: a number twice": (
        "brainvision", lambda: head((b"Ch3=C4", b"Ch1=C4,,0.5,uV\r\nCh3=C4")), "there twice",
    ),
    "channels: fewer announced": (
        "brainvision", lambda: head((b"NumberOfChannels=3", b"NumberOfChannels=2")), "announces 2 .* describes 3",
    ),
    "channels: an array on its side": ("npz", lambda: arrays(signal=signal(1).T), "not as many"),
    "channels: objects": (
        "npz", lambda: arrays(channels=np.array(["C3", None, "C4"], dtype=object)), "no .npz file of plain arrays",
    ),
    "length: another number of samples": (
        "brainvision", lambda: head((b"NumberOfChannels=3", b"NumberOfChannels=3\r\nDataPoints=399")),
        "announces 399 samples",
    ),
    "length: announced of WFDB": ("wfdb", lambda: wfdb((b" 400\n", b" 401\n")), "is truncated"),
    "length: a compressed array of gigabytes": (
        "npz", lambda: arrays(signal=np.zeros((3, 12_000_000))), "larger than 256 MiB",
    ),
    "length: FIF cut short": (
        "fif", lambda: {"sub-a_raw.fif": SEEDS["fif"][1]()["sub-a_raw.fif"][:-400]}, "longer than the file",
    ),
    "length: MATLAB cut short": (
        "eeglab", lambda: {"sub-a_eeg.set": SEEDS["eeglab"][1]()["sub-a_eeg.set"][:-50]}, "do not fit together",
    ),
    "data: spectra": (
        "brainvision", lambda: head((b"DataFormat=BINARY", b"DataFormat=BINARY\r\nDataType=FREQUENCYDOMAIN")),
        "no samples in the order of time",
    ),
    "rate: of a sidecar": (
        "edf", lambda: beside("sub-a_eeg.json", '{"SamplingFrequency": 256}'), "256 Hz, and the file itself 100",
    ),
    "rate: of a table's sidecar": (
        "delimited", lambda: changed("delimited", "sub-a_eeg.json", (b"100", b"200")), "sampling rate is 200 Hz",
    ),
    "rate: nan": ("npz", lambda: arrays(sfreq=np.nan), "sampling rate is nan"),
    "rate: of one channel": ("edf", lambda: edf(8, b"50", where=(2,)), "truncated|longer|50 Hz"),
    "sidecar: no JSON": ("edf", lambda: beside("sub-a_eeg.json", "{"), "cannot be read as JSON"),
    "sidecar: nested": ("edf", lambda: beside("sub-a_eeg.json", "[" * 9000), "cannot be read as JSON"),
    "path: above": ("brainvision", lambda: head((b"DataFile=sub", b"DataFile=../sub")), "not a plain name"),
    "path: of another machine": (
        "brainvision", lambda: head((b"DataFile=sub", b"DataFile=C:\\sub")), "not a plain name",
    ),
    "segments: beyond the data": (
        "brainvision", lambda: segment(b"401"),
        "a segment begins after the end",
    ),
    "annotations: of another record": (
        "wfdb",
        lambda: SEEDS["wfdb 16"][1]() | {"sub-a.atr": RHYTHM_FAR_AWAY},
        "belong to another one",
    ),
    "annotations: beyond all time": (
        "edf", lambda: beside("sub-a_events.tsv", f"{EVENT_HEAD}1e308\t5\tT1\n"), "no usable onset",
    ),
    "annotations: nan": ("edf", lambda: beside("sub-a_events.tsv", f"{EVENT_HEAD}nan\t5\tT1\n"), "no usable onset"),
    "encoding: a column's name that is no UTF-8": (
        "parquet",
        lambda: changed("parquet", "sub-a_eeg.parquet", (b"Canarywolf", b"Canary\xffolf")),
        "cannot be read as Parquet",
    ),
    "encoding: UTF-16": (
        "text", lambda: {"sub-a.txt": SEEDS["text"][1]()["sub-a.txt"].decode().encode("utf-16")}, "binary",
    ),
    "encoding: digits that are no ASCII": ("text", lambda: {"sub-a.txt": "٣٤\n".encode() * 400}, "not a number"),
    "encoding: a header in UTF-16": (
        "edf",
        lambda: {"sub-a_eeg.edf": edf(UNIT, b"uV")["sub-a_eeg.edf"].decode("latin-1").encode("utf-16")},
        "not an EDF or BDF file",
    ),
}  # fmt: skip
"""What is refused, and why."""


@pytest.mark.parametrize("name", WRONG)
def test_what_is_in_doubt_is_refused_for_its_cause(tmp_path: Path, name: str) -> None:
    form, make, cause = WRONG[name]
    if form in ("fif", "parquet"):
        pytest.importorskip({"fif": "mne", "parquet": "pyarrow"}[form])

    with pytest.raises(RecordingError, match=cause) as refusal:
        read_site(put(tmp_path / "north", make()), site="north", study=study_of(form))

    assert "wolf" not in str(refusal.value).lower()


def read(folder: Path, form: str = "edf") -> list[Recording]:
    return read_site(folder, site="north", study=study_of(form))


def test_a_queue_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sub-a_eeg.edf")

    with pytest.raises(RecordingError, match="a queue or a device"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("edf", "sub-a_eeg.edf"), ("bids", "sub-a_events.tsv"), ("bids", "sub-a_channels.tsv"),
        ("bids", "list.csv"), ("bids", "recordings.toml"), ("delimited", "sub-a_eeg.json"),
        ("siena", "PN00/Seizures-list-PN00.txt"),
        ("wfdb 16", "sub-a.dat"), ("wfdb 16", "sub-a.atr"), ("wfdb segments", "s_1.hea"), ("brainvision", DATA),
        ("brainvision", MARKS),
    ],
)  # fmt: skip
def test_a_link_out_of_the_folder_needs_a_word_whatever_it_is(tmp_path: Path, kind: str, name: str) -> None:
    form, make = SEEDS[kind]
    site = make()
    put(tmp_path / "elsewhere", {"file": site.pop(name)})
    folder = put(tmp_path / "north", site)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere" / "file")

    with pytest.raises(RecordingError, match="follow-links"):
        read(folder, form)


def test_a_table_of_people_that_is_a_link_out_of_the_folder_needs_a_word(tmp_path: Path) -> None:
    folder = put(tmp_path / "north", SEEDS["edf"][1]())
    (tmp_path / "people").write_text("participant_id\tgroup\nsub-a\ttask\n")
    (folder / "participants.tsv").symlink_to(tmp_path / "people")
    study = study_of("edf")
    labels = study.labels.model_copy(update={"source": "participants.tsv", "background": None})

    with pytest.raises(RecordingError, match=r"participants.tsv is a link out .* --follow-links"):
        read_site(folder, site="north", study=study.model_copy(update={"labels": labels}))


@pytest.mark.parametrize("other", ["bdf", "edf+d"])
def test_one_recording_in_two_forms_under_two_names_is_one_person(tmp_path: Path, other: str) -> None:
    [(name, data)] = SEEDS[other][1]().items()
    folder = put(tmp_path / "north", SEEDS["edf"][1]() | {name.replace("sub-a", "sub-b"): data})

    found = read(folder)

    assert people_of(found) == [0, 0]
    assert is_copy(found) == [False, True]


def test_one_recording_with_its_gain_turned_round_is_one_person(tmp_path: Path) -> None:
    site = edf(LOW, b"16384")
    [data] = edf(HIGH, b"-16383.5").values()
    start = 256 + 4 * sum(WIDTHS[:HIGH])
    turned = bytearray(site["sub-a_eeg.edf"])
    turned[start : start + 32] = data[start : start + 32]
    records = np.frombuffer(bytes(turned[1280:]), "<i2").reshape(4, -1).copy()
    records[:, :300] = -1 - records[:, :300]
    folder = put(
        tmp_path / "north", SEEDS["edf"][1]() | {"sub-b_eeg.edf": bytes(turned[:1280]) + records.tobytes()}
    )

    found = read(folder)

    np.testing.assert_allclose(found[0].signal, found[1].signal, atol=1)
    assert people_of(found) == [0, 0]
    assert is_copy(found) == [False, True]


def test_annotations_outside_label_nothing_and_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = f"{EVENT_HEAD}90000000\t5\tT1\n-90\t5\tT1\n400\t5\tT1\n"

    [one] = read(put(tmp_path / "north", beside("sub-a_events.tsv", rows)))

    assert one.stretches is not None
    assert [(s.start, s.stop, s.label) for s in one.stretches] == [(0, N_TIMES, 0)]
    assert "1 of 1 recordings have annotations before they begin or after they end" in caplog.text


def test_samples_beyond_the_digital_limits_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(put(tmp_path / "north", edf(DIGITAL_HIGH, b"5")))

    assert "samples beyond the digital limits in their header" in caplog.text


def test_segments_of_brainvision_are_not_joined(tmp_path: Path) -> None:
    [one] = read(put(tmp_path / "north", segment(b"201")), "brainvision")

    assert one.gaps == (Gap(200, 0),)
    assert one.stretches is not None
    assert [(s.start, s.stop) for s in one.stretches] == [(0, 50), (50, 200), (200, 250), (250, 400)]


def test_joins_of_fif_and_multipliers_of_units_are_seen(tmp_path: Path) -> None:
    mne = pytest.importorskip("mne")
    put(tmp_path / "north", SEEDS["fif"][1]())
    path = tmp_path / "north" / "sub-a_raw.fif"
    raw = mne.io.read_raw_fif(path, preload=True, verbose="ERROR")
    joined = mne.concatenate_raws([raw.copy(), raw.copy()], verbose="ERROR")
    joined.save(path, overwrite=True, fmt="double", verbose="ERROR")

    [one] = read(tmp_path / "north", "fif")

    assert one.gaps == (Gap(N_TIMES, 0),)
    assert one.signal.shape == (2, 2 * N_TIMES)
    raw._data *= 1e6
    for channel in raw.info["chs"]:
        channel["unit_mul"] = -6
    raw.save(path, overwrite=True, fmt="double", verbose="ERROR")
    with pytest.raises(RecordingError, match="a unit that is not known"):
        read(tmp_path / "north", "fif")


def test_boundaries_of_eeglab_are_not_crossed(tmp_path: Path) -> None:
    pytest.importorskip("mne")
    from scipy.io import loadmat, savemat

    put(tmp_path / "north", SEEDS["eeglab"][1]())
    path = tmp_path / "north" / "sub-a_eeg.set"
    held = loadmat(path, simplify_cells=True)["EEG"]
    kinds = [("type", object), ("latency", object), ("duration", object)]
    events = [(text, start + 1.0, float(n)) for start, n, text in EVENTS] + [("boundary", 201.0, 700.0)]
    held["event"] = np.array(events, dtype=kinds)
    held["chanlocs"] = np.array([(one["labels"],) for one in held["chanlocs"]], dtype=[("labels", object)])
    savemat(path, {"EEG": held}, appendmat=False)

    [one] = read(tmp_path / "north", "eeglab")

    assert one.gaps == (Gap(200, 0),)
    assert one.stretches is not None
    assert [(s.start, s.stop, s.label) for s in one.stretches] == [
        (0, 50, 0),
        (50, 200, 1),
        (200, 250, 1),
        (250, 400, 0),
    ]
