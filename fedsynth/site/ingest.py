"""Ingest: from a hospital's folder of recordings to the windows that a study may ask for, at the site."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedsynth.errors import RefusedError
from fedsynth.ledger.disk import sync_folder
from fedsynth.progress import Progress
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.windows import windows_of
from fedsynth.site.approval import approved_runs, open_ledger
from fedsynth.site.holdings import holdings_of, keep
from fedsynth.site.policy import load_policy
from fedsynth.study import Study

HOLDINGS = "holdings"
_STAGING, _OLD = ".holdings.new", ".holdings.old"


@dataclass(frozen=True)
class Ingested:
    """What a site holds now, for its own eyes: recordings, people and windows, and windows by label."""

    recordings: int
    people: int
    windows: int
    windows_by_label: dict[str, int]


def ingest(
    site: Path,
    recordings: Path,
    *,
    study: Study,
    options: SiteOptions | None = None,
    progress: Progress,
    dry_run: bool = False,
) -> Ingested:
    """Read, check and window a folder of recordings for a study; what was held before is replaced at once.

    Args:
        site: the site's folder.
        recordings: the hospital's; it is only read.
        study: which windows it asks for.
        options: what the site's people say about the folder.
        progress: called with (what, done, all).
        dry_run: read and check only; write nothing.

    Raises:
        RecordingError: a recording that is not as the study says.
        RefusedError: a study stands approved, which was for the people held now.
        PrivacyError: a recording stands under two names.
    """
    policy = load_policy(site)
    _finish(site)
    if runs := approved_runs(site):
        raise RefusedError(
            f"{len(runs)} runs stand approved ({', '.join(runs[:3])}), for the people who are held now; nothing "
            f"was changed. Let them end, then take each back: fedsynth site approve {runs[0]} --withdraw"
        )
    found = read_site(
        recordings, site=policy.name, study=study, options=options, progress=_named(progress, "reading")
    )
    windows = windows_of(found, study=study, site=policy.name, progress=_named(progress, "cutting windows"))
    counts = np.bincount(windows.labels, minlength=len(windows.label_names))
    by_label = {name: int(count) for name, count in zip(windows.label_names, counts, strict=True)}
    people = len({recording.subject for recording in found})
    if dry_run:
        holdings_of(found, study=study, key=bytes(32))
    else:
        with open_ledger(site, policy) as ledger:
            shutil.rmtree(site / _STAGING, ignore_errors=True)
            keep(site / _STAGING, recordings=found, windows=windows, study=study, key=ledger.key)
        _replace(site)
    return Ingested(len(found), people, len(windows.labels), by_label)


def _replace(site: Path) -> None:
    sync_folder(site / _STAGING)
    if (site / HOLDINGS).exists():
        (site / HOLDINGS).rename(site / _OLD)
    (site / _STAGING).rename(site / HOLDINGS)
    sync_folder(site)
    shutil.rmtree(site / _OLD, ignore_errors=True)


def _finish(site: Path) -> None:
    """Tidy up after an ingestion that was interrupted: what was held before is held still."""
    if (site / _OLD).exists() and not (site / HOLDINGS).exists():
        (site / _OLD).rename(site / HOLDINGS)
    for name in (_OLD, _STAGING):
        shutil.rmtree(site / name, ignore_errors=True)


def _named(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)
