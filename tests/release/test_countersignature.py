"""Countersignatures: m of n sites, each of which looked, and names of those who did not."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.cli.main import main
from fedsynth.errors import VerificationError
from fedsynth.federation.authority import open_authority
from fedsynth.federation.charter import load_charter
from fedsynth.federation.kit import accept_kit
from fedsynth.federation.provision import Provisioner
from fedsynth.federation.roster import load_roster
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.recordings.store.index import StoreShape
from fedsynth.release.countersignature import (
    SUFFIX,
    Countersignature,
    Countersigned,
    check_countersignatures,
    digests_of,
    read_countersignature,
)
from fedsynth.site.folder import make_site, request_membership
from fedsynth.site.shelves import Shelved, write_shelf
from fedsynth.synthesis.windows import SyntheticWindows

SITES = {"east": 3, "north": 5}


@dataclass(frozen=True)
class Signed:
    """A release of two sites that exist, and the folder of what they countersign."""

    root: Path
    release: Path
    publisher: Path

    @property
    def place(self) -> Path:
        return self.root / "release.countersignatures"

    def key(self, name: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes((self.root / name / "identity.key").read_bytes())

    def check(self, threshold: int = 2) -> Countersigned:
        roster = load_roster(self.root / "north" / "federation")
        return check_countersignatures(self.release, roster=roster, place=self.place, threshold=threshold)


def hold(folder: Path, windows: SyntheticWindows, *, copied: bool) -> None:
    """Give a site holdings: noise of its own, or the release's very windows."""
    rng = np.random.default_rng(3)
    holdings = folder / "holdings"
    holdings.mkdir()
    shape, ends = StoreShape(("C3", "C4"), windows.signal.shape[2], 173.61, ("healthy", "epilepsy")), {}
    for group in ("train", "held-out"):
        own = rng.normal(0, 50, size=windows.signal.shape).astype(np.float32)
        signal = windows.signal if copied and group == "train" else own
        everybody = [Shelved(number, number, np.zeros(1, np.int64)) for number in range(len(own))]
        path = holdings / f"{group}.windows"
        ends[group] = write_shelf(
            path, everybody, shape=shape, rows=lambda number, held=signal: held[[number]], seal=None
        )
    (holdings / "people.json").write_text(
        json.dumps({"subjects": 2, "tokens": {"train": ["a"], "held-out": ["b"]}, "sealed": False, "ends": ends})
    )


@pytest.fixture
def signed(
    tmp_path: Path,
    build: Callable[..., Path],
    statement: PrivacyStatement,
    signing_key: Path,
    windows: SyntheticWindows,
) -> Signed:
    (tmp_path / "FEDERATION.toml").write_text(
        'name = "sleep"\nsites = ["east", "north"]\n[coordinator]\naddresses = ["localhost:1"]\n'
    )
    authority = open_authority(tmp_path / "authority", federation="sleep")
    work = Provisioner(authority, load_charter(tmp_path / "FEDERATION.toml"), datetime.now(UTC))
    requests = {}
    for name in SITES:
        make_site(tmp_path / name, name=name)
        requests[name] = request_membership(tmp_path / name)[0]
    work.hand_out(
        work.certify(requests, {name: request.words for name, request in requests.items()}),
        out=tmp_path / "out",
        kits_for=list(SITES),
    )
    heads = {}
    for name, lines in SITES.items():
        accept_kit(tmp_path / "out" / "kits" / name, tmp_path / name / "federation", words=authority.words)
        hold(tmp_path / name, windows, copied=False)
        with Ledger(tmp_path / name / "ledger") as ledger:
            for number in range(lines):
                charge(ledger, f"{name}:{number}")
            heads[name] = ledger.head
    sites = tuple(replace(site, ledger_head=heads[site.site]) for site in statement.sites)
    release = build(tmp_path / "release", statement=replace(statement, sites=sites))
    (tmp_path / "release.countersignatures").mkdir()
    return Signed(tmp_path, release, signing_key.with_name("publisher.pub"))


def charge(ledger: Ledger, nonce: str) -> None:
    what = Mechanism("sum", 9.0, 1.0, 1, 1.0)
    ledger.charge(what, nonce=nonce, study="s", tokens=["a"], cap=math.inf, delta=1e-5, unit="subject")


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fedsynth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fedsynth", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.split())

    return run


def countersign(signed: Signed, name: str) -> tuple[object, ...]:
    out = signed.place / f"{name}{SUFFIX}"
    return (
        "site",
        "countersign",
        signed.root / name,
        signed.release,
        "--publisher",
        signed.publisher,
        "--out",
        out,
    )


def test_sites_sign_and_verify_counts_them(signed: Signed, fedsynth: Command) -> None:
    roster = signed.root / "north" / "federation"
    verify = ("verify", signed.release, "--key", signed.publisher, "--sites", roster)
    assert fedsynth(*countersign(signed, "north"))[0] == 0

    code, _, err = fedsynth(*verify)
    assert (code, "1 of 2 sites signed, and 2 must" in err, "east (it has not signed)" in err) == (4, True, True)
    code, out, _ = fedsynth(*verify, "--threshold", 1)
    assert (code, "by 1 of 2 sites: north" in out, "Not by east" in out) == (0, True, True)
    assert fedsynth(*countersign(signed, "east"))[0] == 0
    code, out, _ = fedsynth(*verify, "--json")
    assert (code, json.loads(out)["countersigned"]["signed"]) == (0, ["east", "north"])
    assert fedsynth("verify", signed.release)[0] == 0
    assert fedsynth("verify", signed.release, "--threshold", 1)[0] == 2


