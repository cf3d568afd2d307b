import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from fedsynth.errors import ReaderFileError, VerificationError
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.attestation import Attestation, LedgerPoint, sign_release, write_signed
from fedsynth.release.manifest import build_manifest
from fedsynth.release.signature import Envelope, PublicKey, load_private_key, make_key, sign_ssh
from fedsynth.release.verify import verify_release

SUMS, SIG, DSSE = "integrity/SHA256SUMS", "integrity/SHA256SUMS.sig", "integrity/release.dsse.json"


def claim_of(release: Path) -> Attestation:
    envelope = Envelope.from_json((release / "integrity/release.dsse.json").read_bytes())
    return Attestation.from_payload(envelope.payload)


def refused(release: Path, match: str, **arguments: Path) -> str:
    with pytest.raises(VerificationError, match=match) as caught:
        verify_release(release, **arguments)
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_a_release_verifies_and_says_what_it_promises(
    pristine: Path, statement: PrivacyStatement, signing_key: Path
) -> None:
    verified = verify_release(pristine, key=signing_key.with_suffix(".pub"))

    assert verified.pinned
    assert verified.fingerprint.startswith("SHA256:")
    assert verified.promise == statement.sentence()
    assert (verified.epsilon, verified.delta, verified.unit) == (3.5, 1e-5, "subject")
    assert verified.ledgers == (LedgerPoint("east", "a" * 64, 3), LedgerPoint("north", "b" * 64, 5))
    with pytest.raises(FrozenInstanceError):
        verified.pinned = False  # type: ignore[misc]


def test_without_a_key_of_ones_own_the_answer_is_not_pinned(pristine: Path) -> None:
    assert not verify_release(pristine).pinned


def test_verification_writes_nothing(pristine: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        return sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in pristine.rglob("*"))

    before = state()
    verify_release(pristine)

    assert state() == before


