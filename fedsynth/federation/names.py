"""Names of participants, and the addresses at which a coordinator is reached."""

import ipaddress
import re
from typing import Any

from cryptography import x509

from fedsynth.errors import FederationFileError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_LONGEST_HOST = 253


def check_name(name: Any) -> str:
    """Return a participant's name, which may also name a file.

    Raises:
        FederationFileError: it may not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FederationFileError(
            f"{str(name)[:70]!r} cannot name a participant: use up to 64 letters, digits, '_', '.', '-'"
        )
    return name


def host_and_port(address: Any) -> tuple[str, int]:
    """Take "host:port" apart.

    Raises:
        FederationFileError: it is none.

    >>> host_and_port("fed.example.org:443"), host_and_port("[::1]:8443")
    (('fed.example.org', 443), ('::1', 8443))
    """
    host, colon, port = str(address).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or not _is_host(host):
        raise FederationFileError(
            f"{str(address)[:80]!r} is no address; write host:port, for example 'federation.example.org:443'"
        )
    return host, int(port)


def subject_name(host: str) -> x509.GeneralName:
    """Return a host as it stands in a certificate's subjectAltName."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return len(host) <= _LONGEST_HOST and bool(_HOST.fullmatch(host))
    return True
