"""Readers: from a site's folder to its recordings. The only door to MNE-Python, opened for EDF files alone.

Messages and logs name a file by its place in name order, never by its name: names, ids and labels come from
people.
"""

import hashlib
import io
import logging
import os
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.signals.edf_header import (
    LONGEST_HEADER,
    EdfHeader,
    check_contiguous,
    choose_signals,
    parse_header,
    plain_header,
)
from fedsynth.signals.gate import check_recording, check_site, copies, samples_of_text
from fedsynth.signals.recording import Recording
from fedsynth.study import LabelPlan, SignalPlan, Study

log = logging.getLogger(__name__)

_SUFFIXES = {"edf": (".edf", ".bdf"), "text": (".txt",)}
_LETTERS_THEN_DIGIT = re.compile(r"([^\W\d_]+)[0-9]")


def read_site(
    folder: Path, *, site: str, study: Study, progress: Callable[[int, int], None] | None = None
) -> list[Recording]:
    """Read and check every recording of a site; nothing is written.

    Files lie in the folder or in folders below it, names that begin with a dot aside; upper and lower case of the
    suffix are equal. `text`: *.txt, one number a line in microvolts; the subject is the file's stem. `edf`: *.edf
    and *.bdf; the subject is the stem up to the first "_" (Brain Imaging Data Structure), and may have several
    files. A label is the letters before the digits of the file name, or stands in the folder's participants.tsv.

    Args:
        folder: of one site.
        site: its name, for messages.
        study: what a recording must look like.
        progress: called with (files done, files in all).

    Returns:
        Recordings in the order of their files' names; those with another label are left out where the study says
        so.

    Raises:
        RecordingError: the first thing that is not as the study says; the message names no one.
    """
    files = _files(folder, study.signal.format)
    if not files:
        wanted = " or ".join(f"*{suffix}" for suffix in _SUFFIXES[study.signal.format])
        raise RecordingError(
            f"site {site!r} holds no recordings: there is no {wanted} file in its folder; give it its recordings, "
            "or leave it out. Nothing was written"
        )
    raw_labels = _participants(folder, study.labels.column, site) if study.labels.source != "file name" else None
    recordings, remarks = [], Counter[str]()
    for number, path in enumerate(files, start=1):
        with _named(folder, site, study.signal.format, number, len(files)):
            subject = path.stem if study.signal.format == "text" else path.stem.split("_")[0]
            label = _label(path, subject, raw_labels, study.labels)
            if label is not None:
                signal, digest, found = _samples(path, study.signal)
                remarks.update(found)
                recording = Recording(signal, study.signal.sfreq, study.signal.channels, subject, label, digest)
                check_recording(recording, n_times=study.windows.n_times)
                recordings.append(recording)
        if progress:
            progress(number, len(files))
    check_site(recordings, site=site, least_subjects=study.cohort.least_subjects)
    if twice := copies(recordings):
        remarks["exactly the samples of another person's recording; one person counted twice is protected less"] = (
            twice
        )
    for remark, count in remarks.items():
        log.warning("site %r: %d of %d recordings have %s", site, count, len(files), remark)
    return recordings


