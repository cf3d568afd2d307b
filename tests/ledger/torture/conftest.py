"""Tortures of the ledger: a folder to torment, prices that are counts, and the helpers beside this file."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fedsynth.privacy.mechanism import Mechanism

sys.path.append(str(Path(__file__).parent))


def count(mechanisms: Sequence[Mechanism], *, delta: float) -> float:  # noqa: ARG001
    """Price a history by its number of sums, so that caps are checked by counting."""
    return float(sum(one.steps for one in mechanisms))


@pytest.fixture(autouse=True)
def _count_for_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsynth.ledger.ledger.epsilon_pld", count)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Return an empty place for a ledger, in memory where the machine offers that: thousands are made and lost."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared, prefix="fedsynth-ledger-") as folder:
        yield Path(folder)
