"""Parity: on every public set at hand, windows are those that other readers' samples give, within quantisation.

`FEDSYNTH_DATA` names a folder with the public sets, as docs/benchmark.md says; without it these tests are skipped.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedsynth.recordings.readers.edf_header import LONGEST_HEADER, parse_header
from fedsynth.recordings.readers.registry import READERS
from fedsynth.recordings.readers.samples import Notes, Request, Samples, gather
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.study import load_study

pytestmark = pytest.mark.skipif(
    "FEDSYNTH_DATA" not in os.environ, reason="FEDSYNTH_DATA names no folder of real recordings"
)
DATA = Path(os.environ.get("FEDSYNTH_DATA", "nowhere"))
EXAMPLES = Path(__file__).parents[3] / "examples"
Oracle = Callable[[Path, tuple[str, ...]], np.ndarray]


def by_mne(path: Path, channels: tuple[str, ...]) -> np.ndarray:
    mne = pytest.importorskip("mne", reason="MNE-Python is not installed")
    raw = mne.io.read_raw_edf(path, preload=True, verbose="ERROR")
    names = {name.strip(".").upper(): name for name in raw.ch_names}
    return 1e6 * raw.get_data(picks=[names[channel.upper()] for channel in channels])


def by_pyedflib(path: Path, channels: tuple[str, ...]) -> np.ndarray:
    pyedflib = pytest.importorskip("pyedflib", reason="pyedflib is not installed")
    with pyedflib.EdfReader(str(path)) as file:
        names = [label.strip(" .").upper() for label in file.getSignalLabels()]
        return np.array([file.readSignal(names.index(channel.upper())) for channel in channels])


def by_wfdb(path: Path, channels: tuple[str, ...]) -> np.ndarray:
    wfdb = pytest.importorskip("wfdb", reason="WFDB-Python is not installed")
    record = wfdb.rdrecord(str(path.with_suffix("")))
    names = [name.upper() for name in record.sig_name]
    return 1000 * record.p_signal[:, [names.index(channel.upper()) for channel in channels]].T


def by_numpy(path: Path, channels: tuple[str, ...]) -> np.ndarray:  # noqa: ARG001
    return np.loadtxt(path)[None]


SETS: dict[str, tuple[str, str, int, float, Oracle]] = {
    "bonn": ("bonn", "bonn/*/*.txt", 10, 1.0, by_numpy),
    "guinea_bissau, mne": ("epilepsy", "guinea_bissau/*.edf", 4, 20 / 39, by_mne),
    "guinea_bissau, pyedflib": ("epilepsy", "guinea_bissau/*.edf", 4, 20 / 39, by_pyedflib),
    "eegmmidb, mne": ("eegmmidb", "eegmmidb/*/*.edf", 1, 1.0, by_mne),
    "eegmmidb, pyedflib": ("eegmmidb", "eegmmidb/*/*.edf", 1, 1.0, by_pyedflib),
    "ptbxl": ("ptbxl", "ptbxl/records100/*/*.hea", 20, 1.0, by_wfdb),
    "cinc2017": ("cinc2017", "cinc2017/*.hea", 100, 1.0, by_wfdb),
    "mitbih": ("mitbih", "mitbih/*.hea", 4, 5.0, by_wfdb),
}
"""Study, files, of which every so-many-th is taken, step of the numbers in microvolts, and the other reader."""


@pytest.mark.parametrize("name", SETS)
def test_windows_are_those_of_another_readers_samples(name: str) -> None:
    example, pattern, every, step, oracle = SETS[name]
    study = load_study(EXAMPLES / example / "study.toml")
    # Windows are spread over each recording, whatever their labels: what is held against is the reading.
    plain = study.model_copy(update={"windows": study.windows.model_copy(update={"artefacts": "keep"})})
    channels, sfreq = study.signal.channels, study.signal.rate_as_recorded
    ours, theirs = [], []
    for number, path in enumerate(sorted(DATA.glob(pattern))[::every]):
        notes = Notes()
        reader = READERS[study.signal.format]
        samples: Samples = gather(reader.read(path, Request(channels, sfreq), notes), notes)
        label, who = study.labels.names[0], f"{number}"
        one = Recording(samples.signal, sfreq, channels, who, label, who, fingerprints=samples.fingerprints)
        other = oracle(path, channels).astype(np.float32)
        np.testing.assert_allclose(one.signal, other, rtol=1e-6, atol=step / 1000)
        ours.append(one)
        theirs.append(replace(one, signal=other))

    found, expected = windows_of(ours, study=plain), windows_of(theirs, study=plain)

    assert len(ours) >= 3
    assert found.signal.shape == expected.signal.shape
    np.testing.assert_allclose(found.signal, expected.signal, atol=step / 100)


@pytest.mark.parametrize("folder", ["pyedflib", "epilepsy2bids", "mne"])
def test_samples_of_the_format_are_read_as_pyedflib_reads_them(folder: str) -> None:
    pyedflib = pytest.importorskip("pyedflib", reason="pyedflib is not installed")
    compared = 0
    for path in sorted((DATA / "malformed" / folder).rglob("*.[eb]df"))[::4]:
        header = parse_header(path.read_bytes()[:LONGEST_HEADER], file_size=path.stat().st_size)
        try:
            with pyedflib.EdfReader(str(path)) as file:
                labels = [label.strip() for label in file.getSignalLabels()]
                for signal in header.signals[:3]:
                    label = signal.label.strip()
                    if signal.voltage is None or labels.count(label) != 1 or signal.is_annotations:
                        continue
                    notes, request = Notes(), Request((label,), header.rate(signal))
                    one = gather(READERS["edf"].read(path, request, notes), notes)
                    scale = {"nV": 1e-3, "uV": 1.0, "mV": 1e3, "V": 1e6}[signal.voltage]
                    other = scale * file.readSignal(labels.index(label))
                    np.testing.assert_allclose(one.signal[0], other, rtol=2e-6, atol=1e-3 * scale)
                    compared += 1
        except OSError:
            continue  # stricter about fields that no sample depends on
    assert compared >= 2
