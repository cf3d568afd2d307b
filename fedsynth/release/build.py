"""Build a release: from what a run left behind to a signed folder that verifies, or to nothing at all.

Everything is written beside the final place, guarded, signed and verified there, and moved in one step. The same
facts and the same key give the same bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from fedsynth.errors import PrivacyError, RefusedError, VerificationError
from fedsynth.evaluation.diversity import check_diversity
from fedsynth.evaluation.label_counts import labels_of_nobody
from fedsynth.evaluation.score import Score
from fedsynth.evaluation.templates import check_waves
from fedsynth.places import is_leftover, masked, settle, staging_for
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.attestation import sign_release
from fedsynth.release.binding import check_binding
from fedsynth.release.documents import check_license, write_documents
from fedsynth.release.guard import METRICS, PUBLIC_SOURCES, guard
from fedsynth.release.load import WINDOWS
from fedsynth.release.manifest import read_bounded, sha256_of
from fedsynth.release.provenance import write_provenance
from fedsynth.release.signature import load_private_key, public_of
from fedsynth.release.verify import verify_release
from fedsynth.release.writers.dataset import write_dataset
from fedsynth.report.sample import public_sample
from fedsynth.source_code import code_in_use
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.windows import SyntheticStream, SyntheticWindows


def build_release(
    out: Path,
    *,
    study: Study,
    study_text: str,
    statement: PrivacyStatement,
    windows: SyntheticStream,
    scores: tuple[Score, ...],
    facts: dict[str, str],
    ledger_lengths: Mapping[str, int],
    signing_key: Path,
    progress: Callable[[str], None] | None = None,
    files: Callable[[int, int], None] | None = None,
) -> None:
    """Write, guard, sign and verify a release, then move it to `out`.

    Windows pass through memory in pieces; report and checks look at a bounded sample of them.

    Args:
        out: where the release shall stand; nothing may stand there but an empty folder.
        study: what was agreed.
        study_text: the study file as the parties approved it; must read as `study`.
        statement: what was spent.
        windows: what is drawn.
        scores: how good it is; none may come from real recordings.
        facts: lines for the report, by name.
        ledger_lengths: how many entries each site's ledger holds.
        signing_key: an OpenSSH Ed25519 private key (`signature.make_key`).
        progress: is told each step.
        files: called with (synthetic subjects written, all of them).

    Raises:
        RefusedError: `out` is taken, the key cannot be used, or the windows do not fit the study or are too much
            alike.
        PrivacyError: no privacy is promised, a score comes from real recordings, few templates stand behind the
            windows, or the guard refuses.
        StudyError: the study's text is not the study, or names a licence nobody knows.
        VerificationError: what was written does not verify.
    """
    tell = progress if progress is not None else _quiet
    _check_out(out)
    _check_promise(statement, scores=scores)
    check_license(study)
    _check_study_text(study_text, study=study)
    public_key = public_of(load_private_key(signing_key))
    code = code_in_use()
    # What others may write to could be changed between the guard and the signature.
    with masked(0o022), staging_for(out, private=False) as staging:
        tell("writing the data set")
        stored = write_dataset(staging, windows=windows, study=study, progress=files)
        sample = public_sample(stored)
        archive = sha256_of(staging, WINDOWS)
        found = (check_diversity(sample), check_waves(sample))
        write_documents(
            staging,
            study=study,
            statement=statement,
            windows=stored,
            public_key=public_key,
            doubtful=labels_of_nobody(scores),
        )
        write_provenance(staging, study_text=study_text, code=code)
        tell("writing the report")
        _write_report(
            staging / "report",
            study=study,
            statement=statement,
            scores=(*scores, *(replace(score, windows=archive) for score in found)),
            stored=stored,
            sample=sample,
            facts=facts,
        )
        tell("looking for anything that may not leave")
        guard(staging)
        _check_binding(staging, statement=statement)
        tell("signing")
        sign_release(
            staging,
            key=signing_key,
            statement=statement,
            ledger_lengths=ledger_lengths,
            study=study.name,
            study_digest=study.digest,
            code=code,
            publisher=study.release.publisher,
        )
        tell("verifying")
        verified = verify_release(staging)
        if verified.fingerprint != public_key.fingerprint:
            raise RefusedError("the signing key was exchanged while the release was written; nothing was kept")
        _move(staging, out)
    tell(f"released: {verified.files} files, signed by {verified.fingerprint}")


def _quiet(_: str) -> None:
    return


def _check_out(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise RefusedError("a file or a link stands where the release should go; it was left as it is")
    if out.is_dir() and any(not is_leftover(path) for path in out.iterdir()):
        raise RefusedError(
            "the folder for the release is not empty, and it was left as it is; name another, or remove it first"
        )


def _check_promise(statement: PrivacyStatement, *, scores: tuple[Score, ...]) -> None:
    if not statement.is_private:
        raise PrivacyError(
            "the run was trained with epsilon = infinity: nothing is promised, so nothing can be released. "
            "Nothing was written; rehearse with a finite epsilon"
        )
    statement.check()
    inside = [score.name for score in scores if score.source not in PUBLIC_SOURCES]
    if inside:
        raise PrivacyError(
            f"{len(inside)} of {len(scores)} scores were computed from real recordings without a charge "
            f"({inside[0]}); they belong to the internal report. Nothing was written"
        )


def _check_study_text(text: str, *, study: Study) -> None:
    if parse_study(text, source="the study file of the run").digest != study.digest:
        raise PrivacyError(
            "the study file of the run is not the study that was approved (their digests differ). "
            "Nothing was written; release the run with the file it was rehearsed from"
        )


def _check_binding(folder: Path, *, statement: PrivacyStatement) -> None:
    """Refuse a statement or scores of other windows than those that were written."""
    try:
        metrics = read_bounded(folder, METRICS).decode("utf-8")
        check_binding(statement, metrics=metrics, files={WINDOWS: sha256_of(folder, WINDOWS)})
    except VerificationError as error:
        raise RefusedError(f"{error}. Nothing was signed or published") from error


def _write_report(
    folder: Path,
    *,
    study: Study,
    statement: PrivacyStatement,
    scores: tuple[Score, ...],
    stored: SyntheticStream,
    sample: SyntheticWindows,
    facts: dict[str, str],
) -> None:
    # Imported here: pages need figures, and figures need matplotlib, which nothing else in a release does.
    from fedsynth.report.page import ReportPage, write_report

    write_report(
        folder,
        ReportPage(
            study=study,
            statement=statement,
            scores=scores,
            windows=sample,
            counts=stored.counts(),
            subjects=len(stored.subject_windows),
            facts=facts,
        ),
    )


def _move(staging: Path, out: Path) -> None:
    """Move to where it belongs; a folder that filled up meanwhile is left as it is."""
    try:
        settle(staging, out, last="integrity")
    except OSError as error:
        raise RefusedError(f"the release cannot be moved to its place ({type(error).__name__})") from error
