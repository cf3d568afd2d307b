"""All sites in this process: the same orders and updates as bytes, no network."""

from pathlib import Path

from fedsynth.coordinator.run_folder import RunFolder, coordinate
from fedsynth.coordinator.transport import InProcess
from fedsynth.engines.protocol import Patience
from fedsynth.progress import Progress
from fedsynth.site.session import SiteSession


def carry_out(folder: Path, progress: Progress, patience: Patience) -> None:  # noqa: ARG001
    """Carry out a run with every site in this process, which is waited for however long it takes."""
    run = RunFolder(folder)
    handlers = {name: SiteSession(run.site(name), progress=progress).handle for name in run.facts().sites}
    coordinate(folder, transport=InProcess(handlers), progress=progress)
