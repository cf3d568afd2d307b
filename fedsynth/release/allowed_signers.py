"""Who may sign: from an `allowed_signers` or `.pub` file to its keys, and from a key to whether it may sign now.

The format is OpenSSH's (ssh-keygen(1), ALLOWED SIGNERS; patterns as in ssh_config(5), PATTERNS). A line that
`ssh-keygen -Y verify` skips is skipped here, and no line allows more here than there. One thing is stricter: a
date is digits only, where glibc's strptime also takes blanks.

Only Ed25519 keys are kept, because releases are signed with nothing else. A line with `cert-authority` lets
certificates sign, and a release is never signed by one, so that its key signs nothing.
"""

import base64
import calendar
import re
import time
from dataclasses import dataclass

_BLOB_START = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
_KEY = re.compile(r"ssh-ed25519[ \t]+([^ \t]+)")
_OPTION = re.compile(
    r'(cert-authority)|(namespaces|valid-after|valid-before)="((?:\\"|\\(?!")|[^"\\])*)"', re.IGNORECASE
)
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z|UTC)?", re.IGNORECASE | re.ASCII)
_LONGEST_PATTERN = 1022
"""OpenSSH cuts patterns into a buffer of 1024 bytes; a list with a longer one matches nothing."""


@dataclass(frozen=True)
class Signer:
    """One line of the file: an Ed25519 key (32 bytes), and what limits it.

    `identities` and `namespaces` are lists of patterns; None is no limit. Times are seconds since 1970, 0 for none.
    """

    key: bytes
    identities: str
    authority: bool = False
    namespaces: str | None = None
    valid_after: int = 0
    valid_before: int = 0

    def objection(self, *, identity: str, namespace: str, now: float) -> str | None:
        """Say why this line does not let its key sign at `now`; None if it does."""
        if not matches(identity, self.identities):
            return f"its line is for other identities than {identity}"
        if self.authority:
            return "its line is a certificate authority's, which signs certificates and no release"
        if self.namespaces is not None and not matches(namespace, self.namespaces):
            return f"its line is for other namespaces than {namespace}"
        if self.valid_after and int(now) < self.valid_after:
            return f"it is valid only after {_moment(self.valid_after)}"
        if self.valid_before and int(now) > self.valid_before:
            return f"it was valid only before {_moment(self.valid_before)}"
        return None


def parse_signers(data: bytes) -> tuple[Signer, ...]:
    """Read every line that names an Ed25519 key and that OpenSSH would read.

    A file whose only line is a bare public key, as `ssh-keygen` writes to `.pub`, is one signer without limits.
    Comments and blank lines are skipped, wherever a key may stand in them.

    >>> parse_signers(b"# fedsynth-release ssh-ed25519 AAAA")
    ()
    """
    # A byte a letter: OpenSSH compares bytes, and a C string ends at its first zero.
    lines = [line.partition("\0")[0].lstrip(" \t") for line in data.decode("latin-1").split("\n")]
    lines = [line for line in lines if line.strip(" \t\r") and not line.startswith("#")]
    if len(lines) == 1 and (bare := _read_key(lines[0])) is not None:
        return (Signer(bare, identities="*"),)
    return tuple(signer for line in lines if (signer := _read_line(line)) is not None)


def matches(text: str, patterns: str) -> bool:
    """Whether a list of patterns (commas; `*`, `?`, and `!` for "not") has the text.

    >>> matches("fedsynth-release", "*-release,!eeg-*"), matches("eeg-release", "*-release,!eeg-*")
    (True, False)
    """
    found = False
    for pattern in patterns.split(","):
        negated, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        if len(pattern) > _LONGEST_PATTERN:
            return False
        if _matches_one(text, pattern):
            if negated:
                return False
            found = True
    return found


