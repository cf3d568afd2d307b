"""Preflight: each thing that can be wrong with a machine is wrong once, and is named with what to do."""

import http.server
import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from fedsynth.errors import FederationError
from fedsynth.federation.kit import accept_kit
from fedsynth.federation.server_date import is_exempt, proxy_for, server_date
from fedsynth.site import preflight as module
from fedsynth.site.folder import make_site
from fedsynth.site.preflight import Machine, preflight, this_machine

from .conftest import NOW, Command, Federation

SOON = NOW + timedelta(hours=1)


@pytest.fixture
def machine(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a site's machine on which nothing is wrong."""
    monkeypatch.setattr(
        module, "version_of", lambda name: {"flwr": "1.41.0", "torch": "2.13.0+cpu"}.get(name, "1.0")
    )
    lock = federation.root / "lock.txt"
    lock.write_text("fedsynth==1.0 \\\n    --hash=sha256:00\nflwr==1.41.0\ntorch==2.13.0\n")
    federation.work = replace(federation.work, lock=lock)
    make_site(federation.root / "north", name="north")
    federation.certify(["coordinator", "north", "east"])
    return Machine(federation.root / "north", SOON, {}, lambda _: SOON, least_room=1)


def failed(machine: Machine) -> dict[str, str]:
    return {check.name: check.said for check in preflight(machine) if not check.passed}


def test_nothing_is_wrong_with_a_machine_that_is_ready(machine: Machine) -> None:
    assert failed(machine) == {}
    assert len(preflight(machine)) == 10


@pytest.mark.parametrize(
    ("hours", "seconds", "check", "said"),
    [
        pytest.param(-3, 0.0, "clock", "the clock is behind", id="before the roster was signed"),
        pytest.param(1, 8.0, "clock", "8 s ahead of", id="eight seconds ahead"),
        pytest.param(1, -400.0, "clock", "400 s behind", id="four hundred seconds behind"),
        pytest.param(1, 2.0, "", "", id="two seconds do not matter"),
        pytest.param(24 * 101, 0.0, "name", "expired", id="after the certificate"),
    ],
)
def test_a_wrong_clock_is_named(machine: Machine, hours: int, seconds: float, check: str, said: str) -> None:
    now = NOW + timedelta(hours=hours, seconds=seconds)
    found = failed(replace(machine, now=now, date_of=lambda _: now - timedelta(seconds=seconds)))

    assert (said in found[check]) if check else not found


def unreachable(_: str) -> datetime:
    raise FederationError("fed.example.org:8443 cannot be reached (timed out); ask your network's people")


def test_a_coordinator_that_cannot_be_reached_is_named_and_can_be_left_out(machine: Machine) -> None:
    assert set(failed(replace(machine, date_of=unreachable))) == {"coordinator"}
    assert failed(replace(machine, date_of=None)) == {}


SPOILS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no rules": (lambda site: (site / "site.toml").unlink(), "rules", "fedsynth site init"),
    "rules that are none": (
        lambda site: (site / "site.toml").write_text("x = 1"),
        "rules",
        "site.toml cannot be read",
    ),
    "no kit": (lambda site: (site / "federation").rename(site / "elsewhere"), "authority", "there is no kit"),
    "a roster that was changed": (
        lambda site: (site / "federation" / "federation.toml").write_text(
            (site / "federation" / "federation.toml").read_text().replace("8443", "8444")
        ),
        "authority",
        "not what the authority signed",
    ),
    "another name": (
        lambda site: (site / "site.toml").write_text(
            (site / "site.toml").read_text().replace('name = "north"', 'name = "east"')
        ),
        "name",
        "not that of east",
    ),
    "a stranger's name": (
        lambda site: (site / "site.toml").write_text(
            (site / "site.toml").read_text().replace('name = "north"', 'name = "west"')
        ),
        "name",
        "west is not a member",
    ),
    "another certificate": (
        lambda site: (site / "federation" / "tls.pem").write_bytes(
            (site.parent / "out-1" / "kits" / "east" / "tls.pem").read_bytes()
        ),
        "name",
        "not the one that the roster has",
    ),
    "a node key that others may read": (
        lambda site: (site / "federation" / "node.key").chmod(0o640),
        "permissions",
        "chmod 600",
    ),
    "a folder that others may enter": (lambda site: site.chmod(0o755), "permissions", "chmod 700"),
    "another lock": (
        lambda site: (site / "federation" / "lock.txt").write_text("flwr==1.41.0\n"),
        "versions",
        "not the lock file",
    ),
    "a ledger that is gone": (
        lambda site: (
            (site / "ledger").mkdir(),
            (site / "ledger" / "ledger.sqlite").write_bytes(b"nothing" * 99),
        ),
        "ledger",
        "",
    ),
}


