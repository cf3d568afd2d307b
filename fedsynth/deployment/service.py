"""Service: Flower's SuperLink and SuperExec on the coordinator's loopback, kept running, with the sites registered.

The SuperLink listens on loopback alone: its control interface lets whoever reaches it start a program there. What
hospitals reach is a proxy that passes `/v1/fleet/` (deploy/nginx). The SuperExec starts the coordinator's program
for every run. Either is started again when it ends; both end with this process, however that ends.
"""

import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from fedsynth.engines.certificates import ServerFiles, make_server_files, server_files
from fedsynth.engines.flower import CONNECTION, connect
from fedsynth.engines.processes import LOOPBACK, Process, Processes
from fedsynth.engines.superlink import superlink_command
from fedsynth.errors import RunError
from fedsynth.places import claimed

log = logging.getLogger("fedsynth.coordinator")
_FACTS = "service.json"
_LOOK_SECONDS = 1.0
_LOOPBACK_DAYS, _LAST_MONTH = 365, timedelta(days=30)
_STANDING_SECONDS = 20.0
_PATIENCE = (1.0, 2.0, 5.0, 15.0)
"""Seconds to wait before a service that ended is started again; the last one from then on."""


@dataclass(frozen=True)
class NodeRegistration:
    """A site that may take part now, by its public key: EC P-384, one line as OpenSSH writes it."""

    key: bytes

    @property
    def digest(self) -> str:
        """The key without its kind and its comment."""
        return self.key.split()[1].decode("ascii")


Members = Callable[[], Mapping[str, NodeRegistration]]


