"""What people want of a run takes effect between two exchanges, and a run without a driver goes no further."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fedsynth.coordinator import control
from fedsynth.coordinator.control import DRIVER, Controlled, ask, ends_with_driver, held, is_held, wish
from fedsynth.errors import RefusedError, RunError


class Counting:
    def __init__(self) -> None:
        self.exchanges = 0

    def sites(self) -> tuple[str, ...]:
        return ("east",)

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        self.exchanges += 1
        yield from orders.items()


def test_orders_go_out_while_the_run_is_wanted_and_driven(tmp_path: Path) -> None:
    transport = Counting()

    with held(tmp_path, DRIVER, what="drives"):
        answers = list(Controlled(transport, tmp_path).exchange({"east": b"1"}))

    assert answers == [("east", b"1")]


def test_a_paused_run_waits_before_its_next_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_LOOK_SECONDS", 0.01)
    transport, answers = Counting(), []
    ask(tmp_path, "pause")

    with held(tmp_path, DRIVER, what="drives"):
        run = threading.Thread(target=lambda: answers.extend(Controlled(transport, tmp_path).exchange({"a": b""})))
        run.start()
        time.sleep(0.1)
        assert transport.exchanges == 0
        ask(tmp_path, "run")
        run.join(timeout=10)

    assert (transport.exchanges, answers) == (1, [("a", b"")])


def test_a_stopped_run_sends_nothing_more(tmp_path: Path) -> None:
    transport = Counting()
    ask(tmp_path, "stop")

    with held(tmp_path, DRIVER, what="drives"), pytest.raises(RefusedError, match="stopped by a person"):
        list(Controlled(transport, tmp_path).exchange({"east": b""}))

    assert transport.exchanges == 0


@pytest.mark.parametrize("wanted", ["run", "pause"])
def test_a_run_that_nobody_drives_sends_nothing_more(tmp_path: Path, wanted: control.Wish) -> None:
    transport = Counting()
    ask(tmp_path, wanted)

    with pytest.raises(RunError, match="drove this run ended"):
        list(Controlled(transport, tmp_path).exchange({"east": b""}))

    assert transport.exchanges == 0


def test_what_cannot_be_understood_holds_the_run(tmp_path: Path) -> None:
    (tmp_path / "wish").write_text("stpo")

    assert wish(tmp_path) == "pause"


def test_one_process_drives_a_run(tmp_path: Path) -> None:
    assert not is_held(tmp_path, DRIVER)
    with held(tmp_path, DRIVER, what="drives"):
        assert is_held(tmp_path, DRIVER)
        with pytest.raises(RefusedError, match="another process drives"), held(tmp_path, DRIVER, what="drives"):
            raise AssertionError
    assert not is_held(tmp_path, DRIVER)


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with held(tmp_path, DRIVER, what="drives"):
            os.write(writer, b".")
            time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    assert is_held(tmp_path, DRIVER)

    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    assert not is_held(tmp_path, DRIVER)


def test_whatever_runs_when_the_driver_ends_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_WATCH_SECONDS", 0.01)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests behind
    try:
        with pytest.raises(KeyboardInterrupt), ends_with_driver(tmp_path):
            time.sleep(10)
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_interrupts_are_ignored_it_is_asked_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_WATCH_SECONDS", 0.01)
    asked = list[int]()
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    end = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        with ends_with_driver(tmp_path):
            ends = time.monotonic() + 10
            while not asked and time.monotonic() < ends:
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, end)

    assert asked == [signal.SIGTERM]


def test_nothing_is_interrupted_while_the_driver_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_WATCH_SECONDS", 0.01)

    with held(tmp_path, DRIVER, what="drives"), ends_with_driver(tmp_path):
        time.sleep(0.1)
    time.sleep(0.1)
