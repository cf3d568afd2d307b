"""A trial: one study of some of a federation's sites as a run of its own, and what can befall it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from federation import STUDY, Federation

TWO_MINUTES = 120.0


@dataclass
class Trial:
    """A study of its own people, so that its sites can afford it; the run bears its name."""

    federation: Federation
    name: str
    sites: tuple[str, ...]
    trust: str = "site"
    rounds: int = 1
    local_steps: int = 1

    @property
    def folder(self) -> Path:
        return self.federation.root / "runs" / self.name

    @property
    def study(self) -> Path:
        return self.federation.root / f"{self.name}.toml"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.federation.processes[self.name]

    def text(self) -> str:
        """Return the study file."""
        dishonest = "" if self.trust == "site" else "dishonest = 0"
        text = STUDY.format(trust=self.trust, dishonest=dishonest).replace('"trial"', f'"{self.name}"')
        text = text.replace('["east", "north", "west"]', json.dumps(list(self.sites)))
        plan = f"rounds = {self.rounds}\nlocal_steps = {self.local_steps}"
        return text.replace("rounds = 1\nlocal_steps = 2", plan)

    def ready(self) -> None:
        """Make people up, and have every hospital take its own recordings in."""
        from fedsynth.recordings.toy.cohort import write_toy_cohort
        from fedsynth.study import load_study

        one, recordings = self.federation, self.federation.root / f"{self.name}-recordings"
        self.study.write_text(self.text())
        write_toy_cohort(recordings, study=load_study(self.study), people=0.25)

        def ingest(name: str) -> None:
            one.say(name, "site", "ingest", one.site(name), self.study, recordings / name)

        one.each(self.sites, ingest)

    def begin(self, *more: str) -> None:
        """Give the command that begins the run, or goes on with it."""
        words = ["run", self.study, "--federation", self.federation.coordinator, "--out", self.folder]
        waits = ["--gather-seconds", "240", "--approval-seconds", "900"]
        self.federation.start("coordinator", self.name, *words, *waits, *more)

    def approve(self) -> None:
        """Have the hospitals read the request that came over their links, and approve it."""
        one = self.federation

        def asked_for(name: str) -> bool:
            here = (one.site(name) / "requests").glob("*.json")
            return any(json.loads(path.read_text())["run"] == self.name for path in here)

        one.wait(lambda: all(map(asked_for, self.sites)), what="the request at every site", seconds=400)

        def agree(name: str) -> None:
            asked = json.loads(one.say(name, "site", "requests", one.site(name), "--json"))
            (digest,) = [each["request"] for each in asked["requests"] if each["run"] == self.name]
            one.say(name, "site", "approve", one.site(name), str(digest)[:12])

        one.each(self.sites, agree)

    @cached_property
    def steps(self) -> int:
        return len(json.loads((self.folder / "plan.json").read_text())["steps"])

    @property
    def step(self) -> int:
        """How many steps are done; -1 before the first was asked."""
        return max((int(line["step"]) for line in self.contributions()), default=-1)

    @property
    def alive(self) -> list[str]:
        """The sites that are still asked."""
        return [str(name) for name in self.contributions()[-1]["alive"]]

    def contributions(self) -> list[dict[str, Any]]:
        """Return what the run noted between its steps; a line that is being written is not read."""
        with suppress(OSError):
            text = (self.folder / "contributions.jsonl").read_text(encoding="utf-8")
            return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
        return []

    def reaches(self, step: int, *, seconds: float = 400.0) -> None:
        """Wait until so many steps are done."""

        def there() -> bool:
            assert self.process.poll() is None, self.federation.log(self.name)
            return self.step >= step

        self.federation.wait(there, what=f"step {step} of {self.name}", seconds=seconds)

    def ends(self, *, code: int | None = 0, seconds: float = 600.0) -> str:
        """Wait until the command has ended, as expected where a code is given, and return what it said."""
        process = self.process
        self.federation.wait(lambda: process.poll() is not None, what=f"the end of {self.name}", seconds=seconds)
        del self.federation.processes[self.name]
        said = self.federation.log(self.name)
        assert code is None or process.returncode == code, said
        return said

    def status(self) -> dict[str, object]:
        return dict(json.loads(self.federation.say("coordinator", "federation", "status", self.folder, "--json")))

    def charges(self) -> dict[str, list[str]]:
        """Return what every site's ledger was charged for, in order."""
        one = self.federation
        found = {}
        for name in self.sites:
            said = json.loads(one.say(name, "site", "ledger", one.site(name), "--json"))
            found[name] = [str(line["purpose"]) for line in said["charges"]]
        return found

    def stated(self) -> set[str]:
        """Return the sites that the statement lists."""
        return {site["site"] for site in json.loads((self.folder / "statement.json").read_text())["sites"]}


