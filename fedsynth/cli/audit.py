"""`fedsynth audit`: a lower bound on epsilon from the bytes that sites answer in one run of the real pipeline."""

import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedsynth.cli.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedsynth.audit.bounds import Finding

_INSIDE = (
    "These figures come from real recordings and from answers that no ledger was charged for: keep them where the "
    "recordings are."
)


def audit(
    study: Annotated[Path, typer.Argument(help="the study file")],
    sites: Annotated[Path | None, typer.Option(help="folder with one folder of recordings per hospital")] = None,
    cohort: Annotated[Literal["toy"] | None, typer.Option(help="simulate people instead of --sites")] = None,
    canaries: Annotated[int, typer.Option(min=2, help="made-up people, each in or out by a coin")] = 500,
    out: Annotated[Path | None, typer.Option(help="also write the answer to this file, as JSON")] = None,
    noise_off: Annotated[
        bool, typer.Option("--noise-off", help="show what an audit sees where noise is forgotten")
    ] = False,
    seed_free: Annotated[
        bool, typer.Option("--seed-free", help="other canaries and coins each time, from the operating system")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print claim and ceilings, run nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Train once with canaries, guess from what sites answer who was in, and print which epsilon that contradicts.

    Ledgers are made for the audit and thrown away; a hospital's own are neither read nor charged. Exit code 3 when
    the bound for a Gaussian mechanism (95 % confidence) is above the claim; also when an answer holds more than was
    paid for, which ends the audit before a bound.
    """
    from fedsynth.audit.bounds import CONFIDENCE, DECIDING
    from fedsynth.audit.run import Audit, dry_audit
    from fedsynth.audit.run import audit as carry_out
    from fedsynth.errors import RefusedError, RunError
    from fedsynth.places import place_for
    from fedsynth.privacy.noise import system_noise
    from fedsynth.study import load_study

    if (sites is None) == (cohort is None):
        raise typer.BadParameter("give either --sites DIR or --cohort toy")
    if out is not None and out.exists():
        raise RefusedError(f"{out} exists already; nothing was run. Name another --out, or remove it")
    if out is not None:
        if not out.parent.is_dir():
            raise RunError(
                f"{out.parent} is no folder, so that {out} cannot be written; nothing was run. Make it first"
            )
        place_for(out.parent)
    what = Audit(load_study(study), sites, canaries, secrets.token_hex(16) if seed_free else "audit")
    if dry_run:
        plan, ceilings = dry_audit(what)
        if as_json:
            dry = {"dry_run": True, "study": what.study.name, "epsilon": plan.epsilon()}
            dry |= {"canaries": canaries, "deciding": DECIDING, "confidence": CONFIDENCE}
            sys.stdout.write(json.dumps({**dry, "ceilings": ceilings}, indent=2) + "\n")
            return
        sys.stdout.write(f"{what.study.name}: {plan.epsilon():.3f} would be audited with {canaries} canaries\n")
        for method, value in ceilings.items():
            role = "decides" if method == DECIDING else "for information"
            sys.stdout.write(f"  {method} ({role}): at most epsilon {value:.3f} could be shown\n")
        sys.stdout.write("Nothing was run or written.\n")
        return
    with progress() as tell:
        found = carry_out(what, progress=tell, noise=_no_noise if noise_off else system_noise)
    body = {**found.as_json(), "noise_off": noise_off, "recordings": sites is not None}
    text = json.dumps(body, indent=2) + "\n"
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if as_json:
        sys.stdout.write(text)
    else:
        _answer(found, noise_off=noise_off, inside=sites is not None)
    found.check()


def _no_noise(count: int) -> "NDArray[np.int64]":
    """Return `count` zeros: a noise source that protects nobody."""
    import numpy as np

    return np.zeros(count, dtype=np.int64)


def _answer(found: "Finding", *, noise_off: bool, inside: bool) -> None:
    from fedsynth.audit.bounds import CONFIDENCE, DECIDING

    write = sys.stdout.write
    write(f"{found.study}: claimed epsilon {found.claimed:.3f} at delta {found.delta:g} per {found.unit}, ")
    write(f"trust {found.trust}\n")
    if noise_off:
        write("The noise was off in this run, and the claim stayed.\n")
    write(f"{found.canaries} canaries, {found.included} of them in; {found.answers} answers looked at\n\n")
    write(f"{'lower bound, ' + format(CONFIDENCE, '.0%') + ' confidence':<36}{'epsilon':>9}{'ceiling':>9}")
    write(f"{'guesses':>9}{'right':>7}\n")
    for bound in found.bounds:
        role = "decides" if bound.method == DECIDING else "for information"
        write(f"{bound.method + ', ' + role:<36}{bound.epsilon:>9.3f}{bound.ceiling:>9.3f}")
        write(f"{bound.guesses.made:>9}{bound.guesses.right:>7}\n")
    write(f"\nThe ceiling is what {found.canaries} canaries show when every guess is right. ")
    write(f"The bound that decides takes the pipeline for a Gaussian mechanism.\n{found.sentence()}\n")
    if inside:
        write(f"{_INSIDE}\n")
