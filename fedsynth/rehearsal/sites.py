"""Sites on one machine: from folders of recordings to folders of sites, for a rehearsal and for an audit."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fedsynth.errors import RecordingError
from fedsynth.progress import Progress
from fedsynth.recordings.intake import Keeping, hours_told, take_in
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.people import Known
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.site.holdings import keep
from fedsynth.site.policy import Policy
from fedsynth.site.shelves import Labelled, Rows
from fedsynth.site.standing import open_ledger
from fedsynth.study import Study

PARTS = "parts"
"""Below a staging folder: what was read and is not joined yet."""


@dataclass(frozen=True)
class Held:
    """What one site holds: its recordings, the labels of their windows, and what gives the windows of each."""

    recordings: Sequence[Known]
    windows: Labelled
    rows: Rows


def take_sites(
    folder: Path | None,
    *,
    study: Study,
    people: float,
    staging: Path,
    progress: Progress,
    options: SiteOptions | None = None,
    dry: bool = False,
) -> dict[str, Held]:
    """Read, check and window every site's recordings; their windows stand in parts below `staging` meanwhile.

    Args:
        folder: one folder of recordings for each site, or None for the toy cohort.
        study: what they must look like.
        people: how many made-up people, as a share of the usual number.
        staging: where parts go, and the toy cohort's files until they are read.
        progress: called with (what, done, all).
        options: what is said about the folders, beside the study.
        dry: keep no window.

    Raises:
        RecordingError: a site's recordings, or a site without a folder.
        StudyError: the toy cohort cannot serve the study.
    """
    held = {}
    with _cohort(folder, study=study, people=people, staging=staging, progress=progress) as place:
        for name in site_names(place, study):
            parts = None if dry else staging / PARTS / name
            if parts is not None:
                parts.mkdir(parents=True)
            tell = hours_told(progress, f"reading {name}")
            taken = take_in(
                place / name, site=name, study=study, options=options, keeping=Keeping(parts), progress=tell
            )
            held[name] = Held(taken.recordings, taken.labelled, taken.rows)
    return held


@contextmanager
def _cohort(
    folder: Path | None, *, study: Study, people: float, staging: Path, progress: Progress
) -> Iterator[Path]:
    """Yield the folder of sites: the one given, or one of made-up people, which is removed afterwards."""
    if folder is not None:
        yield folder
        return
    place = staging / "toy"
    write_toy_cohort(place, study=study, people=people, progress=partial(progress, "simulating people"))
    yield place
    shutil.rmtree(place)


def site_names(folder: Path, study: Study) -> tuple[str, ...]:
    """Return the names of the sites in a folder that has a folder of recordings for each.

    Raises:
        RecordingError: no folder, or one too few.
    """
    if not folder.is_dir():
        raise RecordingError(f"--sites: {folder} is not a folder; it should hold one folder for each hospital")
    if one := _one_data_set(folder):
        raise RecordingError(
            f"--sites: {folder} holds {one}, so it is one data set and not a folder of hospitals, "
            "and its people would be taken for hospitals. Put it into a hospital's folder, or deal it "
            "(examples/deal.py). Nothing was written or charged"
        )
    found = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if study.cohort.sites:
        missing = [name for name in study.cohort.sites if name not in found]
        if missing:
            raise RecordingError(
                f"the study names site {missing[0]!r}, but {folder} has no such folder among its "
                f"{len(found)}; rename a folder, or correct cohort.sites. Nothing was written or charged"
            )
        return study.cohort.sites
    if len(found) < study.cohort.least_sites:
        raise RecordingError(
            f"{folder} has {len(found)} site folders, and the study needs {study.cohort.least_sites}. "
            "Nothing was written or charged"
        )
    return found


def _one_data_set(folder: Path) -> str | None:
    """Say by what a folder is known to be one data set, None where it is not."""
    for table in ("dataset_description.json", "participants.tsv", "recordings.tsv", "recordings.toml"):
        if (folder / table).is_file():
            return f"a {table}"
    if (folder / "RECORDS").is_file() or (folder / "ptbxl_database.csv").is_file():
        return "a table of recordings"
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if len(names) > 1 and all(re.fullmatch(r"(sub-\w+|PN\d+|chb\d+|P_ID\d+|S\d{3})", name) for name in names):
        return "folders of people"
    return None


def make_site(folder: Path, policy: Policy, held: Held, *, study: Study) -> None:
    """Make a site's folder, with its policy, ledger and holdings."""
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text(policy.to_toml(), encoding="utf-8")
    with open_ledger(folder, policy) as ledger:
        keep(
            folder / "holdings",
            recordings=held.recordings,
            windows=held.windows,
            rows=held.rows,
            study=study,
            key=ledger.key,
        )


def policy_for(name: str, study: Study) -> Policy:
    """Return the rules of a site that allows what the study asks for and nothing else."""
    return Policy(
        name=name,
        largest_epsilon=study.privacy.epsilon,
        largest_delta=study.privacy.delta,
        units=(study.privacy.unit,),
        trust=(study.privacy.trust,),
        families=(study.family.name,),
        allow_batched=True,
    )
