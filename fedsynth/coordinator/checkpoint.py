"""Checkpoint: what a run needs to go on after a crash at any exchange, sealed in the run's own folder.

Records are numbered and come in two kinds. A "state" is the whole of a run between two steps. An "answers" record
is what one exchange since then brought. A run begins again at its last state and hears the answers that are kept,
in order, instead of asking: the same answers lead to the same next orders. So no site is asked two different things
at one step, even in the middle of a secure sum. What was asked and not kept is asked again; sites keep every answer
by its nonce and give the same bytes.

A record is one line of JSON, which names run, plan, number, kind and step, and then 12 bytes of nonce and the
AES-256-GCM encryption of the rest, which the line is bound to. The key lies beside the records, or with the caller.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedsynth.errors import RunError, WireError
from fedsynth.ledger import disk
from fedsynth.places import claimed
from fedsynth.wire.envelope import seal, unseal

Kind = Literal["state", "answers"]
FOLDER, KEY = "checkpoint", "checkpoint.key"
_NONCE_BYTES, _KEY_BYTES = 12, 32
_LONGEST_LINE = 4096
_NAME = re.compile(r"([0-9]{8})\.(state|answers)")
_AGAIN = "What was charged stays charged, and the sites keep their answers"


@dataclass(frozen=True)
class Label:
    """What a record says of itself before it is opened: `step` is that of the plan which comes next."""

    run: str
    plan: str
    number: int
    kind: Kind
    step: int

    def to_bytes(self) -> bytes:
        """Write the line that stands before the sealed part."""
        return json.dumps(asdict(self), sort_keys=True).encode("ascii") + b"\n"


@dataclass(frozen=True)
class Heard:
    """What one exchange brought: the bytes of each site, as they came, and the state of torch's generator then.

    That generator makes the public side of training alone; with it a run that goes on ends as it would have.
    """

    answers: Mapping[str, bytes]
    random: bytes

    def to_bytes(self) -> bytes:
        """Write it."""
        sizes = [[site, len(data)] for site, data in self.answers.items()]
        return seal({"random": len(self.random), "sites": sizes}, b"".join([self.random, *self.answers.values()]))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Heard":
        """Read what `to_bytes` wrote.

        Raises:
            WireError: it is something else.
        """
        header, payload = unseal(data)
        try:
            if set(header) != {"random", "sites"}:
                raise ValueError("fields")
            sizes = [("", int(header["random"])), *((str(site), int(size)) for site, size in header["sites"])]
            if min(size for _, size in sizes) < 0 or sum(size for _, size in sizes) != len(payload):
                raise ValueError("sizes")
        except (TypeError, ValueError) as error:
            raise WireError("the answers kept of an exchange cannot be read") from error
        parts, place = list[tuple[str, bytes]](), 0
        for name, size in sizes:
            parts.append((name, payload[place : place + size]))
            place += size
        return cls(dict(parts[1:]), parts[0][1])


class Checkpoint:
    """The records of one run. `state` is the last one kept, or None at the beginning."""

    def __init__(self, run_folder: Path, *, run: str, plan: str, key: bytes | None = None) -> None:
        """Read what is there.

        Args:
            run_folder: the run's own; only its owner may read it.
            run: the name of the run, and `plan` the digest of its plan: records of others are refused.
            plan: see `run`.
            key: 32 bytes, kept by the caller; without one the run has its own, in a file beside the records.

        Raises:
            RunError: a record of another run or plan, an old one in the place of a later, one that was changed or
                sealed with another key, or one that is missing.
        """
        self._folder, self._run, self._plan = run_folder / FOLDER, run, plan
        self._key_file = None if key is not None else run_folder / KEY
        found = _records(self._folder)
        self._cipher = AESGCM(key if key is not None else self._own_key(begun=bool(found)))
        last = max((number for number, kind in found.items() if kind == "state"), default=0)
        # A state makes what came before it superfluous; a crash may have come before that was removed.
        self._answers = sorted(number for number in found if number > last)
        if self._answers != list(range(last + 1, last + 1 + len(self._answers))):
            raise RunError(f"a record of the checkpoint in {self._folder} is missing; nothing was asked. {_AGAIN}")
        if not last and found:
            raise RunError(f"the checkpoint in {self._folder} lacks its state; nothing was asked. {_AGAIN}")
        self._number = self._answers[-1] if self._answers else last
        self.state = self._open(last, "state") if last else None
        self._step, self._is_last_word = 0, False
        self._heard = [Heard.from_bytes(self._open(number, "answers")) for number in self._answers]

    def keep_state(self, data: bytes, *, step: int) -> None:
        """Keep the state of a run between two steps; the answers before it are forgotten once it is on the disk.

        Raises:
            RunError: the disk refused.
        """
        self._step = step
        self._write("state", data)
        self._answers, self._heard = [], []
        for number, kind in _records(self._folder).items():
            if number < self._number:
                (self._folder / _name(number, kind)).unlink(missing_ok=True)

    def keep(self, heard: Heard) -> None:
        """Keep what an exchange brought, before anything that follows from it leaves.

        Raises:
            RunError: the disk refused.
        """
        self._write("answers", heard.to_bytes())
        self._answers.append(self._number)
        self._is_last_word = True

    def next_heard(self) -> Heard | None:
        """Return what the next exchange brought before the crash, once; None where it is to be asked."""
        self._is_last_word = bool(self._heard)
        return self._heard.pop(0) if self._heard else None

    def forget_last_answers(self) -> None:
        """Forget what the last exchange brought, since it ended the run: next time the sites are asked again.

        Where another exchange has begun since then, sites may know what followed from it, and it stays.
        """
        if self._answers and self._is_last_word:
            (self._folder / _name(self._answers.pop(), "answers")).unlink(missing_ok=True)
            self._number -= 1

    def _own_key(self, *, begun: bool) -> bytes:
        assert self._key_file is not None
        if not self._key_file.exists():
            if begun:
                raise RunError(f"the checkpoint's key is missing ({self._key_file}); nothing was asked. {_AGAIN}")
            with _disk("the key of the checkpoint could not be kept"):
                disk.write_durably(self._key_file, os.urandom(_KEY_BYTES), like=self._key_file.parent)
        key = self._key_file.read_bytes()
        if len(key) != _KEY_BYTES:
            raise RunError(f"the checkpoint's key is damaged ({self._key_file}); nothing was asked. {_AGAIN}")
        return key

    def _write(self, kind: Kind, data: bytes) -> None:
        label = Label(self._run, self._plan, self._number + 1, kind, self._step).to_bytes()
        nonce = os.urandom(_NONCE_BYTES)
        with _disk("the run could not keep what it has reached"):
            disk.make_folder(self._folder)
            sealed = label + nonce + self._cipher.encrypt(nonce, data, label)
            disk.write_durably(self._folder / _name(self._number + 1, kind), sealed, like=self._folder)
        self._number += 1

    def _open(self, number: int, kind: Kind) -> bytes:
        path = self._folder / _name(number, kind)
        data = path.read_bytes()
        label, start = _label(data, path)
        for what, found, wanted in (
            ("run", label.run, self._run),
            ("plan", label.plan, self._plan),
            ("kind", label.kind, kind),
        ):
            if found != wanted:
                raise RunError(
                    f"{path.name} in the checkpoint is of another {what} ({found[:16]!r}, not {wanted[:16]!r}); "
                    "nothing was asked. Put this run's own back, or begin a new run"
                )
        if label.number != number:
            raise RunError(
                f"{path.name} in the checkpoint is record {label.number}: an old one in the place of another; "
                "nothing was asked. Put the right one back, or begin a new run"
            )
        try:
            nonce, sealed = data[start : start + _NONCE_BYTES], data[start + _NONCE_BYTES :]
            opened = self._cipher.decrypt(nonce, sealed, data[:start])
        except (InvalidTag, ValueError) as error:
            raise RunError(
                f"{path.name} in the checkpoint was changed, or sealed with another key; nothing was asked. "
                "Put this run's own back, or begin a new run"
            ) from error
        self._step = label.step
        return opened


@contextmanager
def only_one(run_folder: Path) -> Iterator[None]:
    """Let one process at a time carry out the run in a folder.

    Raises:
        RefusedError: another does.
    """
    with claimed(run_folder / FOLDER, what="this run"):
        yield


def keep_file(path: Path, data: bytes) -> None:
    """Write a result of a run, whole or not at all.

    Raises:
        RunError: the disk refused.
    """
    with _disk(f"{path.name} could not be written"):
        disk.write_durably(path, data, like=path.parent)


def remove_checkpoint(run_folder: Path) -> None:
    """Remove everything that was kept, when the run's results are on the disk."""
    shutil.rmtree(run_folder / FOLDER, ignore_errors=True)
    (run_folder / KEY).unlink(missing_ok=True)


def step_reached(run_folder: Path) -> int | None:
    """Return the step of the plan that a run goes on with, from labels alone; None where nothing was kept."""
    folder = run_folder / FOLDER
    states = [number for number, kind in _records(folder).items() if kind == "state"]
    if not states:
        return None
    path = folder / _name(max(states), "state")
    return _label(path.read_bytes(), path)[0].step


def _label(data: bytes, path: Path) -> tuple[Label, int]:
    """Return the label of a record, and where its sealed part begins."""
    start = data.find(b"\n", 0, _LONGEST_LINE) + 1
    try:
        label = Label(**json.loads(data[:start]))
        same = label.to_bytes() == data[:start]
    except (ValueError, TypeError):
        same = False
    if not same:
        raise RunError(f"{path.name} in the checkpoint is no record of a run; nothing was asked. {_AGAIN}")
    return label, start


def _records(folder: Path) -> dict[int, Kind]:
    """Return the kind of each record by its number."""
    names = [_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return {int(name[1]): "state" if name[2] == "state" else "answers" for name in names if name}


def _name(number: int, kind: Kind) -> str:
    return f"{number:08d}.{kind}"


@contextmanager
def _disk(failed: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RunError(f"{failed} ({why}). {_AGAIN}; give the same command again") from error
