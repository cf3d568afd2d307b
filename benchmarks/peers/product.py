"""The product through its own door: a study and dealt folders in, windows of the trained generator out."""

import math
import os
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

from utility_data import HOSPITALS, study_text

from fedsynth.recordings.options import SiteOptions
from fedsynth.rehearsal.rehearse import Rehearsal, rehearse
from fedsynth.study import parse_study
from peers.task import Outcome, Progress, Task

HELD_OUT = 0.05  # of the training units, asked by the product for its own scores; the peers train on all of them
EVERYBODY = "everybody"


def product(task: Task, name: str, sites: Path, *, variant: str, progress: Progress) -> list[Outcome]:
    """Rehearse the set's own study at the task's promise, and draw.

    Args:
        task: for the promise, the number of windows and the hospitals.
        name: of the set, whose study in examples/ is taken with no other change than privacy, cohort and hold-out.
        sites: the dealt folder.
        variant: "" trusts the total alone (secure aggregation), "-site" each hospital's sum; "-pooled" is one
            hospital that holds everything; "-local" is each hospital for itself, one outcome each.
        progress: told what the rehearsal is doing.
    """
    hospitals = [f"hospital-{number + 1}" for number in range(HOSPITALS)]
    with tempfile.TemporaryDirectory(prefix="utility-") as folder:
        scratch = Path(folder)
        if variant == "-local":
            return [_run(task, name, sites, [one], scratch / one, "site", progress) for one in hospitals]
        if variant == "-pooled":
            pooled = _pool(sites, hospitals, scratch / "pooled")
            return [_run(task, name, pooled, [EVERYBODY], scratch / "run", "site", progress)]
        # Without noise there is nothing to hide behind a total.
        trust = "site" if variant == "-site" or math.isinf(task.epsilon) else "aggregate"
        return [_run(task, name, sites, hospitals, scratch / "run", trust, progress)]


def changes(task: Task, name: str, hospitals: list[str], trust: str) -> dict[str, dict[str, object]]:
    """Return what is laid over the set's study; one hospital with everybody declares the units of all."""
    units = parse_study(study_text(name)).cohort.expected_units
    together = HOSPITALS if hospitals == [EVERYBODY] else 1
    return {
        "privacy": {"unit": task.unit, "epsilon": task.epsilon, "delta": task.delta, "trust": trust},
        "cohort": {
            "sites": hospitals,
            "least_sites": len(hospitals),
            "least_subjects": 1,
            "expected_units": units * together,
        },
        "plan": {"held_out": HELD_OUT},
    }


def _run(
    task: Task, name: str, sites: Path, hospitals: list[str], out: Path, trust: str, progress: Progress
) -> Outcome:
    text = study_text(name, changes(task, name, hospitals, trust))
    # Trials are worlds of their own: no ledger of one knows the people of another.
    with patch.dict(os.environ, {"XDG_STATE_HOME": str(out.with_name(f"{out.name}-state"))}):
        run = rehearse(
            Rehearsal(text, f"{name} study", sites, out, options=SiteOptions(follow_links=True)),
            progress=progress,
        )
    drawn = run.generator().draw(per_label=task.per_label, seed=f"utility {task.seed}")
    statement = run.statement()
    return Outcome(drawn.signal, drawn.labels, statement.epsilon, statement.accountant)


def _pool(sites: Path, hospitals: list[str], folder: Path) -> Path:
    """Lay all hospitals' files into one folder by links; tables are joined below one head."""
    everybody = folder / EVERYBODY
    for hospital in hospitals:
        for path in sorted((sites / hospital).rglob("*")):
            target = everybody / path.relative_to(sites / hospital)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".tsv" and target.exists():
                rows = path.read_text(encoding="utf-8").split("\n", 1)[1]
                with target.open("a", encoding="utf-8") as file:
                    file.write(rows)
            elif path.suffix == ".tsv":
                shutil.copyfile(path, target)
            elif path.is_file():
                target.symlink_to(path.resolve())
    return folder
