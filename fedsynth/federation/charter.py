"""The charter: `FEDERATION.toml`, which a person writes, as a frozen page.

name = "sleep-stages"
sites = ["north", "east", "south"]
valid_days = 365

[coordinator]
name = "coordinator"
addresses = ["federation.example.org:443"]
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsynth.errors import FederationFileError
from fedsynth.federation.files import read, read_toml
from fedsynth.federation.names import check_name, host_and_port

_KEYS, _COORDINATOR_KEYS = {"name", "sites", "valid_days", "coordinator"}, {"name", "addresses"}
_MOST_DAYS = 825
"""Longer than two years and a quarter no certificate should live; Apple's and the CA/Browser Forum's old bound."""


@dataclass(frozen=True)
class Charter:
    """Who may be certified: sites by name, a coordinator with its addresses, and for how many days."""

    name: str
    sites: tuple[str, ...]
    coordinator: str
    addresses: tuple[str, ...]
    valid_days: int

    @property
    def participants(self) -> tuple[str, ...]:
        """Return every name, the coordinator's first."""
        return (self.coordinator, *self.sites)


def load_charter(path: Path) -> Charter:
    """Read a charter.

    Raises:
        FederationFileError: unreadable, an unknown or missing key, a name or address that is none, or given twice.
    """
    what = path.name
    raw = read_toml(read(path, what=what), what=what)
    _only(raw, _KEYS, what=what)
    coordinator = raw.get("coordinator")
    if not isinstance(coordinator, dict):
        raise FederationFileError(f"{what} needs a table [coordinator] with its addresses")
    _only(coordinator, _COORDINATOR_KEYS, what=f"[coordinator] of {what}")
    days = raw.get("valid_days", 365)
    if type(days) is not int or not 1 <= days <= _MOST_DAYS:
        raise FederationFileError(f"valid_days of {what} is {days!r}; it is a whole number from 1 to {_MOST_DAYS}")
    charter = Charter(
        name=check_name(raw.get("name")),
        sites=tuple(check_name(site) for site in _texts(raw, "sites", what=what)),
        coordinator=check_name(coordinator.get("name", "coordinator")),
        addresses=_texts(coordinator, "addresses", what=f"[coordinator] of {what}"),
        valid_days=days,
    )
    for address in charter.addresses:
        host_and_port(address)
    if len({name.lower() for name in charter.participants}) != len(charter.participants):
        raise FederationFileError(
            f"{what} gives one name to two participants (capital letters do not tell them apart)"
        )
    return charter


def _only(table: dict[str, Any], known: set[str], *, what: str) -> None:
    for key in table:
        if key not in known:
            raise FederationFileError(f"{what} has the unknown key {key!r}; known are {', '.join(sorted(known))}")


def _texts(table: dict[str, Any], key: str, *, what: str) -> tuple[str, ...]:
    found = table.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise FederationFileError(f"{what} needs {key!r}, a list of texts with at least one")
    return tuple(found)