def _matches_one(text: str, pattern: str) -> bool:
    """Match one pattern in time proportional to both lengths: `ends` are the places in it reached so far."""
    reached = _after_stars({0}, pattern)
    for letter in text:
        stepped = {
            place if pattern[place] == "*" else place + 1 for place in reached if _takes(pattern, place, letter)
        }
        reached = _after_stars(stepped, pattern)
    return len(pattern) in reached


def _takes(pattern: str, place: int, letter: str) -> bool:
    return place < len(pattern) and pattern[place] in ("*", "?", letter)


def _after_stars(places: set[int], pattern: str) -> set[int]:
    """Add the places behind stars, which may stand for nothing."""
    found = set(places)
    for place in places:
        while place < len(pattern) and pattern[place] == "*":
            place += 1
            found.add(place)
    return found


def _read_line(line: str) -> Signer | None:
    """Read identities, options if there are any, and a key."""
    word = _first_word(line)
    if word is None:
        return None
    identities, rest = word
    key = _read_key(rest)
    if key is not None:
        return Signer(key, identities)
    end = _end_of_options(rest)
    if end is None:
        return None
    key, options = _read_key(rest[end:].lstrip(" \t")), _read_options(rest[:end])
    if key is None or options is None:
        return None
    after, before = (_seconds(options.get(name)) for name in ("valid-after", "valid-before"))
    if after is None or before is None or (after and before and before <= after):
        return None
    return Signer(
        key,
        identities,
        authority="cert-authority" in options,
        namespaces=options.get("namespaces"),
        valid_after=after,
        valid_before=before,
    )


def _first_word(line: str) -> tuple[str, str] | None:
    """Cut the identities, which may be quoted as a whole or from some letter on."""
    found = re.search(r'[ \t\r\n"]', line)
    if found is None:
        return None
    word, rest = line[: found.start()], line[found.end() :]
    if found[0] == '"':
        quoted, closing, rest = rest.partition('"')
        if not closing:
            return None
        word += quoted
    return word, rest.lstrip(" \t\r\n")


def _end_of_options(text: str) -> int | None:
    """Return where the first blank outside quotes stands; None if a quote is not closed."""
    quoted, place = False, 0
    while place < len(text) and (quoted or text[place] not in " \t"):
        if text.startswith('\\"', place):
            place += 1
        elif text[place] == '"':
            quoted = not quoted
        place += 1
    return None if quoted else place


def _read_options(text: str) -> dict[str, str] | None:
    """Read `name`, `name="value"` and commas; None for anything unknown, repeated or left open."""
    options: dict[str, str] = {}
    while text:
        found = _OPTION.match(text)
        if found is not None:
            name = (found[1] or found[2]).lower()
            if found[2] and name in options:
                return None
            options[name] = (found[3] or "").replace('\\"', '"')
            text = text[found.end() :]
        if text:
            if not text.startswith(",") or text == ",":
                return None
            text = text[1:]
    return options


def _read_key(text: str) -> bytes | None:
    """Read an Ed25519 key at the start of the text: its 32 bytes, or None."""
    found = _KEY.match(text)
    if found is None:
        return None
    text = re.sub(r"[\n\v\f\r]", "", found[1])
    try:
        blob = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    # Python's decoder lets "=" pass behind what is whole.
    whole = len(text) == 68 and len(blob) == 51 and blob.startswith(_BLOB_START)
    return blob[19:] if whole else None


def _seconds(text: str | None) -> int | None:
    """Read YYYYMMDD[HHMM[SS]][Z] as seconds since 1970: 0 where nothing is said, None where it is no time."""
    if text is None:
        return 0
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 62):
        return None
    try:
        if found[7]:
            moment = calendar.timegm((year, month, day, hour, minute, second))
        else:  # the reader's own time zone, winter time: so does OpenSSH
            moment = int(time.mktime((year, month, day, hour, minute, second, 0, 0, 0)))
    except (ValueError, OverflowError):
        return None
    return moment if moment > 0 else None


def _moment(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds after 1970"
