"""Channels between the processes of one site: frames over a Unix socket, between users that the kernel names.

A frame is a JSON header, bytes, and perhaps one open file. The kernel says who is at the other end (SO_PEERCRED,
unix(7)), and an open file travels as a descriptor (SCM_RIGHTS), so that a process can be given one file without the
right to open any. Frames have limits in size and in time.
"""

import json
import os
import select
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedsynth.errors import ChannelClosedError, NodeError

LARGEST_FRAME = 520 * 2**20
"""Bytes after the header: an order or update at its limit, and its envelope."""
_LARGEST_HEADER = 4 * 2**20
_HEAD = struct.Struct(">4sIQ")
_MAGIC = b"fsn1"
_CREDENTIALS = struct.Struct("3i")
_DESCRIPTOR = struct.Struct("i")
_MOST_DESCRIPTORS = 4
_SLICE = 2**20
_FRAME_SECONDS = 60.0  # from a frame's first byte to its last
_LONGEST_PATH = 107


@dataclass(frozen=True)
class Peer:
    """Who is at the other end: process, user and group, as the kernel saw them when the connection was made."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True)
class Frame:
    """What came in one piece. `descriptor` belongs to the receiver, who closes it; -1 where none came."""

    header: dict[str, Any]
    payload: bytes
    descriptor: int = -1


class Channel:
    """One connection between two processes of a site; closed on the way out of its context."""

    def __init__(self, connection: socket.socket, *, largest: int = LARGEST_FRAME) -> None:
        """Take a connected stream socket.

        Args:
            connection: is closed with the channel.
            largest: bytes that a frame may hold beside its header.
        """
        self.socket = connection
        self._largest = largest
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close on the way out."""
        self.close()

    def close(self) -> None:
        """Hang up; the other end sees it at once."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return peer_of(self.socket)

    def send(self, header: dict[str, Any], payload: bytes = b"", *, descriptor: int = -1) -> None:
        """Send one frame.

        Args:
            header: of JSON's types.
            payload: anything.
            descriptor: an open file that the other end may use from now on as it was opened; the sender's own
                stays open.

        Raises:
            ChannelClosedError: the other end is gone.
            NodeError: the frame is too large, or the other end takes nothing for a minute.
        """
        text = json.dumps(header, allow_nan=False).encode()
        if len(text) > _LARGEST_HEADER or len(payload) > self._largest:
            raise NodeError(f"a frame of {len(text)} and {len(payload)} bytes is too large; nothing was sent")
        ends = time.monotonic() + _FRAME_SECONDS
        head = memoryview(_HEAD.pack(_MAGIC, len(text), len(payload)) + text)
        try:
            if descriptor >= 0:
                self._wait(select.POLLOUT, ends)
                head = head[socket.send_fds(self.socket, [head], [descriptor]) :]
            for part in (head, memoryview(payload)):
                while part:
                    self._wait(select.POLLOUT, ends)
                    with suppress(BlockingIOError):
                        part = part[self.socket.send(part[:_SLICE]) :]
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError("the process at the other end is gone; not everything was sent") from error

    def is_ready(self, *, seconds: float) -> bool:
        """Whether something came, or the other end hung up, within that time."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def receive(self, *, seconds: float | None = None) -> Frame:
        """Wait for one frame.

        Args:
            seconds: to wait for its first byte; None waits as long as the other end is there.

        Raises:
            ChannelClosedError: the other end is gone.
            NodeError: nothing came in time, or what came is no frame within the limits.
        """
        self._wait(select.POLLIN, None if seconds is None else time.monotonic() + seconds)
        ends = time.monotonic() + _FRAME_SECONDS
        descriptors: list[int] = []
        try:
            head = bytearray()
            while len(head) < _HEAD.size:
                self._wait(select.POLLIN, ends)
                head += self._first(_HEAD.size - len(head), descriptors)
            magic, n_header, n_payload = _HEAD.unpack(head)
            if magic != _MAGIC or n_header > _LARGEST_HEADER or n_payload > self._largest or len(descriptors) > 1:
                raise NodeError(f"what came is no frame of at most {self._largest} bytes; nothing was taken")
            header = json.loads(self._exactly(n_header, ends))
            if not isinstance(header, dict):
                raise NodeError("the header of a frame is no object; nothing was taken")
            frame = Frame(header, self._exactly(n_payload, ends), descriptors[0] if descriptors else -1)
        except (ConnectionResetError, ValueError, RecursionError) as error:
            _close(descriptors)
            if isinstance(error, ConnectionResetError):
                raise ChannelClosedError("the process at the other end is gone") from error
            raise NodeError("the header of a frame cannot be read; nothing was taken") from error
        except BaseException:
            _close(descriptors)
            raise
        return frame

    def _first(self, count: int, descriptors: list[int]) -> bytes:
        """Read the beginning of a frame, and the descriptors that come with it."""
        try:
            data, found, flags = receive_descriptors(self.socket, count)
        except BlockingIOError:
            return b""
        descriptors += found
        if flags & socket.MSG_CTRUNC:
            raise NodeError("more open files came with a frame than it may have; nothing was taken")
        if not data:
            raise ChannelClosedError("the process at the other end is gone")
        return data

    def _exactly(self, count: int, ends: float) -> bytes:
        # Grown as it comes: a length alone reserves no memory.
        data = bytearray()
        while len(data) < count:
            self._wait(select.POLLIN, ends)
            with suppress(BlockingIOError):
                part = self.socket.recv(min(count - len(data), _SLICE))
                if not part:
                    raise ChannelClosedError("the process at the other end is gone in the middle of a frame")
                data += part
        return bytes(data)

    def _wait(self, event: int, ends: float | None) -> None:
        poll = select.poll()
        poll.register(self.socket, event)
        left = None if ends is None else max(0.0, ends - time.monotonic())
        if not poll.poll(None if left is None else 1000 * left):
            raise NodeError("the process at the other end is silent; see its log")


