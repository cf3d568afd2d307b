"""Standing: certified, not expired, not revoked; by name and by node key, from files that are read each time."""

from datetime import timedelta

import pytest
from cryptography import x509

from fedsynth.errors import FederationError, FederationFileError
from fedsynth.federation.kit import accept_kit
from fedsynth.federation.roster import load_roster
from fedsynth.federation.standing import standing

from .conftest import NOW, Federation

SOON = NOW + timedelta(days=1)


def node_of(federation: Federation, name: str) -> str:
    return load_roster(federation.folder("coordinator")).sites[name].node


def tell(federation: Federation, out: str) -> None:
    """Have the coordinator take in what was handed out."""
    accept_kit(federation.root / out / "notice", federation.folder("coordinator"), words=None)


def test_members_stand_by_name_and_by_node_key(whole: Federation) -> None:
    folder = whole.folder("coordinator")

    assert standing(folder, name="north", now=SOON).name == "north"
    assert standing(folder, node=f"{node_of(whole, 'east')} a comment", now=SOON).name == "east"
    assert standing(folder, name="coordinator", now=SOON).role == "coordinator"


def test_a_revoked_member_is_refused_as_soon_as_the_notice_is_there(whole: Federation) -> None:
    node, folder = node_of(whole, "north"), whole.folder("coordinator")
    work = whole.later(days=1)
    work.hand_out(work.revoke("north", reason="a stolen laptop"), out=whole.root / "later", kits_for=[])
    assert standing(folder, name="north", now=SOON).name == "north"
    tell(whole, "later")

    for who in ({"name": "north"}, {"node": node}):
        with pytest.raises(FederationError, match="was revoked"):
            standing(folder, **who, now=SOON)  # type: ignore[arg-type]
    assert standing(folder, name="east", now=SOON).name == "east"
    revoked = x509.load_pem_x509_crl((folder / "revoked.pem").read_bytes())
    assert [f"{one.serial_number:x}" for one in revoked] == [
        one.serial for one in whole.work.authority.load_register().revoked
    ]
    assert (folder / "revoked-nodes.txt").read_text().split("\n")[0] == node
    assert not (folder / "nodes" / "north.pub").exists()


def test_an_old_roster_beside_a_newer_list_refuses_the_revoked(whole: Federation) -> None:
    """Somebody who keeps the old roster back cannot keep the revocation back by it."""
    folder = whole.folder("coordinator")
    old = (folder / "federation.toml").read_bytes()
    whole.work.hand_out(whole.work.revoke("north", reason="lost"), out=whole.root / "later", kits_for=[])
    tell(whole, "later")
    (folder / "federation.toml").write_bytes(old)

    with pytest.raises(FederationError, match="north was revoked on"):
        standing(folder, name="north", now=SOON)


def test_an_old_list_beside_a_newer_roster_is_refused(whole: Federation) -> None:
    folder = whole.folder("coordinator")
    old = (folder / "revoked.toml").read_bytes()
    whole.work.hand_out(whole.work.revoke("north", reason="lost"), out=whole.root / "later", kits_for=[])
    tell(whole, "later")
    (folder / "revoked.toml").write_bytes(old)

    with pytest.raises(FederationError, match="nobody is believed"):
        standing(folder, name="east", now=SOON)


@pytest.mark.parametrize(
    ("days", "said"),
    [
        pytest.param(99.99, "", id="a quarter of an hour before the end"),
        pytest.param(100.0, "expired", id="at the end"),
        pytest.param(-1.0, "set the clock", id="a clock of yesterday"),
    ],
)
def test_a_certificate_holds_between_its_dates(whole: Federation, days: float, said: str) -> None:
    folder, now = whole.folder("north"), NOW + timedelta(days=days)

    if not said:
        assert standing(folder, name="coordinator", now=now).name == "coordinator"
        return
    with pytest.raises(FederationError, match=said):
        standing(folder, name="coordinator", now=now)


def test_a_renewed_member_stands_longer_with_the_keys_that_it_has(whole: Federation) -> None:
    node, work = node_of(whole, "north"), whole.later(days=60)
    work.hand_out(work.renew("north"), out=whole.root / "later", kits_for=["north"])
    tell(whole, "later")

    found = standing(whole.folder("coordinator"), node=node, now=NOW + timedelta(days=150))

    assert (found.name, (found.not_after - NOW).days) == ("north", 160)


def test_rotated_keys_stand_and_the_old_ones_do_not(whole: Federation) -> None:
    old = node_of(whole, "north")
    for path in (*whole.folder("north").glob("*.key"), whole.root / "north" / "identity.key"):
        path.unlink()
    request = whole.request("north")
    with pytest.raises(FederationError, match="the words said for north"):
        whole.work.rotate(request, "babi-babi")
    register = whole.work.rotate(request, request.words)
    whole.work.hand_out(register, out=whole.root / "later", kits_for=["north"])
    tell(whole, "later")
    folder = whole.folder("coordinator")

    assert standing(folder, name="north", now=SOON).node == request.node != old
    with pytest.raises(FederationError, match="was revoked"):
        standing(folder, node=old, now=SOON)


def test_rotation_takes_new_keys_only(whole: Federation) -> None:
    request = whole.request("north")

    with pytest.raises(FederationError, match="a key that it had before"):
        whole.work.rotate(request, request.words)


def test_revoked_keys_are_not_certified_again(whole: Federation) -> None:
    whole.work.revoke("north", reason="lost")

    with pytest.raises(FederationError, match="that of a revoked certificate"):
        whole.work.read_requests(whole.root / "requests")


def test_nobody_else_stands(whole: Federation) -> None:
    with pytest.raises(FederationError, match="west is not a member"):
        standing(whole.folder("north"), name="west", now=SOON)


@pytest.mark.parametrize("name", ["federation.toml", "revoked.toml", "authority.pem"])
def test_a_missing_file_lets_nobody_through(whole: Federation, name: str) -> None:
    (whole.folder("north") / name).unlink()

    with pytest.raises(FederationFileError, match="cannot be read"):
        standing(whole.folder("north"), name="coordinator", now=SOON)
