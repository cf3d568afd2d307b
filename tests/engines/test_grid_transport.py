"""The very app objects of server/ and client/ on a Grid in this process: messages are bytes, nodes may fail."""

import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import http_grid

from client.app import app as client_app
from fedsynth.coordinator.control import DRIVER, ask, held
from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.errors import RefusedError
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.wire.update import REFUSED, Update
from server.app import app as server_app
from server.orders import FIRST_WAIT_SECONDS
from server.transport import GridTransport

MakeRun = Callable[[str], RunFolder]
Answer = Callable[[Message, Context], Message | None]


@dataclass
class LoopGrid(Grid):
    """Nodes that answer when asked for their replies; every message travels as bytes."""

    nodes: Mapping[int, Context]
    faults: Mapping[int, Answer] = field(default_factory=dict)
    waiting: dict[str, Message] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return [node.node_id for node in self.get_nodes()]

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=node, last_activated_at="once") for node in self.nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        identifiers = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"message-{next(self.numbers)}"
            self.waiting[message.metadata.message_id] = _travel(message)
            identifiers.append(message.metadata.message_id)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = []
        for identifier in message_ids:
            message = self.waiting.pop(identifier, None)
            if message is not None:
                node = message.metadata.dst_node_id
                reply = self.faults.get(node, client_app)(message, self.nodes[node])
                replies += [] if reply is None else [_travel(reply)]
        return replies


def _travel(message: Message) -> Message:
    return message_from_proto(MessageProto.FromString(message_to_proto(message).SerializeToString()))


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("server.transport.time", clock)
    monkeypatch.setattr("server.orders.time", clock)
    for name in ("_task_id", "_run_id", "_node_id"):  # Flower 1.41 keeps whose process this is in a global
        monkeypatch.setattr(TaskIdentity, name, 1)
    return clock


def simulated(run: RunFolder) -> dict[int, Context]:
    """Nodes 10, 11 and 12 for the run's three sites, as Flower's simulation configures them."""
    settings = {"run": str(run.path)}
    return {10 + part: _context({"partition-id": part, "num-partitions": 3}, settings) for part in range(3)}


def _context(node: dict[str, str | int], settings: dict[str, str]) -> Context:
    return Context(run_id=1, node_id=0, node_config=dict(node), state=RecordDict(), run_config=dict(settings))


def coordinate(run: RunFolder, grid: LoopGrid) -> None:
    with held(run.path, DRIVER, what="drives"):
        server_app(grid, _context({}, {"run": str(run.path)}))


def silent(_message: Message, _context: Context) -> None:
    return None


def raising(message: Message, _context: Context) -> Message:
    reason = "<class 'OSError'>:<'/data/Jane Doe.edf is truncated'>"
    return Message(Error(code=3, reason=reason), reply_to=message)


def garbage(message: Message, _context: Context) -> Message:
    return Message(RecordDict({"update": ConfigRecord({"bytes": b"fedsynth1 but not quite"})}), reply_to=message)


def empty(message: Message, _context: Context) -> Message:
    return Message(RecordDict(), reply_to=message)


def only_orders(fault: Answer) -> Answer:
    """A node that says its name, and fails when it is given an order."""
    return lambda message, context: (
        client_app(message, context) if message.metadata.message_type == "query.site" else fault(message, context)
    )


def test_a_registered_node_speaks_for_its_site_whatever_names_others_claim(make_run: MakeRun) -> None:
    run = make_run("simulation")
    nodes = simulated(run)
    nodes[13] = nodes[10]  # a stranger's node that says it is the first site
    settings = {"run": str(run.path), "nodes": json.dumps({"east": 10, "north": 11, "west": 12})}

    with held(run.path, DRIVER, what="drives"):
        server_app(LoopGrid(nodes), _context({}, settings))

    assert [site.site for site in run.statement().sites] == ["east", "north", "west"]


def test_a_registered_node_that_is_away_is_not_waited_for_beyond_the_deadline(make_run: MakeRun) -> None:
    run = make_run("simulation")
    nodes = {node: context for node, context in simulated(run).items() if node != 11}
    settings = {"run": str(run.path), "nodes": json.dumps({"east": 10, "north": 11, "west": 12})}

    with held(run.path, DRIVER, what="drives"):
        server_app(LoopGrid(nodes), _context({}, settings))

    assert [site.site for site in run.statement().sites] == ["east", "west"]