@dataclass(frozen=True)
class Running:
    """How a run reaches the service: Flower's home with the connection, and the node that speaks for each site."""

    home: Path
    nodes: Mapping[str, int]

    @classmethod
    def load(cls, folder: Path) -> "Running":
        """Read what a running service left in its folder.

        Raises:
            RunError: no service runs there.
        """
        try:
            body = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            alive = _is_running(int(body["pid"]), str(body["began"]))
            facts = cls(Path(body["home"]), {str(site): int(node) for site, node in body["nodes"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            alive = False
        if not alive:
            raise RunError(
                f"no service of this federation runs in {folder}; start it with `fedsynth federation start`"
            )
        return facts


def is_running(folder: Path) -> bool:
    """Whether a service runs in that folder now."""
    try:
        Running.load(folder)
    except RunError:
        return False
    return True


def serve(
    folder: Path,
    *,
    port: int,
    sites: Members,
    told: Callable[[str], None] = lambda _: None,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Run the services until asked to end.

    Args:
        folder: of the service: its database, its logs, and how it is reached. Made when missing.
        port: of the loopback address.
        sites: whose nodes may connect now; asked again and again. One that is not named any more, or with another
            key, is removed within a minute, and the SuperLink then refuses it.
        told: called with a sentence for people, once everything listens and on every restart.
        until: asked every second; true ends the service.

    Raises:
        RefusedError: another process runs this service.
        RunError: Flower is not installed, or does not start.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with claimed(folder / "service", what="the service"), Processes(folder / "logs") as processes:
        service = _Service(folder.resolve(), processes, port=port, sites=sites)
        service.begin()
        told(f"the SuperLink listens on {LOOPBACK}:{port}; {len(service.nodes)} sites are registered")
        try:
            while not until():
                time.sleep(_LOOK_SECONDS)
                service.look(told)
        finally:
            (folder / _FACTS).unlink(missing_ok=True)


class _Service:
    def __init__(self, folder: Path, processes: Processes, *, port: int, sites: Members) -> None:
        self._folder, self._processes, self._port, self._sites = folder, processes, port, sites
        self.nodes: dict[str, int] = {}
        self._registered: dict[str, NodeRegistration] = {}
        self._running: dict[str, Process] = {}
        self._ended: dict[str, list[float]] = {}
        self._asked_standing = -_STANDING_SECONDS

    def begin(self) -> None:
        """Start everything, register the sites, and say how the service is reached."""
        self._files = _loopback_files(self._folder / "tls")
        connect(self._processes.home, port=self._port, certificate=self._files.authority)
        secret = self._folder / "superexec.secret"
        if not secret.exists():
            descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
        superlink = superlink_command(self._files, port=self._port, folder=self._folder)
        self._running["superlink"] = self._processes.start_server("superlink", superlink, port=self._port)
        self._admit(lambda _: None)
        self._running["superexec"] = self._processes.start("superexec", self._superexec())
        self._say_how()

    def look(self, told: Callable[[str], None]) -> None:
        """Start again what ended, and remove whoever lost their standing."""
        for name, process in list(self._running.items()):
            if process.poll() is None:
                continue
            ends = self._ended.setdefault(name, [])
            wait = _PATIENCE[min(len(ends), len(_PATIENCE) - 1)]
            if not ends or time.monotonic() - ends[-1] >= wait:
                ends.append(time.monotonic())
                told(f"the {name} ended with code {process.returncode} and is started again")
                command = (
                    superlink_command(self._files, port=self._port, folder=self._folder)
                    if name == "superlink"
                    else self._superexec()
                )
                self._running[name] = self._processes.start(name, command)
        if time.monotonic() - self._asked_standing >= _STANDING_SECONDS:
            self._asked_standing = time.monotonic()
            self._admit(told)

    def _superexec(self) -> list[str]:
        command = ["flower-superexec", "--root-certificates", str(self._files.authority)]
        command += ["--runtime-api-address", f"{LOOPBACK}:{self._port}"]
        return [*command, "--superexec-auth-secret-file", str(self._folder / "superexec.secret")]

    def _admit(self, told: Callable[[str], None]) -> None:
        """Register who may take part, and remove who may not any more; a key that is known keeps its node."""
        members, before = dict(self._sites()), dict(self.nodes)
        for site in [site for site, one in self._registered.items() if members.get(site) != one]:
            self._dismiss(site)
            told(f"site {site} may not take part any more, or has another key; it was removed from the SuperLink")
        known = self._known()
        for site, one in members.items():
            if site in self.nodes:
                continue
            if one.digest not in known:
                known[one.digest] = self._register_one(site, one.key)
                self._remember(known)
            self.nodes[site], self._registered[site] = known[one.digest], one
        if self.nodes != before:
            self._say_how()

    def _register_one(self, site: str, key: bytes) -> int:
        place = self._processes.home / f"{site}.pub"
        place.write_bytes(key)
        command = ["flwr", "supernode", "register", str(place), CONNECTION, "--name", site, "--format", "json"]
        answer = self._processes.answer("registration", command)
        found = re.search(r'"node-id":\s*"?(\d+)', answer)
        if found is None:
            raise RunError(f"the SuperLink did not register site {site}: {' '.join(answer.split())[:300]}")
        return int(found[1])

    def _dismiss(self, site: str) -> None:
        node = self.nodes.pop(site)
        del self._registered[site]
        self._processes.answer("registration", ["flwr", "supernode", "unregister", str(node), CONNECTION])
        self._remember({key: number for key, number in self._known().items() if number != node})

    def _known(self) -> dict[str, int]:
        place = self._folder / "nodes.json"
        return dict(json.loads(place.read_text(encoding="ascii"))) if place.exists() else {}

    def _remember(self, nodes: Mapping[str, int]) -> None:
        _write(self._folder / "nodes.json", json.dumps(dict(nodes)))

    def _say_how(self) -> None:
        pid = os.getpid()
        body = {"pid": pid, "began": _began(pid), "home": str(self._processes.home), "nodes": self.nodes}
        _write(self._folder / _FACTS, json.dumps(body))


def _loopback_files(folder: Path) -> ServerFiles:
    """Return the SuperLink's own certificate and key, which nginx verifies; made anew in their last month."""
    files = server_files(folder)
    if files.certificate.exists() and files.key.exists():
        ends = x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc
        if ends - datetime.now(UTC) > _LAST_MONTH:
            return files
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return make_server_files(folder, days=_LOOPBACK_DAYS)


def _write(place: Path, text: str) -> None:
    beside = place.with_name(f"{place.name}.new")
    beside.touch(mode=0o600)
    beside.write_text(text, encoding="utf-8")
    beside.replace(place)


def _began(pid: int) -> str:
    """Return when a process began, in clock ticks (proc(5)): process ids are used again."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[19]


def _is_running(pid: int, began: str) -> bool:
    try:
        return _began(pid) == began
    except OSError:
        return False
