"""Who loses its standing in the middle of a study is refused from then on, and a site that was paused goes on."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from federation import Federation
from founding import founded
from trial import TWO_MINUTES, Trial, row, then

pytestmark = [
    pytest.mark.federation,
    pytest.mark.xdist_group("second"),
    pytest.mark.skipif(os.name != "posix", reason="namespaces are Linux's"),
]
SITES = ("east", "north", "south", "west")


@pytest.fixture
def federation() -> Iterator[Federation]:
    with founded(SITES) as one:
        yield one


def test_the_revoked_and_the_expired_are_refused_in_mid_study_and_the_paused_goes_on(
    federation: Federation,
) -> None:
    one, trial = federation, Trial(federation, "trial", SITES, rounds=3)
    trial.ready()
    trial.begin("--round-seconds", "600")
    trial.approve()
    trial.reaches(1)
    one.signal_site("east", signal.SIGSTOP)  # whose answer the run waits for meanwhile
    stopped = time.monotonic()

    words = ["federation", "revoke", "west", "--authority", "authority", "--out", "notice", "--reason", "key lost"]
    one.say("authority", *words)
    one.take_in(one.root / "notice", ("coordinator",))
    began = time.monotonic()
    one.wait(lambda: "site west may not take part" in one.log("service"), what="the revoked", seconds=60)
    row("a site revoked", "refused from then on", seconds=round(time.monotonic() - began, 1))
    expires = renew_for(one, "south", seconds=40)
    one.take_in(one.root / "renewed", ("coordinator", "south"))
    one.wait(lambda: "site south may not take part" in one.log("service"), what="the expired", seconds=120)
    late = (datetime.now(UTC) - expires).total_seconds()
    row("a site's certificate expired", "refused from then on", seconds=round(late, 1))
    assert 0 <= late < 60
    one.wait(lambda: one.processes["link-south"].poll() is not None, what="the end of its link", seconds=60)
    assert "the certificate of south expired on" in one.log("link-south")

    time.sleep(max(0.0, stopped + TWO_MINUTES - time.monotonic()))
    with then(trial, f"a site paused for {time.monotonic() - stopped:.0f} s", "went on with it"):
        one.signal_site("east", signal.SIGCONT)
    assert "east" in trial.alive
    one.say("coordinator", "federation", "pause", trial.folder)
    one.wait(lambda: trial.status()["state"] == "paused", what="the pause")
    one.say("coordinator", "federation", "resume", trial.folder)
    trial.ends()
    charges = trial.charges()
    counts = {name: len(lines) for name, lines in charges.items()}
    row("both in mid-study", "finished without them; their last words stand", charges=counts)
    assert counts["east"] == counts["north"] == trial.steps
    assert all(1 <= counts[name] < trial.steps for name in ("south", "west"))
    assert all(len(set(lines)) == len(lines) for lines in charges.values())
    assert trial.stated() == set(SITES)


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
