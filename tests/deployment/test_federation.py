"""Three hospitals with a network address each run a study by the commands alone, and bad things happen to them."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from federation import SITES, Federation
from network import PORT, network

pytestmark = [pytest.mark.federation, pytest.mark.skipif(os.name != "posix", reason="namespaces are Linux's")]
UPSTREAM = 9091


@pytest.fixture(scope="session", autouse=True)
def _nginx() -> None:
    if shutil.which("nginx"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-q", "nginx-light"], capture_output=True, check=False)
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed, and cannot be installed here")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], Federation]]:
    """Return a function that starts a federation whose sites have approved; everything is ended afterwards."""
    with network(("coordinator", *SITES)) as (hosts, address):
        made: list[Federation] = []

        def start(trust: str) -> Federation:
            one = Federation(tmp_path, address, trust=trust, hosts=hosts)
            made.append(one)
            one.provision()
            one.allow()
            one.ingest()
            one.start_service(port=UPSTREAM)
            one.start_nginx(listen=f"{address.split(':')[0]}:{PORT}", upstream=UPSTREAM)
            one.start_sites()
            one.approve()
            return one

        yield start
        for one in made:
            one.end()


def steps(one: Federation) -> int:
    return len(json.loads((one.root / "first" / "plan.json").read_text())["steps"])


def status(one: Federation) -> dict[str, object]:
    return dict(json.loads(one.say("coordinator", "federation", "status", one.root / "first", "--json")))


@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_from_keys_to_a_countersigned_release(started: Callable[[str], Federation], trust: str) -> None:
    one = started(trust)

    one.say("coordinator", *one.run_words())
    assert {one.charges(name) for name in SITES} == {steps(one)}
    assert status(one)["state"] == "finished"

    one.say("coordinator", "release", one.root / "first", "--out", one.root / "release")
    publisher = one.root / "first" / "keys" / "release.key.pub"
    signatures = one.root / "release.countersignatures"
    signatures.mkdir()
    roster = one.coordinator
    for name in SITES[:2]:
        one.say(
            name,
            *("site", "countersign", one.site(name), one.root / "release", "--publisher", publisher),
            *("--out", signatures / f"{name}.countersignature.json"),
        )
    told = one.say("coordinator", "verify", one.root / "release", "--sites", roster, "--threshold", "2")
    assert "Countersigned by 2 of 3 sites" in told
    assert "west" in one.say("coordinator", "verify", one.root / "release", "--sites", roster, code=4)


@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_a_coordinator_that_is_killed_goes_on_without_a_second_charge(
    started: Callable[[str], Federation], trust: str
) -> None:
    one = started(trust)

    for kill in range(2):
        one.start("coordinator", f"run{kill}", *one.run_words())
        place = one.root / "first" / "contributions.jsonl"

        def further(kill: int = kill, place: Path = place) -> bool:
            return place.exists() and f'"step": {kill + 1}' in place.read_text()

        one.wait(further, what=f"step {kill + 1}", seconds=300)
        one.stop(f"run{kill}", signal.SIGKILL)
        one.wait(lambda: status(one)["state"] == "interrupted" and not serverapps(one), what="the end", seconds=15)
    one.say("coordinator", *one.run_words())

    assert {one.charges(name) for name in SITES} == {steps(one)}


def test_a_site_that_is_away_at_the_end_is_stated_by_its_last_word(started: Callable[[str], Federation]) -> None:
    one = started("site")
    one.start("coordinator", "run", *one.run_words("--round-seconds", "60"))
    place = one.root / "first" / "contributions.jsonl"
    one.wait(lambda: place.exists() and '"step": 2' in place.read_text(), what="step 2", seconds=300)

    one.stop("site-west")
    one.wait(lambda: one.processes["run"].poll() is not None, what="the end of the run", seconds=400)

    assert one.processes["run"].returncode == 0, one.log("run")
    stated = json.loads((one.root / "first" / "statement.json").read_text())["sites"]
    assert sorted(site["site"] for site in stated) == list(SITES)


def test_a_superlink_that_is_killed_comes_back_and_the_run_goes_on(started: Callable[[str], Federation]) -> None:
    one = started("site")
    one.start("coordinator", "run", *one.run_words())
    place = one.root / "first" / "contributions.jsonl"
    one.wait(lambda: place.exists() and '"step": 1' in place.read_text(), what="step 1", seconds=300)

    for pid in processes("flower-superlink", str(one.coordinator)):
        os.kill(pid, signal.SIGKILL)
    one.wait(lambda: one.processes["run"].poll() is not None, what="the end of the run", seconds=400)

    assert one.processes["run"].returncode == 0, one.log("run")
    assert {one.charges(name) for name in SITES} == {steps(one)}


def test_a_revoked_site_is_refused_within_a_minute(started: Callable[[str], Federation]) -> None:
    one = started("site")
    one.say(
        "authority",
        *("federation", "revoke", "west", "--authority", "authority", "--out", "notice", "--reason", "key lost"),
    )
    one.say("coordinator", "federation", "join", "notice", "--federation", one.coordinator)

    one.wait(lambda: "site west may not take part" in one.log("service"), what="the removal", seconds=60)
    one.say("coordinator", *one.run_words("--gather-seconds", "20"))

    assert one.charges("west") == 0
    assert one.charges("east") == steps(one)


def serverapps(one: Federation) -> list[int]:
    return processes("flwr-serverapp", str(one.coordinator))


def processes(program: str, about: str) -> list[int]:
    """Return the processes of a program that have a text in their command line or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            rest = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if program in command and about in command + rest:
            found.append(int(folder.name))
    return found
