"""A ledger's process is killed: before each of its writes and syncs, and at any time among others."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from ledger_judge import WRITES, calls_of, make_place, require_strace, run, start, told, traced, violations

pytestmark = pytest.mark.slow

CALLS = (*WRITES, "writev")
ORDINARY = "--nonces a,b,c"
"""A new site: key, database and head are made, three orders are answered, the ledger is closed."""
REOPENED = "--nonces a,b,c,d --reopen 1"
"""Each order finds a ledger that was closed, as between two orders of a coordinator."""
LARGE = "--nonces a,b,c --bytes 20000"


def kill_at(place: Path, call: str, number: int, worker: str) -> list[str]:
    """Kill a new site's process as it enters a call, let another go on, and judge."""
    make_place(place)
    code = traced(
        place, worker, strace=["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
    )
    assert code == -signal.SIGKILL
    frozen = violations(place, told(place)) if number % 2 else []
    run(place, *worker.split(), "--who", "b")
    found = frozen + violations(place, told(place))
    found += [line for line in told(place) if line.startswith("failed")]
    shutil.rmtree(place)
    return found


def test_a_kill_at_a_write_or_sync_loses_nothing_that_was_told(place: Path) -> None:
    require_strace()
    points = calls_of(make_place(place / "whole"), ORDINARY, calls=CALLS)

    wrong = {point: kill_at(place / "killed", *point, ORDINARY) for point in points[:: len(points) // 30 + 1]}

    assert {point: found for point, found in wrong.items() if found} == {}


@pytest.mark.long
@pytest.mark.parametrize("worker", [ORDINARY, REOPENED, LARGE], ids=["ordinary", "reopened", "large answers"])
def test_no_kill_at_any_write_or_sync_loses_anything(place: Path, worker: str) -> None:
    require_strace()
    points = calls_of(make_place(place / "whole"), worker, calls=CALLS)

    wrong = {point: kill_at(place / "killed", *point, worker) for point in points}

    print(f"{len(points)} kills at a call, {sum(map(len, wrong.values()))} violations")
    assert len(points) > 100
    assert {point: found for point, found in wrong.items() if found} == {}


def kill_several(place: Path, *, kills: int, seed: int, cap: int = 8) -> tuple[int, list[str]]:
    """Kill three writers on one ledger at random times, round after round; return the kills that hit, and wrongs.

    In every round each wants twelve orders, six of which all of them want, on the same people; the cap pays for
    eight.
    """
    make_place(place)
    rng = random.Random(seed)
    hits, found, number = 0, list[str](), 0
    while hits < kills:
        number += 1
        assert number < 2 * kills, f"of {3 * number} kills only {hits} came before the end"
        common = [f"{number}-{n}" for n in range(6)]
        requests = {who: [*common, *(f"{number}-{who}{n}" for n in range(6))] for who in "xyz"}
        for nonces in requests.values():
            rng.shuffle(nonces)
        options = ["--people", f"{number},{number}-too", "--cap", str(cap), "--reopen", str(rng.choice([0, 1, 2]))]
        workers = [
            start(place, "--nonces", ",".join(nonces), "--who", who, *options) for who, nonces in requests.items()
        ]
        begun = time.perf_counter()
        for worker in workers:
            worker.stdin.close()  # type: ignore[union-attr]
        for worker, when in zip(workers, sorted(rng.uniform(0.0, 0.03) for _ in workers), strict=True):
            time.sleep(max(0.0, begun + when - time.perf_counter()))
            worker.kill()
        hits += sum(worker.wait() == -signal.SIGKILL for worker in workers)
        for worker in workers:
            worker.stdout.close()  # type: ignore[union-attr]
        found += violations(place, told(place), cap=cap) if number % 10 == 0 else []
    run(place, "--nonces", ",".join(common), "--people", f"{number},{number}-too", "--cap", str(cap))
    heard = told(place)
    print(f"{hits} kills at any time; {sum(line.startswith('ticket') for line in heard)} tickets")
    return hits, [
        *found,
        *violations(place, heard, cap=cap),
        *(line for line in heard if line.startswith("failed")),
    ]


def test_several_writers_killed_at_any_time_stay_below_the_cap(place: Path) -> None:
    hits, found = kill_several(place / "ledger", kills=30, seed=1)

    assert hits >= 30
    assert found == []


@pytest.mark.long
def test_hundreds_of_writers_killed_at_any_time_stay_below_the_cap(place: Path) -> None:
    hits, found = kill_several(place / "ledger", kills=400, seed=2)

    assert hits >= 400
    assert found == []
