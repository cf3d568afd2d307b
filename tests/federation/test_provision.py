"""Who is certified: those whose keys are proven and whose words were said, and nobody else."""

import json
import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedsynth.errors import FederationError, FederationFileError, RefusedError
from fedsynth.federation.authority import open_authority
from fedsynth.federation.charter import load_charter
from fedsynth.federation.keys import load_ec, load_signing_key, sign_ec
from fedsynth.federation.kit import accept_kit
from fedsynth.federation.membership import MembershipRequest, load_membership, make_membership
from fedsynth.federation.roster import load_roster

from .conftest import CHARTER, NOW, Federation


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_wrong_words_certify_nobody(federation: Federation) -> None:
    federation.request("north"), federation.request("east")
    found = federation.work.read_requests(federation.root / "requests")

    with pytest.raises(FederationError, match="the words said for east"):
        federation.work.certify(found, {"north": found["north"].words, "east": found["north"].words})

    assert federation.work.authority.load_register().certified == {}


def test_a_stranger_is_named_and_not_certified(federation: Federation) -> None:
    federation.request("west")

    with pytest.raises(FederationError, match="west, whom the charter does not name"):
        federation.work.read_requests(federation.root / "requests")


def test_a_site_cannot_ask_to_be_the_coordinator(federation: Federation) -> None:
    folder = federation.root / "requests"
    folder.mkdir()
    identity = federation.root / "x.key"
    _, data = make_membership(federation.root / "x", role="coordinator", name="north", identity=identity)
    (folder / "north.json").write_bytes(data)

    with pytest.raises(FederationError, match="the charter says site"):
        federation.work.read_requests(folder)


@pytest.mark.parametrize("key", ["tls", "node", "identity"])
def test_a_key_without_proof_of_possession_is_refused(federation: Federation, key: str) -> None:
    """Somebody who puts another's public key into a request cannot sign with it."""
    federation.request("north"), federation.request("east")
    path = federation.root / "requests" / "north.json"
    body = json.loads(path.read_bytes())
    body["keys"][key] = json.loads((path.parent / "east.json").read_bytes())["keys"][key]
    path.write_text(json.dumps(body))

    with pytest.raises(FederationError, match="does not prove"):
        load_membership(path)


@pytest.mark.parametrize("key", ["tls", "node", "identity"])
def test_a_stolen_public_key_is_refused_though_all_else_is_proven(federation: Federation, key: str) -> None:
    """A whole request by somebody who put another's public key among keys of their own."""
    mine, theirs = federation.request("north"), federation.request("east")
    stolen = replace(mine, **{key: getattr(theirs, key)})
    folder = federation.folder("north")

    assert MembershipRequest.from_json(mine.to_json(proofs_of(folder, mine))) == mine
    with pytest.raises(FederationError, match="does not prove"):
        MembershipRequest.from_json(stolen.to_json(proofs_of(folder, stolen)))


def proofs_of(folder: Path, request: MembershipRequest) -> dict[str, bytes]:
    return {
        "tls": sign_ec(load_ec(folder / "tls.key", what=""), request.statement),
        "node": sign_ec(load_ec(folder / "node.key", what=""), request.statement),
        "identity": load_signing_key(folder.parent / "identity.key", what="").sign(request.statement),
    }


def test_two_sites_cannot_share_a_key(federation: Federation) -> None:
    federation.request("north")
    shared = federation.root / "north" / "identity.key"
    _, data = make_membership(federation.folder("east"), role="site", name="east", identity=shared)
    (federation.root / "requests" / "east.json").write_bytes(data)

    with pytest.raises(FederationError, match="is that of"):
        federation.work.read_requests(federation.root / "requests")


def test_other_keys_of_a_certified_site_need_a_rotation(whole: Federation) -> None:
    for path in whole.folder("north").glob("*.key"):
        path.unlink()
    whole.request("north")

    with pytest.raises(FederationError, match="federation rotate north"):
        whole.work.read_requests(whole.root / "requests")


