"""The process of one step: what it is allowed, what it is handed, and when it is killed."""

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsynth.errors import NodeError, PrivacyError
from fedsynth.node import fork_server
from fedsynth.node.channel import Channel, connect
from fedsynth.node.confine import Limits
from fedsynth.node.remote_worker import RemoteWorker
from fedsynth.node.supervise import Places
from fedsynth.plan import Plan
from fedsynth.site.shelves import Shelved, shape_of_windows, write_shelf
from fedsynth.site.worker import Task
from fedsynth.wire.order import Order, PackedOrder

Node = Any

Children = Callable[[int], set[int]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, make_node: Callable[..., Node], plan: Plan) -> Iterator[Node]:
    """Return a train process for all tests that leave it as it was; the "site" has windows and nothing else."""
    run, site = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("site")
    write_windows(site / "train.windows", plan)
    one = make_node(site, Places(run=run, logs=run / "logs", gate=run / "gate.sock", train=run / "train.sock"))
    yield one.started("train")
    one.end()


@pytest.fixture
def own(tmp_path: Path, make_node: Callable[..., Node]) -> Iterator[Node]:
    """Return a train process, not started yet, that a test may kill."""
    one = make_node(
        tmp_path, Places(run=tmp_path, logs=tmp_path, gate=tmp_path / "gate.sock", train=tmp_path / "t.sock")
    )
    yield one
    one.end()


def write_windows(path: Path, plan: Plan) -> None:
    """Write windows of noise as a site keeps them, two of each of ten people."""
    owner = np.repeat(np.arange(10), 2)
    shape = (20, len(plan.shape.channels), plan.shape.n_times)
    signal = np.random.default_rng(0).normal(0, 20, shape).astype(np.float32)
    people = [Shelved(number, number, owner[owner == number] % plan.shape.n_labels) for number in range(10)]
    write_shelf(
        path, people, shape=shape_of_windows(plan.study), rows=lambda number: signal[owner == number], seal=None
    )


def task(plan: Plan) -> Task:
    order = Order("run", plan.digest, 0, plan.estimator.prior(plan.shape).tensors())
    return Task(PackedOrder.from_bytes(order.to_bytes()), plan, "cpu")


def worker(
    node: Any, *, gigabytes: float = 4, seconds: float = 900, check: Callable[[], None] = int
) -> RemoteWorker:
    limits = Limits(memory=int(gigabytes * 2**30), seconds=seconds)
    return RemoteWorker(node.places.train, uid=os.geteuid(), limits=limits, check=check)


def gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def the_step(node: Node, children: Children) -> int:
    """Return the process of the step that runs: the one that began last."""
    return max(children(node.processes["train"].pid), key=began)


def began(pid: int) -> int:
    """Return when a process began, in clock ticks (proc(5)); 0 where it is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    return 0


def test_a_step_has_limits_no_privileges_and_no_file_but_its_connection(
    shared: Node, plan: Plan, children: Children
) -> None:
    with worker(shared, gigabytes=3).prepare(task(plan)) as work:
        assert work.size > 0
        pid = the_step(shared, children)
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8")
        files = {path.name: str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
        environment = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")

    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"Max core file size\s+0\s+0", limits)
    assert re.search(r"Max file size\s+0\s+0", limits)
    data = int(re.search(r"Max data size\s+(\d+)", limits)[1])  # type: ignore[index]
    assert 3 * 2**30 < data < 6 * 2**30
    tasks = int(re.search(r"Max processes\s+(\d+)", limits)[1])  # type: ignore[index]
    assert tasks < 100_000
    assert {files.pop(number) for number in ("0", "1", "2")} == {"/dev/null"}
    assert [name.partition(":")[0] for name in files.values()] == ["socket"]
    assert str(shared.site) not in environment


def test_a_step_of_more_memory_than_it_may_have_is_refused_before_anything_is_handed_out(
    shared: Node, plan: Plan
) -> None:
    with pytest.raises(NodeError, match="memory_gigabytes"), worker(shared, gigabytes=0.1).prepare(task(plan)):
        pytest.fail("it was announced")


def test_windows_that_could_be_written_to_are_not_read(shared: Node, plan: Plan) -> None:
    windows = (shared.site / "train.windows").open("r+b")
    with windows, worker(shared).prepare(task(plan)) as work, pytest.raises(PrivacyError, match="written to"):
        work.run(windows)


def test_a_step_that_takes_too_long_is_killed(shared: Node, plan: Plan, children: Children) -> None:
    with worker(shared).prepare(task(plan)):
        pid = the_step(shared, children)
        os.kill(pid, signal.SIGSTOP)  # as good as an endless loop
    until(lambda: gone(pid))


def test_the_gates_patience_ends(shared: Node, plan: Plan) -> None:
    with pytest.raises(NodeError, match="was ended"), worker(shared, seconds=0.01).prepare(task(plan)):
        pytest.fail("it was fast")


@pytest.mark.parametrize("who", ["gate", "fork server", "train"])
def test_a_step_ends_within_seconds_of_whoever_it_belongs_to(
    who: str, own: Node, plan: Plan, children: Children
) -> None:
    own.started("train")
    work = worker(own).prepare(task(plan))
    work.__enter__()
    step = the_step(own, children)
    server = min(children(own.processes["train"].pid), key=began)
    if who == "gate":
        work.__exit__(None, None, None)
    else:
        os.kill(server if who == "fork server" else own.processes["train"].pid, signal.SIGKILL)

    until(lambda: gone(step), seconds=10)
    if who == "fork server":
        with worker(own).prepare(task(plan)) as again:  # train itself goes on
            assert again.size > 0
    if who == "train":
        until(lambda: gone(server), seconds=10)


def test_torch_is_let_go_after_a_while(own: Node, plan: Plan, children: Children) -> None:
    own.started("train", more=["--idle-seconds", "0.5"])
    with worker(own).prepare(task(plan)):
        assert children(own.processes["train"].pid)

    until(lambda: not children(own.processes["train"].pid))
    assert '"said": "a step ended"' in own.log("train")


def test_two_steps_share_no_random_number(shared: Node, plan: Plan) -> None:
    sums = []
    for _ in range(2):
        with worker(shared).prepare(task(plan)) as work, (shared.site / "train.windows").open("rb") as windows:
            sums.append(work.run(windows)["sum"])

    assert not (sums[0] == sums[1]).any()


def test_the_generators_of_two_steps_part() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        fork_server._reseed()
        drawn.append((torch.rand(1).item(), np.random.random(), random.random()))  # noqa: NPY002

    assert all(one != other for one, other in zip(*drawn, strict=True))


def test_nonsense_is_answered_with_a_refusal_and_the_next_step_works(shared: Node, plan: Plan) -> None:
    for header in (
        {},
        {"memory": "much"},
        {"memory": 2**32, "seconds": 9, "plan": "{}", "order": {}, "device": ""},
    ):
        channel: Channel = connect(shared.places.train, uid=os.geteuid())
        with channel:
            channel.send(header)
            assert "refused" in channel.receive(seconds=30).header

    with worker(shared).prepare(task(plan)) as work:
        assert work.size > 0
