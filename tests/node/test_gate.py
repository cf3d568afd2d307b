"""The gate and the train process of a site, as real processes: what is answered, and in which order."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fedsynth.errors import ChannelClosedError
from fedsynth.ledger.ledger import Ledger
from fedsynth.node.channel import Channel, accept, listen
from fedsynth.plan import Plan
from fedsynth.wire.order import STATEMENT_STEP, Order
from fedsynth.wire.packed import pack_arrays
from fedsynth.wire.update import REFUSED, Update


def first_order(plan: Plan) -> bytes:
    return Order("run", plan.digest, 0, plan.estimator.prior(plan.shape).tensors()).to_bytes()


def lines(site: Path) -> int:
    with Ledger(site / "ledger") as ledger:
        return len(ledger)


class FakeTrain:
    """Listens where the train process would, announces a size, and notes what it is handed and when."""

    def __init__(self, node: Any, *, size: int) -> None:
        self._server = listen(node.places.train)
        self._site, self._size = node.site, size
        self.handed: list[dict[str, Any]] = []
        self.hung_up = threading.Event()
        self.finish = threading.Event()
        self.answer = pack_arrays({})
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            channel = accept(self._server, uids=frozenset({os.geteuid()}))
            if channel is not None:
                self._converse(channel)

    def _converse(self, channel: Channel) -> None:
        try:
            channel.receive()
            channel.send({"size": self._size})
            frame = channel.receive()
            self.handed.append({"lines": lines(self._site), "descriptor": frame.descriptor})
            while not self.finish.wait(0.05):
                with suppress(BlockingIOError):
                    if channel.socket.recv(1) == b"":
                        raise ChannelClosedError("gone")
            channel.send({"done": True}, self.answer)
        except ChannelClosedError:
            self.hung_up.set()


@pytest.fixture
def fake(node: Any, plan: Plan) -> Iterator[FakeTrain]:
    """Return a stand-in of the train process, with the gate started."""
    one = FakeTrain(node, size=plan.estimator.statistic_size(plan.shape, step=0))
    node.started("gate")
    yield one
    one.finish.set()
    for noted in one.handed:
        os.close(noted["descriptor"])


def asked(node: Any, data: bytes) -> tuple[threading.Thread, list[Update]]:
    """Send an order in the background; return the thread and where the update will be."""
    out: list[Update] = []
    thread = threading.Thread(target=lambda: out.append(Update.from_bytes(node.order(data))))
    thread.start()
    return thread, out


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_an_order_is_answered_and_charged_once_and_the_gate_never_loads_torch(node: Any, plan: Plan) -> None:
    node.started("train", "gate")

    first = node.order(first_order(plan))
    again = node.order(first_order(plan))

    update = Update.from_bytes(first)
    assert update.refused == "", node.log("gate")
    assert update.tensors["sum"].isfinite().all()
    assert first == again
    assert lines(node.site) == 1
    maps = Path(f"/proc/{node.processes['gate'].pid}/maps").read_text(encoding="utf-8")
    assert "torch" not in maps
    status = Path(f"/proc/{node.processes['gate'].pid}/status").read_text(encoding="utf-8")
    assert int(status.partition("VmRSS:")[2].split()[0]) < 80 * 1024


def test_nothing_is_loaded_where_nothing_is_trained(
    node: Any, plan: Plan, children: Callable[[int], set[int]]
) -> None:
    node.started("train", "gate")

    update = Update.from_bytes(node.order(Order("run", plan.digest, STATEMENT_STEP, {}).to_bytes()))

    assert update.refused == ""
    assert children(node.processes["train"].pid) == set()


def test_windows_are_handed_out_after_the_charge_is_on_the_disk_and_can_only_be_read(
    node: Any, plan: Plan, fake: FakeTrain
) -> None:
    thread, _ = asked(node, first_order(plan))
    until(lambda: bool(fake.handed))

    noted = fake.handed[0]
    assert noted["lines"] == 1
    descriptor = noted["descriptor"]
    assert Path(f"/proc/self/fd/{descriptor}").readlink() == node.site / "holdings" / "train.windows"
    assert os.pread(descriptor, 8, 0) == b"fedsynth"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)
    fake.finish.set()
    thread.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_no_window_is_handed_out_when_the_ledgers_disk_is_full(
    node: Any, plan: Plan, site: Path, make_small_disk: Callable[[Path], None]
) -> None:
    make_small_disk(site / "ledger")
    fake = FakeTrain(node, size=plan.estimator.statistic_size(plan.shape, step=0))
    node.started("gate")
    with suppress(OSError), (site / "ledger" / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass

    update = Update.from_bytes(node.order(first_order(plan)))

    assert update.refused == REFUSED
    assert "LedgerError" in node.log("gate")
    assert fake.handed == []


def test_an_answer_that_was_not_announced_is_charged_and_not_sent(node: Any, plan: Plan, fake: FakeTrain) -> None:
    import numpy as np

    fake.answer = pack_arrays({"sum": np.zeros(3), "names": np.zeros(4, dtype=np.uint8)})
    fake.finish.set()
    update = Update.from_bytes(node.order(first_order(plan)))

    assert (update.refused, dict(update.tensors)) == (REFUSED, {})
    assert "WireError" in node.log("gate")
    assert lines(node.site) == 1


@pytest.mark.parametrize("how", ["stop", "kill switch", "gate ends"])
def test_a_stop_ends_a_training_that_runs_at_once(how: str, node: Any, plan: Plan, fake: FakeTrain) -> None:
    thread, answers = asked(node, first_order(plan)) if how != "gate ends" else (None, [])
    if thread is None:
        threading.Thread(target=lambda: _quietly(lambda: node.order(first_order(plan))), daemon=True).start()
    until(lambda: bool(fake.handed))
    if how == "stop":
        assert node.ask({"ask": "stop"})[0] == {"stopped": True}
    elif how == "kill switch":
        (node.site / "STOP").touch()
    else:
        node.processes["gate"].terminate()

    until(fake.hung_up.is_set, seconds=10)
    if thread is not None:
        thread.join(10)
        assert [one.refused for one in answers] == [REFUSED]
        assert "RefusedError" in node.log("gate")
    else:
        assert node.processes["gate"].wait(10) == 0
    assert lines(node.site) == 1


def test_an_order_waits_while_another_is_answered_and_the_status_does_not(
    node: Any, plan: Plan, fake: FakeTrain
) -> None:
    first, _ = asked(node, first_order(plan))
    until(lambda: bool(fake.handed))
    second, late = asked(node, Order("run", plan.digest, STATEMENT_STEP, {}).to_bytes())
    time.sleep(0.5)

    status = node.ask({"ask": "status"})[0]
    assert (status["busy"], status["answered"], late) == (True, 0, [])
    fake.finish.set()
    first.join()
    second.join()
    assert late[0].word is not None
    assert late[0].word.ledger_length == 1


def test_a_second_gate_of_a_site_is_refused(node: Any, tmp_path: Path) -> None:
    node.started("gate")
    first = node.processes["gate"]
    (tmp_path / "other").mkdir()
    node.places = node.places.__class__(
        run=tmp_path, logs=tmp_path / "logs2", gate=tmp_path / "other" / "gate.sock", train=node.places.train
    )

    assert node.start("gate").wait(30) == 2
    assert "another gate serves this site" in node.log("gate")
    first.terminate()
    assert first.wait(10) == 0


def test_gate_and_train_may_be_killed_and_come_back_one_by_one(
    node: Any, plan: Plan, children: Callable[[int], set[int]]
) -> None:
    node.started("train", "gate")
    assert Update.from_bytes(node.order(first_order(plan))).refused == ""
    family = children(node.processes["train"].pid)
    assert family

    node.kill("train")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), seconds=10)
    node.started("train")
    node.kill("gate")
    node.started("gate")

    assert Update.from_bytes(node.order(first_order(plan))).refused == ""
    assert lines(node.site) == 1


def _quietly(call: Callable[[], object]) -> None:
    try:
        call()
    except (ChannelClosedError, subprocess.SubprocessError):
        return
