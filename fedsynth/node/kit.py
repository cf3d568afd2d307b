"""The kit: what a link needs of a coordinator, from the federation's folder of its site.

federation.toml    the roster; of it, [coordinator] address = "host:port"
authority.pem      the only certificate authority that is trusted
node.key           this node's private key, EC P-384
tls.pem, tls.key   the site's certificate and its key, where a proxy before the SuperLink asks for them
revoked.toml       who is revoked; with it, or a roster that is signed, standing is verified before every connection
"""

import ssl
import tomllib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fedsynth.errors import NodeError
from fedsynth.federation.keys import load_ec, openssh_line
from fedsynth.federation.names import host_and_port
from fedsynth.federation.roster import REVOKED, is_signed
from fedsynth.federation.standing import standing


@dataclass(frozen=True)
class Kit:
    """The coordinator's address, the node's key, and whom to trust."""

    address: str
    key: ec.EllipticCurvePrivateKey
    context: ssl.SSLContext


def load_kit(folder: Path) -> Kit:
    """Read a kit.

    Raises:
        NodeError: a file is missing, or is not what its name says.
        FederationFileError: as NodeError, of a key or of the roster.
        FederationError: this site has expired or is revoked, or the authority did not sign what is here.
    """
    key = load_ec(folder / "node.key", what="node.key")
    if (folder / REVOKED).exists() or is_signed(folder):
        standing(folder, node=openssh_line(key.public_key()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=folder / "authority.pem")
        if (folder / "tls.pem").exists():
            context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    except (OSError, ssl.SSLError) as error:
        raise NodeError(
            f"authority.pem, or tls.pem with its key, cannot be used ({type(error).__name__}); ask for a new kit"
        ) from None
    return Kit(_address(folder / "federation.toml"), key, context)


def _address(path: Path) -> str:
    try:
        address = str(tomllib.loads(path.read_text(encoding="utf-8"))["coordinator"]["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NodeError(
            f'federation.toml is missing or names no [coordinator] address = "host:port" ({type(error).__name__}); '
            "ask the coordinator for the kit"
        ) from None
    host_and_port(address)
    return address
