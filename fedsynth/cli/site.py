"""`fedsynth site`: what a hospital sees of its own side."""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsynth.cli import consent, countersign, hospital, upkeep

if TYPE_CHECKING:
    from fedsynth.ledger.chain import Charge
    from fedsynth.ledger.ledger import Ledger
    from fedsynth.privacy.mechanism import Mechanism

app = typer.Typer(
    help="A hospital's own side: its keys, what it approves, its processes, its ledger.", no_args_is_help=True
)


@dataclass(frozen=True)
class _Spent:
    """What one study cost one group: by itself, and with all that was ever charged to any of the same people."""

    group: str
    unit: str
    alone: float
    ever: float


@dataclass(frozen=True)
class _Account:
    """One study in the ledger."""

    study: str
    lines: "Sequence[Charge]"
    answered: int
    spent: Sequence[_Spent]

    def purposes(self) -> "Counter[Mechanism]":
        # Secure aggregation charges every step of a training alone; a reader wants the training.
        return Counter(
            replace(m, purpose=re.sub(r", step \d+$", "", m.purpose))
            for m in (line.mechanism for line in self.lines)
        )


@app.callback()
def _site() -> None:
    """Group the verbs of a site."""


for _verb in (
    hospital.init,
    hospital.request,
    hospital.approver,
    hospital.preflight,
    consent.requests,
    consent.approve,
    consent.leave,
    upkeep.settle,
    upkeep.backup,
    upkeep.restore,
    countersign.countersign,
):
    app.command()(_verb)


