"""`fedsynth site ledger` as a hospital's administrator meets it."""

import json
import math
import re
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedsynth.cli.main import main
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import Mechanism

STUDY, LATER = "a" * 64, "b" * 64
COUNTS = Mechanism("anchor: counts", 3.0, 1.0, 1, 2.0)
STEP = Mechanism("gradients: critic", 4.0, 0.2, 10, 1.0)
SCORES = Mechanism("scores", 5.0, 1.0, 1, 1.0, group="held-out")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def fedsynth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["fedsynth", "site", "ledger", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def write(folder: Path, *, head: Path | None = None) -> str:
    """Write a ledger of two studies that share one person; return its head."""
    lines = [
        (STUDY, COUNTS, ["anna", "bert"]),
        *[(STUDY, STEP, ["anna", "bert"])] * 3,
        (STUDY, SCORES, ["dora"]),
        (LATER, COUNTS, ["bert", "carl"]),
    ]
    with Ledger(folder, head_file=head) as ledger:
        for number, (study, mechanism, people) in enumerate(lines):
            ledger.charge(
                mechanism, nonce=f"n{number}", study=study, tokens=people, cap=99, delta=1e-5, unit="subject"
            )
            if study == STUDY:
                ledger.keep_reply(f"n{number}", b"bytes")
        return ledger.head


def test_each_study_is_shown_with_its_purposes_and_prices(fedsynth: Command, tmp_path: Path) -> None:
    head = write(tmp_path)
    alone = epsilon_pld([COUNTS, STEP, STEP, STEP], delta=1e-5)
    ever = epsilon_pld([COUNTS, STEP, STEP, STEP, COUNTS], delta=1e-5)
    scores, later = epsilon_pld([SCORES], delta=1e-5), epsilon_pld([COUNTS], delta=1e-5)

    done = fedsynth(tmp_path)

    assert done.code == 0
    assert f"6 charges, the chain holds, head {head}" in done.out
    first, second = done.out.split("\nstudy ")[1:]
    assert first.startswith(STUDY)
    assert "5 charges, lines 1 to 5; 5 answered\n" in first
    assert re.search(r"^ +3 +train +gradients: critic +30 +4\.000 +0\.200 +1\.000$", first, re.MULTILINE)
    assert f"train: epsilon {alone:.3f} at delta 1e-05 per subject; {ever:.3f} with all" in first
    assert f"held-out: epsilon {scores:.3f} at delta 1e-05 per subject; {scores:.3f} with all" in first
    assert second.startswith(LATER)
    assert "1 charge, line 6; 0 answered, 1 cut short (which counts all the same)\n" in second
    assert f"train: epsilon {later:.3f} at delta 1e-05 per subject; {ever:.3f} with all" in second
    assert f"over all studies: epsilon {ever:.3f} at delta 1e-05 per subject\n" in done.out


def test_the_same_is_told_as_json(fedsynth: Command, tmp_path: Path) -> None:
    head = write(tmp_path)

    body = json.loads(fedsynth(tmp_path, "--json", "--delta", "1e-6").out)

    assert (body["head"], body["delta"], len(body["charges"])) == (head, 1e-6, 6)
    assert [(s["study"], s["charges"], s["answered"]) for s in body["studies"]] == [(STUDY, 5, 5), (LATER, 1, 0)]
    assert [(p["charges"], p["purpose"]) for p in body["studies"][0]["purposes"]] == [
        (1, "anchor: counts"),
        (3, "gradients: critic"),
        (1, "scores"),
    ]
    assert body["studies"][1]["spent"][0]["epsilon"] == pytest.approx(epsilon_pld([COUNTS], delta=1e-6))
    assert body["charges"][5]["link"] == head


def test_a_run_without_noise_is_infinite_in_json_too(fedsynth: Command, tmp_path: Path) -> None:
    bare = Mechanism("sum", 0.0, 1.0, 1, math.inf)
    with Ledger(tmp_path) as ledger:
        ledger.charge(bare, nonce="n", study=STUDY, tokens=["anna"], cap=math.inf, delta=1e-5, unit="subject")

    assert json.loads(fedsynth(tmp_path, "--json").out)["studies"][0]["spent"][0]["epsilon_ever"] == "inf"
    assert "epsilon inf at delta" in fedsynth(tmp_path).out


def test_every_charge_is_listed_when_asked_for(fedsynth: Command, tmp_path: Path) -> None:
    write(tmp_path)

    listed = re.findall(r"^ +(\d+)  study (\w{12})  ", fedsynth(tmp_path, "--lines").out, re.MULTILINE)

    assert listed == [(str(n), "a" * 12) for n in range(1, 6)] + [("6", "b" * 12)]


def test_an_empty_ledger_holds(fedsynth: Command, tmp_path: Path) -> None:
    Ledger(tmp_path).close()

    done = fedsynth(tmp_path)

    assert (done.code, done.out) == (0, f"{tmp_path}: 0 charges, the chain holds, head {'0' * 64}\n")


def test_a_ledger_that_was_edited_is_not_shown(fedsynth: Command, tmp_path: Path) -> None:
    write(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("DROP TRIGGER charges_keep")
        db.execute("UPDATE charges SET study = 'x' WHERE number = 2")
    db.close()

    done = fedsynth(tmp_path)

    assert (done.code, done.out) == (3, "")
    said = "line 2 of the ledger was edited or is missing; the site is frozen. fedsynth site settle SITE shows what"
    assert done.err == f"fedsynth: {said} can be decided\n"


def test_a_sites_folder_says_where_ledger_and_head_are(fedsynth: Command, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    policy = 'name = "north"\nledger = "books"\nledger_head = "../elsewhere"\nlargest_epsilon = 8.0\n'
    (tmp_path / "site" / "site.toml").write_text(policy)
    write(tmp_path / "site" / "books", head=tmp_path / "elsewhere")

    assert fedsynth(tmp_path / "site").code == 0
    assert fedsynth(tmp_path / "site" / "books", "--head", tmp_path / "elsewhere").code == 0
    lost = fedsynth(tmp_path / "site" / "books")
    assert (lost.code, "head file is missing" in lost.err) == (3, True)


def test_looking_at_a_ledger_that_is_not_there_makes_none(fedsynth: Command, tmp_path: Path) -> None:
    done = fedsynth(tmp_path / "no ledger")

    assert (done.code, "holds no ledger.sqlite" in done.err) == (2, True)
    assert not (tmp_path / "no ledger").exists()


def test_a_delta_that_is_no_probability_is_refused(fedsynth: Command, tmp_path: Path) -> None:
    write(tmp_path)

    assert fedsynth(tmp_path, "--delta", "2").code == 2


def test_looking_changes_nothing_in_the_ledger(fedsynth: Command, tmp_path: Path) -> None:
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fedsynth(tmp_path)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
