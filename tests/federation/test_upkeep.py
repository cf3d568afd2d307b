"""The drill: back up while it runs, lose the site, restore, be frozen, settle by a signed decision, go on."""

import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.coordinator.asking import ask_sites
from fedsynth.errors import ConsentError, LedgerError, RefusedError, RunError
from fedsynth.federation.keys import made_by
from fedsynth.ledger.ledger import Ledger
from fedsynth.modalities.shape import shape_of
from fedsynth.recordings.recording import Recording
from fedsynth.site.backup import back_up, restore
from fedsynth.site.holdings import Holdings, load_holdings
from fedsynth.site.requests import approve_request, find, take_in, withdraw_run
from fedsynth.site.settlement import decide, look
from fedsynth.study import parse_study
from fedsynth.wire.order import Order

from .conftest import Command, Federation, refusal_of

MakeSite = Callable[..., Holdings]


@pytest.fixture
def running(
    federation: Federation, tiny_text: str, make_site: MakeSite, make_people: Callable[..., list[Recording]]
) -> Path:
    """Return a site that approved a request and answered its first step; its head is kept beside the folder."""
    site = federation.root / "north"
    rules = f'signed_approvals = true\nledger_head = "{federation.root / "elsewhere.head"}"\n'
    make_site(site, make_people(12, seed=1), policy=rules)
    shutil.move(site / "ledger" / "ledger.head", federation.root / "elsewhere.head")
    federation.certify(["coordinator", "north", "east"])
    study = parse_study(tiny_text.replace("rounds = 1", "rounds = 0"))
    request, data = ask_sites(federation.folder("coordinator"), study=study, run="one")
    take_in(site, data)
    approve_request(site, find(site, request.digest))
    assert order(site, 0) == ""
    return site


def order(site: Path, step: int) -> str:
    (path,) = (site / "requests").glob("*.json")
    request = find(site, path.stem).request
    tensors = replace(prior_anchor(shape_of(find(site, path.stem).plan.study)), done=step).tensors()
    return refusal_of(site, Order("one", request.plan_digest, step, tensors))


def spent(site: Path) -> int:
    with Ledger(site / "ledger", head_file=site.parent / "elsewhere.head") as ledger:
        return len(ledger.history(load_holdings(site / "holdings").tokens["train"]))


def steps(site: Path) -> int:
    (path,) = (site / "requests").glob("*.json")
    return sum(step.mechanism.group == "train" for step in find(site, path.stem).plan.steps)


def lose(site: Path, copy: Path) -> None:
    """Lose a site and bring its copy back, with the holdings that were cut again."""
    shutil.move(site / "holdings", site.parent / "holdings")
    shutil.rmtree(site)
    restore(copy, site)
    shutil.move(site.parent / "holdings", site / "holdings")


def test_a_copy_that_misses_nothing_goes_on_at_once(running: Path, tmp_path: Path) -> None:
    back_up(running, tmp_path / "copy")
    lose(running, tmp_path / "copy")

    assert look(running).finding.verdict == "whole"
    assert spent(running) == 1


def test_an_old_copy_is_frozen_until_a_person_decides(running: Path, tmp_path: Path) -> None:
    """The head on another disk names a line that the copy lacks, and proves which it was."""
    with Ledger(running / "ledger", head_file=tmp_path / "elsewhere.head"):
        copied = back_up(running, tmp_path / "copy")
    assert copied.lines == 1
    withdrawn_later = order(running, 1)
    lose(running, tmp_path / "copy")

    assert withdrawn_later == ""
    assert order(running, 1) == "LedgerError"
    assert look(running).finding.verdict == "proven"
    decide(running, person="dr-a")
    assert spent(running) == 2
    assert order(running, 1) == "BudgetError"


