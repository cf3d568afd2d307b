"""Workers: an order's step on windows, as the site's session asks for it, wherever it is computed.

A worker first looks at what came with an order, before anything is charged, and says how large the answer will be.
Only then, and after the charge, it is handed an open file of windows. `LocalWorker` computes in this process.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import WireError
from fedsynth.plan import Plan, Step
from fedsynth.privacy.noise import NoiseSource, system_noise
from fedsynth.progress import Progress
from fedsynth.site.holdings import read_windows
from fedsynth.wire.order import Order, PackedOrder
from fedsynth.wire.packed import unpack_arrays

if TYPE_CHECKING:
    from torch import Tensor

Arrays = Mapping[str, NDArray[Any]]
SUM, LATTICE = "sum", "lattice"


@dataclass(frozen=True)
class Task:
    """One step to be done: the order, the approved plan that its number refers to, and the site's `device`."""

    order: PackedOrder
    plan: Plan
    device: str

    @property
    def step(self) -> Step:
        """The plan's step that the order names."""
        return self.plan.steps[self.order.step]


class Prepared(Protocol):
    """A task whose order was checked. `size` is that of the private sum that comes out, 0 where parts come out."""

    @property
    def size(self) -> int:
        """Coordinates of the private sum, or 0."""
        ...

    def run(self, windows: BinaryIO) -> Arrays:
        """Return what may leave the site: a noisy sum, a share of one in steps of its lattice, or trained parts."""
        ...


class Worker(Protocol):
    """What carries out tasks, one at a time."""

    def prepare(self, task: Task) -> AbstractContextManager[Prepared]:
        """Check what came with an order; nothing is charged or opened yet.

        Raises:
            WireError: tensors that are not what the step needs.
        """
        ...


class LocalWorker:
    """Carries out tasks in this process, which loads torch."""

    def __init__(
        self,
        *,
        progress: Progress | None = None,
        noise: NoiseSource = system_noise,
        observe: "Callable[[Tensor], None] | None" = None,
    ) -> None:
        """Load nothing yet.

        Args:
            progress: called with (what, done, all).
            noise: tests and audits only pass something else.
            observe: shown every noisy sum; tests only.
        """
        self._progress, self._noise, self._observe = progress, noise, observe

    @contextmanager
    def prepare(self, task: Task) -> Iterator[Prepared]:
        """Check what came with an order.

        Raises:
            WireError: tensors that are not what the step needs.
        """
        from fedsynth.site.steps import choose_device, prepare
        from fedsynth.wire.arrays import unpack
        from fedsynth.wire.message import without_message

        tensors = unpack(task.order.packed)
        is_aggregate = task.step.mechanism.noise_shares > 1
        order = Order(
            run=task.order.run,
            plan=task.order.plan,
            step=task.order.step,
            tensors=without_message(tensors) if is_aggregate else tensors,
        )
        work = prepare(order, task.plan, task.step, device=choose_device(task.device), progress=self._progress)

        def run(windows: BinaryIO) -> Arrays:
            from fedsynth.privacy.allowance import Allowance
            from fedsynth.privacy.private_sum import PrivateSum

            allowance = Allowance(task.step.mechanism, noise=self._noise, observe=self._observe)
            answer = work.run(read_windows(windows), allowance)
            if not isinstance(answer, PrivateSum):
                return {name: value.detach().cpu().numpy() for name, value in answer.items()}
            # One share of the noise protects nobody: such a sum leaves under its mask or not at all.
            return {LATTICE: answer.read_lattice().values} if is_aggregate else {SUM: answer.read().cpu().numpy()}

        yield _LocalWork(work.size, run)


@dataclass(frozen=True)
class _LocalWork:
    size: int
    run: Callable[[BinaryIO], Arrays]


def check_answer(arrays: Arrays, task: Task, *, size: int) -> None:
    """Refuse an answer that is not what was announced before any window was opened.

    Args:
        arrays: from a worker.
        task: that it was given.
        size: that it announced.

    Raises:
        WireError: other names, shapes or types, or a value that is not finite.
    """
    if size:
        name, kind = (LATTICE, "int64") if task.step.mechanism.noise_shares > 1 else (SUM, "float64")
        wanted = {name: ((size,), np.dtype(kind))}
    else:
        sent = unpack_arrays(task.order.packed)
        parts = {name.removeprefix("parts."): one for name, one in sent.items() if name.startswith("parts.")}
        wanted = {name: (one.shape, one.dtype) for name, one in parts.items()}
    if {name: (one.shape, one.dtype) for name, one in arrays.items()} != wanted:
        raise WireError("the worker's answer has other arrays than it announced; it was not sent")
    if not all(np.isfinite(one).all() for one in arrays.values()):
        raise WireError("the worker's answer has values that are not finite; it was not sent")
