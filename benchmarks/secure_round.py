"""Measure one step of a secure sum: seconds and bytes of each site, and seconds of the coordinator.

    python benchmarks/secure_round.py [--sites 3 10 50] [--size 1000000] [--steps 1] [--dishonest 1] [--json]

All sites run in this one process, one after the other, and keep their state as bytes between two messages as they
would on disk; no network is involved. Every total is compared with the plain sum. Times are wall time on one core:
set OMP_NUM_THREADS=1, though nothing here uses more than one thread.
"""

import argparse
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import SecureCohort
from fedsynth.secure_aggregation.server import SecureServer

STAGES = ("keys", "shares", "sum", "agree", "unmask")
CONTEXT = "benchmark"


class Meter:
    """Sites as bytes, and what each call took."""

    def __init__(self, cohort: SecureCohort, identities: dict[str, Ed25519PrivateKey], *, steps: int) -> None:
        self.cohort, self.identities = cohort, identities
        self.seconds: dict[str, float] = defaultdict(float)
        self.sent: dict[str, int] = defaultdict(int)
        self.received: dict[str, int] = defaultdict(int)
        self.largest_state = 0
        self.server_seconds = 0.0
        self.server = SecureServer(cohort, CONTEXT, steps)
        start = time.perf_counter()
        begun = {n: SecureSite.begin(cohort, n, key, CONTEXT, steps) for n, key in identities.items()}
        self.states = {name: site.to_bytes() for name, site in begun.items()}
        self.seconds["keys"] += time.perf_counter() - start

    def serve(self, call: Callable[[], Any]) -> Any:
        """Run a call of the coordinator."""
        start = time.perf_counter()
        result = call()
        self.server_seconds += time.perf_counter() - start
        return result

    def ask(self, stage: str, name: str, request: bytes, answer: Callable[[SecureSite], bytes]) -> None:
        """Let one site answer from its kept state, and hand the reply to the coordinator."""
        start = time.perf_counter()
        site = SecureSite.from_bytes(self.states[name], cohort=self.cohort, identity=self.identities[name])
        reply = answer(site)
        self.states[name] = site.to_bytes()
        self.seconds[stage] += time.perf_counter() - start
        self.largest_state = max(self.largest_state, len(self.states[name]))
        self.received[stage] += len(request)
        self.sent[stage] += len(reply)
        self.serve(lambda: self.server.receive(name, reply))


def measure(n: int, *, size: int, steps: int, dishonest: int, gone: int) -> dict[str, Any]:
    """Run one session with one step, `gone` sites falling silent after the shares."""
    identities = {f"site-{place:03d}": Ed25519PrivateKey.generate() for place in range(n)}
    roster = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
    cohort = SecureCohort(roster, dropouts=gone, dishonest=dishonest)
    meter = Meter(cohort, identities, steps=steps)
    server, present = meter.server, list(identities)[gone:]
    expected = np.zeros(size, np.uint64)

    for name in identities:
        meter.ask("keys", name, b"", SecureSite.keys)
    for name, data in meter.serve(server.ask_shares).items():
        meter.ask("shares", name, data, partial(SecureSite.shares, data=data))
    requests = meter.serve(lambda: server.ask_sum(0, size))
    for place, name in enumerate(present):
        values = np.random.default_rng(place).integers(0, 2**64, size, np.uint64)
        expected += values
        data = requests[name]
        meter.ask("sum", name, data, partial(SecureSite.mask, step=0, values=values, data=data))
    for name, data in meter.serve(lambda: server.ask_agree(0)).items():
        meter.ask("agree", name, data, partial(SecureSite.agree, step=0, data=data))
    for name, data in meter.serve(lambda: server.ask_unmask(0)).items():
        meter.ask("unmask", name, data, partial(SecureSite.unmask, step=0, data=data))
    start = time.perf_counter()
    total = meter.serve(lambda: server.total(0))
    unmasking = time.perf_counter() - start
    if not np.array_equal(total.values, expected):
        raise SystemExit(f"the secure sum of {n} sites is not the plain sum")

    people = {stage: n if stage in ("keys", "shares") else len(present) for stage in STAGES}
    return {
        "sites": n,
        "gone": gone,
        "threshold": cohort.threshold,
        "seconds_per_site": {stage: meter.seconds[stage] / people[stage] for stage in STAGES},
        "server_seconds": meter.server_seconds,
        "server_seconds_unmasking": unmasking,
        "sent_bytes_per_site": {stage: round(meter.sent[stage] / people[stage]) for stage in STAGES},
        "received_bytes_per_site": {stage: round(meter.received[stage] / people[stage]) for stage in STAGES},
        "largest_state_bytes": meter.largest_state,
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 10, 50])
    parser.add_argument("--size", type=int, default=1_000_000, help="words of the vector")
    parser.add_argument("--steps", type=int, default=1, help="for how many steps keys and shares are exchanged")
    parser.add_argument("--dishonest", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    # With three sites nobody may drop out: a total needs three vectors.
    cases = [(n, gone) for n in given.sites for gone in (0, 1) if n > 3 or not gone]
    measured = [
        measure(n, size=given.size, steps=given.steps, dishonest=given.dishonest, gone=gone) for n, gone in cases
    ]
    about = {
        "size": given.size,
        "steps": given.steps,
        "dishonest": given.dishonest,
        "plain_float32_bytes": 4 * given.size,
        "plain_float64_bytes": 8 * given.size,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    if given.json:
        print(json.dumps({**about, "measured": measured}, indent=2))
        return
    print(f"{given.size} words, keys for {given.steps} steps, {given.dishonest} dishonest; {about['machine']}")
    print(f"plain vector: {4 * given.size / 1e6:.3f} MB as float32, {8 * given.size / 1e6:.3f} MB as float64\n")
    print(f"{'':14}{'seconds per site':^45}{'seconds of the server':^24}{'MB per site':^18}")
    heads = ["sites", "gone", *STAGES, "whole", "unmasking", "sent", "received", "state MB"]
    print("".join(f"{head:>{5 if place < 2 else 10}}" for place, head in enumerate(heads)))
    for row in measured:
        cells = [f"{row['seconds_per_site'][stage]:.4f}" for stage in STAGES]
        cells += [f"{row['server_seconds']:.3f}", f"{row['server_seconds_unmasking']:.3f}"]
        cells += [
            f"{sum(row[kind].values()) / 1e6:.4f}" for kind in ("sent_bytes_per_site", "received_bytes_per_site")
        ]
        cells.append(f"{row['largest_state_bytes'] / 1e6:.4f}")
        print(f"{row['sites']:>5}{row['gone']:>5}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
