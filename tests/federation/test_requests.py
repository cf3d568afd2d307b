"""Requests at a site: believed by signature, shown as a difference, approved by everybody whom the policy names."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.coordinator.asking import ask_sites
from fedsynth.errors import ConsentError, FederationError, FederationFileError, RefusedError
from fedsynth.federation.files import LARGEST
from fedsynth.federation.kit import accept_kit
from fedsynth.federation.proposal import StudyRequest
from fedsynth.modalities.shape import shape_of
from fedsynth.node.channel import connect
from fedsynth.node.supervise import Places, command_of
from fedsynth.recordings.recording import Recording
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.requests import approve_request, find, take_in, waiting, withdraw_run
from fedsynth.site.standing import approved_runs
from fedsynth.site.wording import word
from fedsynth.study import Study, parse_study
from fedsynth.wire.order import STATEMENT_STEP, Order

from .conftest import Command, Federation, refusal_of

ALICE, BOB = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
MakeSite = Callable[..., Holdings]
Rule = Callable[[str], None]


@pytest.fixture(scope="module")
def text(tiny_text: str) -> str:
    """Return a study without gradient rounds, quick to plan."""
    return tiny_text.replace("rounds = 1", "rounds = 0")


@pytest.fixture
def site(federation: Federation, make_site: MakeSite, make_people: Callable[..., list[Recording]]) -> Path:
    """Return a site of a federation, with people."""
    folder = federation.root / "north"
    make_site(folder, make_people(12, seed=1), policy="signed_approvals = true\n")
    federation.certify(["coordinator", "north", "east"])
    return folder


@pytest.fixture
def rule(site: Path) -> Rule:
    """Add lines to the site's rules."""

    def add(lines: str) -> None:
        path = site / "site.toml"
        path.write_text(f"{path.read_text()}\n{lines}\n", encoding="utf-8")

    return add


def approvers(**keys: Ed25519PrivateKey) -> str:
    lines = [f'{name} = "{key.public_key().public_bytes_raw().hex()}"' for name, key in keys.items()]
    return "\n".join(["[approvers]", *lines])


def asked(federation: Federation, study: str | Study, *, run: str = "one") -> tuple[StudyRequest, bytes]:
    made = parse_study(study) if isinstance(study, str) else study
    return ask_sites(federation.folder("coordinator"), study=made, run=run)


def receive(federation: Federation, site: Path, text: str, *, run: str = "one") -> StudyRequest:
    request, data = asked(federation, text, run=run)
    take_in(site, data)
    return request


def order(site: Path, request: StudyRequest, *, step: int = 0) -> str:
    """Ask for a step and return how it was refused, empty where it was answered."""
    tensors = prior_anchor(shape_of(find(site, request.digest).plan.study)).tensors() if step == 0 else {}
    return refusal_of(site, Order(request.run, request.plan_digest, step, tensors))


def test_an_approved_request_is_answered(federation: Federation, site: Path, text: str) -> None:
    request = receive(federation, site, text)

    assert order(site, request) == "ConsentError"
    assert approve_request(site, find(site, request.digest)) == ()
    assert order(site, request) == ""


def test_a_request_that_the_coordinator_did_not_sign_is_not_shown(
    federation: Federation, site: Path, text: str
) -> None:
    request, _ = asked(federation, text)
    forged = request.signed(Ed25519PrivateKey.generate())
    (site / "requests").mkdir()
    (site / "requests" / f"{request.digest[:32]}.json").write_bytes(forged)

    with pytest.raises(FederationError, match="not signed by the coordinator"):
        take_in(site, forged)
    found, hidden = waiting(site)
    assert (found, len(hidden), "not signed by the coordinator" in hidden[0]) == ([], 1, True)
    with pytest.raises(FederationError, match="not signed by the coordinator"):
        find(site, request.digest)


@pytest.mark.parametrize("field", ["run", "plan", "note", "asked", "identities"])
def test_a_request_that_was_changed_on_its_way_is_refused(
    federation: Federation, site: Path, text: str, field: str
) -> None:
    body = json.loads(asked(federation, text)[1])
    if field == "identities":
        body[field]["east"] = "00" * 32
    else:
        body[field] = body[field].replace('"cwgan"', '"wavegan"') + ("" if field == "plan" else "x")

    with pytest.raises(FederationError, match="not signed by the coordinator"):
        take_in(site, json.dumps(body).encode())


def test_what_is_too_large_for_a_request_is_not_read(site: Path) -> None:
    with pytest.raises(FederationFileError, match="larger than"):
        take_in(site, b"{" + bytes(LARGEST))


