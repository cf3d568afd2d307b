"""Publication: from a finished rehearsal to a signed release, after its statement was held against its ledgers."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from fedsynth.coordinator.confirmed import check_words
from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.errors import LedgerError, PrivacyError, RefusedError, VerificationError
from fedsynth.places import check_space, claimed, is_vacant, masked, place_for
from fedsynth.plan import Plan, gradient_steps_of
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.making import ENGINES
from fedsynth.privacy.repricing import reprice
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.progress import Progress
from fedsynth.release.build import build_release
from fedsynth.release.releasable import check_releasable
from fedsynth.release.signature import load_private_key, make_key, public_of
from fedsynth.release.verify import verify_release
from fedsynth.report.page import COPIES
from fedsynth.site.copies import refuse_copies
from fedsynth.site.holdings import load_holdings
from fedsynth.site.ledger_word import histories
from fedsynth.site.policy import load_policy
from fedsynth.site.standing import open_ledger
from fedsynth.source_code import code_in_use
from fedsynth.study import Study


@dataclass(frozen=True)
class Publication:
    """What was published, or would be: `windows` of all labels together."""

    statement: PrivacyStatement
    windows: int
    fingerprint: str


def publish(
    run: RunFolder, out: Path, *, key: Path | None, progress: Progress, dry_run: bool = False
) -> Publication:
    """Write the windows that a finished run drew and scored as a signed release.

    Args:
        run: the finished run.
        out: where the release goes; a release of the same run that verifies is left as it is.
        key: private key (OpenSSH, Ed25519); without it the run's own key is made and used.
        progress: called with (what, done, all).
        dry_run: compare and count only.

    Raises:
        LedgerError: ledger and statement disagree.
        PrivacyError: the run promises nothing, or its plan costs more than its study allows, or its windows
            hold copies of recordings.
        RefusedError: something else stands at `out`, another process makes it, or the code is not the one that the
            sites approved.
        RunError: the release has no place to go.
    """
    statement, study = run.statement(), run.study()
    _check_code(run.plan())
    lengths = run.ledger_lengths()
    if has_ledgers(run):
        for index, site in enumerate(statement.sites):
            _compare(run, site, length=lengths.get(site.site, -1), delta=statement.delta)
            progress("ledgers", index + 1, len(statement.sites))
        _check_charges(run, statement, lengths)
    else:
        check_words(run, statement)
        progress("words of sites", len(statement.sites), len(statement.sites))
    _check_promise(run, statement)
    check_releasable(study, _text(run), sites=[site.site for site in statement.sites])
    total = sum(study.windows_by_label)
    if dry_run:
        place_for(out)
        return Publication(statement, total, "")
    with _only_one(run, out, key):
        return _publish(run, place_for(out), key=key, progress=progress, statement=statement, lengths=lengths)


@contextmanager
def _only_one(run: RunFolder, out: Path, key: Path | None) -> Iterator[None]:
    """Hold the release's place, and the run's own key where that is used, against other processes."""
    own = nullcontext() if key else claimed(run.path / "keys" / "release.key", what="a release with the run's key")
    with masked(0o022), claimed(place_for(out), what="a release"), own:
        yield


def _publish(
    run: RunFolder,
    out: Path,
    *,
    key: Path | None,
    progress: Progress,
    statement: PrivacyStatement,
    lengths: Mapping[str, int],
) -> Publication:
    study = run.study()
    total = sum(study.windows_by_label)
    signing_key = key or _own_key(run)
    done = _already(run, out, signing_key)
    if done is not None:
        return Publication(statement, total, done)
    check_space(out, needed=_bytes_of(study), what=f"a release of {total} windows")
    facts = run.facts()
    windows = run.windows()
    copies = "not looked for here, where no recording is; every site looks before it countersigns"
    if has_ledgers(run):
        progress("looking for copies of recordings", 0, 1)
        refuse_copies([run.site(name) for name in facts.sites], windows)
        progress("looking for copies of recordings", 1, 1)
        copies = "looked for in a sample of the windows, against all that were trained on; none beyond chance"
    steps = 6  # that `build_release` tells of
    told: list[str] = []

    def tell(what: str) -> None:
        told.append(what)
        progress("release", min(len(told), steps), steps)

    plan = run.plan()
    build_release(
        out,
        study=study,
        study_text=_text(run),
        statement=statement,
        windows=windows,
        scores=run.scores(),
        facts={
            "engine": facts.engine,
            "cohort": facts.cohort,
            "sites": str(len(facts.sites)),
            "code": plan.code,
            COPIES: copies,
            "study digest": study.digest,
            "plan digest": plan.digest,
        },
        ledger_lengths=lengths,
        signing_key=signing_key,
        progress=tell,
        files=lambda n, of: progress("writing subjects", n, of),
    )
    return Publication(statement, total, public_of(load_private_key(signing_key)).fingerprint)


def _text(run: RunFolder) -> str:
    return (run.path / "study.toml").read_text(encoding="utf-8")


def _bytes_of(study: Study) -> int:
    """Return about how large a release is: float32 in the archive, 16 bits in EDF or WFDB, and small files."""
    numbers = sum(study.windows_by_label) * len(study.signal.channels)
    files = sum(count // study.release.windows_per_subject + 1 for count in study.windows_by_label)
    return numbers * study.windows.n_times * 6 + files * 3 * 4096 + 10_000_000


def _compare(run: RunFolder, site: SiteStatement, *, length: int, delta: float) -> None:
    """Hold one site's statement against its ledger, and the ledger against the plan."""
    folder, plan = run.site(site.site), run.plan()
    policy, holdings = load_policy(folder), load_holdings(folder / "holdings")
    place = folder / policy.ledger
    if not (place / "ledger.sqlite").exists():
        raise LedgerError(f"the ledger of site {site.site} is missing; nothing was released")
    with open_ledger(folder, policy) as ledger:
        lines = ledger.charges()[:length] if length >= 0 else ()
        head = lines[-1].link if lines else "0" * 64
        if len(lines) != length or head != site.ledger_head:
            raise LedgerError(
                f"the statement of site {site.site} ends at a ledger line that its ledger does not hold; "
                "nothing was released"
            )
    planned = Counter(step.mechanism for step in plan.steps)
    if Counter(line.mechanism for line in lines if line.study == plan.digest) - planned:
        raise LedgerError(
            f"the ledger of site {site.site} holds charges that the plan does not; nothing was released"
        )
    told = histories(lines, run=run.facts().run, plan=plan, holdings=holdings)
    train, held_out = told["train"], told["held-out"]
    if (train, held_out) != (site.events, site.held_out):
        raise LedgerError(f"ledger and statement of site {site.site} list different events; nothing was released")
    spent = max(epsilon_pld(train, delta=delta), epsilon_pld(held_out, delta=delta))
    if not (spent == site.epsilon or abs(spent - site.epsilon) <= 1e-6 * spent):
        raise LedgerError(
            f"the ledger of site {site.site} comes to epsilon {spent:.4f}, its statement says {site.epsilon:.4f}; "
            "nothing was released"
        )