def _files(folder: Path, form: str) -> list[Path]:
    """Return the files of recordings in the order that `LC_ALL=C sort` gives them."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES[form] and not path.name.startswith(".")
    ]
    return sorted(found, key=os.fsencode)


@contextmanager
def _named(folder: Path, site: str, form: str, number: int, total: int) -> Iterator[None]:
    """Put the place of a file before what is wrong with it, and how to find its name behind."""
    try:
        yield
    except RecordingError as error:
        tests = " -o ".join(f"-iname '*{suffix}'" for suffix in _SUFFIXES[form])
        tests = f"'(' {tests} ')'" if " -o " in tests else tests
        place = shlex.quote(f"{folder.absolute().name}/")
        raise RecordingError(
            f"site {site!r}: recording {number} of {total} (in name order): {error}. Nothing was written; beside "
            f"the site's folder, its name is shown by: find {place} {tests} ! -name '.*' | LC_ALL=C sort | "
            f"sed -n {number}p"
        ) from None  # the cause may hold the file's name


def _participants(folder: Path, column: str, site: str) -> dict[str, str]:
    """Return the raw label of every participant."""
    where = f"site {site!r}: participants.tsv"
    try:
        text = (folder / "participants.tsv").read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecordingError(
            f"{where} is missing, and labels.source asks for it; put it into the site's folder. Nothing was written"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(
            f"{where} cannot be read as UTF-8 text ({type(error).__name__}); save it again. Nothing was written"
        ) from None
    rows = [[cell.strip().strip('"') for cell in line.split("\t")] for line in text.split("\n") if line.strip()]
    heads = rows[0] if rows else []
    for wanted in ("participant_id", column):
        if heads.count(wanted) != 1:
            raise RecordingError(
                f"{where} has {heads.count(wanted)} columns {wanted!r}, and one is needed; its first line names "
                "the columns, parted by tabs. Nothing was written"
            )
    labels: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(heads):
            raise RecordingError(
                f"{where}: row {number} has {len(row)} cells, and the first line names {len(heads)} columns; "
                "correct it. Nothing was written"
            )
        person, label = row[heads.index("participant_id")], row[heads.index(column)]
        if labels.setdefault(person, label) != label:
            raise RecordingError(
                f"{where}: row {number} gives a participant another label than a row before it; keep one of them. "
                "Nothing was written"
            )
    return labels


def _label(path: Path, subject: str, raw_labels: dict[str, str] | None, plan: LabelPlan) -> str | None:
    """Return the study's name of a file's label, or None to leave the file out."""
    if raw_labels is None:
        found = _LETTERS_THEN_DIGIT.match(path.stem)
        if found is None:
            raise RecordingError(
                "its name does not begin with letters and then digits, and the letters are the label; rename the "
                "file or move it away"
            )
        raw = found[1]
    elif subject in raw_labels:
        raw = raw_labels[subject]
    else:
        raise RecordingError(
            "it belongs to no row of participants.tsv; add the person's row, or move the file away"
        )
    label = plan.rename.get(raw, raw)
    if label in plan.names:
        return label
    if plan.others == "leave out":
        return None
    raise RecordingError(
        f"its label is not one of the study's names ({', '.join(plan.names)}); correct it, extend labels.rename, "
        'or set labels.others = "leave out"'
    )


def _samples(path: Path, plan: SignalPlan) -> tuple[NDArray[np.float32], str, tuple[str, ...]]:
    """Return a file's samples in microvolts, shape (channel, time), the digest of all its data, and remarks.

    The digest covers the data of every channel, whichever the study picks, and nothing of the header.
    """
    try:
        with path.open("rb") as file:
            if plan.format == "text":
                samples = samples_of_text(file.read())[None]
                return samples, hashlib.sha256(samples.tobytes()).hexdigest(), ()
            header = parse_header(file.read(LONGEST_HEADER), file_size=os.fstat(file.fileno()).st_size)
            chosen = choose_signals(header, channels=plan.channels, sfreq=plan.sfreq)
            file.seek(header.n_bytes)
            data = file.read()
    except OSError as error:
        raise RecordingError(f"it cannot be opened and read ({type(error).__name__}); check the file") from None
    check_contiguous(header, data=data, sfreq=plan.sfreq)
    return _microvolts(header, chosen, data), hashlib.sha256(data).hexdigest(), header.remarks


def _microvolts(header: EdfHeader, chosen: tuple[int, ...], data: bytes) -> NDArray[np.float32]:
    """Have MNE decode the data records, under a header of our own in which nobody is named."""
    import mne  # imported here: a study of text files does not pay for it

    read = mne.io.read_raw_edf if header.format == "EDF" else mne.io.read_raw_bdf
    names = [f"C{number}" for number in range(len(chosen))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = read(
                io.BytesIO(plain_header(header, chosen=chosen) + data),
                include=names,
                stim_channel=None,
                preload=True,
                verbose="ERROR",
            )
            volts = raw.get_data(picks=names, verbose="ERROR")
    except (OSError, ValueError, RuntimeError, TypeError, LookupError, AssertionError) as error:
        raise RecordingError(f"its data cannot be decoded ({type(error).__name__}); export it again") from None
    with np.errstate(over="ignore"):  # the gate refuses what becomes infinite
        return np.ascontiguousarray(volts * 1e6, dtype=np.float32)