@app.command()
def ledger(
    folder: Annotated[Path, typer.Argument(help="the site's folder, or the folder that holds ledger.sqlite")],
    head: Annotated[
        Path | None, typer.Option(help="where the ledger's head is kept, if not where site.toml says or beside it")
    ] = None,
    delta: Annotated[float, typer.Option(help="the delta at which to price what was spent")] = 1e-5,
    lines: Annotated[bool, typer.Option("--lines", help="list every charge")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON, every charge included")] = False,
) -> None:
    """Verify a site's ledger and show what was spent on what.

    The chain, the people it names and the head kept elsewhere are verified first; a ledger that was edited, cut
    short or restored from a backup is not shown (exit code 3).
    """
    from fedsynth.errors import LedgerError, RunError
    from fedsynth.ledger.ledger import Ledger

    place, head_file = _places(folder, head)
    if not (place / "ledger.sqlite").exists():
        raise RunError(f"{place} holds no ledger.sqlite; name a site's folder or its ledger's")
    if not 0 < delta < 1:
        raise RunError(f"--delta is {delta:g}; it is a probability between 0 and 1, and far below 1 / people")
    try:
        with Ledger(place, head_file=head_file) as book:
            charges, last = book.charges(), book.head
            accounts = [_account(book, study, delta=delta) for study in dict.fromkeys(c.study for c in charges)]
            frozen = _frozen(folder, book)
    except LedgerError as error:
        raise LedgerError(f"{error}. fedsynth site settle SITE shows what can be decided") from error
    if as_json:
        body = {"head": last, "delta": delta, "studies": [_as_json(account) for account in accounts]}
        body["charges"] = [_line(charge) for charge in charges]
        body["frozen_runs"] = frozen
        sys.stdout.write(json.dumps(body, indent=2, allow_nan=False) + "\n")
        return
    write = sys.stdout.write
    write(f"{place}: {len(charges)} charges, the chain holds, head {last}\n")
    if lines:
        for c in charges:
            write(f"{c.number:>6}  study {c.study[:12]}  {_row(c.mechanism)}\n")
    for account in accounts:
        write(f"\n{_text(account, delta=delta)}")
    for run in frozen:
        write(
            f"\nFrozen: run {run}. Its approval left a mark that this ledger does not bear: it is an older copy, "
            "or\n"
        )
        write("another ledger. fedsynth site settle SITE shows what can be decided.\n")
    if accounts:
        most = max((one for account in accounts for one in account.spent), key=lambda one: one.ever)
        write("\nThe most that was spent on any group of people, over all studies: ")
        write(f"epsilon {most.ever:.3f} at delta {delta:g} per {most.unit}\n")


@app.command()
def copies(
    folder: Annotated[Path, typer.Argument(help="the site's folder, with its holdings")],
    release: Annotated[Path, typer.Argument(help="the release, to be countersigned or only looked at")],
) -> None:
    """Look for copies of a site's recordings in a release, before it is countersigned (exit code 3 if there are).

    Windows are compared with all that were trained on, at every shift, gain and sign; what people who did not train
    have among themselves is chance. Nothing is printed but whether copies were found, and nothing is
    verified: a countersignature may still be missing.
    """
    from fedsynth.release.load import Release
    from fedsynth.site.copies import refuse_copies
    from fedsynth.synthesis.windows import SyntheticWindows, stream_of

    found = Release(release)
    windows = SyntheticWindows(found.X, found.y, found.subject, found.label_names, found.channels, found.sfreq)
    refuse_copies([folder], stream_of(windows))
    sys.stdout.write(f"{release}: no copies of this site's recordings beyond chance\n")


def _places(folder: Path, head: Path | None) -> tuple[Path, Path | None]:
    """Return where the ledger is, and its head if that is elsewhere."""
    from fedsynth.site.policy import load_policy

    if not (folder / "site.toml").exists():
        return folder, head
    policy = load_policy(folder)
    return folder / policy.ledger, head or (folder / policy.ledger_head if policy.ledger_head else None)


def _frozen(folder: Path, book: "Ledger") -> list[str]:
    """Return the runs whose approvals were given with another ledger, or with a later state of this one."""
    from fedsynth.site.consent import kept_bodies

    return [str(body.get("run", "?")) for body in kept_bodies(folder) if not book.bears(str(body["mark"]))]


def _account(book: "Ledger", study: str, *, delta: float) -> _Account:
    answered = book.answered()
    lines = [charge for charge in book.charges() if charge.study == study]
    sets = {(line.mechanism.group, line.people): line for line in lines}
    spent: dict[str, _Spent] = {}
    for (group, _), line in sets.items():
        one = _spent(group, study, book.charges_touching(line), delta=delta)
        worse = spent.get(group, one)
        unit = one.unit if one.unit == worse.unit else f"{worse.unit}, {one.unit}"
        spent[group] = _Spent(group, unit, max(one.alone, worse.alone), max(one.ever, worse.ever))
    return _Account(study, lines, sum(line.nonce in answered for line in lines), list(spent.values()))


def _spent(group: str, study: str, ever: "Sequence[Charge]", *, delta: float) -> _Spent:
    from fedsynth.privacy.accountant import epsilon_pld

    alone = [line for line in ever if line.study == study]
    return _Spent(
        group=group,
        unit=" and per ".join(sorted({line.mechanism.unit for line in alone})),
        alone=epsilon_pld([line.mechanism for line in alone], delta=delta),
        ever=epsilon_pld([line.mechanism for line in ever], delta=delta),
    )


def _text(account: _Account, *, delta: float) -> str:
    lines = account.lines
    open_ones = len(lines) - account.answered
    out = f"study {account.study}\n"
    where = f"lines {lines[0].number} to {lines[-1].number}" if len(lines) > 1 else f"line {lines[0].number}"
    out += f"  {len(lines)} charge{'s' * (len(lines) > 1)}, {where}; {account.answered} answered"
    out += f", {open_ones} cut short (which counts all the same)\n" if open_ones else "\n"
    out += f"  {'charges':>7}  {'asked of':<9} {'purpose':<36} {'sums':>6} {'sigma':>8} {'q':>6} {'C':>9}\n"
    for mechanism, count in account.purposes().items():
        out += f"  {count:>7}  {_row(mechanism, count=count)}\n"
    for one in account.spent:
        out += f"  {one.group}: epsilon {one.alone:.3f} at delta {delta:g} per {one.unit}; "
        out += f"{one.ever:.3f} with all that was ever charged to any of these people\n"
    return out


def _row(m: "Mechanism", *, count: int = 1) -> str:
    shares = f"  noise in {m.noise_shares} shares" if m.noise_shares > 1 else ""
    return (
        f"{m.group:<9} {m.purpose:<36} {count * m.steps:>6} {m.noise_multiplier:>8.3f} "
        f"{m.sampling_probability:>6.3f} {m.clipping_norm:>9.3f}{shares}"
    )


def _line(charge: "Charge") -> dict[str, Any]:
    return {"number": charge.number, "study": charge.study, **charge.mechanism.as_json(), "link": charge.link}


def _as_json(account: _Account) -> dict[str, Any]:
    return {
        "study": account.study,
        "charges": len(account.lines),
        "answered": account.answered,
        "purposes": [{"charges": count, **one.as_json()} for one, count in account.purposes().items()],
        "spent": [
            {"group": s.group, "unit": s.unit, "epsilon": _number(s.alone), "epsilon_ever": _number(s.ever)}
            for s in account.spent
        ],
    }


def _number(epsilon: float) -> float | str:
    """JSON has no infinity, so that is a word."""
    return epsilon if math.isfinite(epsilon) else "inf"
