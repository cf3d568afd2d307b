"""What both Flower engines do: make the app, submit the run, follow it, and read how it ended."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fedsynth import errors
from fedsynth.coordinator.control import DRIVER, ask, held
from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.engines.processes import LOOPBACK, Process, Processes
from fedsynth.engines.protocol import Patience
from fedsynth.errors import FedsynthError, RunError
from fedsynth.progress import Progress
from fedsynth.source_code import package_folder

CONNECTION = "loopback"
MANIFEST = """[project]
name = "fedsynth"
version = "1.0.0"
description = "The ServerApp and the ClientApp of fedsynth"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedsynth"
fab-include = ["client/**/*.py", "server/**/*.py"]

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
run = ""
nodes = ""
gather-seconds = 300.0
round-seconds = 1800.0
approval-seconds = 0.0
"""
"""Flower's part of this repository's pyproject.toml; it is not at hand where fedsynth is installed from a wheel."""


def forget_failure(folder: Path, *, progress: bool = True) -> None:
    """Forget an earlier failure in a run's folder, and by default what was told of its progress."""
    for name in ("failure.json", "progress.jsonl") if progress else ("failure.json",):
        (folder / name).unlink(missing_ok=True)


def connect(home: Path, *, port: int, certificate: Path | None) -> None:
    """Write Flower's connections into its home; without a certificate there is no TLS."""
    security = "insecure = true" if certificate is None else f"root-certificates = {_quoted(certificate)}"
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "{LOOPBACK}:{port}"\n{security}\n',
        encoding="utf-8",
    )


def run_app(
    processes: Processes,
    *,
    folder: Path,
    superlink: Process,
    options: Sequence[str],
    progress: Progress,
    patience: Patience,
) -> None:
    """Submit the run with this repository's own apps, and wait for its end.

    Raises:
        FedsynthError: as the coordinator said.
        RunError: it ended without a word.
    """
    app = write_app(processes.home / "app")
    waits = {"gather-seconds": patience.gather_seconds, "round-seconds": patience.round_seconds}
    settings = write_settings(processes.home / "run.toml", {"run": folder, **waits})
    command = ["flwr", "run", str(app), CONNECTION, "--stream", "--run-config", str(settings), *options]
    news = follow(folder / "progress.jsonl")

    def tell() -> None:
        for what, done, total in next(news):
            progress(what, done, total)

    ask(folder, "run")
    with held(folder, DRIVER, what="drives"):
        processes.wait(processes.start("coordinator", command), needs=superlink, meanwhile=tell)
    raise_failure(folder)
    if not RunFolder(folder).finished:
        raise RunError(
            f"the coordinator's process ended without a result; its last words are in {processes.logs}. "
            "What was charged stays charged"
        )


def write_app(folder: Path) -> Path:
    """Copy the packages `server` and `client` into a new folder, with a manifest, as `flwr run` wants them.

    They are those beside `fedsynth`, which the approved digest covers, whatever else the path would find first. The
    repository itself would do, but `flwr run` reads every file below the folder, environments included.
    """
    for name in ("server", "client"):
        shutil.copytree(package_folder(name), folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text(MANIFEST, encoding="utf-8")
    return folder


def write_settings(file: Path, settings: Mapping[str, Path | str | float]) -> Path:
    """Write TOML for Flower's `--run-config` and `--node-config`: any character may stand in a text or path."""
    text = "".join(
        f"{name} = {value if isinstance(value, float) else _quoted(value)}\n" for name, value in settings.items()
    )
    file.write_text(text, encoding="utf-8")
    return file


def _quoted(path: Path | str) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def follow(path: Path) -> Iterator[list[tuple[str, int, int]]]:
    """Yield what was appended to a run's progress since the last time; an unfinished line waits for its end."""
    place = 0
    while True:
        lines: list[tuple[str, int, int]] = []
        if path.exists():
            with path.open("rb") as file:
                file.seek(place)
                whole = file.read().rpartition(b"\n")[0]
            if whole:
                place += len(whole) + 1
                lines = [tuple(json.loads(line)) for line in whole.split(b"\n")]
        yield lines


def raise_failure(folder: Path) -> None:
    """Raise what the coordinator left in a run's folder when it failed; nothing where it did not.

    Raises:
        FedsynthError: as the coordinator said.
    """
    path = folder / "failure.json"
    if path.exists():
        failure = json.loads(path.read_text(encoding="utf-8"))
        kind = getattr(errors, failure["kind"], RunError)
        raise (kind if isinstance(kind, type) and issubclass(kind, FedsynthError) else RunError)(failure["said"])
