"""What befalls a federation in the middle of a run: each ends completed or with its cause named, charged once."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from federation import Federation
from founding import founded
from network import UPSTREAM
from trial import TWO_MINUTES, Trial, row, then

pytestmark = [
    pytest.mark.federation,
    pytest.mark.xdist_group("first"),
    pytest.mark.skipif(os.name != "posix", reason="namespaces are Linux's"),
]
SITES = ("east", "north", "south", "west")


@pytest.fixture
def federation() -> Iterator[Federation]:
    with founded(SITES, small_disks=("south",)) as one:
        yield one


def test_a_run_that_goes_through_full_disks_and_outages(federation: Federation) -> None:
    one = federation
    trial = Trial(one, "trial", SITES, rounds=5)
    trial.ready()
    trial.begin("--round-seconds", "600")
    trial.approve()

    trial.reaches(1)
    with full_disk(one.root / "runs"):
        said = trial.ends(code=2)
    assert "could not keep what it has reached" in said
    with then(trial, "full disk at the coordinator", "ended, its cause named; the same command went on"):
        trial.begin("--round-seconds", "600")

    for seconds in (10.0, TWO_MINUTES):
        one.stop("service", signal.SIGKILL)
        time.sleep(seconds)
        with then(trial, f"SuperLink killed with the service, back after {seconds:g} s", "went on by itself"):
            one.start_service(port=UPSTREAM)

    with full_disk(one.site("south")):
        one.wait(lambda: "south" not in trial.alive, what="the refusal of the site with a full disk", seconds=300)
    trial.process.terminate()  # the same command again, which waits less long for who is away
    trial.ends(code=None)
    trial.begin("--round-seconds", "45")
    trial.reaches(trial.steps - 1)
    one.stop_site("west")
    began = time.monotonic()
    trial.ends()
    took = round(time.monotonic() - began, 1)

    charges = trial.charges()
    counts = {name: len(lines) for name, lines in charges.items()}
    row("full disk at site south", "left out; its last word stands", charges=counts)
    row("site west away at the end", "finished; its last word stands", charges=counts, seconds=took)
    assert all(len(set(lines)) == len(lines) for lines in charges.values())
    assert counts["east"] == counts["north"] == trial.steps
    assert counts["south"] < counts["west"] <= trial.steps
    assert trial.stated() == set(SITES)


@contextmanager
def full_disk(place: Path) -> Iterator[None]:
    """Fill a disk to its last byte for a while."""
    ballast = place / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        ballast.unlink()
