"""`fedsynth site`: what a hospital sees of its own side."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A hospital's own side: its ledger.", no_args_is_help=True)


@app.callback()
def _site() -> None:
    """Group the verbs of a site."""


@app.command()
def ledger(
    folder: Annotated[Path, typer.Argument(help="the folder that holds ledger.sqlite")],
    delta: Annotated[float, typer.Option(help="the delta at which to price what was spent")] = 1e-5,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Verify a site's ledger and show what was spent on what."""
    from fedsynth.errors import RunError
    from fedsynth.privacy.accountant import epsilon_pld
    from fedsynth.privacy.ledger import Ledger

    if not (folder / "ledger.sqlite").exists():
        raise RunError(f"{folder} holds no ledger.sqlite; name a site's ledger folder")
    with Ledger(folder) as book:
        lines, head = book.charges(), book.head
    groups = {group: [c.mechanism for c in lines if c.mechanism.group == group] for group in ("train", "held-out")}
    if as_json:
        body = [{"number": c.number, "study": c.study, **c.mechanism.as_json(), "link": c.link} for c in lines]
        sys.stdout.write(json.dumps({"head": head, "charges": body}, indent=2) + "\n")
        return
    for charge in lines:
        m = charge.mechanism
        sys.stdout.write(
            f"{charge.number:>4}  study {charge.study[:12]}  {m.purpose:<36} {m.group:<9} "
            f"sigma {m.noise_multiplier:.3f}  q {m.sampling_probability:.3f}  steps {m.steps}  "
            f"C {m.clipping_norm:.3f}\n"
        )
    for group, mechanisms in groups.items():
        spent = epsilon_pld(mechanisms, delta=delta)
        sys.stdout.write(
            f"{group}: epsilon {spent:.3f} at delta {delta:g}, if all of it concerned the same people\n"
        )
    sys.stdout.write(f"{len(lines)} charges, the chain holds, head {head}\n")
