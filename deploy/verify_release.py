#!/usr/bin/env python3
"""Verify a fedsynth release with one file: Python 3.9 or newer, its standard library, and `cryptography`.

    python verify_release.py RELEASE --key publisher.pub

It says the same as `fedsynth verify`, and shares no line with it: two readings of one format, held against each
other by tests/release/test_vectors.py and the vectors in tests/release/vectors/. It keeps no file of ledgers
that were seen before (`fedsynth verify --seen`). Take this file from the project, never from the release.

Exit codes: 0 verified, 2 something given to it cannot be used, 4 the release is not what its publisher signed.

The format, all of it:

- `integrity/SHA256SUMS` lists every file but the three named here, as `sha256sum` does, sorted by path.
- `integrity/SHA256SUMS.sig` is an SSH signature over it (OpenSSH's PROTOCOL.sshsig), Ed25519 over SHA-512, in the
  namespace `fedsynth-release`.
- `integrity/release.dsse.json` is a DSSE envelope by the same key, and by every key that must countersign. Its
  payload is an in-toto statement: the same files and digests, the privacy promise, the study, the code, and where
  each site's ledger stood.
- Each of them has one way to be written. Anything else in the folder, or any other file, is a difference.
"""

from __future__ import annotations

import argparse
import base64
import calendar
import hashlib
import json
import math
import os
import re
import stat
import struct
import sys
import time
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NAME = "fedsynth-release"  # the signature's namespace, and the identity in an allowed_signers file
SUMS, SIGNATURE, ENVELOPE = "integrity/SHA256SUMS", "integrity/SHA256SUMS.sig", "integrity/release.dsse.json"
STATEMENT = "privacy/statement.json"
METRICS, ARCHIVE = "report/metrics.json", "data/ml/windows.npz"
OF_WINDOWS = ("private sum", "synthetic")
UNITS = ("window", "recording", "subject")
LARGEST_EPSILON, LEAST_NOISE = 20.0, 0.25  # beyond them nothing is private
AGREEMENT = 1e-3  # to which accountants agree with closed forms
PAYLOAD_TYPE = "application/vnd.in-toto+json"
TIME_PARTS = ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14))
LARGEST = 64 * 1024**2  # bytes of a file that is read into memory

# The signed statement, field by field: a type stands for a value of it, a list for any number of its one element.
SHAPE = {
    "_type": str,
    "subject": [{"name": str, "digest": {"sha256": str}}],
    "predicateType": str,
    "predicate": {
        "study": {"name": str, "digest": {"sha256": str}},
        "code": {"version": str, "digest": {"sha256": str}},
        "promise": {"epsilon": float, "delta": float, "unit": str, "adjacency": str, "trust": str},
        "ledgers": [{"site": str, "ledger_head": str, "ledger_length": int}],
        "publisher": {"name": str, "public_key": str},
        "countersignatures": {"required": [{"keyid": str, "public_key": str}]},
    },
}


class ReleaseError(Exception):
    """The release is not what its publisher signed."""


class InputError(Exception):
    """What was given to this program cannot be used."""