def test_verify_needs_only_the_standard_library_and_cryptography() -> None:
    code = (
        "import sys, fedsynth.release.verify\n"
        "top = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(*sorted(name for name in top if not name.startswith('_')))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"fedsynth", "cryptography", "cffi"}


def forge(release: Path, tmp_path: Path) -> PublicKey:
    """Change the data and sign everything again with another key."""
    key = make_key(tmp_path / "forger")
    (release / "README.md").write_text("Nothing to see here.\n")
    claim = replace(claim_of(release), files=build_manifest(release), public_key=key)
    write_signed(release, attestation=claim, key=load_private_key(tmp_path / "forger"))
    return key


def test_a_release_signed_again_by_another_is_refused_with_both_fingerprints(
    release: Path, tmp_path: Path, signing_key: Path, pristine: Path
) -> None:
    forger = forge(release, tmp_path)

    message = refused(release, "wrong key", key=signing_key.with_suffix(".pub"))

    assert forger.fingerprint in message
    assert verify_release(pristine).fingerprint in message


def test_without_a_key_the_forgers_fingerprint_is_what_the_reader_sees(release: Path, tmp_path: Path) -> None:
    forger = forge(release, tmp_path)

    verified = verify_release(release)

    assert (verified.fingerprint, verified.pinned) == (forger.fingerprint, False)


@pytest.mark.parametrize("name", [SIG, DSSE])
def test_two_signatures_by_two_keys_are_refused(release: Path, tmp_path: Path, name: str) -> None:
    """Somebody exchanged one of the two signatures only."""
    make_key(tmp_path / "forger")
    forger = load_private_key(tmp_path / "forger")
    if name == SIG:
        (release / SIG).write_text(sign_ssh((release / SUMS).read_bytes(), key=forger))
    else:
        envelope = Envelope.from_json((release / DSSE).read_bytes())
        (release / DSSE).write_text(Envelope(envelope.payload, {}).with_signature(forger).to_json())

    refused(release, f"bad signature: {DSSE}")


def test_a_claim_that_names_another_publisher_is_refused(
    release: Path, tmp_path: Path, resign: Callable[..., None]
) -> None:
    resign(release, public_key=make_key(tmp_path / "other"))

    refused(release, "names another publisher's key")


def test_a_key_file_that_is_missing_or_no_key_is_named(pristine: Path, tmp_path: Path) -> None:
    with pytest.raises(ReaderFileError, match="key given cannot be read") as caught:
        verify_release(pristine, key=tmp_path / "none")
    (tmp_path / "key").write_text("hello")
    with pytest.raises(ReaderFileError, match="not an OpenSSH public key"):
        verify_release(pristine, key=tmp_path / "key")
    assert caught.value.exit_code == 2


def test_a_private_key_given_by_mistake_is_refused_and_not_shown(pristine: Path, signing_key: Path) -> None:
    with pytest.raises(ReaderFileError, match="not an OpenSSH public key") as caught:
        verify_release(pristine, key=signing_key)

    assert "PRIVATE" not in str(caught.value)


def test_of_several_keys_that_did_not_sign_five_are_named(pristine: Path, tmp_path: Path) -> None:
    lines = [f"fedsynth-release {make_key(tmp_path / str(number)).line}\n" for number in range(7)]
    (tmp_path / "allowed").write_text("".join(lines))

    message = refused(pristine, "wrong key.* and 2 more", key=tmp_path / "allowed")

    assert message.count("SHA256:") == 6


def test_a_signature_nobody_asked_for_is_refused(release: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "guest")
    envelope = Envelope.from_json((release / DSSE).read_bytes())
    guest = load_private_key(tmp_path / "guest")
    (release / DSSE).write_text(envelope.with_signature(guest).to_json())

    refused(release, "nobody asked for")


def test_manifest_and_envelope_must_name_the_same_files(release: Path, resign: Callable[..., None]) -> None:
    resign(release)
    sums = (release / SUMS).read_bytes()
    signature = (release / SIG).read_bytes()
    (release / "extra.txt").write_text("added later")
    resign(release)
    (release / SUMS).write_bytes(sums)
    (release / SIG).write_bytes(signature)

    refused(release, "name different files")


@pytest.mark.parametrize(
    "exchanged",
    [
        pytest.param({"epsilon": 0.5}, id="a smaller epsilon"),
        pytest.param({"delta": 1e-9}, id="a smaller delta"),
        pytest.param({"unit": "recording"}, id="another unit"),
        pytest.param({"adjacency": "replace-one"}, id="another adjacency"),
        pytest.param({"trust": "aggregate"}, id="another trust"),
        pytest.param({"ledgers": (LedgerPoint("east", "c" * 64, 3),)}, id="other ledgers"),
        pytest.param({"ledgers": ()}, id="no ledgers"),
    ],
)
def test_a_statement_other_than_the_signed_promise_is_refused(
    release: Path, resign: Callable[..., None], exchanged: dict[str, object]
) -> None:
    resign(release, **exchanged)

    refused(release, "not the signed promise")


def test_a_release_that_promises_nothing_does_not_verify(
    release: Path, statement: PrivacyStatement, signing_key: Path
) -> None:
    """JSON cannot hold infinity, so such a claim cannot be signed; one written by hand is refused as well."""
    bare = replace(statement, epsilon=float("inf"))
    (release / "privacy/statement.json").write_text(bare.to_json())

    with pytest.raises(ValueError, match="JSON"):
        sign_release(
            release,
            key=signing_key,
            statement=bare,
            ledger_lengths={"east": 3, "north": 5},
            study="small",
            study_digest="0" * 64,
            code=claim_of(release).code,
            publisher="somebody",
        )


def test_one_site_without_privacy_does_not_verify(
    release: Path, statement: PrivacyStatement, resign: Callable[..., None]
) -> None:
    east, north = statement.sites
    bare = replace(statement, sites=(east, replace(north, epsilon=float("inf"))))
    (release / "privacy/statement.json").write_text(bare.to_json())
    resign(release)

    refused(release, "promises no privacy")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"epsilon": 3.5, "epsilon": 0.1}', '{"epsilon": 1%s}' % ("0" * 400), '{"sites": 1}']
)
def test_a_signed_statement_that_is_none_is_refused(release: Path, resign: Callable[..., None], text: str) -> None:
    (release / "privacy/statement.json").write_text(text)
    resign(release)

    refused(release, "malformed: privacy/statement.json")


def test_a_release_without_a_statement_is_refused(release: Path, resign: Callable[..., None]) -> None:
    (release / "privacy/statement.json").unlink()
    (release / "privacy").rmdir()
    resign(release)

    refused(release, "carries no privacy/statement.json")


@pytest.mark.parametrize("name", ["../stolen", "/etc/passwd", "a/../../b"])
def test_a_signed_path_outside_is_refused(
    release: Path, signing_key: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    claim = claim_of(release)
    monkeypatch.setattr("fedsynth.release.manifest._check_names", lambda _: None)
    files = claim.files | {name: "0" * 64}
    write_signed(release, attestation=replace(claim, files=files), key=load_private_key(signing_key))
    monkeypatch.undo()

    refused(release, "path outside the release")