def test_a_run_that_a_person_stops_ends_with_these_words(make_run: MakeRun) -> None:
    run = make_run("simulation")
    ask(run.path, "stop")

    with pytest.raises(RefusedError, match="stopped by a person"):
        coordinate(run, LoopGrid(simulated(run)))


def test_the_statement_is_the_one_of_a_run_in_process(
    make_run: MakeRun,
    in_process_statement: Callable[[], PrivacyStatement],
    without_heads: Callable[[PrivacyStatement], PrivacyStatement],
) -> None:
    run = make_run("simulation")

    coordinate(run, LoopGrid(simulated(run)))

    assert without_heads(run.statement()) == without_heads(in_process_statement())


def test_a_node_in_a_hospital_speaks_for_its_own_folder(make_run: MakeRun) -> None:
    run = make_run("simulation")
    nodes = {
        number: _context({"site-folder": str(run.site(name))}, {}) for number, name in [(7, "west"), (8, "east")]
    }

    assert gather(LoopGrid(nodes), wanted=("east", "west")) == ("east", "west")


@pytest.mark.parametrize("fault", [silent, raising, garbage, empty])
def test_a_site_that_fails_an_order_is_left_out_and_the_others_finish(make_run: MakeRun, fault: Answer) -> None:
    run = make_run("simulation")

    coordinate(run, LoopGrid(simulated(run), faults={11: only_orders(fault)}))

    assert [site.site for site in run.statement().sites if site.events] == ["east", "west"]


def test_with_too_few_sites_the_run_is_refused_and_says_why_in_a_file(make_run: MakeRun) -> None:
    run = make_run("simulation")
    faults = {10: only_orders(raising), 12: only_orders(garbage)}

    with pytest.raises(RefusedError):
        coordinate(run, LoopGrid(simulated(run), faults=faults))

    failure = json.loads((run.path / "failure.json").read_text())
    assert failure["kind"] == "RefusedError"
    assert "1 sites are left and the study needs 2 (east: no answer, west: unreadable)" in failure["said"]
    assert not run.finished


