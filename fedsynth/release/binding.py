"""Binding: from a release's statement, scores and signed digests to nothing, or to what does not belong together.

Scores are worth something only if they are of the windows in the folder. Needs the standard library only.
"""

import json
from collections.abc import Mapping
from typing import Any

from fedsynth.errors import VerificationError
from fedsynth.privacy.making import Making
from fedsynth.privacy.statement import PrivacyStatement

ARCHIVE = "data/ml/windows.npz"
OF_WINDOWS = frozenset({"private sum", "synthetic"})
"""Sources whose every number is about the windows of the release; a simulation may also be about others."""

_GRADIENTS = "gradients"  # how the purpose of a private gradient step begins


def check_binding(statement: PrivacyStatement, *, metrics: str, files: Mapping[str, str]) -> None:
    """Refuse scores, or a label, of other windows than those that were signed.

    Args:
        statement: as it stands in the release.
        metrics: the text of `report/metrics.json`.
        files: the SHA-256 of each file, by path.

    Raises:
        VerificationError: with the cause.
    """
    archive = files.get(ARCHIVE)
    if archive is None:
        raise VerificationError(f"malformed: the release carries no {ARCHIVE}")
    if statement.made.windows != archive:
        raise VerificationError(f"the statement is about other windows than those in {ARCHIVE}")
    for row in _rows(metrics):
        windows, source = row.get("windows", ""), row.get("source")
        if windows not in ("", archive) or (source in OF_WINDOWS and windows != archive):
            raise VerificationError(
                f"report/metrics.json holds a number that is not of the windows in {ARCHIVE}: scores and "
                "windows do not belong together"
            )
    _check_label(statement.made, statement)


def _check_label(made: Making, statement: PrivacyStatement) -> None:
    """Hold the steps on the label against the events: nobody is trained by steps that no ledger lists."""
    if statement.sites and made.gradient_steps > max(_gradients(site.events) for site in statement.sites):
        raise VerificationError(
            f"the statement says {made.gradient_steps} private gradient steps, and no site's events list as many"
        )


def _gradients(events: Any) -> int:
    return sum(event.steps for event in events if event.purpose.startswith(_GRADIENTS))


def _rows(text: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VerificationError("malformed: report/metrics.json is not JSON") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise VerificationError("malformed: report/metrics.json is no list of numbers")
    return rows
