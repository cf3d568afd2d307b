"""The deployment engine: a run's folder in, a SuperLink and one SuperNode per site on loopback, as in hospitals."""

import os
from pathlib import Path

from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.engines.certificates import make_node_key, make_server_files
from fedsynth.engines.flower import CONNECTION, connect, forget_failure, run_app, write_settings
from fedsynth.engines.processes import LOOPBACK, Processes, free_ports
from fedsynth.engines.protocol import Patience
from fedsynth.engines.superlink import superlink_command
from fedsynth.progress import Progress


def carry_out(folder: Path, progress: Progress, patience: Patience) -> None:
    """Carry out a run over TLS, every site a process of its own with a registered key.

    Every message costs about 7 seconds, for each starts a process that imports PyTorch.

    Raises:
        FedsynthError: as the coordinator said.
        RunError: Flower failed; the logs are in the run's folder.
    """
    folder = folder.resolve()
    run = RunFolder(folder)
    sites = run.facts().sites
    forget_failure(folder)
    port, *node_ports = free_ports(1 + len(sites))
    with Processes(folder / "logs") as processes:
        files = make_server_files(processes.home)
        connect(processes.home, port=port, certificate=files.authority)
        superlink = processes.start_server("superlink", superlink_command(files, port=port), port=port)
        progress("sites registered", 0, len(sites))
        for index, (site, node_port) in enumerate(zip(sites, node_ports, strict=True)):
            home = processes.home / f"node-{index}"
            cores = max(1, (os.cpu_count() or 1) // len(sites))
            _start_supernode(
                processes,
                home,
                name=site,
                site=run.site(site),
                authority=files.authority,
                superlink_port=port,
                port=node_port,
                cores=cores,
            )
            progress("sites registered", index + 1, len(sites))
        run_app(processes, folder=folder, superlink=superlink, options=(), progress=progress, patience=patience)


def _start_supernode(
    processes: Processes,
    home: Path,
    *,
    name: str,
    site: Path,
    authority: Path,
    superlink_port: int,
    port: int,
    cores: int,
) -> None:
    """Participants a new key with the SuperLink, then start the node that holds it."""
    # A home of its own: two nodes that unpack the app into one folder at the same time see half of it.
    home.mkdir()
    key = make_node_key(home)
    processes.run("registration", ["flwr", "supernode", "register", str(key.public), CONNECTION])
    settings = write_settings(home / "node.toml", {"site-folder": site})
    command = ["flower-supernode", "--superlink", f"{LOOPBACK}:{superlink_port}"]
    command += ["--root-certificates", str(authority), "--auth-supernode-private-key", str(key.private)]
    command += ["--host", LOOPBACK, "--port", str(port), "--node-config", str(settings)]
    processes.start(f"site-{name}", command, home=home, extra={"OMP_NUM_THREADS": str(cores)})
