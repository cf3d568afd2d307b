"""Measure what a charge costs behind many others: a ledger of 10 000 lines beside one of ten, in turn.

    python benchmarks/ledger.py [--lines 10000] [--charges 60] [--json]

Two thousand people of five thousand tokens are charged, redeemed and answered in either ledger, in turn, so that a
busy machine disturbs both alike. The accountant is left out: its price is of the request, not of the ledger.
"""

import argparse
import hashlib
import json
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from fedsynth.ledger import ledger as module
from fedsynth.ledger.chain import Chain, people_key
from fedsynth.ledger.disk import Head, write_head
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.mechanism import Mechanism

TOKENS = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(5000)]
SETS = [TOKENS[50 * n :] for n in range(10)] + [TOKENS[: 50 * n] for n in range(1, 11)]
SUMS = [Mechanism(f"gradients: round {n}", 3.0, 0.2, 1 + n, 1.0) for n in range(5)]
STEPS = ("open", "charge", "redeem", "keep an answer of 100 kB")


def filled(folder: Path, lines: int) -> Path:
    """Return a ledger of that many lines, written in one transaction."""
    with Ledger(folder) as ledger:
        chain = Chain(ledger.key)
    sets = {people_key(tokens): tokens for tokens in SETS}
    names = list(sets)
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        for people, tokens in sets.items():
            db.executemany("INSERT INTO people VALUES (?, ?)", [(people, token) for token in tokens])
        for n in range(lines):
            row = chain.next_row(
                nonce=f"run:{n}", study=f"s{n % 7}", people=names[n % len(names)], mechanism=SUMS[n % 5]
            )
            chain.extend([row], sets.__getitem__)
            db.execute("INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?)", row)
    db.close()
    write_head(folder / "ledger.head", Head(lines, chain.head), like=folder)
    return folder


def milliseconds(folder: Path, charges: int) -> dict[str, list[float]]:
    """Open a ledger and charge, redeem and answer in it."""
    took: dict[str, list[float]] = {step: [] for step in STEPS}
    began = time.perf_counter()
    with Ledger(folder) as ledger:
        took["open"].append(1000 * (time.perf_counter() - began))
        before = len(ledger)
        for n in range(before, before + charges):
            times = [time.perf_counter()]
            ticket = ledger.charge(
                SUMS[0], nonce=f"step {n}", study="new", tokens=TOKENS, cap=1e9, delta=1e-5, unit="subject"
            )
            times.append(time.perf_counter())
            ledger.redeem(ticket)
            times.append(time.perf_counter())
            ledger.keep_reply(f"step {n}", bytes(100_000))
            times.append(time.perf_counter())
            for step, start, end in zip(STEPS[1:], times, times[1:], strict=False):
                took[step].append(1000 * (end - start))
    return took


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--charges", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    module.epsilon_pld = lambda mechanisms, **_: float(len(mechanisms))  # type: ignore[assignment]
    took: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folders = {name: filled(Path(place, name), lines) for name, lines in (("short", 10), ("long", asked.lines))}
        for _ in range(3):
            for name, folder in folders.items():
                for step, some in milliseconds(folder, asked.charges // 3).items():
                    took.setdefault(name, {}).setdefault(step, []).extend(some)
    rows = {
        step: {name: statistics.median(took[name][step]) for name in folders}
        | {"ratio": statistics.median(took["long"][step]) / statistics.median(took["short"][step])}
        for step in STEPS
    }
    if asked.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'':26}{'ten lines':>12}{f'{asked.lines} lines':>14}{'ratio':>8}")
    for step, row in rows.items():
        print(f"{step:26}{row['short']:9.2f} ms{row['long']:11.2f} ms{row['ratio']:8.2f}")


if __name__ == "__main__":
    main()