def test_no_text_of_a_node_error_reaches_the_run_folder(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run("simulation")

    with pytest.raises(RefusedError):
        coordinate(run, LoopGrid(simulated(run), faults={node: only_orders(raising) for node in (10, 11)}))

    assert "Jane" not in (run.path / "failure.json").read_text() + "".join(capfd.readouterr())


@pytest.mark.parametrize("fault", [raising, empty])
def test_a_node_that_cannot_say_its_name_is_not_waited_for(make_run: MakeRun, clock: Clock, fault: Answer) -> None:
    run = make_run("simulation")

    found = gather(LoopGrid(simulated(run), faults={11: fault}), wanted=run.facts().sites)

    assert (found, clock.now) == (("east", "west"), 0.0)


def test_a_silent_node_is_waited_for_until_the_deadline(make_run: MakeRun, clock: Clock) -> None:
    run = make_run("simulation")

    found = gather(LoopGrid(simulated(run), faults={11: silent}), wanted=run.facts().sites)

    assert (found, clock.now) == (("east", "west"), 30.0)


def test_a_name_that_two_nodes_claim_belongs_to_neither(make_run: MakeRun) -> None:
    run = make_run("simulation")
    nodes = simulated(run)

    assert gather(LoopGrid({**nodes, 99: nodes[11]}), wanted=run.facts().sites) == ("east", "west")


def test_a_stranger_takes_no_place(make_run: MakeRun) -> None:
    run = make_run("simulation")

    assert gather(LoopGrid(simulated(run)), wanted=("north",)) == ("north",)


def test_the_client_says_nothing_about_what_went_wrong_at_the_site(tmp_path: Path, site_log: Any) -> None:
    context = _context({"site-folder": str(tmp_path / "Jane Doe")}, {})
    order = Message(RecordDict({"order": ConfigRecord({"bytes": b"no order"})}), 1, "train.order")
    question = Message(RecordDict(), 1, "query.site")

    update = client_app(order, context).content.config_records["update"]["bytes"]
    name = client_app(question, context).content.config_records["site"]["name"]

    assert isinstance(update, bytes)
    assert Update.from_bytes(update) == Update(refused=REFUSED)
    assert name == ""
    assert site_log.kinds == ["WireError"]


def test_a_message_without_an_order_gets_the_one_word(site_log: Any) -> None:
    reply = client_app(Message(RecordDict(), 1, "train.order"), _context({"site-folder": "/nowhere"}, {}))

    update = reply.content.config_records["update"]["bytes"]
    assert isinstance(update, bytes)
    assert Update.from_bytes(update) == Update(refused=REFUSED)
    assert site_log.kinds == ["InternalError"]


def test_a_request_is_laid_before_every_site_and_nobody_is_waited_for_long(make_run: MakeRun, clock: Clock) -> None:
    def inbox(message: Message, _context: Context) -> Message | None:
        if message.metadata.message_type != "query.request":
            return client_app(message, _context)
        seen.append(message.content.config_records["order"]["bytes"])
        return Message(RecordDict({"request": ConfigRecord({"kept": True})}), reply_to=message)

    def deaf(message: Message, context: Context) -> Message | None:
        return None if message.metadata.message_type == "query.request" else client_app(message, context)

    seen, told = list[object](), list[tuple[str, int, int]]()
    run = make_run("simulation")
    transport = GridTransport(
        LoopGrid(simulated(run), faults={10: inbox, 11: deaf, 12: inbox}),
        wanted=run.facts().sites,
        gather_seconds=30.0,
        round_seconds=30.0,
        progress=lambda *words: told.append(words),
    )

    transport.offer(b"a signed request")

    assert seen == [b"a signed request"] * 2
    assert told[-1] == ("requests taken", 2, 3)
    assert clock.now <= 31.0


@pytest.mark.parametrize(("back_after", "answered"), [(120.0, {"east", "north", "west"}), (1e9, {"east", "west"})])
def test_a_site_that_loses_its_connection_is_asked_again_when_it_is_back(
    make_run: MakeRun, clock: Clock, back_after: float, answered: set[str]
) -> None:
    class Leaving(LoopGrid):
        def get_nodes(self) -> Iterable[NodeInfo]:
            there = clock.now == 0 or clock.now >= back_after
            return [node for node in super().get_nodes() if there or node.node_id != 11]

    def node(message: Message, _context: Context) -> Message:
        """Stand in for the SuperLink, which answers for a node that it has not heard for a minute."""
        if message.metadata.dst_node_id == 11 and clock.now < back_after:
            return Message(Error(code=ErrorCode.NODE_UNAVAILABLE, reason="away"), reply_to=message)
        return Message(RecordDict({"update": ConfigRecord({"bytes": b"update"})}), reply_to=message)

    run = make_run("simulation")
    transport = registered(Leaving(simulated(run), faults=dict.fromkeys((10, 11, 12), node)))

    found = dict(transport.exchange(dict.fromkeys(run.facts().sites, b"order")))

    assert found == dict.fromkeys(answered, b"update")
    assert clock.now < 310.0


@dataclass
class Losing(LoopGrid):
    """Node 11 loses what it is given first; the SuperLink greets it anew after 40 s, and each time again."""

    clock: Clock = field(default_factory=Clock)
    lost: int = 0
    asked: int = 0
    flaps: bool = False

    def get_nodes(self) -> Iterable[NodeInfo]:
        when = self.clock.now // 40 if self.flaps else self.clock.now >= 40
        return [NodeInfo(node_id=node, last_activated_at=f"{when if node == 11 else 0}") for node in self.nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        identifiers = list(super().push_messages(messages))
        for message, identifier in zip(messages, identifiers, strict=True):
            if message.metadata.dst_node_id == 11:
                self.asked += 1
                if self.asked <= self.lost:
                    del self.waiting[identifier]
        return identifiers


@pytest.mark.parametrize("lost", [1, 2])
def test_a_node_that_was_greeted_since_it_was_asked_is_asked_again_at_once(
    make_run: MakeRun, clock: Clock, lost: int
) -> None:
    run = make_run("simulation")
    faults: dict[int, Answer] = dict.fromkeys((10, 11, 12), updating)
    grid = Losing(simulated(run), faults=faults, clock=clock, lost=lost, flaps=lost > 1)

    found = list(registered(grid).exchange(dict.fromkeys(run.facts().sites, b"order")))

    assert sorted(found) == [("east", b"update"), ("north", b"update"), ("west", b"update")]
    assert clock.now <= 40.0 * lost + 5
    assert grid.asked == lost + 1


def test_a_node_that_loses_everything_is_given_up_after_ten_tries(make_run: MakeRun, clock: Clock) -> None:
    run = make_run("simulation")
    faults: dict[int, Answer] = dict.fromkeys((10, 11, 12), updating)
    grid = Losing(simulated(run), faults=faults, clock=clock, lost=1000, flaps=True)

    found = dict(registered(grid).exchange(dict.fromkeys(run.facts().sites, b"order")))

    assert set(found) == {"east", "west"}
    assert grid.asked == 10
    assert clock.now < 410


@pytest.mark.parametrize("code", [ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE])
def test_an_answer_of_which_a_part_never_came_is_asked_for_again(make_run: MakeRun, code: int) -> None:
    def node(message: Message, context: Context) -> Message:
        times.append(message.metadata.dst_node_id)
        if times.count(11) == 1 and message.metadata.dst_node_id == 11:
            return Message(Error(code=code, reason="a link was killed halfway through its reply"), reply_to=message)
        return updating(message, context)

    run, times = make_run("simulation"), list[int]()
    transport = registered(LoopGrid(simulated(run), faults=dict.fromkeys((10, 11, 12), node)))

    found = dict(transport.exchange(dict.fromkeys(run.facts().sites, b"order")))

    assert found == dict.fromkeys(run.facts().sites, b"update")
    assert sorted(times) == [10, 11, 11, 12]


def test_equal_orders_are_sent_once_and_large_ones_apart(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(LoopGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            messages = list(messages)
            calls.append([message.content.object_id for message in messages])
            return super().push_messages(messages)

    run, calls = make_run("simulation"), list[list[str]]()
    grid = Counting(simulated(run), faults=dict.fromkeys((10, 11, 12), updating))
    monkeypatch.setattr("server.orders._PARCEL_BYTES", 8)

    dict(registered(grid).exchange(dict.fromkeys(run.facts().sites, b"an order")))
    dict(registered(grid).exchange({site: site.encode() for site in run.facts().sites}))

    assert [len(call) for call in calls] == [3, 1, 1, 1]
    assert len(set(calls[0])) == 1


@pytest.mark.parametrize("missing", ["none", "left out"])
def test_an_order_that_cannot_go_is_not_waited_for_and_no_other_takes_its_place(
    make_run: MakeRun, clock: Clock, missing: str
) -> None:
    class Partly(LoopGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            found: list[str | None] = list(super().push_messages(messages))
            found[0] = None
            return [one for one in found if one or missing == "none"]  # type: ignore[misc]

    run = make_run("simulation")
    grid = Partly(simulated(run), faults=dict.fromkeys((10, 11, 12), updating))

    found = dict(registered(grid).exchange(dict.fromkeys(run.facts().sites, b"order")))

    assert found == {"north": b"update", "west": b"update"}
    assert clock.now < 1


def test_flower_looks_for_a_missing_part_of_a_reply_as_soon_as_it_is_told_to() -> None:
    source = inspect.getsource(http_grid.HttpGrid.pull_messages)

    assert inspect.signature(http_grid.pull_objects).parameters["initial_backoff"].default == FIRST_WAIT_SECONDS
    assert "pull_objects(" in source
    assert "backoff" not in source


def updating(message: Message, _context: Context) -> Message:
    return Message(RecordDict({"update": ConfigRecord({"bytes": b"update"})}), reply_to=message)


def registered(grid: LoopGrid) -> GridTransport:
    return GridTransport(
        grid,
        wanted=("east", "north", "west"),
        gather_seconds=30.0,
        round_seconds=1800.0,
        progress=lambda *_: None,
        nodes={"east": 10, "north": 11, "west": 12},
    )


def gather(grid: LoopGrid, *, wanted: tuple[str, ...]) -> tuple[str, ...]:
    transport = GridTransport(
        grid, wanted=wanted, gather_seconds=30.0, round_seconds=30.0, progress=lambda *_: None
    )
    return transport.sites()