def test_requests_that_nobody_reads_do_not_fill_the_disk(
    federation: Federation, site: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsynth.site.requests._MOST_REQUESTS", 1)
    _, data = asked(federation, text)
    take_in(site, data)

    with pytest.raises(RefusedError, match="requests are here already"):
        receive(federation, site, text, run="two")
    take_in(site, data)  # the one that is here may come again
    assert len(waiting(site)[0]) == 1


def test_a_request_that_comes_over_the_network_waits_for_people_like_a_file(
    federation: Federation, site: Path, text: str, tmp_path: Path
) -> None:
    request, data = asked(federation, text)
    places = Places(run=tmp_path, logs=tmp_path, gate=tmp_path / "g.sock", train=tmp_path / "t.sock")
    command = command_of("gate", site=site, kit=site, places=places, users=[os.geteuid()] * 3)
    log = tmp_path / "gate.jsonl"
    gate = subprocess.Popen([*command, "--log", str(log)], stdin=subprocess.DEVNULL)

    def offered(what: bytes) -> object:
        with connect(places.gate, uid=os.geteuid()) as channel:
            channel.send({"ask": "request"}, what)
            return channel.receive(seconds=60).header

    try:
        ends = time.monotonic() + 60
        while not places.gate.exists():
            assert time.monotonic() < ends
            time.sleep(0.05)
        forged = request.signed(Ed25519PrivateKey.generate())
        assert [offered(what) for what in (forged, b"{", bytes(LARGEST + 1), data)] == [
            {"kept": False},
            {"kept": False},
            {"kept": False},
            {"kept": True},
        ]
    finally:
        gate.terminate()
        gate.wait(10)

    assert [path.read_bytes() for path in (site / "requests").iterdir()] == [data]
    assert [one.request.digest for one in waiting(site)[0]] == [request.digest]
    assert approved_runs(site) == ()
    assert order(site, request) == "ConsentError"
    assert "not signed by the coordinator" in log.read_text(encoding="utf-8")


def test_a_revoked_coordinator_cannot_ask(federation: Federation, site: Path, text: str) -> None:
    _, data = asked(federation, text)
    register = federation.work.revoke("coordinator", reason="it asked for too much")
    federation.work.hand_out(register, out=federation.root / "later", kits_for=[])
    accept_kit(federation.root / "later" / "notice", site / "federation", words=None)

    with pytest.raises(FederationError, match="names no coordinator"):
        take_in(site, data)


def test_a_coordinator_that_is_revoked_in_mid_study_is_answered_no_more(
    federation: Federation, site: Path, text: str
) -> None:
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest))
    assert order(site, request) == ""
    digest = request.plan_digest
    register = federation.work.revoke("coordinator", reason="stolen")
    federation.work.hand_out(register, out=federation.root / "later", kits_for=[])
    accept_kit(federation.root / "later" / "notice", site / "federation", words=None)

    for step in (0, 1, STATEMENT_STEP):
        assert refusal_of(site, Order(request.run, digest, step, {})) == "FederationError"


def test_an_approval_outlives_no_certificate_of_the_coordinator(
    federation: Federation, site: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest))

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=101)

    monkeypatch.setattr("fedsynth.federation.standing.datetime", Later)

    assert refusal_of(site, Order(request.run, request.plan_digest, 0, {})) == "FederationError"


def test_a_key_that_the_roster_does_not_have_is_refused(federation: Federation, site: Path, text: str) -> None:
    """A coordinator that brings keys of its own would sit in the sum in somebody's place."""
    request, _ = asked(federation, text)
    theirs = StudyRequest(**{**request.__dict__, "identities": {**request.identities, "east": bytes(32)}})
    signing = Ed25519PrivateKey.from_private_bytes((federation.folder("coordinator") / "signing.key").read_bytes())
    take_in(site, theirs.signed(signing))

    with pytest.raises(FederationError, match="gives east a key that the roster does not"):
        approve_request(site, find(site, theirs.digest))
    assert not (site / "approved").exists()


@pytest.mark.parametrize(
    ("old", "new", "field", "values"),
    [
        pytest.param("epsilon = 8.0", "epsilon = 4.0", "study.privacy.epsilon", ("8.0", "4.0"), id="epsilon"),
        pytest.param('"cwgan"', '"dense-gan"', "study.family.name", ('"cwgan"', '"dense-gan"'), id="family"),
        pytest.param(
            "[cohort]",
            '[cohort]\nsites = ["north", "east"]',
            "study.cohort.sites",
            ("[]", '["north", "east"]'),
            id="sites",
        ),
    ],
)
def test_a_request_is_shown_as_a_difference_from_the_last_approved(
    federation: Federation, site: Path, text: str, old: str, new: str, field: str, values: tuple[str, str]
) -> None:
    first = receive(federation, site, text)
    assert word(site, find(site, first.digest)).last == ""
    approve_request(site, find(site, first.digest))
    assert old in text
    second = receive(federation, site, text.replace(old, new), run="two")

    shown = word(site, find(site, second.digest))

    assert shown.last == "one"
    assert (field, *values) in shown.changes