def verify(folder: Path, key_file: Path | None) -> dict:
    """Return the signed statement of a release that verifies; raise `ReleaseError` with the cause otherwise."""
    allowed = None if key_file is None else read_signers(key_file)

    # What stands in the folder. Nothing is opened, and no link is followed.
    files, odd = list_folder(folder)
    for path in (ENVELOPE, SUMS, SIGNATURE):
        if path not in files:
            raise ReleaseError(f"not a signed release: {path} is missing ({odd.get(path, 'there is nothing')})")

    # Who signed, and whether that key may.
    sums, armour, envelope = (read_file(folder, path) for path in (SUMS, SIGNATURE, ENVELOPE))
    signer, ssh_signature = parse_ssh_signature(armour)
    payload, signatures = parse_envelope(envelope)
    if allowed is not None:
        check_allowed(signer, allowed)

    # The two signatures, and that every byte around them is the only one possible.
    digest = hashlib.sha512(sums).digest()
    if not signed(signer, ssh_signature, b"SSHSIG" + pack(NAME.encode(), b"", b"sha512", digest)):
        raise ReleaseError(f"bad signature: {SUMS} is not what {fingerprint(signer)} signed")
    message = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    if not signed(signer, signatures.get(fingerprint(signer), b""), message):
        raise ReleaseError(f"bad signature: {ENVELOPE} is not what {fingerprint(signer)} signed")
    if write_envelope(payload, signatures) != envelope:
        raise ReleaseError(f"malformed: {ENVELOPE} is not written as it must be")
    attestation = parse_attestation(payload)
    said = attestation["predicate"]

    # Whose names the statement bears.
    if said["publisher"]["public_key"] != key_line(signer):
        raise ReleaseError("wrong key: the signed statement names another publisher's key")
    asked = {fingerprint(signer)}
    for entry in said["countersignatures"]["required"]:
        countersigner = parse_key_line(entry["public_key"])
        if countersigner is None or fingerprint(countersigner) != entry["keyid"]:
            raise ReleaseError("malformed: a countersigner's key and its fingerprint differ")
        asked.add(entry["keyid"])
        if not signed(countersigner, signatures.get(entry["keyid"], b""), message):
            word = "bad" if entry["keyid"] in signatures else "missing"
            raise ReleaseError(f"{word} countersignature: {entry['keyid']} must sign {ENVELOPE} too")
    if set(signatures) - asked:
        raise ReleaseError(f"malformed: {ENVELOPE} holds a signature that nobody asked for")

    # The files.
    listed = parse_sums(sums)
    if listed != [(entry["name"], entry["digest"]["sha256"]) for entry in attestation["subject"]]:
        raise ReleaseError(f"malformed: {SUMS} and the signed statement name different files or digests")
    differences = compare(folder, files, odd, dict(listed))
    if differences:
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise ReleaseError(f"not what was signed by {fingerprint(signer)}: {'; '.join(differences[:5])}{more}")

    # The promise that people read is the one that was signed.
    check_statement(folder, dict(listed), said)
    return {"signer": fingerprint(signer), "pinned": allowed is not None, "files": len(listed), **said}


# --- the folder ---------------------------------------------------------------------------------------------------


def list_folder(folder: Path) -> tuple[set[str], dict[str, str]]:
    """Return the regular files, and everything else that is no folder with something in it, by what it is."""
    if not folder.is_dir():
        raise ReleaseError("no release: the folder does not exist, or is not a folder")
    files, odd, waiting = set(), {}, [""]
    while waiting:
        prefix = waiting.pop()
        try:
            found = {prefix + entry.name: entry.lstat() for entry in (folder / prefix).iterdir()}
        except OSError as error:
            raise ReleaseError(f"cannot be read: {shown(prefix or '.')} ({error.strerror})") from error
        if prefix and not found:
            odd[prefix] = "added, an empty folder"
        for path, facts in found.items():
            if stat.S_ISDIR(facts.st_mode):
                waiting.append(path + "/")
            elif stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                files.add(path)
            elif stat.S_ISREG(facts.st_mode):
                odd[path] = "hard link"
            else:
                odd[path] = "symbolic link" if stat.S_ISLNK(facts.st_mode) else "not a regular file"
    return files, odd


