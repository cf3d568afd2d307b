"""Workers: independent jobs, one after the other or in a few processes, with the same results either way.

Every job runs on one thread, wherever it runs: how many threads share a sum of floating-point numbers decides its
last digits.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from kit.bench import Job

_JOBS: dict[str, Any] = {}


@dataclass(frozen=True)
class Done:
    """A job's key, what it returned, and the seconds of processor that it took."""

    key: str
    found: Any
    seconds: float


def usual_workers() -> int:
    """Return two where processes can be forked safely and there are two processors, else one.

    A process of the largest study takes about a gigabyte.
    """
    return min(2, os.cpu_count() or 1) if sys.platform == "linux" else 1


def done(jobs: Sequence[Job], *, workers: int) -> Iterator[Done]:
    """Carry jobs out and yield each as it ends: in their order by one worker, else as they end.

    Args:
        jobs: that need nothing of one another; what they return can be pickled.
        workers: processes, forked from this one; 1 is this one itself.
    """
    _JOBS.update(jobs)
    if workers <= 1 or len(jobs) <= 1:
        _alone()
        yield from map(_carry_out, dict(jobs))
        return
    with multiprocessing.get_context("fork").Pool(workers, initializer=_alone) as pool:
        yield from pool.imap_unordered(_carry_out, dict(jobs))


def _alone() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)


def _carry_out(key: str) -> Done:
    began = time.process_time()
    found = _JOBS[key]()
    return Done(key, found, time.process_time() - began)
