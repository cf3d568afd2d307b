"""One made-up site in every format: the same signals and labels come out, and nothing that names anybody."""

import logging
from pathlib import Path

import numpy as np
import pytest
from written_formats import (
    CANARY,
    EVENTS,
    LABELS,
    SFREQ,
    WRITERS,
    brainvision,
    eeglab,
    nowhere,
    quiet,
    rows,
    site,
    study,
)

from fedsynth.errors import RecordingError
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.people import people_of
from fedsynth.recordings.readers.registry import READERS
from fedsynth.recordings.readers.samples import Notes, Request, gather
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.survey.draft import draft
from fedsynth.recordings.survey.survey import survey
from fedsynth.recordings.windows import windows_of
from fedsynth.site.holdings import keep


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_signals_and_nothing_that_names_anybody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    form, write = WRITERS[name]
    asked = study(form)
    with caplog.at_level(logging.DEBUG, logger="fedsynth"):
        recordings = read_site(site(tmp_path / "in", write, whole_stem=form == "text"), site="north", study=asked)
        windows = windows_of(recordings, study=asked, site="north")
        keep(tmp_path / "out", recordings=recordings, windows=windows, study=asked, key=bytes(32))

    used = [0, 2][: len(asked.signal.channels)]
    for number, one in enumerate(recordings):
        np.testing.assert_allclose(one.signal, rows(number)[used], atol=1e-4)
        assert (one.label, one.sfreq) == (("rest", "task")[number % 2], SFREQ)
    assert people_of(recordings) == [0, 1, 2, 3]
    quiet(caplog, capfd, recordings, windows)
    nowhere(tmp_path / "out")


@pytest.mark.parametrize("name", ["edf", "bdf", "brainvision", "fif", "eeglab"])
@pytest.mark.parametrize("source", ["intervals", "events"])
def test_annotations_of_a_file_label_its_windows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], name: str, source: str
) -> None:
    form, write = WRITERS[name]
    with caplog.at_level(logging.DEBUG, logger="fedsynth"):
        recordings = read_site(site(tmp_path / "in", write), site="north", study=study(form, source))

    assert len(recordings) == 4
    for one in recordings:
        if source == "intervals":
            assert one.stretches is not None
            assert [(s.start, s.stop, s.label) for s in one.stretches] == [(100, 900, 0), (1000, 1700, 1)]
        else:
            assert one.beats is not None
            assert (one.beats.samples - 50).tolist() == [100, 1000]
    quiet(caplog, capfd, recordings)


@pytest.mark.parametrize("name", ["edf", "npz", "wfdb"])
def test_an_events_tsv_goes_before_the_annotations_of_the_file(tmp_path: Path, name: str) -> None:
    form, write = WRITERS[name]
    folder = site(tmp_path / "in", write)
    for number in range(4):
        path = folder / f"sub-{CANARY}{number}_events.tsv"
        path.write_text(f"onset\tduration\ttrial_type\tsubject\n2.0\t3.5\tT1\t{CANARY}\n0\tn/a\tT0\t{CANARY}\n")

    one = read_site(folder, site="north", study=study(form, "intervals"))[0]

    assert one.stretches is not None
    assert [(s.start, s.stop, s.label) for s in one.stretches] == [(200, 550, 1)]