def open_regular(path: Path, *, called: str, link_is: str):
    """Open a regular file; a device or a pipe is refused and not waited for, and a link where none may be."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) if link_is == "refused" else 0
    error_class = ReleaseError if link_is == "refused" else InputError
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise error_class(f"{called} cannot be read ({getattr(error, 'strerror', None) or 'no path'})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error_class(f"{called} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_file(folder: Path, path: str) -> bytes:
    with open_regular(folder / path, called=shown(path), link_is="refused") as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ReleaseError(f"malformed: {shown(path)} is larger than {LARGEST} bytes")
    return data


def hash_file(folder: Path, path: str) -> str:
    digest = hashlib.sha256()
    with open_regular(folder / path, called=shown(path), link_is="refused") as stream:
        for piece in iter(lambda: stream.read(1024**2), b""):
            digest.update(piece)
    return digest.hexdigest()


def compare(folder: Path, files: set[str], odd: dict[str, str], listed: dict[str, str]) -> list[str]:
    there = files - {SUMS, SIGNATURE, ENVELOPE}
    found = [(kind, path) for path, kind in sorted(odd.items())]
    found += [("changed", path) for path in sorted(there & set(listed)) if hash_file(folder, path) != listed[path]]
    found += [("removed", path) for path in sorted(set(listed) - there - set(odd))]
    found += [("added", path) for path in sorted(there - set(listed))]
    return [f"{kind}: {shown(path)}" for kind, path in found]


def shown(text: str) -> str:
    """Make a name safe to print."""
    return ascii(text)[1:-1][:120]


# --- what is signed -----------------------------------------------------------------------------------------------


def parse_sums(data: bytes) -> list[tuple[str, str]]:
    """Return (path, digest) in the order of the file, which is that of the paths."""
    found, seen = [], set()
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        match = re.fullmatch(rb"([0-9a-f]{64})  ([A-Za-z0-9._+/-]+)", line)
        if match is None:
            raise ReleaseError(f"malformed: line {number} of {SUMS} is not a digest and a path")
        path = match[2].decode()
        parts = path.split("/")
        if "" in parts or ".." in parts or "." in parts or max(map(len, parts)) > 200:
            raise ReleaseError(f"malformed: line {number} of {SUMS} names no path inside the release")
        if path in (SUMS, SIGNATURE, ENVELOPE) or path.lower() in seen:
            raise ReleaseError(f"malformed: line {number} of {SUMS} names a file twice, or one that signs")
        seen.add(path.lower())
        found.append((path, match[1].decode()))
    if not found or not data.endswith(b"\n") or found != sorted(found):
        raise ReleaseError(f"malformed: {SUMS} is empty, cut or not sorted")
    return found


def parse_ssh_signature(armour: bytes) -> tuple[bytes, bytes]:
    """Return the key and the raw signature, after writing both again and finding the same bytes."""
    head, tail = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
    try:
        blob = base64.b64decode("".join(armour.decode("ascii", "replace").split("\n")[1:-2]), validate=True)
        magic, (key_blob, namespace, reserved, algorithm, signature) = blob[:10], unpack(blob[10:], 5)
        (kind, raw), (key_kind, key) = unpack(signature, 2), unpack(key_blob, 2)
    except ValueError as error:
        raise ReleaseError("malformed: SHA256SUMS.sig is not an SSH signature") from error
    if (namespace, reserved, algorithm) != (NAME.encode(), b"", b"sha512"):
        raise ReleaseError("bad signature: SHA256SUMS.sig was made for another purpose, not for a release")
    if (magic, kind, key_kind, len(key)) != (b"SSHSIG\0\0\0\1", b"ssh-ed25519", b"ssh-ed25519", 32):
        raise ReleaseError("malformed: SHA256SUMS.sig is not an Ed25519 signature of version 1")
    body = base64.b64encode(blob).decode()
    again = [head, *(body[start : start + 70] for start in range(0, len(body), 70)), tail, ""]
    if "\n".join(again).encode() != armour:
        raise ReleaseError("malformed: SHA256SUMS.sig is not written as it must be")
    return key, raw


def parse_envelope(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    body = parse_json(data, "release.dsse.json")
    shape = {"payloadType": str, "payload": str, "signatures": [{"keyid": str, "sig": str}]}
    if not fits(body, shape) or body["payloadType"] != PAYLOAD_TYPE:
        raise ReleaseError("malformed: release.dsse.json is not a DSSE envelope")
    try:
        signatures = {entry["keyid"]: base64.b64decode(entry["sig"], validate=True) for entry in body["signatures"]}
        payload = base64.b64decode(body["payload"], validate=True)
    except ValueError as error:
        raise ReleaseError("malformed: release.dsse.json holds something that is not base64") from error
    if len(signatures) != len(body["signatures"]):
        raise ReleaseError("malformed: release.dsse.json holds two signatures of one key")
    return payload, signatures


def write_envelope(payload: bytes, signatures: dict[str, bytes]) -> bytes:
    """Write the only file that holds this payload and these signatures."""
    entries = [
        {"keyid": keyid, "sig": base64.b64encode(signatures[keyid]).decode()} for keyid in sorted(signatures)
    ]
    body = {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": entries}
    return (json.dumps(body, indent=2) + "\n").encode()


def parse_attestation(payload: bytes) -> dict:
    body = parse_json(payload, "the signed statement")
    if not fits(body, SHAPE):
        raise ReleaseError("malformed: the signed statement lacks a field, or has one too many")
    if (body["_type"], body["predicateType"]) != ("https://in-toto.io/Statement/v1", "urn:fedsynth:release:1"):
        raise ReleaseError("malformed: the signed statement is not about a fedsynth release (v1)")
    if json.dumps(body, sort_keys=True, separators=(",", ":")).encode() != payload:
        raise ReleaseError("malformed: the signed statement is not written as it must be")
    return body


def check_statement(folder: Path, listed: dict[str, str], said: dict) -> None:
    if STATEMENT not in listed:
        raise ReleaseError(f"malformed: the release carries no {STATEMENT}")
    body, promise = parse_json(read_file(folder, STATEMENT), STATEMENT), said["promise"]
    try:
        shown_promise = {name: body[name] for name in promise}
        heads = sorted((site["site"], site["ledger_head"]) for site in body["sites"])
        numbers = [float(body["epsilon"]), *(float(site["epsilon"]) for site in body["sites"])]
        if all(map(math.isfinite, numbers)):
            check_figures(body)
        if not isinstance(body["excludes"], list) or {type(what) for what in body["excludes"]} != {str}:
            raise ValueError("what the promise leaves out is not said")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ReleaseError(f"malformed: {STATEMENT} is not a privacy statement") from error
    if shown_promise != promise:
        raise ReleaseError(f"the statement is not the signed promise: {STATEMENT} says something else")
    if heads != sorted((point["site"], point["ledger_head"]) for point in said["ledgers"]):
        raise ReleaseError(f"the statement is not the signed promise: {STATEMENT} shows other ledgers")
    if not all(map(math.isfinite, numbers)):
        raise ReleaseError("the release promises no privacy: epsilon is not finite")
    check_binding(folder, listed, body)


def check_figures(body: dict) -> None:
    """Refuse a promise that its own events contradict.

    A closed form says how much delta the events need at the epsilon that is promised; what it leaves out would only
    add. An accountant (`fedsynth verify`, where one is installed) adds everything up.
    """
    epsilon, delta, unit, sites = float(body["epsilon"]), float(body["delta"]), body["unit"], body["sites"]
    if not sites:
        contradicts("it names no site, so that nobody spent anything")
    if not 0 < delta < 1 or not epsilon >= 0:
        contradicts(f"epsilon {epsilon:g} at delta {delta:g} is no promise")
    for site in sites:
        groups = [read_event(event) for event in site["events"]], [read_event(e) for e in site["held_out_events"]]
        if float(site["delta"]) != delta:
            contradicts("a site's delta is not the statement's")
        if not any(groups):
            contradicts("a site spent epsilon and lists no event")
        if {event["unit"] for events in groups for event in events} != {unit}:
            contradicts(f"it promises per {shown(str(unit))}, and events were bounded per another unit")
        for promised in (float(site["epsilon"]), float(site["epsilon_second"])):
            if (
                not promised >= 0
                or max(delta_needed(events, promised / (1 - AGREEMENT)) for events in groups) > delta
            ):
                contradicts(f"a site's epsilon is {promised:.4g}, and its own events cost more")
        if min(event["noise_multiplier"] for events in groups for event in events) < LEAST_NOISE:
            contradicts("one of a site's events adds noise that hides nobody")
    if epsilon != max(float(site["epsilon"]) for site in sites):
        contradicts(f"it promises epsilon {epsilon:g}, which is not the largest of its sites'")
    if epsilon > LARGEST_EPSILON:
        contradicts(f"epsilon {epsilon:g} is more than {LARGEST_EPSILON:g}, which nothing private is")


def contradicts(how: str) -> None:
    raise ReleaseError(f"the statement contradicts itself: {how}")


def read_event(raw: dict) -> dict:
    """Return an event of a site, with its numbers as numbers: `steps` noisy sums, each with its own drawing."""
    names = ("noise_multiplier", "sampling_probability", "clipping_norm")
    event = {**raw, **{name: float(raw[name]) for name in names}}
    sigma, q, clip = (event[name] for name in names)
    steps, shares = event["steps"], event["noise_shares"]
    counts = all(type(number) is int and number >= 1 for number in (steps, shares)) and "purpose" in raw
    silent, loud = sigma == 0 and clip > 0, 0 < sigma < math.inf and 0 < clip < math.inf
    known = event["group"] in ("train", "held-out") and event["unit"] in UNITS
    if not (counts and 0 < q <= 1 and known and (loud or (silent and shares == 1))):
        raise ValueError("no private sum is like that")
    return event


def delta_needed(events: list, epsilon: float) -> float:
    """Return the delta at which the events cost at least this epsilon, by two closed forms.

    Sums over everybody are one Gaussian mechanism together (Balle and Wang 2018, theorem 8). Of sums over some who
    are drawn, the dearest alone (Balle, Barthe and Gaboardi 2018, theorem 2).
    """
    if any(event["noise_multiplier"] == 0 for event in events):
        return 1.0
    if not events or epsilon > 700:  # such an epsilon is refused anyway
        return 0.0
    squares, found = 0.0, [0.0]
    for event in events:
        mu, q = min(1 / event["noise_multiplier"], 1e6), event["sampling_probability"]
        if q == 1:
            squares += float(event["steps"]) * mu * mu
        else:
            found.append(q * gaussian_delta(mu, math.log1p(math.expm1(epsilon) / q)))
    return max(gaussian_delta(math.sqrt(squares), epsilon) if squares else 0.0, *found)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return delta at `epsilon` of a sum that one person moves by `mu` standard deviations of its noise."""
    above, below = (math.erfc((epsilon / mu + sign * mu / 2) / math.sqrt(2)) / 2 for sign in (-1, 1))
    return above - math.exp(epsilon) * below if below > 0 else above


