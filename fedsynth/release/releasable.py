"""Whether a study can ever be released: from its public texts and counts to nothing, or to the reason why not.

What a release of the study would hold is written with stand-ins for everything that only a run knows, by the
writers of a release, and shown to the guard. So a study that would be refused in the end is refused at the start,
before a recording is opened or anybody is charged.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from fedsynth.errors import FedsynthError, StudyError
from fedsynth.evaluation.diversity import check_diversity
from fedsynth.evaluation.label_counts import label_counts
from fedsynth.evaluation.score import Score
from fedsynth.privacy.making import Making
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.release.documents import write_documents
from fedsynth.release.guard import forbidden_in, guard
from fedsynth.release.manifest import build_manifest, format_manifest
from fedsynth.release.provenance import write_provenance
from fedsynth.release.signature import PublicKey
from fedsynth.release.writers.dataset import check_fits, write_dataset
from fedsynth.report.sample import MOST_WINDOWS, public_sample
from fedsynth.rng import numpy_generator
from fedsynth.source_code import Code
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.generator import subject_sizes
from fedsynth.synthesis.windows import SyntheticStream, SyntheticWindows

_A_FEW = 2  # windows of a label in the trial release
_CODE = Code("0", "0" * 64)


def check_releasable(study: Study, study_text: str, *, sites: Sequence[str] = ()) -> None:
    """Refuse a study of which no release could ever be signed.

    A study without privacy passes: it is rehearsed to look at, and everybody says that it is not released.

    Args:
        study: what was agreed.
        study_text: its file, which a release keeps with its comments.
        sites: the sites' names, where the study leaves them open.

    Raises:
        StudyError: with what stands in the way, and where in the study. Nothing was opened or charged.
    """
    if not study.privacy.is_private:
        return
    try:
        if parse_study(study_text).digest != study.digest:
            _refuse(study, "the text of the study file is not this study")
        _check_texts(study, study_text, sites=sites)
        check_fits(_drawn(study, counts=study.windows_by_label), study=study)
        check_diversity(_waves(min(max(study.windows_by_label), MOST_WINDOWS), range_uv=study.signal.range_uv))
        with tempfile.TemporaryDirectory(prefix="fedsynth-trial-") as folder:
            _write_trial(Path(folder), study=study, study_text=study_text, sites=sites)
            guard(Path(folder))
            format_manifest(build_manifest(Path(folder)))
    except StudyError:
        raise
    except FedsynthError as error:
        _refuse(study, str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        _refuse(study, f"its files cannot be written ({type(error).__name__}: {error})")


def _check_texts(study: Study, study_text: str, *, sites: Sequence[str]) -> None:
    """Name the place of what the guard would find, which sees the texts only when they are joined."""
    texts = {
        "title": study.title,
        "name": study.name,
        "release.publisher": study.release.publisher,
        **{f"label {name!r}": name for name in study.labels.names},
        **{f"site {number}": name for number, name in enumerate((*study.cohort.sites, *sites), start=1)},
    }
    for place, text in texts.items():
        if found := forbidden_in(text):
            _refuse(study, f"{place} {found}")
    for number, line in enumerate(study_text.splitlines(), start=1):
        if found := forbidden_in(line, is_study=True):
            _refuse(study, f"line {number} of the study file, which a release keeps, {found}")


def _write_trial(folder: Path, *, study: Study, study_text: str, sites: Sequence[str]) -> None:
    # Imported here: pages need figures, and figures need matplotlib, which takes a while to load.
    from fedsynth.report.page import ReportPage, write_report

    names = tuple(sites) or study.cohort.sites or ("site-1", "site-2")
    statement = _statement(study, sites=names)
    few = [min(count, _A_FEW) for count in study.windows_by_label]
    stored = write_dataset(folder, windows=_drawn(study, counts=few), study=study)
    write_documents(
        folder,
        study=study,
        statement=statement,
        windows=stored,
        public_key=PublicKey(bytes(32)),
        doubtful=study.labels.names,
    )
    write_provenance(folder, study_text=study_text, code=_CODE)
    page = ReportPage(
        study=study,
        statement=statement,
        scores=_scores(study),
        windows=public_sample(stored),
        counts=stored.counts(),
        subjects=len(stored.subject_windows),
        facts={"engine": "in-process", "sites": str(len(names)), "code": str(_CODE), "study digest": study.digest},
    )
    write_report(folder / "report", page)


def _drawn(study: Study, *, counts: Sequence[int]) -> SyntheticStream:
    """Return as many windows as would be drawn, as noise; they exist when somebody asks for them."""
    sizes = [subject_sizes(count, study.release.windows_per_subject) for count in counts]
    shape = (len(study.signal.channels), study.windows.n_times)

    def pieces() -> Iterator[NDArray[np.float32]]:
        rng = numpy_generator("trial release")
        for _ in range(sum(counts)):
            yield rng.normal(0, study.signal.range_uv / 6, (1, *shape)).astype(np.float32)

    return SyntheticStream(
        subject_labels=np.repeat(np.arange(len(counts)), [len(of_label) for of_label in sizes]),
        subject_windows=np.concatenate(sizes),
        label_names=study.labels.names,
        channels=study.signal.channels,
        sfreq=study.signal.sfreq,
        n_times=study.windows.n_times,
        pieces=pieces,
        conditions=study.condition_values,
        subject_strata=np.arange(sum(map(len, sizes))) % math.prod(study.strata),
        statements=study.statements.names if study.statements else (),
        subject_statements=np.ones((sum(map(len, sizes)), study.n_statements), np.int64)
        if study.statements
        else None,
    )


def _waves(count: int, *, range_uv: float) -> SyntheticWindows:
    """Return windows as loud as they may be that have nothing in common: where these are too few, any are."""
    signs = numpy_generator("trial waves").choice((-1.0, 1.0), (count, 1, 256))
    signal = (range_uv * signs).astype(np.float32)
    numbers = np.arange(count)
    return SyntheticWindows(signal, np.zeros(count, np.int64), numbers, ("any",), ("any",), 128.0)


def _statement(study: Study, *, sites: Sequence[str]) -> PrivacyStatement:
    asked = study.privacy
    event = Mechanism("sum", 1e4, 1.0, 1, 1.0, unit=asked.unit)
    told = [
        SiteStatement(name, asked.epsilon, asked.epsilon, asked.delta, "0" * 64, (event,), ()) for name in sites
    ]
    return PrivacyStatement(
        epsilon=asked.epsilon,
        delta=asked.delta,
        unit=asked.unit,
        adjacency="add-or-remove-one",
        trust=asked.trust,
        accountant="first accountant",
        second_accountant="second accountant",
        composes="this run only",
        overlap="none",
        assumes="the code at the sites",
        made=Making(0, "in-process", "recordings", "0" * 64),
        sites=tuple(told),
    )


def _scores(study: Study) -> tuple[Score, ...]:
    names, unit = study.labels.names, study.privacy.unit
    name = f"AUROC, {study.labels.positive} against the rest"
    auroc = Score(name, 0.5, 0.4, 0.6, 1, "private sum", ".5 is chance")
    return (auroc, *label_counts(torch.zeros(len(names)), noise_std=1.0, label_names=names, unit=unit))


def _refuse(study: Study, why: str) -> NoReturn:
    # The writers speak of what stands on the disk; here, nothing does.
    why = why.split(". Nothing was ")[0].split("; nothing was ")[0].rstrip(".")
    raise StudyError(
        f"{study.name} could be rehearsed and paid for, and never be released: {why}. "
        "Nothing was opened or charged; change the study"
    )
