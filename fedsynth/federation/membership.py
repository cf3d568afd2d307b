"""Requests to be certified: what a participant sends to the authority, from keys that it made and keeps.

A request holds public keys and, for each, a signature by its private half over all of them. It says nothing that is
secret, and proves nothing about who sent it: that is what the twelve words are for, which people compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import FederationError, FederationFileError
from fedsynth.federation import keys
from fedsynth.federation.files import canonical, make_folder, read, read_json
from fedsynth.federation.names import check_name
from fedsynth.federation.words import fingerprint

Role = Literal["site", "coordinator"]
TLS_KEY, NODE_KEY = "tls.key", "node.key"
_TYPE = "fedsynth membership request v1"


@dataclass(frozen=True)
class MembershipRequest:
    """Who asks, with which public keys. `tls` is PEM, `node` a line of OpenSSH, `identity` 32 raw bytes.

    A coordinator has no node key; its `identity` signs requests to sites.
    """

    role: Role
    name: str
    tls: str
    identity: bytes
    node: str = ""

    @property
    def statement(self) -> bytes:
        """Return what each private key signs."""
        return _TYPE.encode() + b"\n" + canonical(self._body())

    @property
    def words(self) -> str:
        """Return the fingerprint that the participant reads out, in words."""
        return fingerprint(self.statement)

    def to_json(self, proofs: Mapping[str, bytes]) -> bytes:
        """Write the request with its proofs of possession."""
        made = {name: proof.hex() for name, proof in proofs.items()}
        return canonical({"type": _TYPE, **self._body(), "proofs": made}) + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "MembershipRequest":
        """Read a request and check that whoever made it holds every private key.

        Raises:
            FederationFileError: malformed.
            FederationError: a proof of possession does not hold.
        """
        raw = read_json(data, what="the request")
        if raw.get("type") != _TYPE or raw.get("role") not in ("site", "coordinator"):
            raise FederationFileError("this is no request for membership, or one of another version of fedsynth")
        wanted = {"tls", "identity", *({"node"} if raw["role"] == "site" else ())}
        found, proofs = raw.get("keys"), raw.get("proofs")
        if (
            not isinstance(found, dict)
            or not isinstance(proofs, dict)
            or set(found) != wanted
            or set(proofs) != wanted
        ):
            raise FederationFileError(f"a request of a {raw['role']} holds the keys {', '.join(sorted(wanted))}")
        request = cls(
            role=raw["role"],
            name=check_name(raw.get("name")),
            tls=str(found["tls"]),
            identity=keys.from_hex(found["identity"], size=32, what="the signing key of the request"),
            node=str(found.get("node", "")),
        )
        request._check_possession(proofs)
        return request

    def _body(self) -> dict[str, Any]:
        found = {"tls": self.tls, "identity": self.identity.hex()}
        if self.role == "site":
            found["node"] = self.node
        return {"role": self.role, "name": self.name, "keys": found}

    def _check_possession(self, proofs: Mapping[str, Any]) -> None:
        for name in ("tls", "node"):
            text = self.tls if name == "tls" else self.node
            if not text:
                continue
            key = keys.public_ec(text, what=f"the {name} key of the request")
            again = keys.pem_of(key) if name == "tls" else keys.openssh_line(key)
            if again.strip() != text.strip():
                raise FederationFileError(f"the {name} key of the request is not written as fedsynth writes it")
            if not keys.made_by_ec(key, _bytes(proofs[name]), self.statement):
                raise FederationError(_unproven(self.name, name))
        if not keys.made_by(self.identity, _bytes(proofs["identity"]), self.statement):
            raise FederationError(_unproven(self.name, "signing"))


def load_membership(path: Path) -> MembershipRequest:
    """Read a request from a file.

    Raises:
        FederationFileError: missing or malformed.
        FederationError: a proof of possession does not hold.
    """
    return MembershipRequest.from_json(read(path, what=f"the request {path.name}"))


def make_membership(folder: Path, *, role: Role, name: str, identity: Path) -> tuple[MembershipRequest, bytes]:
    """Make the keys that are missing in a folder and return the request, to be read and to be sent.

    Keys that are there are used again, so that a request that got lost can be written once more.

    Args:
        folder: of the private keys, made for its owner alone.
        role: of the participant.
        name: as the federation's file has it.
        identity: the Ed25519 key to sign with, made where missing.

    Raises:
        FederationFileError: a name that is none, or a key file that is none.
        FederationError: a key that others may read.
    """
    check_name(name)
    make_folder(folder)
    for path, make in _makers(folder, role=role, identity=identity).items():
        if not path.exists():
            make(path)
    tls = keys.load_ec(folder / TLS_KEY, what="the TLS key")
    signing = keys.load_signing_key(identity, what="the signing key")
    node = keys.load_ec(folder / NODE_KEY, what="the node key") if role == "site" else None
    request = MembershipRequest(
        role=role,
        name=name,
        tls=keys.pem_of(tls.public_key()),
        identity=_public(signing),
        node=keys.openssh_line(node.public_key()) if node else "",
    )
    proofs = {"tls": keys.sign_ec(tls, request.statement), "identity": signing.sign(request.statement)}
    if node:
        proofs["node"] = keys.sign_ec(node, request.statement)
    return request, request.to_json(proofs)


def _makers(folder: Path, *, role: Role, identity: Path) -> dict[Path, Any]:
    node = {folder / NODE_KEY: keys.new_node_key} if role == "site" else {}
    return {folder / TLS_KEY: keys.new_tls_key, identity: keys.new_signing_key, **node}


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _bytes(text: Any) -> bytes:
    try:
        return bytes.fromhex(str(text))
    except ValueError:
        return b""


def _unproven(name: str, key: str) -> str:
    return (
        f"the request of {name} does not prove that its sender holds the {key} key; nobody was certified. Ask "
        f"{name} for its request again, on another way"
    )
