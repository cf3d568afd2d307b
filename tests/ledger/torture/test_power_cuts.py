"""The power fails at a site: at every call that changes its disk, with every way of losing what was not synced."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ledger_judge import make_place, require_strace, violations
from power_cut import MODES, Call, Disk, record

pytestmark = pytest.mark.slow

SHORT = "--nonces a,b,c,d --reopen 2"
"""A new site answers four orders; its ledger is closed and opened again on the way."""
LONG = "--nonces a,b,c,d,e,f,g,h,i,j --reopen 4"
LARGE = "--nonces a,b,c,d,e,f --bytes 900000"
"""Answers so large that SQLite moves its log into the database while it is open."""
PAIR = ("--nonces a,b,c,d,e,f --who x --reopen 1", "--nonces f,e,g,h,i,j --who y --reopen 2")


def cuts(
    place: Path, calls: Sequence[Call], *, every: int = 1, rounds: int = 1, seed: int = 0
) -> Iterator[tuple[str, list[str]]]:
    """Yield, for each mode and each of the calls that change the disk, what is wrong after a cut right there."""
    for turn in range(rounds):
        rng = random.Random(1000 * seed + turn)
        disk = Disk(place / "site")
        changes = 0
        for call in calls:
            if not disk.apply(call):
                continue
            changes += 1
            if changes % every:
                continue
            for mode in MODES:
                found = place / "after the cut"
                disk.cut(mode, rng, found)
                yield mode, violations(found, disk.told.splitlines())
                shutil.rmtree(found)


def site(place: Path) -> Path:
    return make_place(place / "site")


def recorded(
    place: Path, *workers: str, strace: Sequence[str] = (), in_turn: bool = False
) -> tuple[Path, list[Call]]:
    """Record workers at a new site, which is gone afterwards but for its first folders."""
    require_strace()
    calls = record(site(place), *workers, strace=strace, in_turn=in_turn)
    shutil.rmtree(place / "site")
    site(place)
    return place, calls


def test_a_power_cut_loses_nothing_that_was_told(place: Path) -> None:
    outcomes = list(cuts(*recorded(place, SHORT), every=3))

    assert len(outcomes) > 300
    assert [(mode, wrong) for mode, wrong in outcomes if wrong] == []


@pytest.mark.parametrize("flaw", ["lazy database", "lazy head"])
def test_the_simulated_disk_breaks_a_ledger_that_syncs_less(place: Path, flaw: str) -> None:
    wrong = Counter(mode for mode, found in cuts(*recorded(place, f"{SHORT} --flaw '{flaw}'"), every=3) if found)

    assert wrong["everything unsynced is lost"] > 10
    assert sum(wrong.values()) > 30


@pytest.mark.parametrize("number", range(5, 23))
def test_a_power_cut_after_a_sync_that_failed_loses_nothing_that_was_told(place: Path, number: int) -> None:
    """The process that saw the error dies at once; the next one finds in memory what the disk never got."""
    fails = ["-e", f"inject=fdatasync:error=EIO:when={number}"]
    first, then = "--nonces a,b,c,d --flaw 'dies of an error'", "--nonces a,b,c,d,e,f --who b --reopen 2"
    calls = recorded(place, first, then, strace=fails, in_turn=True)

    assert [found for _, found in cuts(*calls, every=13) if found] == []


@pytest.mark.parametrize("number", range(1, 7))
def test_a_power_cut_after_a_kill_loses_nothing_that_was_told(place: Path, number: int) -> None:
    """The process that made a name dies before it is durable; the next one finds it and must not trust it."""
    first, then = f"--nonces a,b --flaw 'dies at folder sync {number}'", "--nonces a,b,c --who b"
    calls = recorded(place, first, then, in_turn=True)

    assert [found for _, found in cuts(*calls, every=9) if found] == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("workers", "every", "rounds"),
    [
        pytest.param([LONG], 1, 4, id="one writer"),
        pytest.param([LARGE], 32, 1, id="large answers"),
        pytest.param(PAIR, 1, 3, id="two writers"),
    ],
)
def test_no_power_cut_at_any_call_loses_anything(
    place: Path, workers: Sequence[str], every: int, rounds: int
) -> None:
    outcomes = Counter[str]()
    wrong = []
    for mode, found in cuts(*recorded(place, *workers), every=every, rounds=rounds):
        outcomes[mode] += 1
        wrong += [(mode, found)] if found else []

    print(f"{sum(outcomes.values())} cuts, by mode: {dict(outcomes)}; violations: {len(wrong)}")
    assert wrong == []
