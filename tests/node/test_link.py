"""The link: what it passes on, what it refuses, and when it comes back or gives up; the SuperLink is a stand-in."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedsynth.errors import FederationError, FederationFileError, NodeError, RefusedError
from fedsynth.federation.keys import new_node_key
from fedsynth.node import link as link_module
from fedsynth.node.channel import Channel, accept, listen
from fedsynth.node.fleet import NotGreetedError, UnreachableError
from fedsynth.node.kit import load_kit
from fedsynth.node.link import Link


@dataclass
class FakeOrder:
    kind: str
    data: bytes = b""
    expires: float = field(default_factory=lambda: time.time() + 60)


class FakeFleet:
    """A SuperLink's messages from a list; refuses, breaks off or forgets as it is told."""

    def __init__(self, orders: list[FakeOrder]) -> None:
        self.orders, self.said = orders, list[tuple[str, Any]]()
        self.greetings, self.unreachable, self.unknown, self.lost_replies = 0, 0, 0, 0
        self.known = list[int]()
        self.broken = 0

    def activate(self, before: int = 0) -> int:
        self.greetings += 1
        self.known.append(before)
        if self.unknown:
            self.unknown -= 1
            raise NotGreetedError("the SuperLink does not know this node's key")
        if self.unreachable:
            self.unreachable -= 1
            raise UnreachableError("nobody")
        return 7

    def beat(self) -> bool:
        return True

    def receive(self) -> FakeOrder | None:
        if self.broken:
            self.broken -= 1
            raise UnreachableError("gone")
        return self.orders.pop(0) if self.orders else None

    def answer(self, order: FakeOrder, record: str, values: dict[str, Any]) -> None:
        if self.lost_replies and order.kind == "train.order":  # each is answered in a thread of its own
            self.lost_replies -= 1
            raise UnreachableError("gone")
        self.said.append((f"{order.kind} {record}", values))

    def refuse(self, order: FakeOrder) -> None:
        self.said.append((order.kind, "refused"))

    def leave(self) -> None:
        pass


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    from fedsynth.engines.certificates import make_server_files

    folder = tmp_path / "federation"
    folder.mkdir()
    new_node_key(folder / "node.key")
    make_server_files(tmp_path).authority.rename(folder / "authority.pem")
    (folder / "federation.toml").write_text('[coordinator]\naddress = "localhost:18000"\n', encoding="utf-8")
    return folder


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Return the socket of a stand-in for the gate, which answers every order with its bytes in reverse."""
    path = tmp_path / "gate.sock"
    server = listen(path)

    def serve() -> None:
        while True:
            try:
                channel = accept(server, uids=frozenset({os.geteuid()}))
            except OSError:
                return
            assert isinstance(channel, Channel)
            with channel:
                frame = channel.receive()
                said = {"name": {"name": "east"}, "request": {"kept": frame.payload == b"please"}}
                channel.send(said.get(frame.header["ask"], {}), frame.payload[::-1])

    threading.Thread(target=serve, daemon=True).start()
    yield path
    server.shutdown(2)
    server.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_POLLS", ())
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_IDLE_POLL"):
        monkeypatch.setattr(link_module, name, 0.01)


def served(kit: Path, gate: Path, fleet: FakeFleet, until: Callable[[], bool]) -> None:
    """Let a link serve until something has happened."""
    one = Link(kit, gate=gate, gate_uid=os.geteuid(), connect_to=lambda _: fleet)  # type: ignore[arg-type, return-value]
    thread = threading.Thread(target=one.serve)
    thread.start()
    ends = time.monotonic() + 15
    while not until() and time.monotonic() < ends:
        time.sleep(0.02)
    one.stop()
    thread.join(10)
    assert until()


def test_a_name_a_request_an_order_and_an_unknown_message_are_answered(kit: Path, gate: Path) -> None:
    fleet = FakeFleet(
        [
            FakeOrder("query.site"),
            FakeOrder("query.request", b"please"),
            FakeOrder("train.order", b"abc"),
            FakeOrder("train.execute", b"rm"),
        ]
    )

    served(kit, gate, fleet, lambda: len(fleet.said) == 4)

    assert sorted(fleet.said, key=str) == [
        ("query.request request", {"kept": True}),
        ("query.site site", {"name": "east"}),
        ("train.execute", "refused"),
        ("train.order update", {"bytes": b"cba"}),
    ]


def test_a_superlink_that_is_away_is_asked_again_and_greeted_anew(kit: Path, gate: Path) -> None:
    fleet = FakeFleet([FakeOrder("train.order", b"abc")])
    fleet.unreachable, fleet.broken, fleet.lost_replies = 3, 2, 4

    served(kit, gate, fleet, lambda: len(fleet.said) == 1)

    # Three in vain, and one after every connection, with the node that the SuperLink may still hold open.
    assert fleet.known == [0, 0, 0, 0, 7, 7]
    assert fleet.said == [("train.order update", {"bytes": b"cba"})]


def test_a_node_that_is_held_for_connected_is_greeted_until_it_is_forgotten(kit: Path, gate: Path) -> None:
    fleet = FakeFleet([FakeOrder("train.order", b"abc")])
    fleet.unknown = 3

    served(kit, gate, fleet, lambda: len(fleet.said) == 1)

    assert fleet.known == [0, 0, 0, 0]


def test_a_key_that_is_not_known_ends_the_link_with_a_sentence(
    kit: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "FORGET_SECONDS", 0.1)
    fleet = FakeFleet([])
    fleet.unknown = 1000
    one = Link(kit, gate=gate, gate_uid=os.geteuid(), connect_to=lambda _: fleet)  # type: ignore[arg-type, return-value]

    with pytest.raises(RefusedError, match="does not know this node's key"):
        one.serve()


def test_a_gate_that_comes_back_answers_the_order_that_waited(kit: Path, tmp_path: Path) -> None:
    fleet, path = FakeFleet([FakeOrder("train.order", b"abc")]), tmp_path / "late.sock"

    def late() -> None:
        time.sleep(1)
        with listen(path) as server:
            channel = accept(server, uids=frozenset({os.geteuid()}))
            assert channel is not None
            with channel:
                channel.send({}, channel.receive().payload + b"!")

    thread = threading.Thread(target=late)
    thread.start()
    served(kit, path, fleet, lambda: len(fleet.said) == 1)
    thread.join()

    assert fleet.said == [("train.order update", {"bytes": b"abc!"})]


def test_a_reply_that_would_come_too_late_is_not_sent_for_ever(kit: Path, gate: Path) -> None:
    late = FakeOrder("train.order", b"abc", expires=0.0)
    fleet = FakeFleet([late, FakeOrder("query.site")])
    fleet.lost_replies = 1

    served(kit, gate, fleet, lambda: len(fleet.said) == 1)

    assert [what for what, _ in fleet.said] == ["query.site site"]


@pytest.mark.parametrize(
    ("name", "content", "kind", "said"),
    [
        pytest.param("federation.toml", "x = 1", NodeError, "names no", id="no address"),
        pytest.param(
            "federation.toml", '[coordinator]\naddress = "here"', FederationFileError, "host:port", id="no port"
        ),
        pytest.param("authority.pem", "none", NodeError, "authority.pem", id="no certificate"),
        pytest.param("node.key", "none", FederationFileError, "node.key", id="no key"),
    ],
)
def test_a_kit_that_is_not_whole_says_which_file(
    name: str, content: str, kind: type[Exception], said: str, kit: Path
) -> None:
    assert isinstance(load_kit(kit).key, ec.EllipticCurvePrivateKey)
    (kit / name).write_text(content, encoding="utf-8")

    with pytest.raises(kind, match=said):
        load_kit(kit)


def test_a_signed_roster_without_the_list_of_the_revoked_is_not_used(kit: Path) -> None:
    """Whoever removes the list would remove the check."""
    with (kit / "federation.toml").open("ab") as file:
        file.write(b"# signature: AAAA\n")

    with pytest.raises(FederationError):
        load_kit(kit)
