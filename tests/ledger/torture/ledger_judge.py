"""What must hold of a ledger after anything: the judge of every torture, and how its workers are run."""

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fedsynth.errors import BudgetError, LedgerError
from fedsynth.ledger.disk import Head, read_head
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.mechanism import Mechanism

WORKER = [sys.executable, "-S", str(Path(__file__).with_name("ledger_worker.py"))]
WRITES = ("pwrite64", "write", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "mkdir")
"""The calls that change a disk, as a ledger makes them on Linux."""
SUM = Mechanism("sum", 2.0, 1.0, 1, 1.0)


def make_place(place: Path) -> Path:
    """Make what a ledger finds when a site is new: another disk for its head."""
    (place / "elsewhere").mkdir(parents=True)
    return place


def open_ledger(place: Path) -> Ledger:
    """Open the ledger of a place."""
    return Ledger(place / "ledger", head_file=place / "elsewhere" / "head")


def told(place: Path) -> list[str]:
    """Return what the outside world heard, a line each; the last one may have been cut short."""
    path = place / "told"
    return path.read_text().splitlines() if path.exists() else []


def violations(place: Path, heard: Sequence[str], *, cap: float = 1000.0) -> list[str]:
    """Return what is wrong with a ledger, given what was heard of it; nothing may be.

    It opens and its chain holds; whoever had a ticket or sent bytes was charged, once; an order has one answer, and
    a retry gives that answer and no ticket; an order without an answer is opened again and charged no more; the
    head elsewhere is not behind any ticket, so that a backup restored now would be noticed; nobody is above the
    cap; and the next charge works.
    """
    try:
        head = read_head(place / "elsewhere" / "head") or Head(0, "")
        with open_ledger(place) as ledger:
            words = [line.split() for line in heard]
            found = _wrong(ledger, words, cap=cap)
            ticketed = {one[1] for one in words if one[0] == "ticket"}
            if head.number < max((one.number for one in ledger.charges() if one.nonce in ticketed), default=0):
                found.append("the head is behind a ticket")
            number = len(ledger)
            ledger.redeem(_charge(ledger, f"after {number}", people=[f"somebody new at {number}"]))
            ledger.keep_reply(f"after {number}", b"bytes")
        with open_ledger(place) as ledger:
            if (len(ledger), ledger.reply(f"after {number}")) != (number + 1, b"bytes"):
                found.append("the ledger did not go on")
        return found
    except LedgerError as error:
        return [f"frozen: {error}"]


def _wrong(ledger: Ledger, heard: list[list[str]], *, cap: float) -> list[str]:
    charges = ledger.charges()
    nonces = Counter(charge.nonce for charge in charges)
    tickets = {words[1] for words in heard if words[0] == "ticket"}
    answers = {tuple(words[1:3]) for words in heard if words[0] in ("sent", "kept")}
    found = [f"{nonce} was charged {n} times" for nonce, n in nonces.items() if n > 1]
    found += [f"the charge of {nonce} is lost" for nonce in {*tickets, *(one[0] for one in answers)} - {*nonces}]
    found += [f"{n} different answers to {one}" for one, n in Counter(one[0] for one in answers).items() if n > 1]
    for nonce, digest in answers:
        reply = ledger.reply(nonce)
        if reply is None or _digest(reply) != digest:
            found.append(f"the answer to {nonce} is lost")
    for charge in charges:
        if sum(one.mechanism.steps for one in ledger.charges_touching(charge)) > cap:
            found.append(f"line {charge.number} is above the cap")
    for charge in charges[-2:]:
        try:
            _charge(ledger, charge.nonce, people=sorted(ledger._chain.tokens(charge.people)))
            if ledger.reply(charge.nonce) is not None:
                found.append(f"{charge.nonce} was opened again after its answer")
        except BudgetError:
            if ledger.reply(charge.nonce) is None:
                found.append(f"{charge.nonce} was charged for nothing")
    if len(ledger) != len(charges):
        found.append("an order that was opened again was charged again")
    return found


def run(place: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
    """Run a worker to its end."""
    subprocess.run([*WORKER, str(place), *options], check=True, capture_output=True, text=True, env=env)


def start(place: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a worker that is ready and begins when its standard input is closed."""
    worker = subprocess.Popen(
        [*WORKER, str(place), "--wait", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"
    return worker


def traced(
    place: Path, *workers: str, trace: Path | None = None, strace: Sequence[str] = (), in_turn: bool = False
) -> int:
    """Run workers under strace, and return the exit code of one, negative for a signal.

    Args:
        place: of the ledger.
        workers: the options of each, in one text.
        trace: where strace writes.
        strace: its own options.
        in_turn: one after the other instead of all at once.
    """
    words = ["strace", "-f", "-o", str(trace or "/dev/null"), *strace]
    commands = [shlex.join([*WORKER, str(place)]) + " " + options for options in workers]
    together = "; ".join(commands) if in_turn else f"{' & '.join(commands)} & wait"
    words += shlex.split(commands[0]) if len(commands) == 1 else ["sh", "-c", together]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode > 0 or "Traceback" in done.stderr:
        raise AssertionError(f"a worker broke: {done.stderr[-2000:]}")
    return done.returncode


def calls_of(place: Path, worker: str, *, calls: Sequence[str] = WRITES) -> list[tuple[str, int]]:
    """Return each call that a worker makes from the ledger's folder on, and its number among those of its kind."""
    trace = place.parent / f"{place.name}.trace"
    traced(place, worker, trace=trace, strace=["-e", f"trace={','.join({*calls, 'mkdir'})}"])
    counts, points = Counter[str](), []
    for call in re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE):
        counts[call] += 1
        if call in calls and counts["mkdir"]:
            points.append((call, counts[call]))
    return sorted(points)


def require_strace() -> None:
    """Skip where a process cannot be traced.

    Raises:
        pytest.skip.Exception: with the reason.
    """
    if shutil.which("strace") is None:
        pytest.skip("strace is not on this machine")
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", "inject=getppid:retval=1", "true"],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"this machine does not allow tracing: {done.stderr.strip()[:200]}")


def _charge(ledger: Ledger, nonce: str, *, people: list[str]):  # type: ignore[no-untyped-def]
    return ledger.charge(SUM, nonce=nonce, study="s", tokens=people, cap=1e9, delta=1e-5, unit="subject")


def _digest(reply: bytes) -> str:
    return hashlib.sha256(reply).hexdigest()
