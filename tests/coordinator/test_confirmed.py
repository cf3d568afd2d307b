"""Where no ledger is at hand, a statement stands on what the sites signed, and on nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.coordinator.confirmed import check_words
from fedsynth.coordinator.run_folder import RunFacts, RunFolder, coordinate
from fedsynth.coordinator.transport import InProcess
from fedsynth.errors import LedgerError, RunError
from fedsynth.plan import plan_of
from fedsynth.site.approval import approve
from fedsynth.site.session import SiteSession
from fedsynth.study import Study
from fedsynth.wire.last_word import SignedWord

SITES = ("east", "north", "west")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a finished run of three sites stands, once one is made, with the sites' folders beside it."""
    return tmp_path_factory.mktemp("done")


@pytest.fixture
def run(
    done: Path,
    tmp_path: Path,
    tiny: Study,
    tiny_text: str,
    make_site: Callable[..., Any],
    make_people: Callable[..., Any],
    pinned: Callable[..., dict[str, bytes]],
) -> RunFolder:
    """Return a copy of that run, which may be changed."""
    folder, plan = done / "run", plan_of(tiny)
    if not folder.exists():
        for seed, name in enumerate(SITES):
            make_site(done / name, make_people(14, seed=seed))
            approve(done / name, run="run", plan=plan)
        folder.mkdir()
        roster = {site: key.hex() for site, key in pinned(done).items()}
        facts = RunFacts("run", "federation", "recordings", SITES, "every line", roster)
        RunFolder(folder).begin(facts=facts, plan=plan, study_text=tiny_text)
        coordinate(folder, transport=InProcess({name: SiteSession(done / name).handle for name in SITES}))
    shutil.copytree(folder, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def change(folder: Path, name: str, changes: dict[str, Any]) -> None:
    """Change the word of a site as whoever holds the run's folder could."""
    place = folder / "words.json"
    body = json.loads(place.read_text())
    body[name]["word"] |= changes
    place.write_text(json.dumps(body))


def test_the_words_of_a_run_confirm_its_statement(run: RunFolder) -> None:
    check_words(run, run.statement())

    assert set(run.words()) == set(SITES)


@pytest.mark.parametrize(
    "changes",
    [{"ledger_head": "0" * 64}, {"ledger_length": 9}, {"charged": 1}, {"train": []}, {"run": "other"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_word_that_was_changed_is_not_the_site_s(run: RunFolder, changes: dict[str, Any]) -> None:
    change(run.path, "north", changes)

    with pytest.raises(LedgerError, match="north is not signed by its pinned key"):
        check_words(run, run.statement())


def signed_anew(run: RunFolder, name: str, key: Ed25519PrivateKey, changes: dict[str, Any]) -> None:
    """Change the word of a site and sign it with the key that the run pins."""
    change(run.path, name, changes)
    place, facts = run.path / "words.json", run.path / "run.json"
    body, known = json.loads(place.read_text()), json.loads(facts.read_text())
    word = SignedWord.from_json(body[name]).word
    body[name]["signature"] = word.sign(key.private_bytes_raw()).hex()
    known["roster"][name] = key.public_key().public_bytes_raw().hex()
    place.write_text(json.dumps(body))
    facts.write_text(json.dumps(known))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ledger_head": "0" * 64}, "ends at another line"),
        ({"ledger_length": 9}, "ends at another line"),
        ({"train": []}, "signed other events"),
        ({"held_out": []}, "signed other events"),
        ({"plan": "another"}, "about another run, plan or site"),
        ({"site": "east"}, "about another run, plan or site"),
    ],
)
def test_a_statement_that_says_another_thing_than_the_site_signed_is_refused(
    run: RunFolder, changes: dict[str, Any], said: str
) -> None:
    signed_anew(run, "west", Ed25519PrivateKey.generate(), changes)

    with pytest.raises(LedgerError, match=said):
        check_words(run, run.statement())


def test_a_site_that_was_charged_is_stated_or_nothing_is_released(run: RunFolder) -> None:
    place = run.path / "statement.json"
    body = json.loads(place.read_text())
    body["sites"] = [site for site in body["sites"] if site["site"] != "east"]
    place.write_text(json.dumps(body))

    with pytest.raises(LedgerError, match="east was charged and the statement leaves it out"):
        check_words(run, run.statement())


def test_a_site_that_signed_nothing_is_not_stated(run: RunFolder) -> None:
    place = run.path / "words.json"
    body = json.loads(place.read_text())
    del body["east"]
    place.write_text(json.dumps(body))

    with pytest.raises(LedgerError, match="east is stated and has signed nothing"):
        check_words(run, run.statement())


def test_a_run_without_words_confirms_nothing(run: RunFolder) -> None:
    (run.path / "words.json").unlink()

    with pytest.raises(RunError, match="last words"):
        check_words(run, run.statement())
