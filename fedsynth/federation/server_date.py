"""The coordinator's clock: one request over TLS, whose answer's date is compared with this machine's."""

import http.client
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from fedsynth.errors import FederationError
from fedsynth.federation.kit import CERTIFICATE
from fedsynth.federation.membership import TLS_KEY
from fedsynth.federation.names import host_and_port
from fedsynth.federation.roster import AUTHORITY

_PATIENCE = 10.0  # seconds
_NOT_YET_VALID, _EXPIRED, _UNKNOWN_ISSUER = 9, 10, (18, 19, 20, 21)  # of X509_verify_cert


def server_date(folder: Path, address: str, *, environment: Mapping[str, str]) -> datetime:
    """Ask the coordinator's server for its date, as a member, through the proxy where there is one.

    Args:
        folder: with this member's certificate and key, and the authority's certificate.
        address: "host:port".
        environment: for the proxy that it names.

    Raises:
        FederationError: nobody answers, the server is not the one that the authority certified, or no date came.
    """
    host, port = host_and_port(address)
    context = ssl.create_default_context(cafile=str(folder / AUTHORITY))
    context.load_cert_chain(folder / CERTIFICATE, folder / TLS_KEY)
    proxy = proxy_for(host, environment)
    place = proxy or (host, port)
    connection = http.client.HTTPSConnection(*place, timeout=_PATIENCE, context=context)
    if proxy:
        connection.set_tunnel(host, port)
    try:
        connection.request("HEAD", "/")
        date = connection.getresponse().getheader("Date")
    except ssl.SSLCertVerificationError as error:
        raise FederationError(f"{address}: {_why(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        through = " through the proxy" if proxy else ""
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FederationError(
            f"{address} cannot be reached{through} ({said}); ask your network's people to allow outgoing TLS to it"
        ) from error
    finally:
        connection.close()
    try:
        return parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, TypeError) as error:
        raise FederationError(f"{address} answers without a date; the clock was not compared with its") from error


def proxy_for(host: str, environment: Mapping[str, str]) -> tuple[str, int] | None:
    """Return host and port of the proxy for a host, or None where none is used.

    Raises:
        FederationError: the variable holds no address; it is not repeated, for it may hold a password.
    """
    said = environment.get("HTTPS_PROXY") or environment.get("https_proxy") or ""
    if not said or is_exempt(host, environment):
        return None
    parts = urlsplit(said if "//" in said else f"//{said}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise FederationError("HTTPS_PROXY is no address; write http://host:port")
    return parts.hostname, port


def is_exempt(host: str, environment: Mapping[str, str]) -> bool:
    """Whether NO_PROXY names a host, or a domain that it is in."""
    said = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    names = [name.strip().lstrip(".") for name in said.split(",") if name.strip()]
    return any(name == "*" or host == name or host.endswith(f".{name}") for name in names)


def _why(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code in (_NOT_YET_VALID, _EXPIRED):
        when = "is not valid yet" if code == _NOT_YET_VALID else "has expired"
        return f"the server's certificate {when} by this machine's clock; set the clock, or have the kit renewed"
    if code in _UNKNOWN_ISSUER:
        return (
            "the server's certificate is not by the authority of your kit; somebody may be opening TLS on the way "
            "(inspection). Ask your network's people to let it through unopened"
        )
    return f"the server is not the one that the authority certified ({error.verify_message})"
