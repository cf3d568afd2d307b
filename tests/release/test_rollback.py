import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedsynth.errors import VerificationError
from fedsynth.release.attestation import Attestation, write_signed
from fedsynth.release.signature import Envelope, load_private_key, make_key
from fedsynth.release.verify import verify_release


def claim_of(release: Path) -> Attestation:
    envelope = Envelope.from_json((release / "integrity/release.dsse.json").read_bytes())
    return Attestation.from_payload(envelope.payload)


def refused(release: Path, match: str, *, seen: Path) -> None:
    with pytest.raises(VerificationError, match=match):
        verify_release(release, seen=seen)


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        pytest.param({"east": ("a", 3), "north": ("b", 5)}, None, id="the same release again"),
        pytest.param({"east": ("c", 2), "north": ("d", 4)}, None, id="both grew"),
        pytest.param({"west": ("c", 9)}, None, id="other sites"),
        pytest.param({"north": ("c", 6)}, "north shows 5 entries.*showed 6", id="shorter"),
        pytest.param({"east": ("c", 3)}, "east shows another entry at length 3", id="forked"),
    ],
)
def test_a_ledger_older_than_one_already_seen_is_refused(
    pristine: Path, tmp_path: Path, before: dict[str, tuple[str, int]], cause: str | None
) -> None:
    seen = tmp_path / "seen.json"
    sites = {site: {"ledger_head": digit * 64, "ledger_length": length} for site, (digit, length) in before.items()}
    seen.write_text(json.dumps({"publishers": {verify_release(pristine).fingerprint: sites}}))
    text = seen.read_text()

    if cause is None:
        verify_release(pristine, seen=seen)
        known = json.loads(seen.read_text())["publishers"][verify_release(pristine).fingerprint]
        assert set(known) == {"east", "north", *before}
        assert known["north"] == {"ledger_head": "b" * 64, "ledger_length": 5}
    else:
        refused(pristine, cause, seen=seen)
        assert seen.read_text() == text


def test_what_was_seen_is_kept_by_publisher(release: Path, pristine: Path, tmp_path: Path) -> None:
    """Another publisher's "north" may be shorter."""
    seen = tmp_path / "seen.json"
    verify_release(pristine, seen=seen)
    key = make_key(tmp_path / "other")
    claim = claim_of(release)
    shorter = tuple(replace(point, length=1) for point in claim.ledgers)
    other = replace(claim, public_key=key, ledgers=shorter)
    write_signed(release, attestation=other, key=load_private_key(tmp_path / "other"))

    verify_release(release, seen=seen)

    assert len(json.loads(seen.read_text())["publishers"]) == 2


def test_a_release_that_does_not_verify_is_not_remembered(release: Path, tmp_path: Path) -> None:
    (release / "README.md").unlink()

    refused(release, "removed: README.md", seen=tmp_path / "seen.json")

    assert not (tmp_path / "seen.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"publishers": []}', '{"publishers": {"x": {"north": {}}}}'])
def test_a_damaged_file_of_seen_ledgers_is_refused_and_kept(pristine: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "seen.json").write_text(text)

    refused(pristine, "seen ledgers", seen=tmp_path / "seen.json")

    assert (tmp_path / "seen.json").read_text() == text


def test_the_file_of_seen_ledgers_may_not_stand_in_the_release(release: Path) -> None:
    refused(release, "inside the release", seen=release / "seen.json")
    verify_release(release)
