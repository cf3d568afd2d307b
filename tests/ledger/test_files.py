"""The ledger's files: whose they are, which are made when, and what follows when the disk refuses."""

import errno
import hashlib
import hmac
import json
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from fedsynth.errors import LedgerError
from fedsynth.ledger import disk as ledger_disk
from fedsynth.ledger.ledger import Ledger, Ticket
from fedsynth.privacy.mechanism import Mechanism

SUM = Mechanism("sum", 2.0, 1.0, 1, 1.0)
FILES = {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.key", "ledger.head", "ledger.lock"}


def charge(ledger: Ledger, nonce: str) -> Ticket:
    return ledger.charge(SUM, nonce=nonce, study="s", tokens=["anna"], cap=100, delta=1e-5, unit="subject")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_ledger_is_for_its_owner_alone(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with Ledger(tmp_path / "above" / "ledger") as ledger:
            charge(ledger, "one")
            modes = {path.name: mode(path) for path in (tmp_path / "above" / "ledger").iterdir()}
    finally:
        os.umask(before)

    assert modes == dict.fromkeys(FILES, 0o600)
    assert mode(tmp_path / "above" / "ledger") == 0o700


def test_a_head_elsewhere_is_for_its_owner_alone(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", head_file=tmp_path / "head") as ledger:
        charge(ledger, "one")

    assert mode(tmp_path / "head") == 0o600
    assert not (tmp_path / "ledger" / "ledger.head").exists()


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir(mode=0o750)
    Ledger(tmp_path / "ledger").close()

    assert mode(tmp_path / "ledger") == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can open somebody else's ledger")
def test_root_leaves_every_file_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    os.chown(tmp_path / "ledger", 12345, 23456)
    with Ledger(tmp_path / "ledger", head_file=tmp_path / "head") as ledger:
        charge(ledger, "one")
        files = [*(tmp_path / "ledger").iterdir(), tmp_path / "head"]
        owners = {(path.stat().st_uid, path.stat().st_gid) for path in files}

    assert owners == {(12345, 23456)}


def test_a_ledger_is_closed_without_its_log(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")

    assert {path.name for path in tmp_path.iterdir()} == {
        "ledger.sqlite", "ledger.key", "ledger.head", "ledger.lock"
    }  # fmt: skip


def test_an_empty_ledger_has_a_head_before_its_first_line(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        assert json.loads((tmp_path / "ledger.head").read_text()) == {"number": 0, "link": "0" * 64}
        assert (len(ledger), ledger.head) == (0, "0" * 64)


@pytest.mark.parametrize("born", [["ledger.key"], ["ledger.key", "ledger.sqlite"], []])
def test_a_ledger_that_was_half_made_is_finished(tmp_path: Path, born: list[str]) -> None:
    with Ledger(tmp_path / "whole") as ledger:
        key = ledger.key
    (tmp_path / "half").mkdir()
    for name in born:
        (tmp_path / "half" / name).write_bytes(key if name == "ledger.key" else b"")

    with Ledger(tmp_path / "half") as ledger:
        charge(ledger, "one")
        assert (ledger.key == key) == bool(born)


def test_a_head_whose_disk_is_not_there_is_noticed_before_anything_is_charged(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"cannot be read .*No such file"):
        Ledger(tmp_path / "ledger", head_file=tmp_path / "not mounted" / "head")


class Disk:
    """A disk whose syncs of files in Python fail on demand."""

    def __init__(self) -> None:
        self.broken = False

    def fsync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        os.fsync(descriptor)

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


def test_after_an_error_of_the_disk_the_ledger_must_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(ledger_disk, "os", disk)
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        disk.broken = True
        with pytest.raises(LedgerError, match=r"could not be written, and no data was opened .*Input/output error"):
            charge(ledger, "two")
        disk.broken = False
        for use in (ledger.charges, lambda: charge(ledger, "three"), lambda: ledger.reply("one"), ledger.verify):
            with pytest.raises(LedgerError, match="open it again"):
                use()

    # The line was on the disk when its head failed: it counts, and no ticket was ever had for it.
    with Ledger(tmp_path) as again:
        assert [line.nonce for line in again.charges()] == ["one", "two"]
        assert again.redeem(charge(again, "two")).number == 2
        assert len(again) == 2
        charge(again, "three")


def test_another_process_that_holds_the_ledger_for_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_disk, "PATIENCE", 0.05)
    with Ledger(tmp_path) as ledger, ledger_disk.lock(tmp_path):
        with pytest.raises(LedgerError, match=r"another process has held the ledger for 0\.05 s"):
            charge(ledger, "one")
        with pytest.raises(LedgerError, match="another process"):
            Ledger(tmp_path)

    with Ledger(tmp_path) as again:
        assert len(again) == 0


def rewritten(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def test_a_ledger_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """The first version knew no tickets used and no marks, and its lines did not count the shares of noise."""
    with Ledger(tmp_path) as ledger:
        key = ledger.key
    body = json.dumps(
        {name: value for name, value in SUM.as_json().items() if name != "noise_shares"}, sort_keys=True
    )
    people = hashlib.sha256(b"anna").hexdigest()
    line = json.dumps(["0" * 64, 1, "one", "s", people, body])
    link = hmac.new(key, line.encode(), hashlib.sha256).hexdigest()
    rewritten(
        tmp_path,
        "DROP TABLE openings",
        "DROP TABLE tickets",
        "DROP TABLE marks",
        f"INSERT INTO people VALUES ('{people}', 'anna')",
        f"INSERT INTO charges VALUES (1, 'one', 's', '{people}', '{body}', '{link}')",
        "PRAGMA user_version = 0",
    )

    with Ledger(tmp_path) as ledger:
        assert ledger.history(["anna"]) == (SUM,)
        assert ledger.redeem(charge(ledger, "two")).number == 2
        assert ledger.bears(ledger.mark())


def test_a_mark_tells_a_ledger_from_its_earlier_copies(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        first = ledger.mark()
    shutil.copytree(tmp_path / "ledger", tmp_path / "copy")
    with Ledger(tmp_path / "ledger") as ledger:
        second = ledger.mark()
        assert (ledger.bears(first), ledger.bears(second), ledger.bears("")) == (True, True, False)

    with Ledger(tmp_path / "copy") as copy:
        assert (copy.bears(first), copy.bears(second)) == (True, False)
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        rewritten(tmp_path / "ledger", "DELETE FROM marks")


def test_a_ledger_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
    rewritten(tmp_path, "PRAGMA user_version = 99")

    with pytest.raises(LedgerError, match="written by a later version"):
        Ledger(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux does")
def test_nothing_is_left_open_after_a_refusal(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
    (tmp_path / "ledger.head").unlink()
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(5):
        with pytest.raises(LedgerError, match="head file is missing"):
            Ledger(tmp_path)

    assert len([*Path("/proc/self/fd").iterdir()]) == before
