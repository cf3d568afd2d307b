"""A short run of the fuzzer, and what it found before; `make fuzz` runs it long."""

from pathlib import Path

import numpy as np
import pytest
from fuzzing.attempt import FaultError, attempt, study_of
from fuzzing.mutate import mutated
from fuzzing.seeds import SEEDS, Site

from fedsynth.errors import RecordingError

NEEDS = {"fif": "mne", "eeglab": "mne", "parquet": "pyarrow", "wfdb flac": "wfdb"}


def site_of(kind: str) -> Site:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    return SEEDS[kind][1]()


def run(kind: str, cases: int, folder: Path, seed: int) -> list[str]:
    site, study = site_of(kind), study_of(SEEDS[kind][0])
    return [
        attempt(mutated(site, np.random.default_rng([seed, number])), study=study, folder=folder)
        for number in range(cases)
    ]


@pytest.mark.parametrize("kind", SEEDS)
def test_a_mutated_site_is_read_right_or_refused_and_nothing_else(tmp_path: Path, kind: str) -> None:
    assert attempt(site_of(kind), study=study_of(SEEDS[kind][0]), folder=tmp_path / "site") == "read"
    answers = run(kind, 25, tmp_path / "site", seed=11)

    assert len(set(answers)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEEDS)
def test_a_thousand_mutated_sites_are_read_right_or_refused(tmp_path: Path, kind: str) -> None:
    answers = run(kind, 1000, tmp_path / "site", seed=12)

    assert "read" in answers
    assert len(set(answers)) > 10


def talkative(*_: object, **__: object) -> None:
    raise RecordingError("Canarywolf has no samples")


EDF = "fedsynth.recordings.readers.edf"
FLAWS = {
    "other samples": (f"{EDF}.microvolts_per_step", lambda *_, **__: (0.5001, 0.0), "differ"),
    "an exception": (f"{EDF}.marks_of", lambda *_, **__: 1 / 0, "ZeroDivisionError"),
    "a canary": (f"{EDF}.marks_of", talkative, "repeats"),
}


@pytest.mark.parametrize("name", FLAWS)
def test_an_attempt_sees_a_flawed_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    where, flaw, said = FLAWS[name]
    monkeypatch.setattr(where, flaw)

    with pytest.raises(FaultError, match=said):
        attempt(site_of("edf"), study=study_of("edf"), folder=tmp_path / "site")


def test_an_attempt_ends_a_reader_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(*_: object, **__: object) -> None:
        while True:
            pass

    monkeypatch.setattr("fuzzing.attempt.SECONDS", 0.2)
    monkeypatch.setattr("fedsynth.recordings.readers.edf.marks_of", forever)

    with pytest.raises(FaultError, match="it takes more than"):
        attempt(site_of("edf"), study=study_of("edf"), folder=tmp_path / "site")
