"""The simulation engine: a run's folder in, Flower's simulation on Ray, with one virtual node per site."""

from pathlib import Path

from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.engines.flower import connect, forget_failure, run_app
from fedsynth.engines.processes import LOOPBACK, Processes, free_ports
from fedsynth.engines.protocol import Patience
from fedsynth.progress import Progress


def carry_out(folder: Path, progress: Progress, patience: Patience) -> None:
    """Carry out a run with its sites as Ray actors on this machine, one core each.

    Raises:
        FedsynthError: as the coordinator said.
        RunError: Flower or Ray failed; the logs are in the run's folder.
    """
    folder = folder.resolve()
    sites = RunFolder(folder).facts().sites
    forget_failure(folder)
    (port,) = free_ports(1)
    with Processes(folder / "logs") as processes:
        connect(processes.home, port=port, certificate=None)
        # The SuperLink that `flwr run` starts by itself detaches from it and stays; this one is ours to end.
        command = ["flower-superlink", "--insecure", "--simulation", "--host", LOOPBACK, "--port", str(port)]
        superlink = processes.start_server("superlink", command, port=port)
        federation = f"num-supernodes={len(sites)} client-resources-num-cpus=1"
        options = ["--federation-config", federation]
        run_app(
            processes, folder=folder, superlink=superlink, options=options, progress=progress, patience=patience
        )
