"""Canaries: what stands in headers, annotations, comments, names and tables is in no byte that is kept or said."""

import base64
import gzip
import io
import json
import logging
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzzing.attempt import STUDY, study_of
from fuzzing.seeds import CANARY, SEEDS, Site
from traces import expanded, forms_of, traces_below, traces_in

from fedsynth.cli.main import main
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.windows import windows_of
from fedsynth.site.holdings import keep

NEEDS = {"fif": "mne", "parquet": "pyarrow", "wfdb flac": "wfdb"}
OWN_NAMES = {"siena": b"PN00", "chb-mit": b"chb01"}
"""Kinds whose names of people follow a rule of their own; the canary stands above them."""
PEOPLE = 4
ONE_LABEL = ("rows", "wfdb segments")
"""Kinds whose recordings all have one label, for which no study trains."""
QUICK = ("edf", "wfdb 16", "brainvision", "npz")


def planted(kind: str) -> Site:
    """Return a site of four people; every name, field, text and cell that is free to choose holds the canary."""
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    out: Site = {}
    for number in range(PEOPLE):
        old = OWN_NAMES.get(kind, b"sub-a")
        new = old[:-2] + b"%02d" % (number + 1) if kind in OWN_NAMES else b"sub-%sx%d" % (CANARY.encode(), number)
        for name, data in SEEDS[kind][1](number + 1).items():
            place = name.replace(old.decode(), new.decode()).replace("s_", f"s{number}_")
            if name == "list.csv":
                out[name] = out.get(name, b"recording,who,kind\n") + data.split(b"\n")[1].replace(old, new) + b"\n"
            elif name == "recordings.toml":
                out[name] = data
            else:
                above = f"{CANARY} {number}/" if kind in OWN_NAMES else ""
                out[above + place] = data.replace(old, new).replace(b"s_", b"s%d_" % number)
    if kind == "rows":
        tables = [data.replace(b"V1.1", b"%s.%d" % (CANARY.encode(), i)) for i, data in enumerate(out.values())]
        return {f"{CANARY}.csv": tables[0] + b"".join(b"\n" + x.split(b"\n", 1)[1] for x in tables[1:])}
    head = f"participant_id\tgroup\t{CANARY}\n"
    rows = "".join(f"sub-{CANARY}x{number}\ttask\t{CANARY}\n" for number in range(PEOPLE))
    return out | {"participants.tsv": (head + rows).encode(), f"{CANARY}.txt.bak": CANARY.encode()}