def receive_descriptors(connection: socket.socket, count: int) -> tuple[bytes, list[int], int]:
    """Read up to `count` bytes and the descriptors that came with them; return both, and the flags of recvmsg(2).

    Not `socket.recv_fds`, which drops its flags (Python 3.11): no program that is started later gets the files.
    """
    room = socket.CMSG_LEN(_MOST_DESCRIPTORS * _DESCRIPTOR.size)
    data, ancillary, flags, _ = connection.recvmsg(count, room, socket.MSG_CMSG_CLOEXEC)
    found: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(content) - len(content) % _DESCRIPTOR.size
            found += [descriptor for (descriptor,) in _DESCRIPTOR.iter_unpack(content[:whole])]
    return data, found, flags


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end of a connected Unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


def listen(path: Path, *, mode: int = 0o600) -> socket.socket:
    """Listen at a path; what a dead process left there is replaced.

    Args:
        path: of the socket, at most 107 bytes.
        mode: who may connect; whoever does is asked for its user in any case.

    Raises:
        NodeError: another process listens there, the path is too long, or the folder may not be written to.
    """
    _check_path(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.connect(str(path))
            raise NodeError(f"another process listens at {path.name} already; stop it first")
        path.unlink(missing_ok=True)
        before = os.umask(0o777 & ~mode)
        try:
            server.bind(str(path))
        finally:
            os.umask(before)
        server.listen(16)
    except OSError as error:
        server.close()
        raise NodeError(f"nobody can listen at {path} ({error.strerror}); give the folder to this user") from error
    except NodeError:
        server.close()
        raise
    return server


def connect(path: Path, *, uid: int, seconds: float = 5.0, largest: int = LARGEST_FRAME) -> Channel:
    """Connect to a process that listens at a path, and make sure that it is the right user's.

    Raises:
        NodeError: nobody listens there, or another user does.
    """
    _check_path(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(seconds)
        connection.connect(str(path))
        peer = peer_of(connection)
        if peer.uid != uid:
            raise NodeError(f"user {peer.uid} listens at {path.name}, not {uid}; nothing was sent")
    except OSError as error:
        connection.close()
        raise NodeError(f"nobody answers at {path.name} ({error.strerror or 'too late'}); start it") from error
    except NodeError:
        connection.close()
        raise
    return Channel(connection, largest=largest)


def accept(server: socket.socket, *, uids: frozenset[int], largest: int = LARGEST_FRAME) -> Channel | None:
    """Take the next connection; None where it is hung up because another user made it."""
    connection, _ = server.accept()
    if peer_of(connection).uid not in uids:
        connection.close()
        return None
    return Channel(connection, largest=largest)


def _check_path(path: Path) -> None:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise NodeError(
            f"the path of a socket may have {_LONGEST_PATH} bytes, and {path.name}'s has more; name another"
        )


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
