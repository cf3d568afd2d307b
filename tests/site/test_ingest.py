"""What a hospital takes in replaces what it held, at once or not at all, and never under an approved study."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from federation import STUDY

from fedsynth.errors import RecordingError, RefusedError
from fedsynth.plan import plan_of
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.site import ingest as module
from fedsynth.site.approval import approve
from fedsynth.site.holdings import load_holdings
from fedsynth.site.ingest import Ingested, ingest
from fedsynth.study import Study, parse_study

Take = Callable[..., Ingested]


@pytest.fixture(scope="module")
def study() -> Study:
    return parse_study(STUDY.format(trust="site", dishonest=""))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Path:
    place = tmp_path_factory.mktemp("recordings") / "all"
    write_toy_cohort(place, study=study, people=0.1)
    return place


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "east"
    folder.mkdir()
    rules = 'name = "east"\nlargest_epsilon = 20.0\ndevice = "cpu"\n'
    (folder / "site.toml").write_text(rules, encoding="utf-8")
    return folder


@pytest.fixture
def take(site: Path, study: Study) -> Take:
    return lambda folder, **more: ingest(site, folder, study=study, progress=lambda *_: None, **more)


def test_recordings_become_windows_of_people_who_are_counted(take: Take, site: Path, recordings: Path) -> None:
    found = take(recordings / "east")

    holdings = load_holdings(site / "holdings")
    assert found.people == holdings.subjects == len(list((recordings / "east").glob("*.edf")))
    assert found.windows == 2 * found.recordings == sum(found.windows_by_label.values())
    assert set(found.windows_by_label) == {"healthy", "epilepsy"}


def test_a_dry_run_writes_nothing(take: Take, site: Path, recordings: Path) -> None:
    before = sorted(path.name for path in site.iterdir())

    found = take(recordings / "east", dry_run=True)

    assert found.people > 0
    assert sorted(path.name for path in site.iterdir()) == before


def test_what_was_held_before_is_replaced(take: Take, site: Path, recordings: Path) -> None:
    take(recordings / "east")
    before = load_holdings(site / "holdings").tokens

    take(recordings / "west")

    after = load_holdings(site / "holdings").tokens
    assert set(before["train"]) - set(after["train"])
    assert set(after["train"]) - set(before["train"])
    assert sorted(path.name for path in site.glob(".holdings*")) == []


def test_bad_recordings_leave_what_was_held(take: Take, site: Path, recordings: Path, tmp_path: Path) -> None:
    take(recordings / "east")
    before = (site / "holdings" / "people.json").read_bytes()
    (tmp_path / "empty").mkdir()

    with pytest.raises(RecordingError):
        take(tmp_path / "empty")

    assert (site / "holdings" / "people.json").read_bytes() == before


@pytest.mark.parametrize("moment", ["the windows are written", "the old ones are set aside"])
def test_an_interruption_leaves_the_old_windows_or_the_new(
    take: Take, site: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    take(recordings / "east")
    before = (site / "holdings" / "people.json").read_bytes()
    rename, renamed = Path.rename, list[Path]()

    def stop_before_second(self: Path, target: Path) -> Path:
        renamed.append(self)
        if len(renamed) == 1 + (moment == "the old ones are set aside"):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(module.Path, "rename", stop_before_second)
        with pytest.raises(KeyboardInterrupt):
            take(recordings / "west")

    take(recordings / "east")  # whatever was left is tidied up first

    assert (site / "holdings" / "people.json").read_bytes() == before
    assert sorted(path.name for path in site.glob(".holdings*")) == []


def test_nothing_is_replaced_under_an_approved_study(
    take: Take, site: Path, recordings: Path, study: Study
) -> None:
    take(recordings / "east")
    approve(site, run="r1", plan=plan_of(study))

    with pytest.raises(RefusedError, match=r"1 runs stand approved \(r1\).*--withdraw"):
        take(recordings / "west")


def test_reading_does_not_bear_the_memory_of_pytorch() -> None:
    """A quarter of a gigabyte; whoever takes in recordings has no use for it until the quality page."""
    code = "import sys, fedsynth.site.ingest; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
