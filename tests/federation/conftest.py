"""A small federation, made as its people would make it: an authority, a coordinator and two sites."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedsynth.cli.main import main
from fedsynth.federation.authority import open_authority
from fedsynth.federation.charter import load_charter
from fedsynth.federation.kit import accept_kit
from fedsynth.federation.membership import MembershipRequest, make_membership
from fedsynth.federation.proposal import SIGNING_KEY
from fedsynth.federation.provision import Provisioner
from fedsynth.site.consent import FEDERATION, IDENTITY
from fedsynth.site.session import SiteSession
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

CHARTER = """
name = "sleep"
sites = ["north", "east"]
valid_days = 100
[coordinator]
addresses = ["fed.example.org:8443", "127.0.0.1:8443"]
"""
NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def fedsynth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line in this process, without a terminal."""

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["fedsynth", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


@dataclass
class Federation:
    """The folders of everybody; `work` is the authority's people."""

    root: Path
    work: Provisioner

    def folder(self, name: str) -> Path:
        """Return the folder of a participant's keys and kit."""
        return self.root / name if name == "coordinator" else self.root / name / FEDERATION

    def request(self, name: str) -> MembershipRequest:
        """Make a participant's keys and request, which is put where the authority reads it."""
        role = "coordinator" if name == "coordinator" else "site"
        identity = self.root / name / (SIGNING_KEY if role == "coordinator" else IDENTITY)
        made, data = make_membership(self.folder(name), role=role, name=name, identity=identity)
        (self.root / "requests").mkdir(exist_ok=True)
        (self.root / "requests" / f"{name}.json").write_bytes(data)
        return made

    def certify(self, names: Sequence[str]) -> None:
        """Certify participants, and have everybody take the kits in."""
        for name in names:
            self.request(name)
        found = self.work.read_requests(self.root / "requests")
        register = self.work.certify(found, {name: found[name].words for name in names})
        out = self.root / f"out-{register.edition}"
        self.work.hand_out(register, out=out, kits_for=sorted(register.certified))
        for name in register.certified:
            accept_kit(out / "kits" / name, self.folder(name), words=self.work.authority.words)

    def later(self, **time: float) -> Provisioner:
        """Return the authority's people at a later time."""
        return replace(self.work, now=self.work.now + timedelta(**time))


class _Kinds(logging.Handler):
    """Keeps the kind of every refusal that a site notes for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kinds.append(str(getattr(record, "kind", "")))


def refusal_of(site: Path, order: Order) -> str:
    """Ask a site, and return the kind of its refusal as its own log has it; empty where it answered."""
    log, heard = logging.getLogger("fedsynth.site"), _Kinds()
    log.addHandler(heard)
    try:
        refused = Update.from_bytes(SiteSession(site).handle(order.to_bytes())).refused
    finally:
        log.removeHandler(heard)
    return heard.kinds[-1] if refused else ""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Return a federation in which nobody asked yet."""
    (tmp_path / "FEDERATION.toml").write_text(CHARTER)
    charter = load_charter(tmp_path / "FEDERATION.toml")
    authority = open_authority(tmp_path / "authority", federation="sleep", now=NOW)
    return Federation(tmp_path, Provisioner(authority, charter, NOW))


@pytest.fixture
def whole(federation: Federation) -> Federation:
    """Return a federation in which everybody is certified."""
    federation.certify(["coordinator", "north", "east"])
    return federation
