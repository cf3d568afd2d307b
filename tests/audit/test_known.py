"""An audit knows everybody who is no canary, and holds the windows of few of them at a time."""

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedsynth.audit.canaries import make_canaries, training_units
from fedsynth.audit.known import KnownUnits, with_canaries
from fedsynth.audit.run import Audit, audit
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.store.file import Store
from fedsynth.recordings.store.index import Entry
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.rehearsal.sites import Held, take_sites
from fedsynth.study import Study, parse_study

SITES = ("north", "east")


def silent(*_: object) -> None:
    """Report no progress."""


def study_of(tiny_text: str, unit: str) -> Study:
    study = parse_study(tiny_text.replace("rounds = 1", "rounds = 0"))
    privacy = study.privacy.model_copy(update={"unit": unit})
    cohort = study.cohort.model_copy(update={"sites": SITES})
    return study.model_copy(update={"privacy": privacy, "cohort": cohort})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Path:
    folder = tmp_path_factory.mktemp("sites")
    write_toy_cohort(folder / "in", study=study_of(tiny_text, "subject"), people=0.08)
    return folder / "in"


def held_of(folder: Path, staging: Path, study: Study) -> dict[str, Held]:
    return take_sites(folder, study=study, people=1.0, staging=staging, progress=silent)


class Alive:
    """Counts windows that were read from files and are still held."""

    def __init__(self) -> None:
        self.now = self.most = self.in_all = self.largest = 0

    def watch(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(rows)
        self.in_all += count
        self.largest = max(self.largest, count)
        self.now += count
        self.most = max(self.most, self.now)
        weakref.finalize(rows, self._gone, count)
        return rows

    def _gone(self, count: int) -> None:
        self.now -= count


@pytest.mark.parametrize("unit", ["subject", "recording", "window"])
def test_known_units_are_those_of_recordings_read_as_a_whole(
    tmp_path: Path, folder: Path, tiny_text: str, unit: str
) -> None:
    study = study_of(tiny_text, unit)
    held = held_of(folder, tmp_path, study)["east"]

    known = KnownUnits(held, study=study)
    whole = training_units(read_site(folder / "east", site="east", study=study), study)

    assert len(known) == len(whole) > 5
    for one, other in zip(known.every(1), whole, strict=True):
        for mine, theirs in ((one.signal, other.signal), (one.labels, other.labels)):
            assert torch.equal(mine, theirs)
        assert torch.equal(one.covariates, other.covariates)
    some = [unit.signal for unit in known.every(3, first=1)]
    assert len(some) == len(whole[1::3])
    assert all(torch.equal(mine, theirs.signal) for mine, theirs in zip(some, whole[1::3], strict=True))


def test_canaries_join_a_site_behind_its_people(tmp_path: Path, folder: Path, tiny_text: str) -> None:
    study = study_of(tiny_text, "subject")
    held = held_of(folder, tmp_path, study)["east"]
    canaries = make_canaries(study, count=2, seed="audit", sites=("east",))

    both = with_canaries(held, canaries, study=study)

    known = KnownUnits(both, study=study)
    *_, first, second = known.every(1)
    assert len(known) == len(KnownUnits(held, study=study)) + 2
    assert torch.equal(first.signal, canaries[0].unit.signal)
    assert torch.equal(second.labels, canaries[1].unit.labels)
    assert np.array_equal(both.rows(0), held.rows(0))


@pytest.mark.parametrize("unit", ["subject", "recording", "window"])
def test_known_units_are_held_two_at_a_time_at_most(
    tmp_path: Path, folder: Path, tiny_text: str, unit: str
) -> None:
    study = study_of(tiny_text, unit)
    held, alive = held_of(folder, tmp_path, study)["north"], Alive()
    watched = Held(held.recordings, held.windows, lambda number: alive.watch(held.rows(number)))

    for _ in KnownUnits(watched, study=study).every(1):
        pass

    per_person = 2 * study.windows.per_recording
    assert alive.in_all > 3 * per_person
    assert alive.most <= 2 * per_person


@pytest.mark.slow
def test_an_audit_holds_windows_of_few_people_at_a_time(
    folder: Path, tiny_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is read of the sites' recordings, from the first part to the last answer that is looked at."""
    study, alive = study_of(tiny_text, "subject"), Alive()
    true_rows: Callable[[Store, Entry], NDArray[np.float32]] = Store.rows
    monkeypatch.setattr(Store, "rows", lambda store, entry: alive.watch(true_rows(store, entry)))

    found = audit(Audit(study, sites=folder, canaries=6), progress=silent)

    assert found.answers == 2 * len(SITES)
    per_person = 2 * study.windows.per_recording
    assert alive.in_all > 10 * per_person
    assert alive.most <= 2 * per_person