def _charged(run: RunFolder, name: str, *, after: int) -> int:
    """Return how often a site was charged for this run in the lines after the first ones."""
    folder = run.site(name)
    with open_ledger(folder, load_policy(folder)) as ledger:
        return sum(line.nonce.startswith(f"{run.facts().run}:") for line in ledger.charges()[after:])


def _check_code(plan: Plan) -> None:
    """Refuse to draw with other code than the sites approved.

    Raises:
        RefusedError: the code that runs here is another.
    """
    here = code_in_use()
    if plan.code != str(here):
        raise RefusedError(
            f"the sites approved the code {_short(plan.code)}, and {_short(str(here))} would write the windows; "
            "nothing was released. Install the approved version, or rehearse again"
        )


def _short(code: str) -> str:
    version, _, digest = code.partition("+")
    return f"{version} ({digest[:12]})"


def has_ledgers(run: RunFolder) -> bool:
    """Whether the sites' ledgers and recordings are on this machine, as in a rehearsal."""
    return ENGINES[run.facts().engine].is_rehearsal


def _check_charges(run: RunFolder, statement: PrivacyStatement, lengths: Mapping[str, int]) -> None:
    """Refuse a statement that leaves out what a ledger holds of this run."""
    stated, unheard = {site.site for site in statement.sites}, dict(statement.unheard)
    for name in run.facts().sites:
        # A site that fell out before it was asked anything has nothing to state.
        beyond = _charged(run, name, after=lengths.get(name, 0) if name in stated else 0)
        if beyond > unheard.get(name, 0):
            raise LedgerError(
                f"site {name} was charged {beyond} times for this run without a word in the statement; nothing was "
                "released"
            )


def _check_promise(run: RunFolder, statement: PrivacyStatement) -> None:
    asked, facts, plan = run.study().privacy, run.facts(), run.plan()
    if plan.study.digest != run.study().digest:
        raise LedgerError("the run's study is not the one its sites approved; nothing was released")
    made = statement.made
    if (made.engine, made.cohort, made.gradient_steps) != (facts.engine, facts.cohort, gradient_steps_of(plan)):
        raise LedgerError(
            "the statement does not say how the run was made (engine, people, gradient steps); nothing was released"
        )
    stated = {site.site for site in statement.sites}
    if not stated or not stated <= set(facts.sites):
        raise LedgerError("the statement does not cover the sites of the run; nothing was released")
    if statement.is_private:
        statement.check()
        reprice(statement)
    if (statement.unit, statement.delta, statement.trust) != (asked.unit, asked.delta, asked.trust):
        raise LedgerError("the statement's unit, delta or trust is not the study's; nothing was released")
    if not statement.is_private:
        raise PrivacyError(
            "this run was trained with epsilon = infinity; it promises nothing and cannot be released. "
            "Set privacy.epsilon in the study and rehearse again"
        )
    # The statement may come to more: it counts all that the ledgers hold, whoever was asked.
    if plan.epsilon() > asked.epsilon * (1 + 1e-9):
        raise PrivacyError(
            f"the run's plan costs epsilon {plan.epsilon():.3f}, its study allows {asked.epsilon:g}; "
            "nothing was released"
        )


def _own_key(run: RunFolder) -> Path:
    """Return the rehearsal's own key, made at the first release."""
    place = run.path / "keys" / "release.key"
    if not place.exists():
        make_key(place, comment="fedsynth-rehearsal")
        place.parent.chmod(0o700)
    return place


def _already(run: RunFolder, out: Path, key: Path) -> str | None:
    """Return the signer of a release of this very run that stands at `out` and verifies, or None.

    Raises:
        RefusedError: something else stands there.
    """
    if is_vacant(out):
        return None
    try:
        verified = verify_release(out)
    except VerificationError:
        verified = None
    heads = {site.site: site.ledger_head for site in run.statement().sites}
    if (
        verified is not None
        and verified.fingerprint == public_of(load_private_key(key)).fingerprint
        and {point.site: point.head for point in verified.ledgers} == heads
    ):
        return verified.fingerprint
    raise RefusedError(f"{out} is not empty, and it was left as it is; name another --out, or remove it")
