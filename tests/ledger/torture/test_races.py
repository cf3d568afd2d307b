"""Several processes at one ledger, and clocks that are wrong by a year."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from ledger_judge import make_place, open_ledger, run, start, told, violations

pytestmark = pytest.mark.slow

YEAR = 365 * 24 * 3600
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) { const char *by = getenv("CLOCK_SHIFT"); return by ? atol(by) : 0; }
int clock_gettime(clockid_t id, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += shift();
    return code;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int code = real(now, zone);
    now->tv_sec += shift();
    return code;
}
time_t time(time_t *out) {
    time_t (*real)(time_t *) = dlsym(RTLD_NEXT, "time");
    time_t now = real(NULL) + shift();
    if (out) *out = now;
    return now;
}
"""


def at_once(place: Path, *workers: list[str]) -> list[str]:
    """Let workers begin at the same time, and return what was told when all have ended."""
    running = [start(place, *options, "--who", str(n)) for n, options in enumerate(workers)]
    for worker in running:
        worker.stdin.close()  # type: ignore[union-attr]
    for worker in running:
        assert worker.wait() == 0
        worker.stdout.close()  # type: ignore[union-attr]
    return told(place)


def test_of_many_processes_with_one_order_all_send_one_answer_and_one_charge_stands(place: Path) -> None:
    heard = at_once(make_place(place / "site"), *[["--nonces", "a,b,c"]] * 6)

    words = Counter(tuple(line.split()[:2]) for line in heard)
    assert min(words["ticket", nonce] for nonce in "abc") >= 1
    assert [words["sent", nonce] + words["kept", nonce] for nonce in "abc"] == [6, 6, 6]
    with open_ledger(place / "site") as ledger:
        assert sorted(charge.nonce for charge in ledger.charges()) == ["a", "b", "c"]
    assert violations(place / "site", heard) == []


def test_many_processes_together_spend_the_cap_and_no_more(place: Path) -> None:
    requests = [["--nonces", ",".join(f"{who}{n}" for n in range(4)), "--cap", "7"] for who in "vwxyz"]

    heard = at_once(make_place(place / "site"), *requests)

    assert sum(line.startswith("sent") for line in heard) == 7
    assert sum(line.startswith("spent") for line in heard) == 13
    assert violations(place / "site", heard, cap=7) == []


def test_without_its_lock_file_a_ledger_still_spends_the_cap_and_no_more(place: Path) -> None:
    """The lock is a second guard: somebody may delete its file while a ledger is open."""
    run(make_place(place / "site"), "--nonces", "first", "--people", "somebody else")
    requests = [["--nonces", ",".join(f"{who}{n}" for n in range(12)), "--cap", "40"] for who in "vwxyz"]

    heard = at_once(place / "site", *[[*options, "--flaw", "no lock"] for options in requests])

    assert sum(line.startswith("sent") for line in heard) == 1 + 40
    assert sum(line.startswith("spent") for line in heard) == 20
    assert violations(place / "site", heard, cap=40) == []


def test_many_processes_may_make_one_ledger(place: Path) -> None:
    for turn in range(5):
        heard = at_once(make_place(place / str(turn)), *[["--nonces", who] for who in "vwxyz"])

        assert sorted(line.split()[1] for line in heard if line.startswith("sent")) == list("vwxyz")


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library that moves the time of day of a whole process, SQLite's included."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("moving a process's clock needs a C compiler on Linux")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"], cwd=folder, check=True)
    return folder / "clock.so"


def moved(clock: Path, by: int) -> Mapping[str, str]:
    return {**os.environ, "LD_PRELOAD": str(clock), "CLOCK_SHIFT": str(by)}


@pytest.mark.parametrize("by", [-YEAR, YEAR])
def test_the_clock_is_really_moved(clock: Path, by: int) -> None:
    code = (
        "import sqlite3; print(sqlite3.connect(':memory:').execute(\"SELECT strftime('%s', 'now')\").fetchone()[0])"
    )
    times = [
        int(subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True).stdout)
        for env in (moved(clock, 0), moved(clock, by))
    ]

    assert times[1] - times[0] == pytest.approx(by, abs=60)


def test_no_line_depends_on_the_time_of_day(clock: Path, place: Path) -> None:
    heads = set()
    for by in (0, YEAR, -YEAR):
        site = make_place(place / str(by))
        (site / "ledger").mkdir()
        (site / "ledger" / "ledger.key").write_bytes(b"k" * 32)
        run(site, "--nonces", "a,b,c", env=moved(clock, by))
        with open_ledger(site) as ledger:
            heads.add((len(ledger), ledger.head))

    assert len(heads) == 1
    assert heads.pop()[0] == 3


def test_a_clock_that_jumps_by_a_year_buys_nothing(clock: Path, place: Path) -> None:
    site = make_place(place / "site")
    for who, by in (("a", YEAR), ("b", -YEAR), ("c", 0), ("d", YEAR)):
        run(site, "--nonces", f"{who}1,{who}2,a1", "--cap", "5", "--who", who, env=moved(clock, by))
        for path in (site / "ledger").iterdir():
            os.utime(path, (4e9, 4e9) if by else (0, 0))

    heard = told(site)
    assert sum(line.startswith("sent") for line in heard) == 5
    assert sum(line.startswith("kept a1") for line in heard) == 4
    assert violations(site, heard, cap=5) == []
