"""Ingest: from a hospital's folder of recordings to the windows that a study may ask for, at the site."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from fedsynth.errors import FedsynthError, RefusedError
from fedsynth.ledger.disk import sync_folder
from fedsynth.ledger.ledger import token
from fedsynth.privacy.mechanism import Group
from fedsynth.progress import Progress
from fedsynth.recordings.intake import Keeping, TakenIn, hours_told, take_in
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.store.file import Store
from fedsynth.recordings.store.index import Entry
from fedsynth.recordings.take import Recorded
from fedsynth.site.holdings import Holdings, group_of_person, load_holdings, windows_key
from fedsynth.site.policy import load_policy
from fedsynth.site.shelves import SUFFIX, Shelved, write_shelf
from fedsynth.site.standing import approved_runs, open_ledger
from fedsynth.study import Study

HOLDINGS = "holdings"
_STAGING, _OLD, _PARTS = ".holdings.new", ".holdings.old", ".holdings.parts"
_GROUPS: tuple[Group, ...] = ("train", "held-out")


@dataclass(frozen=True)
class Ingested:
    """What a site holds now, for its own eyes: recordings, people and windows, and windows by label.

    `hours` are those of its recordings, of which `read` were read this time; the others were held already. `page`
    is where their quality is shown, "" after a dry run.
    """

    recordings: int
    people: int
    windows: int
    windows_by_label: dict[str, int]
    hours: float = 0.0
    read: int = 0
    page: str = ""


@dataclass(frozen=True)
class _Before:
    """What the site held before: the store of each group, the sources of its entries, and entries by source."""

    holdings: Holdings | None = None
    stores: Mapping[Group, Store] = field(default_factory=dict)
    sources: Mapping[Group, list[str]] = field(default_factory=dict)
    held: Mapping[str, tuple[Store, Entry]] = field(default_factory=dict)


def ingest(
    site: Path,
    recordings: Path,
    *,
    study: Study,
    options: SiteOptions | None = None,
    progress: Progress,
    dry_run: bool = False,
    processes: int | None = None,
) -> Ingested:
    """Read, check and window a folder of recordings for a study; what was held before is replaced at once.

    What is held already is not read again: new recordings are added behind it, and nothing is rewritten unless some
    are there no longer. One that was broken off goes on where it was.

    Args:
        site: the site's folder.
        recordings: the hospital's; it is only read.
        study: which windows it asks for.
        options: what the site's people say about the folder.
        progress: called with (what, done, all).
        dry_run: read and check only; write nothing.
        processes: how many read at once; by default as many as are worth it.

    Raises:
        RecordingError: a recording that is not as the study says.
        RefusedError: a study stands approved, for the people held now; or another ingestion goes on.
        PrivacyError: a recording stands under two names.
    """
    policy = load_policy(site)
    with _alone(site), ExitStack() as opened:
        _finish(site, dry_run=dry_run)
        if runs := approved_runs(site):
            raise RefusedError(
                f"{len(runs)} runs stand approved ({', '.join(runs[:3])}), for the people who are held now; "
                "nothing was changed. Let them end, then take each back: "
                f"fedsynth site approve {runs[0]} --withdraw"
            )
        seal = windows_key(site)
        key = secrets.token_bytes(32)
        if not dry_run:
            with open_ledger(site, policy) as ledger:
                key = ledger.key
        before = _Before() if dry_run else _before(site, sealed=seal is not None, opened=opened)
        keeping = Keeping(
            parts=None if dry_run else _parts(site),
            token=partial(token, key),
            group=partial(group_of_person, held_out=study.training.held_out),
            key=seal,
            held=before.held,
        )
        try:
            taken = take_in(
                recordings,
                site=policy.name,
                study=study,
                options=options,
                keeping=keeping,
                progress=hours_told(progress, "reading"),
                processes=processes,
            )
            holdings = holdings_of_taken(site / _STAGING, taken, sealed=seal is not None)
        except FedsynthError:
            shutil.rmtree(site / _PARTS, ignore_errors=True)
            raise
        if dry_run:
            return _told(taken, before, study)
        _keep(site, holdings, taken, before, seal)
        shutil.rmtree(site / _PARTS, ignore_errors=True)
        from fedsynth.site.quality import write_quality  # loads PyTorch, whose memory reading shall not bear

        page = write_quality(site, taken, study, pictures=seal is None)
        return replace(_told(taken, before, study), page=str(page))


def holdings_of_taken(folder: Path, taken: TakenIn, *, sealed: bool) -> Holdings:
    """Return what is kept of recordings beside their windows; writes nothing.

    Raises:
        PrivacyError: a recording stands under two names, one in each group.
    """
    tokens: dict[Group, set[str]] = {group: set() for group in _GROUPS}
    for one in taken.recordings:
        tokens[_group(one)] |= {one.subject, *one.known_by}
    told = taken.labelled
    trains = np.array([_group(one) == "train" for one in taken.recordings], dtype=bool)
    there = set(told.labels[trains[told.recordings]].tolist())
    holdings = Holdings(
        folder=folder,
        tokens={group: tuple(sorted(mine)) for group, mine in tokens.items()},
        subjects=len({one.subject for one in taken.recordings}),
        labels=tuple(name for number, name in enumerate(told.label_names) if number in there),
        sealed=sealed,
    )
    holdings.check()
    return holdings


def _keep(site: Path, holdings: Holdings, taken: TakenIn, before: _Before, seal: bytes | None) -> None:
    """Write the stores into a folder beside the old one, which it then replaces; nothing where nothing is new."""
    sources = {one.source for one in taken.recordings}
    added = before.holdings is not None and set(before.held) <= sources
    if added and sources == set(before.held) and before.holdings.tokens == holdings.tokens:  # type: ignore[union-attr]
        return
    staging = site / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700)
    ends: dict[Group, int] = {}
    people = {one.source: person for one, person in zip(taken.recordings, taken.people, strict=True)}
    try:
        for group in _GROUPS:
            shelf = [
                Shelved(
                    number, taken.people[number], one.labels[: 0 if copy else None], one.to_bytes(), one.covariates
                )
                for number, (one, copy) in enumerate(zip(taken.recordings, taken.copies, strict=True))
                if _group(one) == group and not (added and one.source in before.held)
            ]
            after = None
            if added:
                store = before.stores[group]
                _link(site / HOLDINGS / f"{group}{SUFFIX}", staging / f"{group}{SUFFIX}")
                after = (store, [people[source] for source in before.sources[group]])
                if not shelf:
                    ends[group] = store.end
                    continue
            ends[group] = write_shelf(
                staging / f"{group}{SUFFIX}", shelf, shape=taken.shape, rows=taken.rows, seal=seal, after=after
            )
        holdings.ends.update(ends)
        holdings.write()
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _replace(site)


def _told(taken: TakenIn, before: _Before, study: Study) -> Ingested:
    labels = taken.labelled.labels
    counts = np.bincount(labels, minlength=len(study.labels.names))
    seconds = sum(one.n_times for one in taken.recordings) / study.signal.rate_as_recorded
    return Ingested(
        recordings=len(taken.recordings),
        people=len({one.subject for one in taken.recordings}),
        windows=len(labels),
        windows_by_label={name: int(n) for name, n in zip(study.labels.names, counts, strict=True)},
        hours=round(seconds / 3600, 3),
        read=sum(one.source not in before.held for one in taken.recordings),
    )


def _before(site: Path, *, sealed: bool, opened: ExitStack) -> _Before:
    """Open what the site holds; nothing of it counts where it cannot be opened as it should be."""
    try:
        holdings = load_holdings(site / HOLDINGS)
        if holdings.sealed != sealed:
            return _Before()
        stores = {group: holdings.store(group) for group in _GROUPS}
        for store in stores.values():
            opened.enter_context(store.file)
        sources = {
            group: [Recorded.from_bytes(store.facts(e), labels=e.labels).source for e in store.index.entries]
            for group, store in stores.items()
        }
    except (FedsynthError, OSError, ValueError, KeyError):
        return _Before()
    held = {
        source: (store, entry)
        for group, store in stores.items()
        for source, entry in zip(sources[group], store.index.entries, strict=True)
    }
    return _Before(holdings, stores, sources, held)


def _group(one: Recorded) -> Group:
    return "held-out" if one.group == "held-out" else "train"


def _parts(site: Path) -> Path:
    parts = site / _PARTS
    parts.mkdir(mode=0o700, exist_ok=True)
    return parts


def _link(old: Path, new: Path) -> None:
    """Give a store a second name; copy it where the file system knows no such thing."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)
        new.chmod(0o600)


def _replace(site: Path) -> None:
    sync_folder(site / _STAGING)
    if (site / HOLDINGS).exists():
        (site / HOLDINGS).rename(site / _OLD)
    (site / _STAGING).rename(site / HOLDINGS)
    sync_folder(site)
    shutil.rmtree(site / _OLD, ignore_errors=True)


def _finish(site: Path, *, dry_run: bool) -> None:
    """Tidy up after an ingestion that was interrupted: what was held before is held still.

    Parts of recordings that were read stay, for whoever goes on.
    """
    if (site / _OLD).exists() and not (site / HOLDINGS).exists():
        (site / _OLD).rename(site / HOLDINGS)
    if dry_run:
        return
    for name in (_OLD, _STAGING):
        shutil.rmtree(site / name, ignore_errors=True)


@contextmanager
def _alone(site: Path) -> Iterator[None]:
    """Keep other ingestions away.

    Raises:
        RefusedError: one goes on.
    """
    descriptor = os.open(site, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(
                "another ingestion goes on at this site; nothing was changed. Wait until it has ended"
            ) from None
        yield
    finally:
        os.close(descriptor)
