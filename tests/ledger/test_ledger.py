"""The ledger: charged once, never refunded, noticed when touched."""

import json
import math
import shutil
import sqlite3
from pathlib import Path

import pytest

from fedsynth.errors import BudgetError, LedgerError
from fedsynth.ledger.ledger import Ledger, Ticket, token
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.mechanism import Mechanism

SUM = Mechanism("sum", 2.0, 1.0, 1, 1.0)
ANNA, BERT, CARL = "token-a", "token-b", "token-c"


def charge(ledger: Ledger, nonce: str, *, tokens: tuple[str, ...] = (ANNA, BERT), cap: float = 100.0) -> Ticket:
    return ledger.charge(SUM, nonce=nonce, study="s", tokens=tokens, cap=cap, delta=1e-5, unit="subject")


def test_a_charge_outlives_the_process(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ticket = charge(ledger, "one")
        head = ledger.head

    with Ledger(tmp_path) as again:
        assert again.head == head
        assert [line.mechanism for line in again.charges()] == [ticket.mechanism]


def test_the_same_nonce_is_never_charged_twice(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        charge(ledger, "one")
        assert len(ledger) == 1
        assert ledger.history([ANNA]) == (SUM,)


def test_what_would_exceed_the_cap_is_refused_and_not_charged(tmp_path: Path) -> None:
    cap = epsilon_pld([SUM], delta=1e-5) * 1.01
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one", cap=cap)
        with pytest.raises(BudgetError, match="is already spent on the same people"):
            charge(ledger, "two", cap=cap)
        assert len(ledger) == 1


def test_people_who_share_nobody_do_not_pay_for_one_another(tmp_path: Path) -> None:
    cap = epsilon_pld([SUM], delta=1e-5) * 1.01
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one", tokens=(ANNA, BERT), cap=cap)
        charge(ledger, "two", tokens=(CARL,), cap=cap)
        assert ledger.history([CARL]) == (SUM,)


def test_one_person_in_common_is_enough_to_compose(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one", tokens=(ANNA, BERT))
        charge(ledger, "two", tokens=(BERT, CARL))
        assert ledger.history([BERT]) == (SUM, SUM)
        assert ledger.history([ANNA]) == (SUM,)


def test_a_run_without_noise_bars_the_same_people_for_good(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        bare = Mechanism("sum", 0.0, 1.0, 1, math.inf)
        ledger.charge(bare, nonce="one", study="s", tokens=[ANNA], cap=math.inf, delta=1e-5, unit="subject")
        with pytest.raises(BudgetError):
            charge(ledger, "two", tokens=(ANNA,), cap=1000)


def test_a_token_needs_the_site_key() -> None:
    assert token(b"k" * 32, "recording", "digest") != token(b"l" * 32, "recording", "digest")
    assert token(b"k" * 32, "recording", "same") != token(b"k" * 32, "subject", "same")


def test_a_reply_is_kept_and_cannot_be_replaced(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        assert ledger.reply("one") is None
        assert ledger.keep_reply("one", b"bytes") == b"bytes"
        assert ledger.reply("one") == b"bytes"
        assert ledger.keep_reply("one", b"other") == b"bytes"
        assert ledger.reply("one") == b"bytes"


def test_an_answer_to_what_was_never_charged_is_not_kept(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        with pytest.raises(LedgerError, match="never charged"):
            ledger.keep_reply("one", b"bytes")
        assert ledger.reply("one") is None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("reply || x'00'", id="longer"),
        pytest.param("substr(reply, 1, 20)", id="shorter than its seal"),
        pytest.param(
            "CASE substr(reply, 1, 1) WHEN x'00' THEN x'01' ELSE x'00' END || substr(reply, 2)",
            id="another first byte",
        ),
        pytest.param("'text'", id="no bytes at all"),
    ],
)
def test_a_damaged_answer_is_not_sent(tmp_path: Path, damage: str) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        ledger.keep_reply("one", b"bytes")
    edit(tmp_path, "DROP TRIGGER replies_keep", f"UPDATE replies SET reply = {damage}")

    with Ledger(tmp_path) as ledger, pytest.raises(LedgerError, match="was damaged"):
        ledger.reply("one")


def test_the_answer_to_one_order_cannot_stand_for_another(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        charge(ledger, "two")
        ledger.keep_reply("one", b"bytes")
    edit(tmp_path, "INSERT INTO replies SELECT 'two', reply FROM replies")

    with Ledger(tmp_path) as ledger, pytest.raises(LedgerError, match="was damaged"):
        ledger.reply("two")


def test_the_nonces_that_were_answered_are_told_apart(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        charge(ledger, "two")
        ledger.keep_reply("two", b"bytes")
        assert ledger.answered() == {"two"}


def test_the_studies_of_a_person_are_those_of_every_set_that_the_person_was_in(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for nonce, study, people in (("1", "s", [ANNA, BERT]), ("2", "t", [BERT, CARL]), ("3", "s", [BERT])):
            ledger.charge(SUM, nonce=nonce, study=study, tokens=people, cap=100, delta=1e-5, unit="subject")

        assert ledger.studies([ANNA]) == {"s"}
        assert ledger.studies([ANNA, CARL]) == {"s", "t"}
        assert ledger.studies(["somebody else"]) == ledger.studies([]) == frozenset()


def test_charges_to_people_in_common_are_found_together(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for nonce, people in (("1", (ANNA, BERT)), ("2", (BERT, CARL)), ("3", (CARL,))):
            charge(ledger, nonce, tokens=people)

        found = [[one.nonce for one in ledger.charges_touching(line)] for line in ledger.charges()]
        assert found == [["1", "2"], ["1", "2", "3"], ["2", "3"]]


def test_what_is_asked_of_nobody_is_found_again_under_nobody(tmp_path: Path) -> None:
    cap = epsilon_pld([SUM], delta=1e-5) * 1.01
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one", tokens=(), cap=cap)
        assert ledger.history([]) == (SUM,)
        assert ledger.history([ANNA]) == ()
        with pytest.raises(BudgetError):
            charge(ledger, "two", tokens=(), cap=cap)


@pytest.mark.parametrize("cap", [math.nan, -math.inf, 0.0])
def test_a_cap_that_is_no_number_allows_nothing(tmp_path: Path, cap: float) -> None:
    with Ledger(tmp_path) as ledger:
        with pytest.raises(BudgetError):
            charge(ledger, "one", cap=cap)
        assert len(ledger) == 0


def test_a_second_connection_sees_what_the_first_one_charged(tmp_path: Path) -> None:
    with Ledger(tmp_path) as first, Ledger(tmp_path) as second:
        charge(first, "one")
        assert (len(second), second.head) == (1, first.head)
        assert charge(second, "one").number == 1
        assert charge(second, "two").number == 2
        assert first.history([ANNA]) == (SUM, SUM)


def edit(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        for statement in statements:
            db.execute(statement)


def test_lines_cannot_be_changed_or_deleted_through_sql(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")

    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        edit(tmp_path, "DELETE FROM charges")
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        edit(tmp_path, "UPDATE charges SET study = 'x'")


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(
            ["DROP TRIGGER charges_keep", "UPDATE charges SET mechanism = replace(mechanism, '2.0', '9.0')"],
            id="less noise claimed",
        ),
        pytest.param(
            ["DROP TRIGGER charges_keep", "UPDATE charges SET study = 'x' WHERE number = 1"], id="another study"
        ),
        pytest.param(
            ["DROP TRIGGER charges_stay", "DELETE FROM charges WHERE number = 1"], id="first line deleted"
        ),
        pytest.param(["DROP TRIGGER charges_stay", "DELETE FROM charges WHERE number = 2"], id="last line deleted"),
        pytest.param(
            ["DROP TRIGGER people_stay", "DELETE FROM people WHERE token = 'token-a'"], id="a person removed"
        ),
        pytest.param(["INSERT INTO people SELECT people, 'token-z' FROM people LIMIT 1"], id="a person added"),
        pytest.param(
            ["INSERT INTO charges SELECT 0, 'n', study, people, mechanism, link FROM charges LIMIT 1"], id="0"
        ),
        pytest.param(
            ["INSERT INTO charges SELECT 3, 'n', study, people, mechanism, link FROM charges LIMIT 1"], id="3"
        ),
        pytest.param(["DROP TRIGGER charges_keep", "UPDATE charges SET study = x'00'"], id="no text"),
        pytest.param(["DROP TRIGGER charges_keep", "UPDATE charges SET link = 7"], id="no link"),
        pytest.param(["DROP TRIGGER people_keep", "UPDATE people SET token = x'00' || token"], id="no token"),
    ],
)
def test_an_edit_freezes_the_site(tmp_path: Path, statements: list[str]) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        charge(ledger, "two")
    edit(tmp_path, *statements)

    with pytest.raises(LedgerError, match="frozen"):
        Ledger(tmp_path)


def test_a_restored_backup_freezes_the_site(tmp_path: Path) -> None:
    folder, head = tmp_path / "ledger", tmp_path / "elsewhere" / "head"
    head.parent.mkdir()
    with Ledger(folder, head_file=head) as ledger:
        charge(ledger, "one")
    shutil.copytree(folder, tmp_path / "backup")
    with Ledger(folder, head_file=head) as ledger:
        charge(ledger, "two")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)

    with pytest.raises(LedgerError, match="an old copy was restored"):
        Ledger(folder, head_file=head)


def test_restoring_the_whole_folder_is_noticed_where_the_head_is_elsewhere(tmp_path: Path) -> None:
    folder, head = tmp_path / "ledger", tmp_path / "head"
    with Ledger(folder, head_file=head) as ledger:
        charge(ledger, "one")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with Ledger(folder, head_file=head) as ledger:
        charge(ledger, "two")
    shutil.rmtree(folder)
    folder.mkdir()
    for name, data in before.items():
        (folder / name).write_bytes(data)

    for _ in range(2):
        with pytest.raises(LedgerError, match="has 1 lines, but its head names line 2: an old copy was restored"):
            Ledger(folder, head_file=head)
    assert json.loads(head.read_text())["number"] == 2


def test_a_ledger_that_is_gone_is_not_begun_anew_where_the_head_is_elsewhere(tmp_path: Path) -> None:
    folder, head = tmp_path / "ledger", tmp_path / "head"
    with Ledger(folder, head_file=head) as ledger:
        charge(ledger, "one")
    shutil.rmtree(folder)

    with pytest.raises(LedgerError, match="the ledger is gone, but its head names line 1; the site is frozen"):
        Ledger(folder, head_file=head)
    assert {path.name for path in folder.iterdir()} <= {"ledger.lock"}


def test_a_backup_that_is_restored_over_an_open_ledger_stops_the_next_charge(tmp_path: Path) -> None:
    folder, head = tmp_path / "ledger", tmp_path / "head"
    with Ledger(folder, head_file=head) as ledger:
        charge(ledger, "one")
    shutil.copy(folder / "ledger.sqlite", tmp_path / "backup")
    with Ledger(folder, head_file=head) as ledger:
        charge(ledger, "two")
        (tmp_path / "backup").rename(folder / "ledger.sqlite")
        with pytest.raises(LedgerError, match="replaced while it was open"):
            charge(ledger, "three")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda f: (f / "ledger.key").unlink(), "key is missing", id="key gone"),
        pytest.param(lambda f: (f / "ledger.key").write_bytes(b"x"), "key is damaged", id="key cut"),
        pytest.param(lambda f: (f / "ledger.key").write_bytes(b"x" * 32), "edited or is missing", id="another key"),
        pytest.param(lambda f: (f / "ledger.head").unlink(), "head file is missing", id="head gone"),
        pytest.param(lambda f: (f / "ledger.head").write_text("?"), "head file is damaged", id="head damaged"),
        pytest.param(
            lambda f: (f / "ledger.sqlite").write_bytes(b"no database" * 99), "cannot be read", id="no database"
        ),
        pytest.param(lambda f: (f / "ledger.sqlite").unlink(), "frozen", id="database gone"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
    for rest in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (tmp_path / rest).unlink(missing_ok=True)
    damage(tmp_path)

    with pytest.raises(LedgerError, match=said):
        Ledger(tmp_path)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        pytest.param({"number": 2, "link": "a" * 64}, "an old copy was restored", id="of a longer ledger"),
        pytest.param({"number": 1, "link": "a" * 64}, "a line replaced", id="of another line"),
        pytest.param({"number": -1, "link": "a" * 64}, "frozen", id="of no line"),
        pytest.param(None, "head file is missing", id="gone"),
    ],
)
def test_a_head_that_ceases_to_fit_stops_the_next_charge(tmp_path: Path, head: object, said: str) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        (tmp_path / "ledger.head").unlink()
        if head:
            (tmp_path / "ledger.head").write_text(json.dumps(head))
        with pytest.raises(LedgerError, match=said):
            charge(ledger, "two")
        assert len(ledger) == 1


def test_a_kill_between_the_first_charge_and_its_head_does_not_freeze(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        empty = (tmp_path / "ledger.head").read_text()
        charge(ledger, "one")
    (tmp_path / "ledger.head").write_text(empty)

    with Ledger(tmp_path) as again:
        assert len(again) == 1
        charge(again, "two")
    assert json.loads((tmp_path / "ledger.head").read_text())["number"] == 2


def test_a_crash_between_the_charge_and_its_head_over_counts(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        kept = (tmp_path / "ledger.head").read_text()
        charge(ledger, "two")
    (tmp_path / "ledger.head").write_text(kept)

    with Ledger(tmp_path) as again:
        assert len(again) == 2


def test_the_head_names_the_last_line(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        charge(ledger, "one")
        assert json.loads((tmp_path / "ledger.head").read_text()) == {"number": 1, "link": ledger.head}
