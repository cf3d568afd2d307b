"""How Flower's SuperLink is started: on loopback, with TLS and the keys of registered nodes."""

from pathlib import Path

from fedsynth.engines.certificates import ServerFiles
from fedsynth.engines.processes import LOOPBACK


def superlink_command(files: ServerFiles, *, port: int, folder: Path | None = None) -> list[str]:
    """Return the command of a SuperLink on loopback with TLS and node keys.

    Args:
        files: certificates.
        port: to listen on.
        folder: where its database and the secret of a SuperExec of its own are; without it, it keeps nothing and
            starts programs by itself.
    """
    command = ["flower-superlink", "--host", LOOPBACK, "--port", str(port), "--enable-supernode-auth"]
    command += ["--ssl-ca-certfile", str(files.authority)]
    command += ["--ssl-certfile", str(files.certificate), "--ssl-keyfile", str(files.key)]
    if folder is not None:
        command += ["--database", str(folder / "state.db"), "--isolation", "process"]
        command += ["--superexec-auth-secret-file", str(folder / "superexec.secret")]
    return command