def test_a_site_that_was_charged_since_signs_where_it_stands_now(signed: Signed, fedsynth: Command) -> None:
    with Ledger(signed.root / "north" / "ledger") as ledger:
        charge(ledger, "later")
        head = ledger.head
    assert fedsynth(*countersign(signed, "north"))[0] == 0
    said, _ = read_countersignature((signed.place / f"north{SUFFIX}").read_bytes())

    assert (said.ledger_length, said.ledger_length_now, said.ledger_head_now) == (5, 6, head)


def test_a_head_that_the_ledger_never_had_is_not_signed(signed: Signed, fedsynth: Command) -> None:
    shutil.rmtree(signed.root / "north" / "ledger")
    with Ledger(signed.root / "north" / "ledger") as ledger:
        for number in range(5):
            charge(ledger, f"other:{number}")

    code, _, err = fedsynth(*countersign(signed, "north"))

    assert (code, "a head that it never had" in err) == (3, True)
    assert not (signed.place / f"north{SUFFIX}").exists()


def test_copies_of_the_sites_own_recordings_are_not_signed(
    signed: Signed, fedsynth: Command, windows: SyntheticWindows
) -> None:
    shutil.rmtree(signed.root / "north" / "holdings")
    hold(signed.root / "north", windows, copied=True)

    code, _, err = fedsynth(*countersign(signed, "north"))

    assert (code, "copies of recordings" in err) == (3, True)
    assert not (signed.place / f"north{SUFFIX}").exists()


def test_a_release_that_does_not_verify_is_not_signed(signed: Signed, fedsynth: Command) -> None:
    (signed.release / "README.md").write_text("other")

    assert fedsynth(*countersign(signed, "north"))[0] == 4
    assert not (signed.place / f"north{SUFFIX}").exists()


def made(signed: Signed, name: str, *, key: Ed25519PrivateKey | None = None, **other: object) -> None:
    """Write a countersignature, with parts exchanged."""
    manifest, statement = digests_of(signed.release)
    with Ledger(signed.root / name / "ledger") as ledger:
        head = ledger.head
    facts: dict[str, object] = {
        "federation": "sleep",
        "site": name,
        "manifest_sha256": manifest,
        "statement_sha256": statement,
        "ledger_head": head,
        "ledger_length": SITES[name],
        "ledger_head_now": head,
        "ledger_length_now": SITES[name],
    }
    said = Countersignature(**(facts | other))  # type: ignore[arg-type]
    (signed.place / f"{name}{SUFFIX}").write_bytes(said.signed(key or signed.key(name)))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        pytest.param({"manifest_sha256": "0" * 64}, "another release", id="another manifest"),
        pytest.param({"statement_sha256": "0" * 64}, "another release", id="another promise"),
        pytest.param({"ledger_head": "0" * 64}, "another state of its ledger", id="another head"),
        pytest.param({"ledger_length": 4}, "another state of its ledger", id="another length"),
        pytest.param({"federation": "other"}, "another site or federation", id="another federation"),
        pytest.param({"site": "east"}, "another site or federation", id="another site's file"),
        pytest.param({"key": Ed25519PrivateKey.generate()}, "not by the key", id="another key"),
    ],
)
def test_a_countersignature_counts_for_what_it_says_and_no_more(
    signed: Signed, other: dict[str, object], why: str
) -> None:
    made(signed, "north")
    made(signed, "east")
    assert signed.check().signed == ("east", "north")
    made(signed, "north", **other)  # type: ignore[arg-type]

    with pytest.raises(VerificationError, match=f"north .*{why}"):
        signed.check()
    assert signed.check(1).signed == ("east",)


def test_a_changed_byte_is_found(signed: Signed) -> None:
    made(signed, "north")
    path = signed.place / f"north{SUFFIX}"
    path.write_text(path.read_text().replace('"ledger_length_now":5', '"ledger_length_now":6'))

    with pytest.raises(VerificationError, match="not by the key"):
        signed.check(1)


@pytest.mark.parametrize("threshold", [0, 3, -1])
def test_a_threshold_that_is_none_is_refused(signed: Signed, threshold: int) -> None:
    with pytest.raises(VerificationError, match="countersignatures were asked for"):
        signed.check(threshold)


def test_a_ledger_of_a_site_that_the_roster_does_not_name_is_refused(
    signed: Signed, build: Callable[..., Path], statement: PrivacyStatement
) -> None:
    others = tuple(replace(site, site=f"{site.site}-2") for site in statement.sites)
    lengths = {f"{name}-2": lines for name, lines in SITES.items()}
    build(signed.root / "other", statement=replace(statement, sites=others), ledger_lengths=lengths)

    with pytest.raises(VerificationError, match="a ledger of east-2"):
        replace(signed, release=signed.root / "other").check(1)