def check_binding(folder: Path, listed: dict[str, str], statement: dict) -> None:
    """Refuse a statement or scores of other windows than those in the folder."""
    if ARCHIVE not in listed or METRICS not in listed:
        raise ReleaseError(f"malformed: the release carries no {ARCHIVE if ARCHIVE not in listed else METRICS}")
    made, rows = statement.get("made"), parse_json(read_file(folder, METRICS), METRICS)
    if not isinstance(made, dict) or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ReleaseError(f"malformed: {STATEMENT} or {METRICS} lacks what binds it to the windows")
    if made.get("windows_sha256") != listed[ARCHIVE]:
        raise ReleaseError(f"the statement is about other windows than those in {ARCHIVE}")
    for row in rows:
        about = row.get("windows", "")
        if about not in ("", listed[ARCHIVE]) or (row.get("source") in OF_WINDOWS and about != listed[ARCHIVE]):
            raise ReleaseError(f"{METRICS} holds a number that is not of the windows in {ARCHIVE}")


def parse_json(data: bytes, what: str):
    """Read JSON without a key that stands twice and without NaN or infinity."""

    def once(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    def number(text):
        if not math.isfinite(float(text)):
            raise ValueError("not finite")
        return float(text)

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_float=number, parse_constant=number)
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"malformed: {what} is not JSON") from error


