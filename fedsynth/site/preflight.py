"""Preflight: everything about a site's machine that would fail later, named before anything runs.

Each check is one sentence, and one that fails says what to do. Nothing is opened that is about people, and nothing
is told to anybody but the date asked of the coordinator's server.
"""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedsynth.errors import FedsynthError
from fedsynth.federation import keys
from fedsynth.federation.files import read, text_of
from fedsynth.federation.kit import CERTIFICATE, LOCK
from fedsynth.federation.membership import NODE_KEY, TLS_KEY
from fedsynth.federation.roster import load_authority, load_certificate, load_roster
from fedsynth.federation.server_date import is_exempt, proxy_for, server_date
from fedsynth.federation.standing import standing
from fedsynth.site.consent import FEDERATION, IDENTITY, identity_of
from fedsynth.site.policy import Policy, load_policy
from fedsynth.site.standing import open_ledger
from fedsynth.source_code import version_of

LEAST_ROOM = 2 * 1024**3
"""Bytes that the disks of a site and of its ledger must have left."""
_AHEAD, _BEHIND = timedelta(seconds=5), timedelta(seconds=300)
"""Flower 1.41 refused a node whose clock was 8 s ahead or 400 s behind."""
_PACKAGES = (
    "fedsynth",
    "flwr",
    "torch",
    "opacus",
    "dp-accounting",
    "cryptography",
    "numpy",
    "pydantic",
    "safetensors",
)
_MUST_BE_THERE = frozenset({"fedsynth", "flwr", "torch"})
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is as it must be, and one sentence about it."""

    name: str
    passed: bool
    said: str


@dataclass(frozen=True)
class Machine:
    """What the checks look at; tests put something else in its place.

    `date_of` asks the coordinator's server at an address for its date, and is None to ask nobody.
    """

    folder: Path
    now: datetime
    environment: Mapping[str, str]
    date_of: Callable[[str], datetime] | None
    least_room: int = LEAST_ROOM


def this_machine(folder: Path, *, offline: bool = False, least_room: int = LEAST_ROOM) -> Machine:
    """Return the machine that this process runs on."""

    def ask(address: str) -> datetime:
        return server_date(folder / FEDERATION, address, environment=os.environ)

    return Machine(folder, datetime.now(UTC), os.environ, None if offline else ask, least_room)


def preflight(machine: Machine) -> tuple[Check, ...]:
    """Look at everything; a check that cannot be made has failed."""
    try:
        policy = load_policy(machine.folder)
    except FedsynthError as error:
        return (Check("rules", passed=False, said=str(error)),)
    checks: dict[str, Callable[[Machine, Policy], str]] = {
        "authority": _authority,
        "name": _name,
        "clock": _clock,
        "proxy": _proxy,
        "coordinator": _coordinator,
        "permissions": _permissions,
        "disk": _disk,
        "ledger": _ledger,
        "versions": _versions,
    }
    done = [Check("rules", passed=True, said=f"site.toml is read; this site is {policy.name}")]
    first: dict[str, str] = {}  # the check that a sentence was said at
    for name, look in checks.items():
        try:
            done.append(Check(name, passed=True, said=look(machine, policy)))
            continue
        except (_FindingError, FedsynthError) as error:
            said = str(error)
        except OSError as error:
            said = f"the system refused: {error.strerror}; ask its people why"
        before = first.setdefault(said, name)
        done.append(
            Check(name, passed=False, said=said if before == name else f"cannot be seen before {before} is")
        )
    return tuple(done)


class _FindingError(Exception):
    """A check's finding, as a sentence."""


def _authority(machine: Machine, policy: Policy) -> str:  # noqa: ARG001
    place = machine.folder / FEDERATION
    if not place.exists():
        raise _FindingError("there is no kit; take one in by fedsynth site init SITE --kit KIT")
    roster, certificate = load_roster(place), load_authority(place)
    if machine.now >= certificate.not_valid_after_utc:
        raise _FindingError(
            f"the authority expired on {text_of(certificate.not_valid_after_utc)}; ask for a new kit"
        )
    return f"edition {roster.edition} of federation {roster.name} is what the pinned authority signed"