def test_a_line_without_an_answer_in_the_copy_is_not_answered_a_second_time(
    running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is of the moment between charge and answer, and the answer left after it."""
    keep = Ledger.keep_reply

    def copy_first(ledger: Ledger, nonce: str, reply: bytes) -> bytes:
        back_up(running, tmp_path / "copy")
        return keep(ledger, nonce, reply)

    monkeypatch.setattr(Ledger, "keep_reply", copy_first)
    assert order(running, 1) == ""
    monkeypatch.undo()
    lose(running, tmp_path / "copy")

    assert look(running).finding.verdict == "whole"
    assert order(running, 1) == "BudgetError"


def test_without_any_head_every_step_of_the_plan_is_counted(running: Path, tmp_path: Path) -> None:
    back_up(running, tmp_path / "copy")
    lose(running, tmp_path / "copy")
    (tmp_path / "elsewhere.head").unlink()

    assert order(running, 1) == "LedgerError"
    done = decide(running, person="dr-a", nothing_else_was_approved=True)

    assert not done.everybody
    assert spent(running) == steps(running) > 1


def test_a_withdrawn_plan_is_counted_too(running: Path, tmp_path: Path) -> None:
    withdraw_run(running, run="one")
    back_up(running, tmp_path / "copy")
    lose(running, tmp_path / "copy")
    (tmp_path / "elsewhere.head").unlink()

    decide(running, person="dr-a", nothing_else_was_approved=True)

    assert spent(running) == steps(running)


def test_people_are_those_of_the_approval_whoever_is_held_now(
    running: Path, tmp_path: Path, make_site: MakeSite, make_people: Callable[..., list[Recording]]
) -> None:
    """Who left since the approval is charged all the same."""
    then = load_holdings(running / "holdings").tokens["train"]
    back_up(running, tmp_path / "copy")
    lose(running, tmp_path / "copy")
    (tmp_path / "elsewhere.head").unlink()
    make_site(tmp_path / "other", make_people(12, seed=9))
    shutil.rmtree(running / "holdings")
    shutil.copytree(tmp_path / "other" / "holdings", running / "holdings")

    decide(running, person="dr-a", nothing_else_was_approved=True)

    with Ledger(running / "ledger", head_file=tmp_path / "elsewhere.head") as ledger:
        assert len(ledger.history(then)) == steps(running)


def test_the_decision_is_kept_under_a_signature(running: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.head").unlink()
    decide(running, person="dr-a")

    (path,) = (running / "ledger" / "settlements").glob("*.json")
    record = json.loads(path.read_text())
    signature = bytes.fromhex(record.pop("signature"))
    said = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    own = Ed25519PrivateKey.from_private_bytes((running / "identity.key").read_bytes()).public_key()

    assert (record["decided_by"], record["nothing_else_was_approved"]) == ("dr-a", False)
    assert made_by(own.public_bytes_raw(), signature, b"fedsynth settlement v1\n" + said)


def test_only_those_whom_the_policy_names_decide(running: Path, tmp_path: Path) -> None:
    alice = Ed25519PrivateKey.generate()
    rules = running / "site.toml"
    public = alice.public_key().public_bytes_raw().hex()
    rules.write_text(f'{rules.read_text()}\n[approvers]\nalice = "{public}"\n')
    (tmp_path / "elsewhere.head").unlink()

    for person, key in (("dr-a", None), ("alice", None), ("alice", Ed25519PrivateKey.generate())):
        with pytest.raises(ConsentError, match="alice decide"):
            decide(running, person=person, key=key)
    with pytest.raises(LedgerError):
        Ledger(running / "ledger", head_file=tmp_path / "elsewhere.head")
    assert decide(running, person="alice", key=alice).everybody


def test_a_copy_is_the_owners_alone_and_complete(running: Path, tmp_path: Path) -> None:
    (running / "secure").mkdir()
    (running / "secure" / "run.state").write_text("secrets of a run in course")
    back_up(running, tmp_path / "copy")
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]

    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {"site.toml", "identity.key", "ledger.sqlite", "ledger.key"} <= {path.name for path in files}
    assert {"run.state", "ledger.head", "train.windows"} & {path.name for path in files} == set()


def test_a_damaged_copy_is_not_restored(running: Path, tmp_path: Path) -> None:
    back_up(running, tmp_path / "copy")
    with (tmp_path / "copy" / "ledger" / "ledger.sqlite").open("ab") as file:
        file.write(b"x")

    with pytest.raises(RunError, match="not what was written"):
        restore(tmp_path / "copy", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_run_that_is_frozen_is_named_in_the_ledger(running: Path, tmp_path: Path, fedsynth: Command) -> None:
    """Ledger and head were set back together, to before the approval; only its mark tells."""
    assert "Frozen" not in fedsynth("site", "ledger", running).out
    shutil.rmtree(running / "ledger")
    (tmp_path / "elsewhere.head").unlink()
    Ledger(running / "ledger", head_file=tmp_path / "elsewhere.head").close()

    done = fedsynth("site", "ledger", running)

    assert (done.code, "Frozen: run one" in done.out) == (0, True)
    assert order(running, 1) == "LedgerError"


def test_nothing_is_written_over(running: Path, tmp_path: Path) -> None:
    back_up(running, tmp_path / "copy")

    with pytest.raises(RefusedError):
        back_up(running, tmp_path / "copy")
    with pytest.raises(RefusedError):
        restore(tmp_path / "copy", running)


def test_the_drill_by_command(running: Path, tmp_path: Path, fedsynth: Command) -> None:
    copy, again = tmp_path / "copy", tmp_path / "again"
    assert fedsynth("site", "settle", running).out.startswith("The ledger is whole: 1 lines")
    assert fedsynth("site", "backup", running, copy).code == 0
    assert order(running, 1) == ""
    assert fedsynth("site", "restore", copy, again).code == 0

    frozen = fedsynth("site", "ledger", again)
    assert (frozen.code, "fedsynth site settle" in frozen.err) == (3, True)
    shown = json.loads(fedsynth("site", "settle", again, "--json").out)
    assert (shown["verdict"], shown["lines"], shown["would_be_counted"]) == ("proven", 1, 1)
    assert fedsynth("site", "settle", again, "--decide").code == 2
    done = fedsynth("site", "settle", again, "--decide", "--as", "dr-a")
    assert (done.code, "Settled by dr-a: 1 lines" in done.out) == (0, True)
    assert "2 charges" in fedsynth("site", "ledger", again).out