def fits(value, shape) -> bool:
    if isinstance(shape, dict):
        return isinstance(value, dict) and set(value) == set(shape) and all(fits(value[k], shape[k]) for k in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    return type(value) is shape


# --- Ed25519 keys, as OpenSSH writes them -------------------------------------------------------------------------


def signed(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def pack(*strings: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(string)) + string for string in strings)


def unpack(data: bytes, count: int) -> list[bytes]:
    strings = []
    for _ in range(count):
        (length,) = struct.unpack(">I", data[:4].rjust(4, b"\xff"))
        if len(data) < 4 + length:
            raise ValueError("cut short")
        strings.append(data[4 : 4 + length])
        data = data[4 + length :]
    if data:
        raise ValueError("too long")
    return strings


def key_line(key: bytes) -> str:
    return "ssh-ed25519 " + base64.b64encode(pack(b"ssh-ed25519", key)).decode()


def parse_key_line(text: str) -> bytes | None:
    """Return the key of `ssh-ed25519 AAAA...` if that is written as it must be."""
    try:
        key = base64.b64decode(text[12:], validate=True)[-32:]
    except ValueError:
        return None
    return key if len(key) == 32 and key_line(key) == text else None


def fingerprint(key: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(pack(b"ssh-ed25519", key)).digest()).decode().rstrip("=")


# --- the key file: one bare key, or allowed_signers (ssh-keygen(1), ALLOWED SIGNERS) ------------------------------


def read_signers(path: Path) -> list[tuple[bytes, str, dict[str, str]]]:
    """Return (key, identities, options) of every line that OpenSSH reads and that has an Ed25519 key."""
    with open_regular(path, called="the key given", link_is="followed") as stream:
        data = stream.read(1024**2 + 1)
    if len(data) > 1024**2:
        raise InputError("the key given is larger than a megabyte, so it is something else")
    lines = [line.split("\0")[0].lstrip(" \t") for line in data.decode("latin-1").split("\n")]
    lines = [line for line in lines if line.strip(" \t\r") and line[0] != "#"]
    bare = leading_key(lines[0]) if len(lines) == 1 else None
    signers = [(bare, "*", {})] if bare else [signer for signer in map(parse_signer, lines) if signer is not None]
    if not signers:
        raise InputError("the key given is not an OpenSSH public key, nor an allowed_signers file that holds one")
    return signers


def parse_signer(line: str) -> tuple[bytes, str, dict[str, str]] | None:
    # Identities: up to a blank, or quoted.
    match = re.match(r'([^ \t\r\n"]*)(?:"([^"]*)"|[ \t\r\n])[ \t\r\n]*', line)
    if match is None:
        return None
    identities, rest = match[1] + (match[2] or ""), line[match.end() :]
    key = leading_key(rest)
    if key is not None:
        return key, identities, {}
    # Options: up to a blank that no quotes hold.
    match = re.match(r'((?:[^ \t"\\]|\\"|\\(?!")|"(?:[^"\\]|\\"|\\(?!"))*")*)[ \t]+', rest)
    if match is None:
        return None
    key, options = leading_key(rest[match.end() :]), parse_options(match[1])
    return None if key is None or options is None else (key, identities, options)


def parse_options(text: str) -> dict[str, str] | None:
    options: dict[str, str] = {}
    pieces = re.findall(r'((?:[^",\\]|\\(?!")|\\"|"(?:[^"\\]|\\"|\\(?!"))*")*)(,|$)', text)
    if text.endswith(","):
        return None
    for piece, _ in pieces:
        match = re.fullmatch(
            r'(namespaces|valid-after|valid-before)="((?:[^"\\]|\\"|\\(?!"))*)"|(cert-authority)|',
            piece,
            re.IGNORECASE,
        )
        if match is None or (match[1] and match[1].lower() in options):
            return None
        options[(match[1] or match[3] or "").lower()] = (match[2] or "").replace('\\"', '"')
    after, before = (parse_time(options.get(name, "19700102")) for name in ("valid-after", "valid-before"))
    backwards = "valid-before" in options and after is not None and before is not None and before <= after
    return None if after is None or before is None or backwards else options


def leading_key(text: str) -> bytes | None:
    match = re.match(r"(ssh-ed25519)[ \t]+([^ \t]+)", text)
    return parse_key_line(match[1] + " " + re.sub(r"[\n\v\f\r]", "", match[2])) if match else None


def parse_time(text: str) -> float | None:
    """Read YYYYMMDD[HHMM[SS]], with Z for UTC and otherwise in local standard time, as seconds since 1970."""
    match = re.fullmatch(r"([0-9]{8}|[0-9]{12}|[0-9]{14})(z|utc)?", text, re.IGNORECASE)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[1].ljust(14, "0")[a:b]) for a, b in TIME_PARTS)
    if not (0 < month < 13 and 0 < day < 32 and hour < 24 and minute < 60 and second < 62 and year > 0):
        return None
    parts = (year, month, day, hour, minute, second, 0, 0, 0)
    try:
        seconds = calendar.timegm(parts) if match[2] else time.mktime(parts)
    except (OverflowError, ValueError):
        return None
    return seconds if seconds > 0 else None