def test_the_same_recording_in_every_format_is_one_person(tmp_path: Path) -> None:
    recordings: list[Recording] = []
    for number, (form, write) in enumerate(WRITERS.values()):
        folder = site(tmp_path / f"in{number}", write, whole_stem=form == "text")
        recordings += [
            Recording(
                o.signal,
                o.sfreq,
                o.channels,
                f"{form} {number} {i}",
                o.label,
                f"{number} {i}",
                None,
                o.fingerprints,
            )
            for i, o in enumerate(read_site(folder, site="north", study=study(form)))
        ]

    assert people_of(recordings) == [0, 1, 2, 3] * len(WRITERS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_every_format_is_known_by_its_name_and_first_bytes(tmp_path: Path, name: str) -> None:
    form, write = WRITERS[name]
    path = write(tmp_path / "x", rows(0))
    head = path.read_bytes()[:512]

    assert READERS[form].looks_like(path, head)
    assert not READERS[form].looks_like(tmp_path / "x.png", b"\x89PNG\r\n\x1a\n" + bytes(504))


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_of_every_format_can_be_surveyed_and_a_draft_names_nobody(tmp_path: Path, name: str) -> None:
    form, write = WRITERS[name]
    folder = site(tmp_path / "north", write, whole_stem=form == "text")

    found = survey(folder)

    assert (found.form, found.people, found.unread) == (form, (4,), 0)
    if form != "text":
        assert (found.channels.modality, found.channels.sfreq, found.channels.names) == ("eeg", SFREQ, ("C3", "C4"))
    assert found.channels.has_unit
    assert "wolf" not in draft(found).lower()


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_every_format_that_is_cut_or_garbled_is_refused_or_read_but_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    form, write = WRITERS[name]
    folder = site(tmp_path / "in", write, whole_stem=form == "text")
    path = sorted(p for p in folder.iterdir() if p.suffix in READERS[form].suffixes)[1]
    good = path.read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    bad = [b"", good[:17], good[: len(good) // 2], b"\0" * 600, b"\x89PNG\r\n" + rng.bytes(500)]
    for _ in range(12):
        start = int(rng.integers(min(len(good), 1500)))
        bad.append(good[:start] + rng.bytes(3) + good[start + 3 :])
    for data in bad:
        path.write_bytes(data)
        try:
            read_site(folder, site="north", study=study(form))
        except RecordingError as error:
            refused += 1
            quiet(caplog, capfd, error)
    assert refused >= 3


@pytest.mark.parametrize("name", ["delimited", "npz", "parquet"])
def test_a_table_without_a_unit_needs_the_sites_word(tmp_path: Path, name: str) -> None:
    form, write = WRITERS[name]

    def bare(stem: Path, signal: np.ndarray) -> Path:
        path = write(stem, signal)
        stem.with_suffix(".json").unlink(missing_ok=True)
        if form == "npz":
            np.savez(path, signal=signal, channels=["C3", "X1", "C4"])
        return path

    folder = site(tmp_path / "in", bare)
    with pytest.raises(RecordingError, match=r"channel 'C3' has no unit.*--unit"):
        read_site(folder, site="north", study=study(form))
    recordings = read_site(folder, site="north", study=study(form), options=SiteOptions(unit="uV"))
    np.testing.assert_allclose(recordings[0].signal, rows(0)[[0, 2]], atol=1e-3)


@pytest.mark.parametrize(("kind", "turns"), [("<i2", True), ("<f4", True), ("<i2", False)])
def test_brainvision_agrees_with_mne(tmp_path: Path, kind: str, turns: bool) -> None:
    mne = pytest.importorskip("mne")
    path = brainvision(tmp_path / "x", rows(1), kind=kind, turns=turns)

    raw = mne.io.read_raw_brainvision(path, preload=True, verbose="ERROR")

    np.testing.assert_allclose(1e6 * raw.get_data(picks=[0, 2]), rows(1)[[0, 2]], atol=1e-6)
    assert [round(x * SFREQ) for x in raw.annotations.onset[-3:]] == [start for start, _, _ in EVENTS]


@pytest.mark.parametrize("form", ["within", "compressed", "beside"])
def test_eeglab_agrees_with_mne(tmp_path: Path, form: str) -> None:
    mne = pytest.importorskip("mne")
    from scipy.io import loadmat, savemat

    path = eeglab(tmp_path / "x", rows(1))
    body = loadmat(path, simplify_cells=True)["EEG"]
    body["chanlocs"] = np.array([(name,) for name in LABELS], dtype=[("labels", object)])
    kinds = [("type", object), ("latency", object), ("duration", object)]
    body["event"] = np.array([(text, start + 1.5, float(n)) for start, n, text in EVENTS], dtype=kinds)
    if form == "beside":
        path.with_suffix(".fdt").write_bytes(rows(1).astype("<f4").T.tobytes())
        body["data"] = "x.fdt"
    savemat(path, {"EEG": body}, appendmat=False, do_compression=form == "compressed")
    notes = Notes()

    ours = gather(READERS["eeglab"].read(path, Request(("C4", "C3"), SFREQ), notes), notes)

    raw = mne.io.read_raw_eeglab(path, preload=True, verbose="ERROR")
    np.testing.assert_allclose(ours.signal, 1e6 * raw.get_data(picks=["C4", "C3"]), atol=1e-4)
    assert [mark.text for mark in ours.marks] == list(raw.annotations.description)
    np.testing.assert_allclose([mark.start for mark in ours.marks], raw.annotations.onset * SFREQ, atol=0.5)
    np.testing.assert_allclose([mark.n_times for mark in ours.marks], raw.annotations.duration * SFREQ, atol=0.5)


def test_an_fdt_file_of_another_length_is_refused(tmp_path: Path) -> None:
    from scipy.io import loadmat, savemat

    path = eeglab(tmp_path / "x", rows(1))
    body = loadmat(path, simplify_cells=True)["EEG"]
    body["chanlocs"] = np.array([(name,) for name in LABELS], dtype=[("labels", object)])
    path.with_suffix(".fdt").write_bytes(rows(1).astype("<f4").T.tobytes()[:-4])
    savemat(path, {"EEG": body | {"data": "x.fdt"}}, appendmat=False)
    notes = Notes()

    with pytest.raises(RecordingError, match="does not hold 2000 samples of 3 channels"):
        gather(READERS["eeglab"].read(path, Request(("C3",), SFREQ), notes), notes)
