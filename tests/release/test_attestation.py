import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import VerificationError
from fedsynth.release.attestation import Attestation, LedgerPoint, countersign
from fedsynth.release.signature import Envelope, PublicKey, make_key
from fedsynth.release.verify import verify_release
from fedsynth.source_code import Code

DSSE = "integrity/release.dsse.json"

CLAIM = Attestation(
    files={"README.md": "0" * 64},
    study="small",
    study_digest="1" * 64,
    code=Code("0.1.0", "2" * 64),
    epsilon=3.5,
    delta=1e-5,
    unit="subject",
    adjacency="add-or-remove",
    trust="site",
    ledgers=(LedgerPoint("north", "b" * 64, 5),),
    publisher="somebody",
    public_key=PublicKey(bytes(32)),
    required=(PublicKey(bytes(31) + b"1"),),
)


def refused(release: Path, match: str) -> str:
    with pytest.raises(VerificationError, match=match) as caught:
        verify_release(release)
    return str(caught.value)


def test_a_claim_reads_back() -> None:
    assert Attestation.from_payload(CLAIM.to_payload()) == CLAIM


def places(body: Any, where: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON body, the body itself excluded."""
    items = list(body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ())
    found = [(*where, key) for key, _ in items]
    return found + [place for key, value in items for place in places(value, (*where, key))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(places(json.loads(CLAIM.to_payload()))), JSON)
def test_a_claim_with_anything_at_any_place_is_read_or_refused_by_name(
    place: tuple[str | int, ...], value: Any
) -> None:
    body = json.loads(CLAIM.to_payload())
    table = body
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value

    payload = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()

    with contextlib.suppress(VerificationError):
        assert Attestation.from_payload(payload).to_payload() == payload


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('"epsilon":3.5', '"epsilon": 3.5', id="a blank"),
        pytest.param('"epsilon":3.5', '"epsilon":3.50', id="a digit too many"),
        pytest.param('"epsilon":3.5', '"epsilon":35e-1', id="an exponent"),
        pytest.param('"epsilon":3.5', '"epsilon":"3.5"', id="a number as text"),
        pytest.param('"epsilon":3.5', '"epsilon":"inf"', id="infinity as text"),
        pytest.param('"delta":1e-05', '"delta":1E-5', id="a number in capitals"),
        pytest.param('"ledger_length":5', '"ledger_length":5.0', id="a length with a point"),
        pytest.param('"trust":"site"', '"trust":"s\\u0069te"', id="a letter escaped"),
        pytest.param('"trust":"site"', '"trust":"site","more":1', id="a field that nobody reads"),
        pytest.param('"study":{', '"study":{"also":1,', id="such a field further up"),
        pytest.param(
            '"name":"somebody","public_key":"ssh', '"name":"somebody","public_key":" ssh', id="a key's blank"
        ),
    ],
)
def test_a_claim_in_other_bytes_is_refused(old: str, new: str) -> None:
    payload = CLAIM.to_payload().decode()
    assert old in payload

    with pytest.raises(VerificationError, match="malformed"):
        Attestation.from_payload(payload.replace(old, new).encode())


def test_a_whole_epsilon_is_written_as_it_is_read() -> None:
    claim = replace(CLAIM, epsilon=4)

    assert Attestation.from_payload(claim.to_payload()) == claim


def test_a_missing_countersignature_is_named_and_a_made_one_accepted(
    release: Path, tmp_path: Path, resign: Callable[..., None]
) -> None:
    hospital = make_key(tmp_path / "hospital")
    resign(release, required=(hospital,))

    message = refused(release, "missing countersignature")
    assert hospital.fingerprint in message

    countersign(release, key=tmp_path / "hospital")
    assert verify_release(release).study == "small"


def test_a_countersignature_over_something_else_is_named(
    release: Path, tmp_path: Path, resign: Callable[..., None]
) -> None:
    hospital = make_key(tmp_path / "hospital")
    resign(release, required=(hospital,))
    envelope = Envelope.from_json((release / DSSE).read_bytes())
    forged = Envelope(envelope.payload, envelope.signatures | {hospital.fingerprint: bytes(64)})
    (release / DSSE).write_text(forged.to_json())

    refused(release, "bad countersignature")


def test_an_envelope_in_other_bytes_is_not_countersigned(
    release: Path, tmp_path: Path, resign: Callable[..., None]
) -> None:
    resign(release, required=(make_key(tmp_path / "hospital"),))
    text = (release / DSSE).read_text() + "\n"
    (release / DSSE).write_text(text)

    with pytest.raises(VerificationError, match="in other bytes"):
        countersign(release, key=tmp_path / "hospital")
    assert (release / DSSE).read_text() == text


def test_a_countersignature_that_is_not_asked_for_is_not_made(release: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "guest")

    with pytest.raises(VerificationError, match="asks for no countersignature"):
        countersign(release, key=tmp_path / "guest")
