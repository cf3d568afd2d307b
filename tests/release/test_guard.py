import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import PrivacyError
from fedsynth.release.guard import guard

METRICS = "report/metrics.json"
STATEMENT = "privacy/statement.json"
STUDY = "provenance/study.toml"
PEM = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n"


@pytest.fixture
def unsigned(pristine: Path, tmp_path: Path) -> Path:
    """A release as the guard meets it: written, not signed."""
    folder = Path(shutil.copytree(pristine, tmp_path / "unsigned"))
    for name in ("SHA256SUMS", "SHA256SUMS.sig", "release.dsse.json"):
        (folder / "integrity" / name).unlink()
    return folder


def test_what_a_release_is_made_of_passes(unsigned: Path) -> None:
    guard(unsigned)


def write(name: str, data: str | bytes = "x\n") -> Callable[[Path], object]:
    def run(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return run


def append(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


def number(**exchanged: object) -> Callable[[Path], object]:
    """Add one number to the report's metrics."""
    fields = {"name": "coverage", "value": 0.5, "source": "synthetic"} | exchanged

    def run(folder: Path) -> None:
        body = json.loads((folder / METRICS).read_text())
        body.append({key: value for key, value in fields.items() if value is not None})
        (folder / METRICS).write_text(json.dumps(body))

    return run


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def run(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return run


def npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name: np.asarray(array) for name, array in arrays.items()})
    return stream.getvalue()


MUTATIONS = [
    pytest.param(number(source="real"), "computed from real", id="real: a score"),
    pytest.param(number(inner={"source": "real"}), "computed from real", id="real: deeper down"),
    pytest.param(number(source="REAL "), "computed from real", id="real: spelled otherwise"),
    pytest.param(number(source="held-out recordings"), "source nobody knows", id="real: under another word"),
    pytest.param(number(source=None), "does not say where", id="real: a number without a source"),
    pytest.param(lambda f: (f / METRICS).unlink(), "is missing", id="real: no metrics to look at"),
    pytest.param(write(METRICS, "{"), "is not JSON", id="real: metrics that cannot be read"),
    pytest.param(write("noise_seed.txt"), "named like a seed", id="seed: a file"),
    pytest.param(write("seeds/a.txt"), "named like a seed", id="seed: a folder"),
    pytest.param(write("report/more.json", '{"noise_seed": 4}'), "looks like a seed", id="seed: a key"),
    pytest.param(
        write("report/more.json", '[{"a": {"torchSeed": "x"}}]'), "like a seed", id="seed: a key deeper down"
    ),
    pytest.param(write("report/more.json", '{"draw_seed": 4}'), "like a seed", id="seed: the draw's, elsewhere"),
    pytest.param(append(STUDY, "\nnoise_seed = 4\n"), "looks like a seed", id="seed: in the study"),
    pytest.param(
        append(STUDY, "\n[plan]\ndraw_seed = 4\n"), "like a seed", id="seed: the draw's, in another table"
    ),
    pytest.param(append("README.md", "\nnoise seed: 0x12\n"), "like a seed", id="seed: in prose"),
    pytest.param(append("report/index.html", "<p>seed = 12</p>"), "like a seed", id="seed: in the page"),
    pytest.param(write("internal/notes.md"), "inside of a run", id="inside: internal"),
    pytest.param(write("report/Internal/a.md"), "inside of a run", id="inside: internal, deeper and in capitals"),
    pytest.param(write("sites/north/a.json", "{}"), "inside of a run", id="inside: sites"),
    pytest.param(write("ledger.sqlite", b"SQLite"), "inside of a run", id="inside: a ledger"),
    pytest.param(write("ledger.sqlite-wal", b"x"), "inside of a run", id="inside: a ledger's log"),
    pytest.param(write("provenance/publisher.key"), "inside of a run", id="inside: a key by name"),
    pytest.param(append("README.md", PEM), "private key", id="inside: a key in text"),
    pytest.param(
        write("data/ml/windows.npz", b"\0" * (1024**2 - 24) + PEM.encode()),
        "private key",
        id="inside: a key across two pieces of a binary file",
    ),
    pytest.param(edit(STATEMENT, '"epsilon": 3.5', '"epsilon": "inf"'), "not finite", id="epsilon: the word inf"),
    pytest.param(edit(STATEMENT, '"epsilon": 3.5', '"epsilon": Infinity'), "not finite", id="epsilon: Infinity"),
    pytest.param(edit(STATEMENT, '"epsilon": 3.5', '"epsilon": NaN'), "not finite", id="epsilon: NaN"),
    pytest.param(edit(STATEMENT, '"epsilon": 3.5', '"epsilon": null'), "not finite", id="epsilon: null"),
    pytest.param(edit(STUDY, "epsilon = 4.0", "epsilon = inf"), "not finite", id="epsilon: in the study"),
    pytest.param(number(name="epsilon", value="inf"), "not finite", id="epsilon: in the report"),
    pytest.param(lambda f: (f / STATEMENT).unlink(), "is missing", id="epsilon: no statement"),
    pytest.param(append("README.md", "\nsee /home/ada/run/7\n"), "absolute path", id="path: a home"),
    pytest.param(append(STUDY, '\n# from "/data/north/rec.edf"\n'), "absolute path", id="path: in a comment"),
    pytest.param(write("report/more.json", '{"out": "/srv/x"}'), "absolute path", id="path: in JSON"),
    pytest.param(append("report/index.html", "<td>/mnt/eeg/a</td>"), "absolute path", id="path: in the page"),
    pytest.param(append("README.md", "\n/tmp\n"), "absolute path", id="path: short"),
    pytest.param(append("README.md", "\nC:\\Users\\ada\n"), "absolute path", id="path: Windows"),
    pytest.param(append("README.md", "\n\\\\server\\share\n"), "absolute path", id="path: a share"),
    pytest.param(append("README.md", "\nfile://x\n"), "absolute path", id="path: an address"),
    pytest.param(write("a.pkl", b"\x80"), "of a kind", id="kind: pickle"),
    pytest.param(write("a.pt", b"PK"), "of a kind", id="kind: weights"),
    pytest.param(write("a.safetensors", b""), "of a kind", id="kind: weights, too"),
    pytest.param(write("run.log"), "of a kind", id="kind: a log"),
    pytest.param(write("README"), "of a kind", id="kind: no suffix"),
    pytest.param(write("a.md.exe"), "of a kind", id="kind: two suffixes"),
    pytest.param(write("report/a.md", b"\xff\xfe"), "not UTF-8", id="kind: binary under a text's name"),
    pytest.param(write("sub-07/eeg/sub-07_task-rest_eeg.edf", b"0"), "signal file", id="signal: a person's EDF"),
    pytest.param(
        write("sub-syn0001/eeg/sub-syn0002_task-synthetic_eeg.edf", b"0"), "signal file", id="signal: misplaced"
    ),
    pytest.param(write("data/ml/real.npz", npz(X=[1.0])), "signal file", id="signal: another archive"),
    pytest.param(write("data/ml/real.parquet", b"PAR1"), "signal file", id="signal: another table"),
    pytest.param(write("wfdb/100.atr", b"0"), "signal file", id="signal: a person's annotations"),
    pytest.param(
        write("sub-07/eeg/sub-07_task-rest_events.tsv"), "a table at a place", id="table: a person's events"
    ),
    pytest.param(write("sub-syn0001/eeg/sub-syn0002_task-synthetic_events.tsv"), "a table", id="table: misplaced"),
    pytest.param(write("data/real.tsv"), "a table at a place", id="table: another"),
    pytest.param(lambda f: (f / "x.md").symlink_to("README.md"), "symbolic link", id="odd: a link"),
    pytest.param(lambda f: os.link(f / "README.md", f / "x.md"), "hard link", id="odd: a hard link"),
    pytest.param(lambda f: os.mkfifo(f / "x.md"), "not a regular file", id="odd: a pipe"),
    pytest.param(lambda f: (f / "data/empty").mkdir(), "empty folder", id="odd: an empty folder"),
]


@pytest.mark.parametrize(("mutate", "cause"), MUTATIONS)
def test_a_mutated_release_is_refused_with_exit_code_3(
    unsigned: Path, mutate: Callable[[Path], object], cause: str
) -> None:
    mutate(unsigned)

    with pytest.raises(PrivacyError, match=cause) as caught:
        guard(unsigned)

    assert caught.value.exit_code == 3
    assert "0.5" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("doi https://doi.org/10.3389/fnins.2013.00267 and/or 3/4 uV/Hz", id="addresses and fractions"),
        pytest.param(
            '<a href="https://a.org/b/c">x</a><br/><svg viewBox="0 0 1 1"><path d="M0 0"/></svg>', id="HTML"
        ),
        pytest.param("No noise seed is in this folder; nobody needs a seed to verify it.", id="prose about seeds"),
        pytest.param(
            "SHA256:/abc/defABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abc", id="a fingerprint that begins with /"
        ),
        pytest.param("url(data:font/woff2;base64,/9j/4AAQ/SkZJRg==)", id="an embedded picture"),
        pytest.param("sub-syn*/eeg/*.edf and `data/ml/windows.npz`", id="relative paths"),
        pytest.param("ssh-keygen -s integrity/SHA256SUMS.sig < integrity/SHA256SUMS", id="a command"),
    ],
)
def test_harmless_text_passes(unsigned: Path, text: str) -> None:
    append("README.md", f"\n{text}\n")(unsigned)

    guard(unsigned)


def test_a_site_can_name_more_that_is_internal(unsigned: Path) -> None:
    with pytest.raises(PrivacyError, match="inside of a run"):
        guard(unsigned, internal=("papers", "licen?e"))
