"""What a hospital takes in: a new month is added, the same folder changes nothing, and no name is kept."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation import STUDY

from fedsynth.errors import RecordingError, RefusedError
from fedsynth.recordings import intake, take
from fedsynth.recordings.store.file import StoreWriter
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.site.holdings import load_holdings
from fedsynth.site.ingest import Ingested, ingest
from fedsynth.study import Study, parse_study

Take = Callable[..., Ingested]
CANARY = "Canarywolf"


@pytest.fixture(scope="module")
def study() -> Study:
    return parse_study(STUDY.format(trust="site", dishonest=""))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Path:
    place = tmp_path_factory.mktemp("recordings") / "all"
    write_toy_cohort(place, study=study, people=0.1)
    return place / "east"


@pytest.fixture
def folder(tmp_path: Path, cohort: Path) -> Path:
    return Path(shutil.copytree(cohort, tmp_path / "hospital"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    place = tmp_path / "east"
    place.mkdir()
    (place / "site.toml").write_text('name = "east"\nlargest_epsilon = 20.0\n', encoding="utf-8")
    return place


@pytest.fixture
def run(site: Path, folder: Path, study: Study) -> Take:
    return lambda **more: ingest(site, folder, study=study, progress=lambda *_: None, **more)


def contents(site: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and inode of everything the site keeps, but for its ledger."""
    files = [path for path in (site / "holdings").rglob("*") if path.is_file()]
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in files}


def away(folder: Path, place: Path, count: int) -> list[Path]:
    """Take some recordings away, for later."""
    place.mkdir()
    return [Path(shutil.move(path, place)) for path in sorted(folder.glob("*.edf"))[-count:]]


def by_person(site: Path) -> list[bytes]:
    """The windows of everybody, in an order of their own."""
    found = []
    for group in ("train", "held-out"):
        windows = load_holdings(site / "holdings").at_home(group)
        found += [windows.signal[windows.subjects == one].tobytes() for one in np.unique(windows.subjects)]
    return sorted(found)


def test_the_same_folder_again_changes_nothing_and_is_not_read(run: Take, site: Path) -> None:
    first = run()
    before = contents(site)

    again = run()

    assert contents(site) == before
    assert (first.read, again.read) == (first.recordings, 0)
    assert again.windows_by_label == first.windows_by_label


def test_a_new_month_is_added_behind_what_is_there(run: Take, site: Path, folder: Path, tmp_path: Path) -> None:
    month = away(folder, tmp_path / "later", 3)
    run()
    before = contents(site)
    for path in month:
        shutil.move(path, folder)

    found = run()

    after = contents(site)
    assert found.read == 3
    for name in ("train.windows", "held-out.windows"):
        assert after[name][0].startswith(before[name][0])
        assert after[name][1] == before[name][1]  # the very file
    added = by_person(site)
    shutil.rmtree(site / "holdings")
    run()
    assert by_person(site) == added


def test_who_is_there_no_longer_is_in_no_byte(run: Take, site: Path, folder: Path, tmp_path: Path) -> None:
    run()
    before = by_person(site)
    away(folder, tmp_path / "withdrawn", 1)

    found = run()

    [gone] = set(before) - set(by_person(site))
    assert found.read == 0
    assert not any(gone in data for data, _ in contents(site).values())


def test_one_that_was_broken_off_goes_on(run: Take, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    honest = take.take

    def stop_at_third(job: take.Job, setting: take.Setting) -> take.Outcome:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.number)
        return honest(job, setting)

    with monkeypatch.context() as patch:
        patch.setattr(intake, "take", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not (site / "holdings").exists()

    def noted(job: take.Job, setting: take.Setting) -> take.Outcome:
        done.append(job.number)
        return honest(job, setting)

    monkeypatch.setattr(intake, "take", noted)
    found = run()

    assert sorted(done) == list(range(1, found.recordings + 1))  # nobody twice
    assert sorted(path.name for path in site.glob(".holdings*")) == []


@pytest.mark.parametrize("size", [0, 100, -1])
def test_a_part_that_a_loss_of_power_spoiled_is_read_again(
    run: Take, site: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    run()
    whole = by_person(site)
    shutil.rmtree(site / "holdings")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedsynth.site.ingest._keep", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    parts = sorted((site / ".holdings.parts").glob("*.part"))
    os.truncate(parts[1], size if size >= 0 else parts[1].stat().st_size + size)

    run()

    assert by_person(site) == whole


def test_two_at_once_are_refused(run: Take, site: Path) -> None:
    descriptor = os.open(site, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    with pytest.raises(RefusedError, match="another ingestion"):
        run()

    os.close(descriptor)
    assert run().windows


@pytest.mark.parametrize("when", ["a part", "the store"])
def test_a_full_disk_leaves_what_was_held(
    run: Take, site: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    month = away(folder, tmp_path / "later", 2)
    run()
    before = contents(site)
    for path in month:
        shutil.move(path, folder)
    finish, place = StoreWriter.finish, "parts" if when == "a part" else "new"

    def full(writer: StoreWriter, **how: Any) -> int:
        if f".holdings.{place}" in str(writer._path):
            raise OSError(28, "No space left on device")
        return finish(writer, **how)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", full)
        with pytest.raises(OSError, match="No space"):
            run()

    assert contents(site) == before
    assert run().read == 2


def test_a_dry_run_reads_everything_and_leaves_nothing(run: Take, site: Path) -> None:
    found = run(dry_run=True)

    assert found.windows > 0
    assert [path.name for path in site.iterdir()] == ["site.toml"]


def test_sealed_windows_are_read_under_the_sites_key_alone(run: Take, site: Path, tmp_path: Path) -> None:
    run()
    clear = by_person(site)
    (tmp_path / "key").write_bytes(os.urandom(32))
    with (site / "site.toml").open("a") as rules:
        rules.write(f'windows_key = "{tmp_path / "key"}"\n')

    run()

    assert by_person(site) == clear
    sample = clear[0][:64]
    assert not any(sample in data for data, _ in contents(site).values())
    (tmp_path / "key").write_bytes(os.urandom(32))
    with pytest.raises(RecordingError, match="not its key"):
        load_holdings(site / "holdings").at_home("train")


def test_no_name_is_in_any_byte(run: Take, site: Path, folder: Path) -> None:
    for number, path in enumerate(sorted(folder.glob("*.edf"))):
        data = bytearray(path.read_bytes())
        data[8:88] = f"{CANARY}-{number} F 02-AUG-1951 {CANARY}".encode().ljust(80)
        path.write_bytes(data)
    nested = folder / f"{CANARY}-ward"
    nested.mkdir()
    people = [path.stem.split("_")[0] for path in sorted(folder.glob("*.edf"))]
    for path in sorted(folder.glob("*.edf")):
        shutil.move(path, nested)

    run()

    assert people
    for path in site.rglob("*"):
        assert CANARY not in str(path.relative_to(site))
        data = path.read_bytes() if path.is_file() else b""
        assert not any(name.encode() in data for name in (CANARY, *people))


@pytest.mark.slow
def test_processes_of_their_own_give_the_same(run: Take, site: Path) -> None:
    run()
    alone = by_person(site)
    shutil.rmtree(site / "holdings")

    run(processes=2)

    assert by_person(site) == alone
