"""RemoteWorker: the gate's side of a training, which another process and user carries out.

Over one channel for each step: the order and the approved plan go out, the size of the answer comes back, and after
the charge one open file of windows follows, which can be read and nothing else. Hanging up ends the training.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fedsynth import errors
from fedsynth.errors import FedsynthError, NodeError
from fedsynth.node.channel import Channel, Frame, connect
from fedsynth.node.confine import Limits
from fedsynth.progress import Progress
from fedsynth.secure_aggregation.messages import LARGEST_VECTOR
from fedsynth.site.worker import Arrays, Prepared, Task
from fedsynth.wire.packed import unpack_arrays

_LOOK_SECONDS = 0.25
_PATIENCE = 15.0  # a training process that restarts is waited for, before anything is charged


class RemoteWorker:
    """Carries out tasks through the socket of the site's training process."""

    def __init__(
        self, path: Path, *, uid: int, limits: Limits, check: Callable[[], None], progress: Progress | None = None
    ) -> None:
        """Connect to nobody yet.

        Args:
            path: of the socket.
            uid: the user who must be listening there.
            limits: of one step.
            check: called four times a second while a step runs; what it raises ends the training.
            progress: called with (what, done, all).
        """
        self._path, self._uid, self._limits = path, uid, limits
        self._check, self._progress = check, progress

    @contextmanager
    def prepare(self, task: Task) -> Iterator[Prepared]:
        """Have what came with an order checked.

        Raises:
            WireError: tensors that are not what the step needs.
            NodeError: the training process is missing, or died.
        """
        ends = time.monotonic() + self._limits.seconds
        with self._connect() as channel:
            order = task.order
            header = {
                "order": {"run": order.run, "plan": order.plan, "step": order.step, "stage": order.stage},
                "plan": task.plan.to_json(),
                "device": task.device,
                "memory": self._limits.memory,
                "seconds": self._limits.seconds,
            }
            channel.send(header, order.packed)
            size = self._answer(channel, ends).header.get("size")
            is_sum = task.step.kind != "train"
            if type(size) is not int or not 0 <= size <= LARGEST_VECTOR or is_sum != (size > 0):
                raise NodeError("the training process announced an answer that the step does not have")

            def run(windows: BinaryIO) -> Arrays:
                channel.send({"ask": "run"}, descriptor=windows.fileno())
                return unpack_arrays(self._answer(channel, ends).payload)

            yield _RemoteWork(size, run)

    def _connect(self) -> Channel:
        ends = time.monotonic() + _PATIENCE
        while True:
            self._check()
            try:
                return connect(self._path, uid=self._uid)
            except NodeError:
                if time.monotonic() >= ends:
                    raise
            time.sleep(_LOOK_SECONDS)

    def _answer(self, channel: Channel, ends: float) -> Frame:
        """Wait for what the other end says next, looking now and then whether it is still wanted."""
        while True:
            self._check()
            if not channel.is_ready(seconds=_LOOK_SECONDS):
                if time.monotonic() >= ends:
                    raise NodeError(f"the step took more than {self._limits.seconds:g} s and was ended")
                continue
            frame = channel.receive()
            if "progress" not in frame.header:
                _raise_refusal(frame.header)
                return frame
            if self._progress is not None:
                what, done, total = frame.header["progress"]
                self._progress(str(what), int(done), int(total))


@dataclass(frozen=True)
class _RemoteWork:
    size: int
    run: Callable[[BinaryIO], Arrays]


def _raise_refusal(header: dict[str, Any]) -> None:
    """Raise what the other end refused with, as the class that it names."""
    if "refused" in header:
        kind = getattr(errors, str(header["refused"]), NodeError)
        known = isinstance(kind, type) and issubclass(kind, FedsynthError)
        raise (kind if known else NodeError)(str(header.get("said", "")))
