"""Oddities by their kinds, in every format that can have them: the right samples."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzzing.attempt import study_of
from fuzzing.seeds import EVENTS, N_TIMES, SEEDS, Site, signal
from odd_sites import (
    DATA,
    DIGITAL_HIGH,
    EVENT_HEAD,
    HIGH,
    LABEL,
    LOW,
    MICRO,
    UNIT,
    WHOLE,
    WIDTHS,
    arrays,
    beside,
    big_endian,
    edf,
    head,
    put,
    read,
    segment,
    wfdb,
)

from fedsynth.errors import RecordingError
from fedsynth.recordings.people import is_copy, people_of
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Gap

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
    "events: cells in quotes": (
        "edf", lambda: beside("sub-a_events.tsv", '"onset"\t"duration"\t"trial_type"\n0.5\t2\t"T1"\n3\t0\tx\n'),
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