@pytest.mark.parametrize(("spoil", "check", "said"), SPOILS.values(), ids=list(SPOILS))
def test_what_is_wrong_is_named(machine: Machine, spoil: Callable[[Path], object], check: str, said: str) -> None:
    spoil(machine.folder)

    assert said in failed(machine)[check]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "NO_PROXY does not name 127.0.0.1"),
        ({"HTTPS_PROXY": "http://me:secret@proxy", "NO_PROXY": "127.0.0.1"}, "HTTPS_PROXY is no address"),
        ({"ALL_PROXY": "socks5://proxy:1"}, "ALL_PROXY is set"),
    ],
)
def test_proxy_variables_that_go_wrong_are_named_without_their_secrets(
    machine: Machine, environment: dict[str, str], said: str
) -> None:
    found = failed(replace(machine, environment=environment))

    assert said in found["proxy"]
    assert "secret" not in str(found)


def test_no_room_and_other_versions_are_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Make room" in failed(replace(machine, least_room=2**62))["disk"]

    versions = {"flwr": "1.42.0", "torch": "2.13.0"}
    monkeypatch.setattr(module, "version_of", lambda name: versions.get(name, "1.0"))
    assert "flwr is 1.42.0 and should be 1.41.0" in failed(machine)["versions"]
    monkeypatch.setattr(module, "version_of", lambda name: "not installed" if name == "torch" else "1.0")
    assert "torch is not installed" in failed(machine)["versions"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_one_may_not_write_to_is_named(machine: Machine) -> None:
    machine.folder.chmod(0o500)

    assert "may not write" in failed(machine)["permissions"]


def test_a_revoked_coordinator_is_named(machine: Machine, federation: Federation) -> None:
    register = federation.work.revoke("coordinator", reason="it moved")
    federation.work.hand_out(register, out=federation.root / "later", kits_for=[])
    accept_kit(federation.root / "later" / "notice", machine.folder / "federation", words=None)

    assert "names no coordinator" in failed(machine)["coordinator"]


@pytest.mark.parametrize(
    ("host", "said", "proxy"),
    [
        ("fed.example.org", "", ("proxy", 3128)),
        ("fed.example.org", "127.0.0.1,example.org", None),
        ("fed.example.org", "ample.org", ("proxy", 3128)),
        ("fed.example.org", "*", None),
    ],
)
def test_a_proxy_is_used_unless_the_host_is_exempt(host: str, said: str, proxy: tuple[str, int] | None) -> None:
    environment = {"https_proxy": "proxy:3128", "no_proxy": said}

    assert proxy_for(host, environment) == proxy
    assert is_exempt(host, environment) == (proxy is None)


class _Server(http.server.BaseHTTPRequestHandler):
    date: str = ""

    def do_HEAD(self) -> None:
        self.send_response_only(404)
        if self.date:
            self.send_header("Date", self.date)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


Serve = Callable[[Path, str], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers on loopback that ask for a client's certificate, as the coordinator's nginx does."""
    servers: list[http.server.HTTPServer] = []

    def start(folder: Path, date: str) -> str:
        handler = type("Handler", (_Server,), {"date": date})
        server = http.server.HTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
        context.load_verify_locations(folder / "authority.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_date_comes_over_tls_with_both_certificates(whole: Federation, serve: Serve) -> None:
    then = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    address = serve(whole.folder("coordinator"), format_datetime(then, usegmt=True))

    assert server_date(whole.folder("north"), address, environment={}) == then


def test_a_server_of_another_authority_is_not_believed(
    whole: Federation, serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from fedsynth.federation.authority import open_authority

    root = tmp_path_factory.mktemp("theirs")
    other = Federation(root, replace(whole.work, authority=open_authority(root / "authority", federation="sleep")))
    other.certify(["coordinator"])
    address = serve(other.folder("coordinator"), format_datetime(NOW, usegmt=True))

    with pytest.raises(FederationError, match="not by the authority of your kit"):
        server_date(whole.folder("north"), address, environment={})


def test_a_server_without_a_date_or_without_an_answer_is_named(whole: Federation, serve: Serve) -> None:
    address = serve(whole.folder("coordinator"), "")

    with pytest.raises(FederationError, match="answers without a date"):
        server_date(whole.folder("north"), address, environment={})
    with pytest.raises(FederationError, match="cannot be reached through the proxy"):
        server_date(whole.folder("north"), address, environment={"HTTPS_PROXY": "http://127.0.0.1:9"})


def test_this_machine_asks_nobody_when_it_is_offline(tmp_path: Path) -> None:
    assert this_machine(tmp_path, offline=True).date_of is None
    assert this_machine(tmp_path).date_of is not None


def test_preflight_by_command(machine: Machine, fedsynth: Command) -> None:
    words = ("site", "preflight", machine.folder, "--offline", "--room", "0.000001")
    good = fedsynth(*words)
    assert good.code == 0, good
    machine.folder.chmod(0o755)

    bad = fedsynth(*words, "--json")

    assert bad.code == 1
    body = json.loads(bad.out)
    assert [check["name"] for check in body["checks"] if not check["passed"]] == ["permissions"]
