"""A federation of processes: an authority, a coordinator behind nginx, and hospitals, by the commands alone."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from machine import GATE, ROLES, Machine, as_user

ROOT = Path(__file__).resolve().parents[2]
SITES = ("east", "north", "west")
STUDY = """name = "trial"
title = "Synthetic EEG of a trial federation"

[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
sfreq = 64.0
bandpass = [0.5, 30.0]

[windows]
n_times = 64
per_recording = 2

[labels]
names = ["healthy", "epilepsy"]
source = "participants.tsv"
column = "group"
positive = "epilepsy"

[privacy]
unit = "subject"
epsilon = 8.0
delta = 1e-5
trust = "{trust}"

[cohort]
sites = ["east", "north", "west"]
least_sites = 2
least_subjects = 10
expected_units = 30
{dishonest}

[family]
name = "cwgan"

[plan]
rounds = 1
local_steps = 2

[release]
windows_per_label = 300
"""


@dataclass
class Host:
    """A machine: a name, and what stands before a command that runs there."""

    name: str
    prefix: Sequence[str] = ()


@dataclass
class Federation:
    """Everything below one folder; processes are ended by `end`.

    Where hosts are given, every site is a machine with three users, and people of a site are its gate's user.
    """

    root: Path
    address: str
    sites: tuple[str, ...] = SITES
    hosts: Mapping[str, Host] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.sites if self.hosts else ():
            (self.root / name).mkdir(mode=0o755)
            self.machines[name] = Machine(self.root / name)

    def host(self, name: str) -> Host:
        return self.hosts.get(name, Host(name))

    @property
    def coordinator(self) -> Path:
        return self.root / "coordinator"

    def site(self, name: str) -> Path:
        return self.machines[name].site if name in self.machines else self.root / name

    def command(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-m", "fedsynth", *map(str, words)]

    def say(self, host: str, *words: str | Path, code: int = 0) -> str:
        """Give a command on a host and return what it says; its exit code is as expected."""
        command = self.command(*words)
        if host in self.machines:
            command = as_user(GATE, command, network=True)
        done = subprocess.run(
            [*self.host(host).prefix, *command],
            capture_output=True,
            text=True,
            cwd=self.root,
            env=environment(),
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def start(self, host: str, name: str, *words: str | Path) -> subprocess.Popen[bytes]:
        """Start a command on a host; its words go to NAME.log."""
        return self.start_program(host, name, self.command(*words))

    def start_program(self, host: str, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.host(host).prefix, *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.root,
                env=environment(),
            )
        self.processes[name] = process
        return process

    def each(self, names: Sequence[str], do: Callable[[str], object]) -> None:
        """Do something at several sites, two at a time."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(do, names))

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def wait(self, until: Callable[[], bool], *, what: str, seconds: float = 120.0) -> None:
        ends = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < ends, f"{what} did not come within {seconds} s\n{self.last_words()}"
            time.sleep(0.2)

    def last_words(self) -> str:
        """Return the ends of all logs: of what runs here, of the service's programs, of the run's."""
        places = [self.root / f"{name}.log" for name in self.processes]
        places += sorted(self.root.glob("*/service/logs/*.log")) + sorted(self.root.glob("runs/*/logs/*.log"))
        ends = {place: place.read_text(encoding="utf-8", errors="replace")[-3000:] for place in places}
        return "\n".join(f"--- {place.relative_to(self.root)}\n{said}" for place, said in ends.items())

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for name in list(self.processes):
            self.stop(name)

    # What people do, in their order.

    def provision(self) -> None:
        """Certify everybody, and hand out the kits."""
        sites = ", ".join(f'"{name}"' for name in self.sites)
        charter = f'name = "trial"\nsites = [{sites}]\n[coordinator]\naddresses = ["{self.address}"]\n'
        (self.root / "FEDERATION.toml").write_text(charter)
        requests = self.root / "requests"
        requests.mkdir()
        requests.chmod(0o1777)
        words = {}

        def ask(name: str) -> None:
            command: list[str | Path] = ["federation", "request", "--federation", self.coordinator]
            if name != "coordinator":
                self.say(name, "site", "init", self.site(name), "--name", name)
                command = ["site", "request", self.site(name)]
            words[name] = words_of(self.say(name, *command, "--out", requests / f"{name}.json"))

        self.each(("coordinator", *self.sites), ask)
        confirmed = [word for name, said in words.items() for word in ("--confirm", f"{name}={said}")]
        told = self.say(
            "authority",
            *("provision", "FEDERATION.toml", "--authority", "authority", "--out", "handed-out"),
            *("--requests", "requests", *confirmed),
        )
        self.take_in(self.root / "handed-out", ("coordinator", *self.sites), authority=words_of(told))
        for name in self.sites:  # so that the trial's studies may be approved
            place = self.site(name) / "site.toml"
            text = place.read_text().replace("largest_epsilon = 1.0", "largest_epsilon = 20.0")
            place.write_text(text.replace("least_subjects = 20", "least_subjects = 5"))

    def take_in(self, handed_out: Path, names: Sequence[str], *, authority: str | None = None) -> None:
        """Have participants take in the kits, or the notice, that the authority handed out."""
        subprocess.run(["chmod", "-R", "a+rX", handed_out], check=True)
        more = ["--authority", authority] if authority else []

        def take(name: str) -> None:
            kit = handed_out / "kits" / name
            kit = kit if kit.is_dir() else handed_out / "notice"
            if name == "coordinator":
                self.say(name, "federation", "join", kit, "--federation", self.coordinator, *more)
                return
            self.say(name, "site", "init", self.site(name), "--kit", kit, *more)
            if name in self.machines:
                self.machines[name].give_kit_to_link()

        self.each(names, take)

    def start_nginx(self, *, listen: str, upstream: int) -> None:
        """Start nginx with the configuration of deploy/, its paths and ports replaced."""
        text = (ROOT / "deploy" / "nginx" / "fedsynth.conf").read_text()
        text = text.replace("/var/lib/fedsynth/coordinator", str(self.coordinator))
        text = text.replace("listen 443 ssl", f"listen {listen} ssl").replace(
            "127.0.0.1:9091", f"127.0.0.1:{upstream}"
        )
        home = self.root / "nginx"
        home.mkdir()
        temporary = "".join(
            f"{one}_temp_path {home}/{one};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (home / "nginx.conf").write_text(
            f"daemon off; user root; pid {home}/pid; error_log {home}/error.log info; worker_processes 1;\n"
            f"events {{ worker_connections 256; }}\nhttp {{ {temporary} access_log off;\n{text}\n}}\n"
        )
        command = [shutil.which("nginx") or "nginx", "-p", str(home), "-c", str(home / "nginx.conf")]
        self.start_program("coordinator", "nginx", command)

    def start_service(self, *, port: int) -> None:
        said = "listens on"
        before = self.log("service").count(said) if (self.root / "service.log").exists() else 0
        words = ["federation", "start", "--federation", self.coordinator, "--port", str(port)]
        self.start("coordinator", "service", *words)
        self.wait(lambda: self.log("service").count(said) > before, what="the service")

    def start_sites(self, names: Sequence[str] = ()) -> None:
        for name in names or self.sites:
            for role, uid in ROLES.items():
                command = as_user(uid, self.machines[name].command(role), network=role == "link")
                self.start_program(name, f"{role}-{name}", command)

    def stop_site(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        for role in reversed(ROLES):
            self.stop(f"{role}-{name}", number)

    def signal_site(self, name: str, number: signal.Signals) -> None:
        """Send a signal to every process of a site, those that it started included."""
        family = {self.processes[f"{role}-{name}"].pid for role in ROLES}
        parents = dict(_parents())
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def environment() -> dict[str, str]:
    """Return the environment of a command: this source, one thread, and no variable of a proxy or of Flower."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLWR_", "RAY_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])


def words_of(said: str) -> str:
    """Return the twelve words that a command shows."""
    found = re.findall(r"^\s*([a-z]+(?:[- ][a-z]+){11})\s*$", said, flags=re.MULTILINE)
    assert found, said
    return str(found[-1])