def test_the_same_study_again_shows_no_difference(federation: Federation, site: Path, text: str) -> None:
    first = receive(federation, site, text)
    approve_request(site, find(site, first.digest))
    again = receive(federation, site, text, run="two")

    assert word(site, find(site, again.digest)).changes == ()


def test_what_is_said_in_words_is_what_the_plan_does(federation: Federation, site: Path, text: str) -> None:
    request = receive(federation, site, text)
    pending = find(site, request.digest)
    said = dict(word(site, pending).lines)
    spent = float(re.match(r"[\d.]+", said["epsilon in all"])[0])  # type: ignore[index]

    assert said["for which people"].startswith("the 12 people")
    assert said["how often they are asked"].startswith(f"{len(pending.plan.steps)} charges")
    assert spent == pytest.approx(pending.plan.epsilon(), abs=0.002)
    assert "the code that is installed here" in said["which code"]

    approve_request(site, pending)
    for step in range(len(pending.plan.steps)):
        order(site, request, step=step)
    later = receive(federation, site, text, run="two")
    both = float(re.match(r"[\d.]+", dict(word(site, find(site, later.digest)).lines)["epsilon in all"])[0])  # type: ignore[index]
    assert both > 1.2 * spent


def test_what_would_be_refused_is_said_before_anybody_approves(
    federation: Federation, site: Path, text: str
) -> None:
    request = receive(federation, site, text.replace('"cwgan"', '"dense-gan"'))

    assert any("family dense-gan" in said for said in word(site, find(site, request.digest)).objections)


def test_one_of_two_people_is_not_enough(federation: Federation, site: Path, text: str, rule: Rule) -> None:
    rule(approvers(alice=ALICE, bob=BOB))
    request = receive(federation, site, text)

    assert approve_request(site, find(site, request.digest), person="alice", key=ALICE) == ("bob",)
    assert order(site, request) == "ConsentError"
    assert approve_request(site, find(site, request.digest), person="bob", key=BOB) == ()
    assert order(site, request) == ""


@pytest.mark.parametrize(
    ("person", "key", "said"),
    [
        ("alice", BOB, "not the key of alice"),
        ("carol", ALICE, "alice and bob approve"),
        (None, None, "alice and bob approve"),
        ("alice", None, "alice and bob approve"),
    ],
)
def test_nobody_approves_for_somebody_else(
    federation: Federation,
    site: Path,
    text: str,
    rule: Rule,
    person: str | None,
    key: Ed25519PrivateKey | None,
    said: str,
) -> None:
    rule(approvers(alice=ALICE, bob=BOB))
    request = receive(federation, site, text)

    with pytest.raises(ConsentError, match=said):
        approve_request(site, find(site, request.digest), person=person, key=key)


def test_an_approval_that_nobody_signed_is_not_answered(federation: Federation, site: Path, text: str) -> None:
    """Whoever can write the file and cannot sign has approved nothing."""
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest))
    (path,) = (site / "approved").glob("*.json")
    body = json.loads(path.read_text())

    path.write_text(json.dumps({name: value for name, value in body.items() if name != "consent"}))
    assert order(site, request) == "ConsentError"
    path.write_text(json.dumps(body | {"consent": body["consent"] | {"signature": "00" * 64}}))
    assert order(site, request) == "ConsentError"
    path.write_text(json.dumps(body | {"mark": "0" * 32}))
    assert order(site, request) == "ConsentError"
    path.write_text(json.dumps(body))
    assert order(site, request) == ""


def test_a_site_that_signs_approves_nothing_without(federation: Federation, site: Path, text: str) -> None:
    request = receive(federation, site, text)

    with pytest.raises(ConsentError, match="under signatures alone"):
        approve(site, run="one", plan=find(site, request.digest).plan)


def test_a_person_whom_the_policy_names_later_has_not_approved(
    federation: Federation, site: Path, text: str, rule: Rule
) -> None:
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest))
    rule(approvers(alice=ALICE))

    assert order(site, request) == "ConsentError"


