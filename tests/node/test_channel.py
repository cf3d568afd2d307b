"""Frames over a Unix socket: what arrives, what is refused, and who may connect."""

import os
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import ChannelClosedError, NodeError
from fedsynth.node.channel import Channel, accept, connect, listen

STRANGER = 6599


def pair(largest: int = 2**20) -> tuple[Channel, Channel]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(one, largest=largest), Channel(other, largest=largest)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@settings(deadline=None, max_examples=50)
@given(header=st.dictionaries(st.text(), st.integers() | st.text()), payload=st.binary(max_size=5000))
def test_a_frame_arrives_as_it_was_sent(header: dict[str, object], payload: bytes) -> None:
    one, other = pair()
    with one, other:
        one.send(header, payload)
        frame = other.receive(seconds=5)

    assert (frame.header, frame.payload, frame.descriptor) == (header, payload, -1)


def test_a_frame_larger_than_what_the_socket_holds_arrives() -> None:
    one, other = pair(largest=2**24)
    payload = os.urandom(2**23)
    sender = threading.Thread(target=one.send, args=({}, payload))
    sender.start()

    assert other.receive(seconds=5).payload == payload
    sender.join()


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=300))
def test_bytes_that_are_no_frame_are_refused_with_one_error(data: bytes) -> None:
    one, other = pair(largest=100)
    with other:
        one.socket.sendall(data)
        one.close()
        with pytest.raises(NodeError):
            other.receive(seconds=1)


def test_a_length_alone_reserves_no_memory_and_too_large_a_one_is_refused() -> None:
    one, other = pair(largest=100)
    one.socket.sendall(struct.pack(">4sIQ", b"fsn1", 2, 2**40) + b"{}")

    with pytest.raises(NodeError, match="no frame"):
        other.receive(seconds=1)
    with pytest.raises(NodeError, match="too large"):
        one.send({}, bytes(101))


def test_an_end_that_hangs_up_is_noticed_in_the_middle_of_a_frame() -> None:
    one, other = pair()
    one.socket.sendall(struct.pack(">4sIQ", b"fsn1", 2, 50) + b"{}" + bytes(20))
    one.close()

    with pytest.raises(ChannelClosedError):
        other.receive(seconds=1)


def test_a_silent_end_is_waited_for_as_long_as_was_said() -> None:
    one, other = pair()
    with one, pytest.raises(NodeError, match="silent"):
        other.receive(seconds=0.05)


def test_an_open_file_travels_with_the_rights_it_was_opened_with(tmp_path: Path) -> None:
    path = tmp_path / "windows"
    path.write_bytes(b"some")
    one, other = pair()
    with path.open("rb") as file:
        one.send({}, b"x" * 1000, descriptor=file.fileno())
    frame = other.receive(seconds=1)

    assert frame.payload == b"x" * 1000
    assert os.read(frame.descriptor, 10) == b"some"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(frame.descriptor, b"more")
    assert not os.get_inheritable(frame.descriptor)
    os.close(frame.descriptor)


def test_two_open_files_in_one_frame_are_refused_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    one, other = pair()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with path.open("rb") as first, path.open("rb") as second:
        head = struct.pack(">4sIQ", b"fsn1", 2, 0) + b"{}"
        socket.send_fds(one.socket, [head], [first.fileno(), second.fileno()])
    with pytest.raises(NodeError, match="no frame"):
        other.receive(seconds=1)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_hung_up_and_another_users_socket_is_not_talked_to(open_folder: Path) -> None:
    path = open_folder / "gate.sock"
    with listen(path, mode=0o666) as server:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setuid(STRANGER)
            try:
                with connect(path, uid=0) as channel:
                    channel.send({"ask": "order"})
                    channel.receive(seconds=5)
                said = b"answered"
            except ChannelClosedError:
                said = b"hung up"
            except BaseException as error:  # noqa: BLE001 - told to the parent
                said = repr(error).encode()
            os.write(write, said)
            os._exit(0)
        assert accept(server, uids=frozenset({os.geteuid()})) is None
        os.waitpid(child, 0)
        assert os.read(read, 100) == b"hung up"
        with pytest.raises(NodeError, match=f"not {STRANGER}"):
            connect(path, uid=STRANGER)


def test_whoever_is_not_expected_is_hung_up(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    with listen(path) as server:
        with connect(path, uid=os.geteuid()) as mine:
            assert accept(server, uids=frozenset({os.geteuid() + 1})) is None
            with pytest.raises(ChannelClosedError):
                mine.receive(seconds=5)
        with connect(path, uid=os.geteuid()) as mine:
            assert accept(server, uids=frozenset({os.geteuid()})) is not None


def test_a_second_process_cannot_listen_where_one_does_and_can_where_one_died(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    first = listen(path)
    with pytest.raises(NodeError, match="already"):
        listen(path)
    first.close()

    listen(path).close()


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="107 bytes"):
        listen(tmp_path / ("x" * 120))