def _name(machine: Machine, policy: Policy) -> str:
    """Hold the three keys here against the roster, which says whose they are."""
    place, name = machine.folder / FEDERATION, policy.name
    member = standing(place, name=name, now=machine.now)
    node = keys.load_ec(place / NODE_KEY, what="the node key")
    if keys.openssh_line(node.public_key()) != member.node:
        raise _FindingError(
            f"the node key here is not that of {name} in the roster; ask for a rotation, or restore the key"
        )
    if identity_of(machine.folder).public_key().public_bytes_raw() != member.identity:
        raise _FindingError(
            f"the signing key here is not that of {name} in the roster; ask for a rotation, or restore it"
        )
    certificate, own = load_certificate(place / CERTIFICATE), keys.load_ec(place / TLS_KEY, what="the TLS key")
    if certificate.public_key() != own.public_key() or f"{certificate.serial_number:x}" != member.serial:
        raise _FindingError(
            f"the certificate here is not the one that the roster has for {name}; take in your newest kit"
        )
    left = (member.not_after - machine.now).days
    return f"{name} is certified until {text_of(member.not_after)}, {left} days from now"


def _clock(machine: Machine, policy: Policy) -> str:  # noqa: ARG001
    roster = load_roster(machine.folder / FEDERATION)
    if machine.now < roster.issued - _BEHIND:
        raise _FindingError(
            f"this machine's clock says {text_of(machine.now)}, and the roster was signed on "
            f"{text_of(roster.issued)}: the clock is behind. Set it, and keep it set (chrony or systemd-timesyncd)"
        )
    if machine.date_of is None:
        return f"{text_of(machine.now)} is after the roster was signed; it was not compared with the coordinator's"
    try:
        there = machine.date_of(roster.addresses[0])
    except FedsynthError:
        return f"{text_of(machine.now)} is after the roster was signed; the coordinator's could not be asked"
    off = machine.now - there
    if off > _AHEAD or -off > _BEHIND:
        word, by = ("ahead of", off) if off > timedelta() else ("behind", -off)
        raise _FindingError(
            f"this machine's clock is {by.total_seconds():.0f} s {word} the coordinator's, which refuses that. Set "
            "it, and keep it set (chrony or systemd-timesyncd)"
        )
    return f"within {abs(off.total_seconds()):.0f} s of the coordinator's"