def put(folder: Path, site: Site) -> Path:
    for name, data in site.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def study_text(form: str) -> str:
    text = STUDY.replace("FORMAT", form)
    if form in ("text", "rows"):
        text = text.replace('"C3", "C4"', '"C3"')
    return (
        text.replace('source = "intervals"', 'source = "layout"').replace('background = "rest"\n', "")
        if (form == "rows")
        else text
    )


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it said."""
    monkeypatch.setattr(sys, "argv", ["fedsynth", *map(str, words)])
    capsys.readouterr()
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in SEEDS]
)
def test_no_canary_is_kept_logged_or_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    form = SEEDS[kind][0]
    study = study_of(form)
    for site in ("north", "south"):
        put(tmp_path / "in" / site, planted(kind))
    assert traces_below(tmp_path / "in", CANARY)
    with caplog.at_level(logging.DEBUG):
        recordings = read_site(tmp_path / "in" / "north", site="north", study=study)
        windows = windows_of(recordings, study=study, site="north")
        keep(tmp_path / "out", recordings=recordings, windows=windows, study=study, key=bytes(32))
    assert len(recordings) == PEOPLE
    (tmp_path / "study.toml").write_text(study_text(form))
    command = ("rehearse", tmp_path / "study.toml", "--sites", tmp_path / "in", "--dry-run")

    good = run(capsys, monkeypatch, *command)
    as_json = run(capsys, monkeypatch, *command, "--json")
    spoilt = max(
        (path for path in (tmp_path / "in/south").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    spoilt.write_bytes(CANARY.encode() * 40)
    bad = run(capsys, monkeypatch, *command)

    expected = 2 if kind in ONE_LABEL else 0
    assert (good[0], as_json[0], bad[0]) == (expected, expected, 2), good[1] + bad[1]
    said = "".join((good[1], as_json[1], bad[1], caplog.text, repr(recordings), repr(windows)))
    assert traces_in(said.encode(), CANARY) == []
    assert traces_below(tmp_path / "out", CANARY) == []


@pytest.mark.slow
def test_no_canary_of_any_format_is_in_a_run_or_in_its_release(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    own_state: Path,
) -> None:
    """One federation, of a site for each format, from recordings to a release that verifies."""
    kinds = [kind for kind in SEEDS if kind != "rows" and _has(kind)]
    for number, kind in enumerate(kinds):
        folder = put(tmp_path / "in" / f"site-{number}", planted(kind))
        page = folder / "recordings.toml"
        page.write_text(f'format = "{SEEDS[kind][0]}"\n' + (page.read_text() if page.exists() else ""))
    text = study_text("text").replace("least_subjects = 1", "least_subjects = 4\nexpected_units = 4")
    text = text.replace("epsilon = 1.0", "epsilon = 8.0").replace("per_recording = 3", "per_recording = 3\n")
    text += "[plan]\nrounds = 1\nlocal_steps = 1\n[release]\nwindows_per_label = 12\nwindows_per_subject = 6\n"
    (tmp_path / "study.toml").write_text(text)

    with caplog.at_level(logging.DEBUG):
        words = ("rehearse", tmp_path / "study.toml", "--sites", tmp_path / "in", "--out", tmp_path / "run")
        rehearsed = run(capsys, monkeypatch, *words)
        assert rehearsed[0] == 0, rehearsed[1]
        released = run(capsys, monkeypatch, "release", tmp_path / "run", "--out", tmp_path / "release")
        verified = run(capsys, monkeypatch, "verify", tmp_path / "release")

    assert (released[0], verified[0]) == (0, 0), released[1] + verified[1]
    said = rehearsed[1] + released[1] + verified[1] + caplog.text
    assert traces_in(said.encode(), CANARY) == []
    for place in (tmp_path / "run", tmp_path / "release", own_state):
        assert traces_below(place, CANARY) == []
    assert len(list((tmp_path / "run").rglob("*"))) > 20


def _has(kind: str) -> bool:
    return kind not in NEEDS or bool(__import__("importlib.util").util.find_spec(NEEDS[kind]))


def _npz(word: str) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, inside=np.array([word]))
    return file.getvalue()


def _zip(word: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{word}.txt", "x")
    return file.getvalue()


HIDDEN: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda word: f"xx{word}yy".encode(),
    "in capitals": lambda word: word.upper().encode(),
    "UTF-16": lambda word: f"xx{word}".encode("utf-16"),
    "base64": lambda word: base64.b64encode(f"xx{word}yy".encode()),
    "base64 at another place": lambda word: base64.b64encode(f"x{word}y".encode()),
    "base64 at a third place": lambda word: base64.b64encode(f"{word}yyyy".encode()),
    "hexadecimal": lambda word: word.encode().hex().upper().encode(),
    "JSON": lambda word: json.dumps({"x": word}).replace("C", "\\u0043").encode().replace(b"\\u0043", b"C"),
    "JSON escapes": lambda word: "".join(f"\\u{ord(x):04X}" for x in word).encode(),
    "a compressed array": _npz,
    "a name within an archive": _zip,
    "gzip": lambda word: gzip.compress(word.encode()),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_a_canary_is_found_however_it_is_hidden(tmp_path: Path, form: str) -> None:
    (tmp_path / "file.bin").write_bytes(HIDDEN[form](CANARY))

    assert traces_below(tmp_path, CANARY)
    assert not traces_below(tmp_path, "Sparrowfox")
    shutil.rmtree(tmp_path)
    (tmp_path / CANARY).mkdir(parents=True)
    assert traces_below(tmp_path, CANARY) == [f"{CANARY}: name"]
    assert len(set(forms_of(CANARY).values())) >= 10
    assert list(expanded(b"plain")) == [b"plain"]