@contextmanager
def then(trial: Trial, fault: str, became: str) -> Iterator[None]:
    """Measure how long the next step takes from the end of a fault."""
    step, began = trial.step, time.monotonic()
    yield
    trial.reaches(step + 1)
    row(fault, became, seconds=round(time.monotonic() - began, 1))


class InExchanges:
    """Kills the coordinator's program once in exchanges of a run: while answers come, or right after them."""

    def __init__(self, trial: Trial, *, among: frozenset[int] | None = None) -> None:
        """Watch a run; `kills` counts.

        Args:
            trial: the run.
            among: numbers of the checkpoint's records that exchanges leave; without it, in every exchange.
        """
        self._trial, self._among, self.kills = trial, among, 0
        self._killed, self._states = set[int](), {0, 1}  # numbers of the checkpoint's records
        self._newest, self._told = 0, 0

    def look(self) -> None:
        """Kill it where an exchange is under way, or has ended, in which it was not killed yet."""
        number, kind = max(self._records(), default=(0, ""))
        told = self._progress()
        if number != self._newest:
            self._newest, self._told = number, len(told)  # what is told from now on is of the next exchange
        if kind == "answers" and number not in self._killed:
            self._kill(number)
        elif kind == "state":
            if number - 1 not in self._states | self._killed:
                self._kill(number - 1)
            self._states.add(number)
            coming = any(what.endswith(", sites") and done > 0 for what, done, _ in told[self._told :])
            if coming and number + 1 not in self._killed:
                self._kill(number + 1)

    def _records(self) -> list[tuple[int, str]]:
        with suppress(OSError):
            names = [entry.name.partition(".") for entry in os.scandir(self._trial.folder / "checkpoint")]
            return [(int(number), kind) for number, _, kind in names if number.isdecimal()]
        return []

    def _progress(self) -> list[tuple[str, int, int]]:
        with suppress(OSError, ValueError):
            lines = (self._trial.folder / "progress.jsonl").read_text().rpartition("\n")[0]
            return [tuple(json.loads(line)) for line in lines.splitlines()]
        return []

    def _kill(self, number: int) -> None:
        if self._among is not None and number not in self._among:
            return
        pid = holder(self._trial.folder / "coordinator.lock")
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self._killed.add(number)
            self.kills += 1
            self._trial.federation.wait(
                lambda: holder(self._trial.folder / "coordinator.lock") != pid, what="the kill", seconds=30
            )


def holder(lock: Path) -> int | None:
    """Return the process that holds a lock of flock(2)."""
    with suppress(OSError):
        inode = f":{lock.stat().st_ino}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(inode):
                return int(fields[4])
    return None


def row(fault: str, became: str, *, charges: object = None, seconds: float | None = None) -> None:
    """Say what a fault came to; also to the file that FEDSYNTH_FAULT_TABLE names, as one line of JSON."""
    line = json.dumps({"fault": fault, "became": became, "charges": charges, "seconds": seconds})
    print(line)
    if place := os.environ.get("FEDSYNTH_FAULT_TABLE"):
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
