"""Layouts of one's own: a page beside the recordings, and a reader in a package of its own."""

import logging
from pathlib import Path

import edfio
import numpy as np
import pytest
from layout_folders import EXAMPLES, MINE, edf

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Recording
from fedsynth.study import Study, parse_study

CANARY = "Canarywolf"


def read(folder: Path, study: Study) -> list[Recording]:
    return read_site(folder, site="north", study=study)


PAGE = """
format = "edf"
unit = "uV"
files = ["*/rec.edf"]
aliases = { links = "C3", rechts = "C4", C3 = "unused" }
person = { path = '/([^/]+)/rec$' }
[table]
file = "list.csv"
key = "file"
label = "kind"
"""


def test_a_site_writes_a_page_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Folders by ward and person, a label in a table of semicolons, channels of other names, in millivolts."""
    folder = tmp_path / "north"
    for number, who in enumerate(("anna", "bo", "cleo")):
        signals = [
            edfio.EdfSignal(np.random.default_rng(10 * number + i).normal(0, 30, 1280), 128, label=label,
                            physical_dimension="mV", physical_range=(-500, 500))
            for i, label in enumerate(("links", "rechts", "C3"))
        ]  # fmt: skip
        (folder / f"ward-{number % 2}" / who).mkdir(parents=True)
        edfio.Edf(signals).write(folder / f"ward-{number % 2}" / who / "rec.edf")
        edfio.Edf(signals[:1]).write(folder / f"ward-{number % 2}" / who / "calibration.edf")
    (folder / "list.csv").write_text(f"file;kind;{CANARY}\nward-0/anna/rec.edf;A;x\nward-1/bo/rec.edf;B;x\n"
                                     "ward-0/cleo/rec.edf;A;x\n")  # fmt: skip
    (folder / "recordings.toml").write_text(PAGE)
    study = parse_study(MINE)

    with caplog.at_level(logging.WARNING):
        recordings = read(folder, study)

    assert [(one.subject, one.label) for one in recordings] == [("anna", "ill"), ("cleo", "ill"), ("bo", "healthy")]
    expected = np.random.default_rng(0).normal(0, 30, 1280)
    np.testing.assert_allclose(recordings[0].signal[0], expected, atol=0.02)
    assert "3 of 3 recordings have their unit by the site's word (uV)" in caplog.text
    assert "3 files were left out: files that the layout does not name" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("page", "fragment"),
    [
        pytest.param("format = 'edf", "cannot be read as TOML", id="no TOML"),
        pytest.param("formt = 'edf'", "'formt' is not as it should be", id="unknown key"),
        pytest.param("unit = 'volt'", "'unit' is not as it should be", id="unknown unit"),
        pytest.param("person = { path = '(' }", "'person' is not as it should be", id="no regular expression"),
        pytest.param("person = { path = 'a' }", "'person' is not as it should be", id="no group"),
        pytest.param(
            f"preset = '{CANARY}'", "there is no preset of that name; there are: afdb", id="no such preset"
        ),
        pytest.param("sfreq = 100", "the sampling rate is 100 Hz", id="another rate"),
        pytest.param(
            "[table]\nfile = 'no.csv'\nkey = 'a'", "a table that the layout names is missing", id="no table"
        ),
        pytest.param(
            f"[table]\nfile = '{'9' * 300}'\nkey = 'a'", "a table that the layout names is missing", id="long name"
        ),
        pytest.param(
            '[table]\nfile = "a\\u0000b"\nkey = "a"', "a table that the layout names is missing", id="no name"
        ),
        pytest.param("[table]\nfile = 't.csv'\nkey = 'a'", "has 0 columns 'a'", id="no column"),
        pytest.param("[table]\nfile = 't.csv'\nkey = 'b'\nlabel = 'c'", "no row in the table", id="no row"),
        pytest.param("format = 'reader:none'", "0 packages bring a reader 'none'", id="no such reader"),
    ],
)
def test_a_page_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, page: str, fragment: str) -> None:
    folder = tmp_path / "north"
    edf(folder / "a.edf", ("C3", "C4"), sfreq=128, seconds=4, seed=0)
    (folder / "t.csv").write_text("b,c\nx,1\n")
    (folder / "recordings.toml").write_text(page)

    with pytest.raises(RecordingError, match=fragment) as refusal:
        read(folder, parse_study(MINE))

    assert CANARY not in str(refusal.value)


def test_a_reader_of_ones_own_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the line are those of docs/recordings.md."""
    page = (EXAMPLES.parent / "docs" / "recordings.md").read_text(encoding="utf-8")
    section = page.split("## A reader of your own")[1]
    code = section.split("```python\n")[1].split("```")[0]
    line = section.split("```toml\n")[1].split("```")[0]
    (tmp_path / "raw_reader.py").write_text(code, encoding="utf-8")
    group, name, value = '[project.entry-points."fedsynth.readers"]', *line.strip().splitlines()[1].split(" = ")
    assert line.startswith(group)
    info = tmp_path / "raw_reader-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: raw-reader\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fedsynth.readers]\n{name} = {value.strip(chr(34))}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "north"
    folder.mkdir()
    waves = np.round(np.random.default_rng(0).normal(0, 30, (3, 2, 1280)))
    for number, wave in enumerate(waves):
        (folder / f"A{number}.raw").write_bytes(wave.T.astype("<i2").tobytes())
    study = parse_study(MINE.replace('"edf"', f'"reader:{name}"').replace('"layout"', '"file name"'))

    recordings = read(folder, study)

    np.testing.assert_array_equal(np.stack([one.signal for one in recordings]), waves)
    assert all(any(one.fingerprints) for one in recordings)
