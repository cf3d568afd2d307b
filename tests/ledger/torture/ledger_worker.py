"""A site's process in miniature, to be killed: charge, tell, redeem, keep the reply, send it.

    python -S ledger_worker.py PLACE --who a --nonces 0,1,2 [--cap 5] [--bytes 100] [--reopen 3] [--flaw NAME]

The ledger is PLACE/ledger, its head PLACE/elsewhere/head. What the outside world learns is appended to
PLACE/told, a line each and durable at once: `ticket NONCE` when a ticket was had, `sent NONCE DIGEST` for bytes
that left, `kept NONCE DIGEST` for bytes sent again, `spent NONCE` and `failed NONCE WHY` for refusals. The log
uses writev and O_SYNC, which the ledger never does, so that faults can be aimed at the ledger alone.

Prices are whole numbers, the count of steps, so that a cap can be checked by counting; the accountant, and torch
with it, is not imported.
"""

import argparse
import hashlib
import os
import signal
import sqlite3
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def main() -> None:
    """Answer every nonce once, as a site's session would."""
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--who", default="a")
    parser.add_argument("--nonces", default="0")
    parser.add_argument("--people", default="anna,bert")
    parser.add_argument("--cap", type=float, default=1000.0)
    parser.add_argument("--bytes", type=int, default=100)
    parser.add_argument("--reopen", type=int, default=0, help="close and open again after so many")
    parser.add_argument("--flaw", default="")
    parser.add_argument("--wait", action="store_true", help="for a byte on stdin, before the first charge")
    args = parser.parse_args()

    sys.path.insert(0, str(ROOT))
    stub = types.ModuleType("fedsynth.privacy.accountant")
    stub.epsilon_pld = lambda mechanisms, **_: float(sum(one.steps for one in mechanisms))  # type: ignore[attr-defined]
    sys.modules["fedsynth.privacy.accountant"] = stub
    from fedsynth.errors import BudgetError, LedgerError
    from fedsynth.ledger import disk as ledger_disk
    from fedsynth.ledger.ledger import Ledger
    from fedsynth.privacy.mechanism import Mechanism

    one_sum = Mechanism("sum", 2.0, 1.0, 1, 1.0)
    log = os.open(args.place / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_SYNC, 0o600)

    def tell(*words: str) -> None:
        os.writev(log, [(" ".join(words) + "\n").encode()])

    def opened() -> Ledger:
        ledger = Ledger(args.place / "ledger", head_file=args.place / "elsewhere" / "head")
        if args.flaw == "lazy database":
            ledger._db.execute("PRAGMA synchronous=NORMAL")
            ledger._unsynced = ledger._transaction  # type: ignore[method-assign]
        return ledger

    def answer(ledger: Ledger, nonce: str) -> None:
        kept = ledger.reply(nonce)
        if kept is not None:
            tell("kept", nonce, hashlib.sha256(kept).hexdigest())
            return
        ticket = ledger.charge(
            one_sum,
            nonce=nonce,
            study="s",
            tokens=args.people.split(","),
            cap=args.cap,
            delta=1e-5,
            unit="subject",
        )
        tell("ticket", nonce)
        ledger.redeem(ticket)
        reply = os.urandom(args.bytes)
        reply = ledger.keep_reply(nonce, reply)
        tell("sent", nonce, hashlib.sha256(reply).hexdigest())

    @contextmanager
    def deadly(folder: Path) -> Iterator[None]:
        try:
            with lock(folder):
                yield
        except (sqlite3.Error, OSError):
            os.kill(os.getpid(), signal.SIGKILL)

    lock = ledger_disk.lock
    if args.flaw == "dies of an error":
        ledger_disk.lock = deadly
    if args.flaw == "no lock":
        ledger_disk.lock = lambda _: nullcontext()
    if args.flaw.startswith("dies at folder sync "):
        left = [int(args.flaw.split()[-1])]

        def counted(folder: Path) -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(folder)

        sync = ledger_disk.sync_folder
        ledger_disk.sync_folder = counted
    if args.flaw == "lazy head":
        ledger_disk.os = types.SimpleNamespace(**{**vars(os), "fsync": lambda _: None})  # type: ignore[attr-defined]
    if args.wait:
        os.writev(1, [b"ready\n"])
        os.read(0, 1)
    ledger = None
    for count, nonce in enumerate(args.nonces.split(",")):
        try:
            if ledger is not None and args.reopen and count % args.reopen == 0:
                ledger.close()
                ledger = None
            ledger = ledger or opened()
            answer(ledger, nonce)
        except BudgetError:
            kept = ledger.reply(nonce) if ledger is not None else None
            if kept is not None:  # another answered it meanwhile
                tell("kept", nonce, hashlib.sha256(kept).hexdigest())
            else:
                tell("spent", nonce)
        except LedgerError as error:
            tell("failed", nonce, str(error).split("\n")[0])
            if ledger is not None:
                ledger.close()
            ledger = None
    if ledger is not None:
        ledger.close()
    tell("done", args.who)


if __name__ == "__main__":
    main()