def test_a_withdrawn_approval_is_not_answered_even_if_its_file_comes_back(
    federation: Federation, site: Path, text: str, tmp_path: Path
) -> None:
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest))
    assert order(site, request) == ""
    (path,) = (site / "approved").glob("*.json")
    shutil.copy(path, tmp_path / "backup")

    assert withdraw_run(site, run="one")
    assert order(site, request, step=1) == "ConsentError"
    assert order(site, request, step=STATEMENT_STEP) == "ConsentError"
    shutil.copy(tmp_path / "backup", path)
    assert order(site, request) == "ConsentError"


def test_what_stands_approved_is_not_replaced_by_the_way(federation: Federation, site: Path, text: str) -> None:
    first = receive(federation, site, text)
    approve_request(site, find(site, first.digest))
    other = receive(federation, site, text.replace("epsilon = 8.0", "epsilon = 4.0"))

    with pytest.raises(RefusedError, match="approved here already"):
        approve_request(site, find(site, other.digest))
    assert order(site, first) == ""


def test_an_approval_is_its_owners_alone(federation: Federation, site: Path, text: str) -> None:
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest))
    withdraw_run(site, run="one")
    approve_request(site, find(site, request.digest))
    kept = [path for name in ("approved", "requests") for path in (site / name).iterdir()]

    assert len(kept) == 3
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_what_was_withdrawn_can_be_approved_anew(federation: Federation, site: Path, text: str) -> None:
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest))
    withdraw_run(site, run="one")
    approve_request(site, find(site, request.digest))

    assert order(site, request) == ""
    assert not withdraw_run(site, run="another")


def test_a_person_who_takes_a_signature_back_before_the_other_signs(
    federation: Federation, site: Path, text: str, rule: Rule
) -> None:
    rule(approvers(alice=ALICE, bob=BOB))
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest), person="alice", key=ALICE)

    assert withdraw_run(site, run="one")
    assert approve_request(site, find(site, request.digest), person="bob", key=BOB) == ("alice",)


def test_requests_and_approvals_by_command(
    federation: Federation, site: Path, text: str, fedsynth: Command, rule: Rule
) -> None:
    study, file = federation.root / "study.toml", federation.root / "request.json"
    study.write_text(text.replace('name = "tiny"', 'name = "tiny"\ntitle = "\\u001b[2J"'))
    made = fedsynth(
        *("federation", "ask", study, "--run", "one", "--federation", federation.folder("coordinator")),
        *("--out", file, "--note", "sleep\x1b[2J"),
    )
    digest = re.search(r"request ([0-9a-f]{12})", made.out)[1]  # type: ignore[index]
    keys = federation.root / "people"
    keys.mkdir()
    lines = [
        fedsynth("site", "approver", name, "--key", keys / name).out.splitlines()[-1] for name in ("alice", "bob")
    ]
    rule("\n".join(["[approvers]", *lines]))

    shown = fedsynth("site", "requests", site, "--add", file)
    assert (shown.code, f"Request {digest}" in shown.out, "\x1b" in shown.out) == (0, True, False)
    first = fedsynth("site", "approve", site, digest, "--as", "alice", "--key", keys / "alice")
    assert "once bob approve" in first.out
    assert fedsynth("site", "approve", site, digest, "--as", "bob", "--key", keys / "alice").code == 3
    assert fedsynth("site", "approve", site, digest, "--as", "bob", "--key", keys / "bob").out.startswith(
        "Approved"
    )
    answer = json.loads(fedsynth("site", "requests", site, "--json").out)
    assert answer["requests"][0]["compared_with"] == "one"

    assert fedsynth("site", "approve", site, "one", "--withdraw").code == 0
    assert fedsynth("site", "approve", site, "one", "--withdraw").code == 1


def test_leaving_stops_everything_and_deletes_nothing(
    federation: Federation, site: Path, text: str, fedsynth: Command
) -> None:
    request = receive(federation, site, text)
    approve_request(site, find(site, request.digest))
    before = {path for path in site.rglob("*") if path.is_file() and path.parent.name != "approved"}

    done = fedsynth("site", "leave", site)

    assert done.code == 0
    assert "Approvals withdrawn: one" in done.out
    assert (site / "STOP").exists()
    assert before <= set(site.rglob("*"))
    (site / "STOP").unlink()
    assert order(site, request) == "ConsentError"


def test_a_digest_is_given_in_full_enough(federation: Federation, site: Path, text: str) -> None:
    request = receive(federation, site, text)

    for digits in (request.digest[:11], "0" * 64):
        with pytest.raises(RefusedError):
            find(site, digits)