def test_certificates_name_their_holder_and_what_they_are_for(whole: Federation) -> None:
    server = certificate(whole.folder("coordinator") / "tls.pem")
    client = certificate(whole.folder("north") / "tls.pem")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usages = [one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value for one in (server, client)]

    assert names.get_values_for_type(x509.DNSName) == ["fed.example.org"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert [list(one) for one in usages] == [[ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.CLIENT_AUTH]]
    key = server.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"
    assert (client.not_valid_after_utc - NOW).days == 100


def test_openssl_builds_the_chain_and_takes_the_key(whole: Federation) -> None:
    """A second implementation reads what was written: OpenSSL, as nginx uses it."""
    for name in ("coordinator", "north"):
        folder = whole.folder(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
        context.load_verify_locations(folder / "authority.pem")
        context.load_verify_locations(folder / "revoked.pem")

        assert context.cert_store_stats() == {"x509": 1, "crl": 1, "x509_ca": 1}


def test_no_private_key_is_in_a_kit(whole: Federation) -> None:
    """Every private key, in every form that it is stored or could be written in, is searched for."""
    secrets: list[bytes] = []
    places = [
        whole.root / "authority",
        whole.root / "coordinator",
        *(whole.root / name for name in ("north", "east")),
    ]
    for path in (path for place in places for path in place.rglob("*.key")):
        data = path.read_bytes()
        secrets += [data, data.hex().encode()] if len(data) == 32 else data.splitlines()[1:-1]
    # The first line of a PEM body can be the algorithm's alone; what is secret is longer than that.
    handed_out = [path.read_bytes() for path in (whole.root / "out-1").rglob("*") if path.is_file()]
    handed_out += [path.read_bytes() for path in (whole.root / "requests").iterdir()]

    assert len(secrets) > 20
    public = (whole.root / "authority" / "authority.pem").read_bytes()
    assert [
        secret for secret in secrets if any(secret in data for data in handed_out) and secret not in public
    ] == []
    assert not any(b"PRIVATE KEY" in data for data in handed_out)


def test_private_files_are_their_owners_alone(whole: Federation) -> None:
    keys = [*whole.root.rglob("*.key"), whole.root / "authority" / "register.json"]

    assert len(keys) == 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in keys} == {0o700}


def test_a_key_that_others_may_read_is_not_used(federation: Federation) -> None:
    federation.request("north")
    (federation.folder("north") / "node.key").chmod(0o644)

    with pytest.raises(FederationError, match="chmod 600"):
        federation.request("north")


def test_keys_and_kits_are_never_overwritten(whole: Federation) -> None:
    before = (whole.folder("north") / "node.key").read_bytes()
    whole.request("north")
    register = whole.work.authority.load_register()

    with pytest.raises(RefusedError, match="not empty"):
        whole.work.hand_out(register, out=whole.root / "out-1", kits_for=["north"])
    assert (whole.folder("north") / "node.key").read_bytes() == before


def test_a_kit_is_taken_in_only_with_the_authoritys_words(federation: Federation) -> None:
    federation.certify(["coordinator"])
    kit, there = federation.root / "out-1" / "kits" / "coordinator", federation.root / "elsewhere"

    for words, said in ((None, "nobody compared it"), ("babi-babi", "other words")):
        with pytest.raises(FederationError, match=said):
            accept_kit(kit, there, words=words)
    assert not there.exists()


def test_another_authoritys_kit_is_refused_where_one_is_pinned(whole: Federation, tmp_path: Path) -> None:
    other = open_authority(tmp_path / "forger", federation="sleep", now=NOW)
    forged = Federation(tmp_path / "theirs", type(whole.work)(other, whole.work.charter, NOW))
    forged.root.mkdir()
    forged.certify(["north"])

    with pytest.raises(FederationError, match="another authority"):
        accept_kit(forged.root / "out-1" / "kits" / "north", whole.folder("north"), words=other.words)


def test_a_kit_with_a_key_in_it_is_refused(whole: Federation) -> None:
    """Such a file would stand where the site looks for the key that it made."""
    kit = whole.root / "out-1" / "kits" / "north"
    (kit / "node.key").write_text("somebody else's")

    with pytest.raises(RefusedError, match=r"holds node\.key"):
        accept_kit(kit, whole.folder("north"), words=None)


def test_an_older_edition_is_refused(whole: Federation) -> None:
    work = whole.later(days=1)
    work.hand_out(work.renew("north"), out=whole.root / "newer", kits_for=["north"])
    accept_kit(whole.root / "newer" / "kits" / "north", whole.folder("north"), words=None)

    with pytest.raises(FederationError, match="edition 1 and edition 2 is here"):
        accept_kit(whole.root / "out-1" / "kits" / "north", whole.folder("north"), words=None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("[sites.north]", "[sites.south]", id="another name"),
        pytest.param("edition = 1", "edition = 9", id="another edition"),
        pytest.param('"fed.example.org:8443"', '"evil.example.org:8443"', id="another address"),
    ],
)
def test_a_tampered_roster_is_not_used(whole: Federation, old: str, new: str) -> None:
    path = whole.folder("north") / "federation.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    with pytest.raises(FederationError, match="not what the authority signed"):
        load_roster(path.parent)


def test_the_list_of_revoked_does_not_pass_for_a_roster(whole: Federation) -> None:
    folder = whole.folder("north")
    (folder / "federation.toml").write_bytes((folder / "revoked.toml").read_bytes())

    with pytest.raises(FederationError, match="not what the authority signed"):
        load_roster(folder)


def test_the_page_of_a_kit_says_when_it_expires(whole: Federation) -> None:
    page = (whole.root / "out-1" / "kits" / "north" / "README.md").read_text()
    member = load_roster(whole.folder("north")).sites["north"]

    assert f"It expires on {member.not_after:%d %B %Y, %H:%M} UTC" in page
    assert whole.work.authority.words in page


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "sleep"', 'name = "../sleep"', "cannot name a participant"),
        ('"east"]', '"NORTH"]', "one name to two"),
        ("valid_days = 100", "valid_days = 4000", "from 1 to 825"),
        ("valid_days = 100", "validdays = 100", "unknown key 'validdays'"),
        ('"fed.example.org:8443"', '"fed.example.org"', "host:port"),
        ("[coordinator]", "[other]", "unknown key 'other'"),
        ('name = "sleep"', 'name = "', "not TOML"),
    ],
)
def test_a_charter_is_refused_by_what_is_wrong_in_it(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "FEDERATION.toml").write_text(CHARTER.replace(old, new))

    with pytest.raises(FederationFileError, match=said):
        load_charter(tmp_path / "FEDERATION.toml")


def test_an_authority_without_its_key_is_not_begun_anew(whole: Federation) -> None:
    """A second authority in the same folder would leave everybody with a pinned one that nobody has."""
    (whole.root / "authority" / "authority.key").unlink()

    with pytest.raises(RefusedError, match="lost its key"):
        open_authority(whole.root / "authority", federation="sleep", now=NOW)


def test_a_request_is_the_same_again(federation: Federation) -> None:
    first, second = federation.request("north"), federation.request("north")

    assert isinstance(first, MembershipRequest)
    assert first.words == second.words