def in_patterns(text: str, patterns: str) -> bool:
    found = False
    for pattern in patterns.split(","):
        positive = pattern[1:] if pattern.startswith("!") else pattern
        if len(positive) > 1022:
            return False
        glob = re.sub(r"\*+", "*", positive)
        expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in glob)
        if re.fullmatch(expression, text):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def check_allowed(signer: bytes, allowed: list[tuple[bytes, str, dict[str, str]]]) -> None:
    now = int(time.time())
    for key, identities, options in allowed:
        if (
            key == signer
            and in_patterns(NAME, identities)
            and "cert-authority" not in options
            and in_patterns(NAME, options.get("namespaces", "*"))
            and (parse_time(options.get("valid-after", "")) or now) <= now
            and (parse_time(options.get("valid-before", "")) or now) >= now
        ):
            return
    given = ", ".join(sorted({fingerprint(key) for key, _, _ in allowed})[:5])
    raise ReleaseError(f"wrong key: signed by {fingerprint(signer)}, not allowed now by the key file ({given})")


def main() -> int:
    parser = argparse.ArgumentParser(description="Verify a fedsynth release.")
    parser.add_argument("release", type=Path, help="the release folder")
    parser.add_argument("--key", type=Path, help="the publisher's key, got elsewhere: .pub or allowed_signers")
    given = parser.parse_args()
    try:
        said = verify(given.release, given.key)
    except (ReleaseError, InputError, OSError) as error:
        print(f"verify_release: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 4
    promise = said["promise"]
    print(f"verified: {said['files']} files, signed by {said['signer']}")
    print(f"epsilon {promise['epsilon']:g} per {shown(promise['unit'])}, delta {promise['delta']:g}")
    if not said["pinned"]:
        print("The key came with the release: compare its fingerprint with one from elsewhere, or give --key.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