def _proxy(machine: Machine, policy: Policy) -> str:  # noqa: ARG001
    roster = load_roster(machine.folder / FEDERATION)
    host = roster.addresses[0].rpartition(":")[0]
    found = proxy_for(host, machine.environment)
    some = any(machine.environment.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"))
    if some and not is_exempt("127.0.0.1", machine.environment):
        raise _FindingError(
            "a proxy is set and NO_PROXY does not name 127.0.0.1, so that processes of this site would ask the "
            "proxy for one another; add 127.0.0.1,localhost to NO_PROXY"
        )
    if machine.environment.get("ALL_PROXY") or machine.environment.get("all_proxy"):
        raise _FindingError(
            "ALL_PROXY is set, which not every program reads alike; set HTTPS_PROXY and NO_PROXY in its place"
        )
    return f"the coordinator is reached through the proxy at port {found[1]}" if found else "no proxy is used"


def _coordinator(machine: Machine, policy: Policy) -> str:  # noqa: ARG001
    place = machine.folder / FEDERATION
    roster = load_roster(place)
    if roster.coordinator is None:
        raise _FindingError("the roster names no coordinator yet; ask the authority for a newer kit")
    standing(place, name=roster.coordinator.name, now=machine.now)
    if machine.date_of is None:
        return f"{roster.coordinator.name} is certified; it was not asked"
    machine.date_of(roster.addresses[0])
    return f"{roster.coordinator.name} answers at {roster.addresses[0]}, and is who the authority certified"


def _permissions(machine: Machine, policy: Policy) -> str:
    """Refuse private files that others may read, and places that this user may not write to."""
    folder = machine.folder
    private = [folder / IDENTITY, *(folder / FEDERATION / name for name in (NODE_KEY, TLS_KEY))]
    private += [*(folder / policy.ledger).glob("ledger.key"), *(folder / "holdings").glob("*.windows")]
    for path in private:
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise _FindingError(f"{path.name} can be read by others; chmod 600 {path.name}, and ask who read it")
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        raise _FindingError("the site's folder can be entered by others; chmod 700 it")
    for place in (folder, folder / policy.ledger, (folder / policy.ledger_head).parent):
        there = _there(place)
        if not os.access(there, os.W_OK | os.X_OK):
            raise _FindingError(f"this user may not write to {there}; give it to the site's user")
    return "private files are their owner's alone, and all places can be written to"


def _disk(machine: Machine, policy: Policy) -> str:
    folder, least = machine.folder, machine.least_room
    places = {"site": folder, "ledger": folder / policy.ledger}
    if policy.ledger_head:
        places["ledger's head"] = (folder / policy.ledger_head).parent
    for name, place in places.items():
        free = shutil.disk_usage(_there(place)).free
        if free < least:
            raise _FindingError(
                f"the disk of the {name} has {free / 1024**3:.1f} GiB left and {least / 1024**3:.1f} are needed; a "
                "charge that cannot be written stops a study. Make room"
            )
    same = not policy.ledger_head or _device(folder / policy.ledger) == _device(
        (folder / policy.ledger_head).parent
    )
    head = (
        "the ledger's head is on the same disk as the ledger; another one is better (ledger_head)" if same else ""
    )
    return head or "there is room, and the ledger's head is on another disk"


def _ledger(machine: Machine, policy: Policy) -> str:
    if not (machine.folder / policy.ledger / "ledger.sqlite").exists() and not policy.ledger_head:
        return "there is no ledger yet; the first recordings that are ingested begin one"
    with open_ledger(machine.folder, policy) as ledger:
        return f"the ledger is whole, with {len(ledger)} lines"


def _versions(machine: Machine, policy: Policy) -> str:  # noqa: ARG001
    place = machine.folder / FEDERATION
    found = {name: version_of(name) for name in _PACKAGES}
    gone = sorted(name for name in _MUST_BE_THERE if found[name] == "not installed")
    if gone:
        raise _FindingError(
            f"{' and '.join(gone)} is not installed; install fedsynth with all extras from the lock file"
        )
    if not (place / LOCK).exists():
        return f"fedsynth {found['fedsynth']}, flwr {found['flwr']}; the kit brings no lock to compare them with"
    data = read(place / LOCK, what=LOCK)
    if hashlib.sha256(data).hexdigest() != load_roster(place).lock_sha256:
        raise _FindingError(f"{LOCK} is not the lock file that the authority signed for; take in the kit again")
    pins = {
        name.lower().replace("_", "-"): version for name, version in _PIN.findall(data.decode("utf-8", "replace"))
    }
    other = [
        f"{name} is {found[name]} and should be {pins[name]}" for name in _PACKAGES if _differs(name, found, pins)
    ]
    if other:
        raise _FindingError(f"{'; '.join(other)}. Install again from the lock file, with --require-hashes")
    return (
        f"fedsynth {found['fedsynth']}, flwr {found['flwr']} and torch {found['torch']} are those of the lock file"
    )


def _differs(name: str, found: Mapping[str, str], pins: Mapping[str, str]) -> bool:
    # What runs elsewhere than torch's CPU build has a suffix: 2.13.0+cu126 is 2.13.0.
    return name in pins and found[name] != "not installed" and found[name].split("+")[0] != pins[name].split("+")[0]


def _there(place: Path) -> Path:
    return next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())


def _device(place: Path) -> int:
    return _there(place).stat().st_dev
