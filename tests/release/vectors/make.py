"""Make the test vectors again: `python tests/release/vectors/make.py` (Ed25519 is deterministic, so nothing moves).

    release/          a release of three made-up numbers, signed by `publisher`, countersigned by `hospital`
    publisher.pub     its publisher's key
    variants/         files that take the place of one in `integrity/`; those called `says-...`, of all three and
                      of the statement: a promise that its own events contradict, signed by everybody
    tamperings.json   what is done to a copy of `release/`, and whether it verifies then
    key_files.json    key files for `--key`, and whether the release verifies with them

The keys are made of known bytes. They sign nothing but these files.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.privacy.making import Making
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.release.attestation import Attestation, LedgerPoint, write_signed
from fedsynth.release.manifest import ENVELOPE, SUMS, SUMS_SIGNATURE, build_manifest
from fedsynth.release.signature import Envelope, public_of, sign_ssh
from fedsynth.source_code import Code

PUBLISHER, HOSPITAL, FORGER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
README = "# Three numbers\n\nA release of nothing, to test what verifies releases.\n"
ARCHIVE = b"in place of an archive of windows"
NUMBERS = "window,microvolts\n0,1.5\n1,-2.25\n2,0.0\n"


def statement(*, windows: str) -> PrivacyStatement:
    """A promise that holds: one sum at sigma 4 costs less than epsilon 1.5 at delta 1e-5."""
    event = Mechanism("anchor", noise_multiplier=4.0, sampling_probability=1.0, steps=1, clipping_norm=1.0)
    return PrivacyStatement(
        epsilon=1.5,
        delta=1e-5,
        unit="subject",
        adjacency="add-or-remove",
        trust="site",
        accountant="PLD",
        second_accountant="PRV",
        composes="this run only",
        overlap="assumed none",
        assumes="nothing: the numbers are made up",
        made=Making(0, "in-process", "toy", windows),
        sites=tuple(
            SiteStatement(site, 1.5, 1.5, 1e-5, ledger_head=digit * 64, events=(event,), held_out=())
            for site, digit in (("east", "a"), ("west", "b"))
        ),
    )


Body = dict[str, Any]


def everywhere(**fields: object) -> Callable[[Body], None]:
    """Return what exchanges fields of every event."""

    def change(body: Body) -> None:
        for site in body["sites"]:
            for event in site["events"]:
                event.update(fields)

    return change


def promised(epsilon: float) -> Callable[[Body], None]:
    """Return what promises another epsilon, at every site and by both accountants."""

    def change(body: Body) -> None:
        body["epsilon"] = epsilon
        for site in body["sites"]:
            site.update(epsilon=epsilon, epsilon_second=epsilon)

    return change


def of_one_site(**fields: object) -> Callable[[Body], None]:
    """Return what exchanges fields of the first site."""
    return lambda body: body["sites"][0].update(fields)


def both(*changes: Callable[[Body], None]) -> Callable[[Body], None]:
    """Return one change after the other."""

    def change(body: Body) -> None:
        for one in changes:
            one(body)

    return change


EVENT = Mechanism("anchor", noise_multiplier=4.0, sampling_probability=1.0, steps=1, clipping_norm=1.0).as_json()
SAMPLED: Body = {"sampling_probability": 0.2, "noise_multiplier": 0.5, "steps": 3}
CONTRADICTIONS: dict[str, Callable[[Body], None]] = {
    "epsilon-below-its-events": promised(0.5),
    "epsilon-below-its-sampled-events": both(everywhere(**SAMPLED), promised(2.5)),
    "second-epsilon-below-its-events": of_one_site(epsilon_second=0.5),
    "no-noise-to-speak-of": everywhere(noise_multiplier=0.01),
    "no-noise-in-a-lottery": everywhere(noise_multiplier=0.01, sampling_probability=1e-6),
    "no-noise-at-all": everywhere(noise_multiplier=0.0),
    "nothing-but-steps": everywhere(steps=10**6),
    "noise-below-every-number": everywhere(noise_multiplier=5e-324),
    "more-steps-than-a-float-holds": everywhere(steps=10**400),
    "another-unit": everywhere(unit="window"),
    "another-unit-in-one-event": of_one_site(events=[EVENT, {**EVENT, "unit": "recording"}]),
    "another-delta": of_one_site(delta=1e-3),
    "the-other-group-costs-more": of_one_site(held_out_events=[{**EVENT, "group": "held-out", "steps": 9}]),
    "below-a-site": both(promised(1.5), lambda body: body.update(epsilon=1.25)),
    "above-every-site": both(promised(1.25), lambda body: body.update(epsilon=1.5)),
    "no-site": lambda body: body.update(sites=[]),
    "no-event": of_one_site(events=[]),
    "epsilon-beyond-twenty": promised(21.0),
    "epsilon-below-zero": promised(-1.0),
    "no-delta": both(of_one_site(delta=0.0), lambda body: body.update(delta=0.0)),
    "an-event-that-is-none": everywhere(sampling_probability=1.5),
    "half-a-step": everywhere(steps=1.5),
    "an-event-of-nobody": everywhere(group="others"),
    # No closed form knows; an accountant finds twice as much.
    "half-of-its-many-sampled-events": both(
        everywhere(noise_multiplier=1.0, sampling_probability=0.05, steps=400), promised(3.35)
    ),
}
"""What is done to the statement before everybody signs it; `tamperings.json` says who must notice."""


def make_contradiction(release: Path, name: str, change: Callable[[Body], None], *, variants: Path) -> None:
    """Write the four files of a release that says something else, signed by publisher and hospital."""
    body = json.loads((release / "privacy/statement.json").read_text())
    claim = Attestation.from_payload(Envelope.from_json((release / ENVELOPE).read_bytes()).payload)
    change(body)
    with tempfile.TemporaryDirectory() as other:
        spoiled = Path(shutil.copytree(release, Path(other) / "release"))
        (spoiled / "privacy/statement.json").write_text(json.dumps(body, indent=2) + "\n")
        said = {"epsilon": float(body["epsilon"]), "delta": float(body["delta"])}
        points = tuple(point for point in claim.ledgers if body["sites"])
        claim = replace(claim, files=build_manifest(spoiled), ledgers=points, **said)
        write_signed(spoiled, attestation=claim, key=PUBLISHER)
        signed = Envelope.from_json((spoiled / ENVELOPE).read_bytes()).with_signature(HOSPITAL)
        (spoiled / ENVELOPE).write_text(signed.to_json())
        for path, ending in FOUR.items():
            shutil.copyfile(spoiled / path, variants / f"says-{name}.{ending}")


FOUR = {"privacy/statement.json": "json", ENVELOPE: "dsse.json", SUMS: "sums", SUMS_SIGNATURE: "sig"}


def make(folder: Path) -> None:
    """Write `release/`, `publisher.pub` and `variants/`."""
    release, variants = folder / "release", folder / "variants"
    for part in (release / "data/ml", release / "privacy", release / "report", variants):
        part.mkdir(parents=True)
    (release / "README.md").write_text(README)
    (release / "data/windows.csv").write_text(NUMBERS)
    (release / "data/ml/windows.npz").write_bytes(ARCHIVE)
    (release / "report/metrics.json").write_text("[]\n")
    promise = statement(windows=hashlib.sha256(ARCHIVE).hexdigest())
    (release / "privacy/statement.json").write_text(promise.to_json())
    attestation = Attestation(
        files=build_manifest(release),
        study="vectors",
        study_digest="1" * 64,
        code=Code("0.0.0", "2" * 64),
        epsilon=promise.epsilon,
        delta=promise.delta,
        unit=promise.unit,
        adjacency=promise.adjacency,
        trust=promise.trust,
        ledgers=(LedgerPoint("east", "a" * 64, 1), LedgerPoint("west", "b" * 64, 2)),
        publisher="The maker of vectors",
        public_key=public_of(PUBLISHER),
        required=(public_of(HOSPITAL),),
    )
    write_signed(release, attestation=attestation, key=PUBLISHER)
    sums = (release / "integrity/SHA256SUMS").read_bytes()
    alone = Envelope.from_json((release / ENVELOPE).read_bytes())
    signed_twice = alone.with_signature(HOSPITAL)
    (release / ENVELOPE).write_text(signed_twice.to_json())

    (folder / "publisher.pub").write_text(f"{public_of(PUBLISHER).line} publisher of test vectors\n")
    (folder / "forger.pub").write_text(f"{public_of(FORGER).line} signs what it should not\n")
    zeros = Envelope(alone.payload, signed_twice.signatures | {public_of(HOSPITAL).fingerprint: bytes(64)})
    forged = Envelope(alone.payload.replace(b'"epsilon":1.5', b'"epsilon":0.5'), {})
    (variants / "not-countersigned.dsse.json").write_text(alone.to_json())
    (variants / "bad-countersignature.dsse.json").write_text(zeros.to_json())
    (variants / "one-signature-more.dsse.json").write_text(signed_twice.with_signature(FORGER).to_json())
    (variants / "by-another.dsse.json").write_text(
        Envelope(alone.payload, {}).with_signature(FORGER).with_signature(HOSPITAL).to_json()
    )
    # Signed by the publisher, and still not the promise that the release shows.
    (variants / "smaller-epsilon.dsse.json").write_text(
        forged.with_signature(PUBLISHER).with_signature(HOSPITAL).to_json()
    )
    spaced = Envelope(alone.payload.replace(b'"epsilon":1.5', b'"epsilon": 1.5'), {})
    (variants / "spaced-payload.dsse.json").write_text(
        spaced.with_signature(PUBLISHER).with_signature(HOSPITAL).to_json()
    )
    number = Envelope(alone.payload.replace(b'"epsilon":1.5', b'"epsilon":15e-1'), {})
    (variants / "number-in-another-form.dsse.json").write_text(
        number.with_signature(PUBLISHER).with_signature(HOSPITAL).to_json()
    )
    (variants / "by-another.sig").write_text(sign_ssh(sums, key=FORGER))
    (variants / "over-something-else.sig").write_text(sign_ssh(sums + b"x", key=PUBLISHER))
    for name, change in CONTRADICTIONS.items():
        make_contradiction(release, name, change, variants=variants)
    assert sign_ssh(sums, key=PUBLISHER).encode() == (release / SUMS_SIGNATURE).read_bytes()


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    for name in ("release", "variants"):
        shutil.rmtree(here / name, ignore_errors=True)
    make(here)
    sys.stdout.write(f"made {here}\n")
