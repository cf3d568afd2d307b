"""What stands at a site before anything is asked of it: its ledger, and the runs that were approved.

Nothing here loads a plan, and with it PyTorch: an ingestion reads a hospital's recordings in little memory.
"""

import json
from pathlib import Path

from fedsynth.ledger.ledger import Ledger
from fedsynth.site.consent import APPROVED
from fedsynth.site.policy import Policy


def approved_runs(folder: Path) -> tuple[str, ...]:
    """Return the runs that stand approved here, sorted."""
    bodies = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / APPROVED).glob("*.json")]
    return tuple(sorted(str(body["run"]) for body in bodies if "run" in body))


def open_ledger(folder: Path, policy: Policy) -> Ledger:
    """Open a site's ledger where its policy keeps it, with its head where the policy keeps that."""
    head = folder / policy.ledger_head if policy.ledger_head else None
    return Ledger(folder / policy.ledger, head_file=head)
