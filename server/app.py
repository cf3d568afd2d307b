"""Flower's ServerApp: the run folder named in the run config, carried out over Flower's Grid."""

import json
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedsynth.coordinator.approvals import await_approvals
from fedsynth.coordinator.asking import REQUEST
from fedsynth.coordinator.control import COORDINATOR, Controlled, ends_with_driver, held
from fedsynth.coordinator.run_folder import RunFolder, coordinate, failure_kept
from fedsynth.progress import Progress
from server.transport import GridTransport

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry out the plan in the folder `run`; `gather-seconds` and `round-seconds` bound the waiting.

    `nodes` is a JSON object in words, of the node that was registered for each site; empty where nodes are asked.
    `approval-seconds` is how long to wait for the sites' approvals; 0 where they were given beforehand.
    """
    folder = Path(str(context.run_config["run"]))
    progress = _writer(folder / "progress.jsonl")
    with held(folder, COORDINATOR, what="coordinates"), ends_with_driver(folder):
        transport = GridTransport(
            grid,
            wanted=RunFolder(folder).facts().sites,
            gather_seconds=float(context.run_config.get("gather-seconds", 300)),
            round_seconds=float(context.run_config.get("round-seconds", 1800)),
            progress=progress,
            nodes=json.loads(str(context.run_config.get("nodes") or "null")),
        )
        controlled = Controlled(transport, folder)
        approval_seconds = float(context.run_config.get("approval-seconds", 0))
        if approval_seconds > 0 and not RunFolder(folder).begun:
            transport.offer((folder / REQUEST).read_bytes())
            _await_approvals(folder, controlled, seconds=approval_seconds, progress=progress)
        coordinate(folder, transport=controlled, progress=progress)


def _await_approvals(folder: Path, transport: Controlled, *, seconds: float, progress: Progress) -> None:
    run = RunFolder(folder)
    plan = run.plan()
    least = plan.study.cohort.least_sites
    with failure_kept(folder):
        await_approvals(
            transport, run=run.facts().run, plan=plan.digest, least=least, seconds=seconds, progress=progress
        )


def _writer(path: Path) -> Progress:
    """Append progress to a file, one JSON line at a time, for whoever started this process."""

    def tell(what: str, done: int, total: int) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([what, done, total]) + "\n")

    return tell
