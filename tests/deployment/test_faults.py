"""What befalls a federation in the middle of a run: each ends completed or with its cause named, charged once."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from federation import Federation
from founding import founded
from network import UPSTREAM
from trial import Trial, row

from fedsynth.coordinator.control import ask

pytestmark = [pytest.mark.federation, pytest.mark.skipif(os.name != "posix", reason="namespaces are Linux's")]
FIRST, SECOND = ("east", "north", "south", "west"), ("alpha", "beta", "gamma", "delta")
TWO_MINUTES = 120.0


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with founded(FIRST + SECOND, small_disks=("south",)) as one:
        yield one


def test_a_run_that_goes_through_full_disks_outages_and_a_pause(federation: Federation) -> None:
    one = federation
    trial, later = Trial(one, "first", FIRST, rounds=5), Trial(one, "second", SECOND, rounds=3)
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
        gone = time.monotonic()
        if seconds == TWO_MINUTES:
            later.ready()
        time.sleep(max(0.0, gone + seconds - time.monotonic()))
        with then(trial, f"SuperLink killed with the service, back after {seconds:g} s", "went on by itself"):
            one.start_service(port=UPSTREAM)

    one.signal_site("west", signal.SIGSTOP)
    time.sleep(TWO_MINUTES)
    with then(trial, f"a site paused for {TWO_MINUTES:g} s", "went on with it"):
        one.signal_site("west", signal.SIGCONT)
    assert "west" in trial.alive

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
    assert trial.stated() == set(FIRST)


def test_a_site_that_is_revoked_and_one_that_expires_in_mid_study_are_refused(federation: Federation) -> None:
    one, trial = federation, Trial(federation, "second", SECOND, rounds=3)
    if not trial.study.exists():
        trial.ready()
    trial.begin("--round-seconds", "600")
    trial.approve()
    trial.reaches(1)
    ask(trial.folder, "pause")

    words = ["federation", "revoke", "delta", "--authority", "authority", "--out", "notice", "--reason", "key lost"]
    one.say("authority", *words)
    one.take_in(one.root / "notice", ("coordinator",))
    began = time.monotonic()
    one.wait(lambda: "site delta may not take part" in one.log("service"), what="the revoked", seconds=60)
    row("a site revoked", "refused from then on", seconds=round(time.monotonic() - began, 1))
    expires = renew_for(one, "gamma", seconds=40)
    one.take_in(one.root / "renewed", ("coordinator", "gamma"))
    one.wait(lambda: "site gamma may not take part" in one.log("service"), what="the expired", seconds=120)
    late = (datetime.now(UTC) - expires).total_seconds()
    row("a site's certificate expired", "refused from then on", seconds=round(late, 1))
    assert 0 <= late < 60
    one.wait(lambda: one.processes["link-gamma"].poll() is not None, what="the end of its link", seconds=60)
    assert "the certificate of gamma expired on" in one.log("link-gamma")

    one.say("coordinator", "federation", "resume", trial.folder)
    trial.ends()
    charges = trial.charges()
    counts = {name: len(lines) for name, lines in charges.items()}
    row("both in mid-study", "finished without them; their last words stand", charges=counts)
    assert counts["alpha"] == counts["beta"] == trial.steps
    assert all(1 <= counts[name] < trial.steps for name in ("gamma", "delta"))
    assert all(len(set(lines)) == len(lines) for lines in charges.values())
    assert trial.stated() == set(SECOND)


def renew_for(one: Federation, name: str, *, seconds: float) -> datetime:
    """Give a site a certificate that expires soon, as if it had been made when it was; return when."""
    from fedsynth.federation.authority import open_authority
    from fedsynth.federation.charter import load_charter
    from fedsynth.federation.provision import Provisioner

    charter = load_charter(one.root / "FEDERATION.toml")
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)
    authority = open_authority(one.root / "authority")
    work = Provisioner(authority, charter, expires - timedelta(days=charter.valid_days))
    work.hand_out(work.renew(name), out=one.root / "renewed", kits_for=[name])
    return expires


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


@contextmanager
def then(trial: Trial, fault: str, became: str) -> Iterator[None]:
    """Measure how long the next step takes from the end of a fault."""
    step, began = trial.step, time.monotonic()
    yield
    trial.reaches(step + 1)
    row(fault, became, seconds=round(time.monotonic() - began, 1))
