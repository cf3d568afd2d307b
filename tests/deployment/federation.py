"""A federation of processes: an authority, a coordinator behind nginx, and hospitals, by the commands alone."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

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
    """Everything below one folder; processes are ended by `end`."""

    root: Path
    address: str
    trust: str = "site"
    hosts: Mapping[str, Host] = field(default_factory=dict)
    valid: str = "valid_days = 30"
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def host(self, name: str) -> Host:
        return self.hosts.get(name, Host(name))

    @property
    def coordinator(self) -> Path:
        return self.root / "coordinator"

    def site(self, name: str) -> Path:
        return self.root / name

    @property
    def study(self) -> Path:
        return self.root / "study.toml"

    def command(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-m", "fedsynth", *map(str, words)]

    def say(self, host: str, *words: str | Path, code: int = 0) -> str:
        """Give a command on a host and return what it says; its exit code is as expected."""
        done = subprocess.run(
            [*self.host(host).prefix, *self.command(*words)],
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

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def wait(self, until: Callable[[], bool], *, what: str, seconds: float = 120.0) -> None:
        ends = time.monotonic() + seconds
        while not until():
            logs = "\n".join(f"--- {name}\n{self.log(name)[-3000:]}" for name in self.processes)
            assert time.monotonic() < ends, f"{what} did not come within {seconds} s\n{logs}"
            time.sleep(0.2)

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
        for name in list(self.processes):
            self.stop(name)

    # What people do, in their order.

    def provision(self) -> None:
        """Certify everybody, and hand out the kits."""
        sites = ", ".join(f'"{name}"' for name in SITES)
        charter = (
            f'name = "trial"\nsites = [{sites}]\n{self.valid}\n[coordinator]\naddresses = ["{self.address}"]\n'
        )
        (self.root / "FEDERATION.toml").write_text(charter)
        (self.root / "requests").mkdir()
        words = {}
        told = self.say(
            "coordinator", "federation", "request", "--federation", self.coordinator, "--out", "requests/c.json"
        )
        words["coordinator"] = _words(told)
        for name in SITES:
            self.say(name, "site", "init", self.site(name), "--name", name)
            told = self.say(name, "site", "request", self.site(name), "--out", f"requests/{name}.json")
            words[name] = _words(told)
        confirmed = [word for name, said in words.items() for word in ("--confirm", f"{name}={said}")]
        told = self.say(
            "authority",
            *("provision", "FEDERATION.toml", "--authority", "authority", "--out", "handed-out"),
            *("--requests", "requests", *confirmed),
        )
        authority = _words(told)
        self.say(
            "coordinator",
            *(
                "federation",
                "join",
                "handed-out/kits/coordinator",
                "--federation",
                self.coordinator,
                "--authority",
                authority,
            ),
        )
        for name in SITES:
            self.say(
                name, "site", "init", self.site(name), "--kit", f"handed-out/kits/{name}", "--authority", authority
            )

    def allow(self) -> None:
        """Change every site's rules so that the trial's study may be approved."""
        dishonest = "" if self.trust == "site" else "dishonest = 0"
        self.study.write_text(STUDY.format(trust=self.trust, dishonest=dishonest))
        for name in SITES:
            place = self.site(name) / "site.toml"
            text = place.read_text().replace("largest_epsilon = 1.0", "largest_epsilon = 20.0")
            place.write_text(text.replace("least_subjects = 20", "least_subjects = 5"))

    def ingest(self) -> None:
        """Make people up, and have every hospital take its own recordings in."""
        from fedsynth.recordings.toy.cohort import write_toy_cohort
        from fedsynth.study import load_study

        write_toy_cohort(self.root / "recordings", study=load_study(self.study), people=0.25)
        for name in SITES:
            self.say(name, "site", "ingest", self.site(name), self.study, self.root / "recordings" / name)

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
        self.start(
            "coordinator", "service", "federation", "start", "--federation", self.coordinator, "--port", str(port)
        )
        self.wait(lambda: "listens on" in self.log("service"), what="the service")

    def start_sites(self, names: Sequence[str] = SITES) -> None:
        for name in names:
            self.start(name, f"site-{name}", "site", "start", self.site(name))

    def run_words(self, *more: str | Path) -> list[str | Path]:
        words: list[str | Path] = [
            "run",
            self.study,
            "--federation",
            self.coordinator,
            "--out",
            self.root / "first",
        ]
        return [*words, "--gather-seconds", "240", "--approval-seconds", "240", *more]

    def approve(self, names: Sequence[str] = SITES) -> None:
        """Ask, and have the hospitals approve what they were asked."""
        self.say("coordinator", *self.run_words("--prepare-only"))
        for name in names:
            asked = json.loads(
                self.say(
                    name,
                    "site",
                    "requests",
                    self.site(name),
                    "--add",
                    self.root / "first" / "request.json",
                    "--json",
                )
            )
            self.say(name, "site", "approve", self.site(name), str(asked["requests"][0]["request"])[:12])

    def charges(self, name: str) -> int:
        """Return how many lines a hospital's ledger has."""
        said = json.loads(self.say(name, "site", "ledger", self.site(name), "--json"))
        return len(said["charges"])


def environment() -> dict[str, str]:
    """Return the environment of a command: this source, one thread, and no variable of a proxy or of Flower."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLWR_", "RAY_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _words(said: str) -> str:
    found = re.findall(r"^\s*([a-z]+(?:[- ][a-z]+){11})\s*$", said, flags=re.MULTILINE)
    assert found, said
    return str(found[-1])
