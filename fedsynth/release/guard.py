"""The last look before signing: from a finished folder to nothing, or to the reason why it may not leave.

The guard trusts no writer. It reads what stands in the folder, file by file, and refuses what must stay inside:
numbers about real people that nobody charged for, seeds of noise, the run's internal side, keys, paths of a
machine, and any kind of file a release has no use for. Messages name the file and the rule, never a value.
"""

import fnmatch
import json
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from fedsynth.errors import PrivacyError, VerificationError
from fedsynth.release.manifest import open_regular, read_bounded, scan, shown
from fedsynth.release.verify import STATEMENT

INTERNAL = (
    "internal",
    "sites",
    "holdings",
    "quality",
    "checkpoints",
    "*.windows",
    "ledger.sqlite*",
    "*.sqlite*",
    "*.key",
    "id_ed25519*",
)
"""Names, of a file or of any folder above it, that belong to the inside of a run."""

_OF_SIGNALS = frozenset({".edf", ".npz", ".parquet", ".dat", ".hea", ".atr"})
SUFFIXES = frozenset({".md", ".json", ".tsv", ".toml", ".txt", ".cff", ".html", ".svg"}) | _OF_SIGNALS
PLAIN = frozenset({"LICENSE", ".bidsignore"})
PUBLIC_SOURCES = frozenset({"private sum", "private count", "synthetic", "public simulation"})
"""Where a score may come from. "real" is not among them, and neither is silence."""

NUMBER_SOURCES = PUBLIC_SOURCES | {"accountant"}
"""Where a number of the report may come from: a score's sources, or the price of the mechanisms."""

STUDY = "provenance/study.toml"
METRICS = "report/metrics.json"

_NAMED_BY_THE_STUDY = {
    ("participants.json", ("label", "Levels")),
    ("task-synthetic_events.json", ("trial_type", "Levels")),
    (STUDY, ("labels", "rename")),
}
"""Tables whose keys are names of labels: a label may be called after the data set SEED."""


_PRIVATE_KEY = b"PRIVATE KEY"
_NO_PROMISE = "holds an epsilon that is not finite: no privacy was promised"
_SIGNALS = re.compile(
    r"data/ml/windows\.(?:npz|parquet)|(sub-syn[0-9]+)/eeg/\1_task-synthetic_eeg\.edf"
    r"|wfdb/sub-syn[0-9]+\.(?:hea|dat|atr)"
)
_ROWS = re.compile(
    r"participants\.tsv|(sub-syn[0-9]+)/(?:eeg/\1_task-synthetic_(?:channels|events)|beh/\1_task-synthetic_events)\.tsv"
)
# A value: quoted, a whole number, or eight hexadecimal digits and more; not a word of a sentence.
_VALUE = r"""(?:["'][^"'\s]|0x[0-9a-f]|[0-9]|[0-9a-f]{8})"""
_NOISE_SEED = re.compile(
    r"(?:noise|rng|random|generator|torch|numpy)[\W_]*(?:state|rng)?[\W_]*seeds?\w*[\"']?"
    rf"\s*(?:[:=]|\b(?:is|was|of)\b)?[\s#]*{_VALUE}"
    rf"|\bseeds?\s+(?:of|for)\s+(?:the\s+)?noise\b[^\w\n]*(?:(?:is|was)\b)?\W{{0,3}}{_VALUE}",
    re.IGNORECASE,
)
# "seed: 12" is one, and "SEED: 15 subjects" counts what stands behind the number: a data set has that name.
_FOLLOWS_A_VALUE = r"(?:was|were|is|are|used|for|gives|gave|makes|made|with|to|and|on|at|by|in)\b"
_BARE_SEED = re.compile(
    r"\bseeds?[\"']?\s*[:=]\s*[\"']?"
    rf"(?:0x[0-9a-f]|[0-9]{{9}}|[0-9]+(?![\w-]|[,.][0-9]|[ \t]+(?!{_FOLLOWS_A_VALUE})[^\W\d_]))",
    re.IGNORECASE,
)
# What looks like a path in text but is not: embedded pictures, key fingerprints and key material.
_NO_PATH = re.compile(
    r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+|SHA256:[A-Za-z0-9+/]{43}|ssh-ed25519 [A-Za-z0-9+/=]+"
)
_PATHS = re.compile(
    r"""(?:^|[\s"'`(=:,;\[>])(?:/(?:[\w.@~+-]+/)+[\w.@~+-]*|/(?:home|root|tmp|Users|mnt|var|etc|opt|srv)\b)"""
    r"""|file://|\b[A-Za-z]:\\|\\\\\w+\\\w""",
    re.MULTILINE,
)


def forbidden_in(text: str, *, is_study: bool = False) -> str:
    """Say what a text of a release holds that may not leave, "" for nothing.

    Args:
        text: of a file, or of a part of one.
        is_study: the text is of the study file, whose `draw_seed` is no secret.

    >>> forbidden_in("SEED: 15 subjects"), forbidden_in("noise seed: 15")
    ('', 'holds what looks like a seed')
    """
    if _PATHS.search(_NO_PATH.sub("", text)):
        return "holds an absolute path"
    if _NOISE_SEED.search(text) or (not is_study and _BARE_SEED.search(text)):
        return "holds what looks like a seed"
    if _PRIVATE_KEY.decode() in text:
        return "holds a private key"
    return ""


def guard(folder: Path, *, internal: tuple[str, ...] = INTERNAL) -> None:
    """Refuse a release folder that holds something private, or something nobody can vouch for.

    Args:
        folder: a finished release, not signed yet.
        internal: name patterns (`fnmatch`) that no part of a path may match.

    Raises:
        PrivacyError: with the file and the rule. The folder is left as it is.
    """
    try:
        tree = scan(folder)
        for path, kind in tree.odd:
            _refuse(path, f"is a {kind}" if "link" in kind else f"is {kind}")
        for path in (METRICS, STATEMENT, STUDY):
            if path not in tree.files:
                _refuse(path, "is missing, so nothing can be said about it")
        for path in (*tree.files, *tree.empty):
            _check_name(path, internal=internal)
        for path in tree.files:
            _check_no_private_key(folder, path)
            if not _SIGNALS.fullmatch(path) or path.endswith(".hea"):
                _check_text(path, read_bounded(folder, path))
    except VerificationError as error:
        raise PrivacyError(f"the release cannot be read: {error}") from error


def _check_name(path: str, *, internal: tuple[str, ...]) -> None:
    parts = path.rstrip("/").split("/")
    for part in parts:
        for pattern in internal:
            if fnmatch.fnmatch(part.casefold(), pattern):
                _refuse(path, f"belongs to the inside of a run ({pattern})")
        if "seed" in part.casefold():
            _refuse(path, "is named like a seed")
    if path.endswith("/"):
        _refuse(path, "is an empty folder")
    if parts[-1] not in PLAIN and PurePosixPath(path).suffix not in SUFFIXES:
        _refuse(path, "is of a kind that no release needs")
    if PurePosixPath(path).suffix in _OF_SIGNALS and not _SIGNALS.fullmatch(path):
        _refuse(path, "is a signal file at a place where no synthetic window is written")
    if path.endswith(".tsv") and not _ROWS.fullmatch(path):
        _refuse(path, "is a table at a place where none is written")


def _check_no_private_key(folder: Path, path: str) -> None:
    needle, tail = _PRIVATE_KEY, b""
    with open_regular(folder, path) as stream:
        while chunk := stream.read(1024**2):
            if needle in tail + chunk:
                _refuse(path, "holds a private key")
            tail = chunk[-len(needle) :]


def _check_text(path: str, data: bytes) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        _refuse(path, "should be text and is not UTF-8")
        return
    if found := forbidden_in(text, is_study=path == STUDY):
        _refuse(path, found)
    if path == STUDY:
        _check_tree(path, _toml(path, text))
    elif path.endswith(".json"):
        _check_tree(path, _json(path, text))


def _check_tree(path: str, body: Any) -> None:
    """Walk JSON or TOML: no seed, every epsilon finite, every score from a public source."""
    for where, table in _tables(body):
        if (path, where) in _NAMED_BY_THE_STUDY and all(isinstance(value, str) for value in table.values()):
            continue
        for key, value in table.items():
            if "seed" in key.casefold() and (path, where, key) != (STUDY, ("release",), "draw_seed"):
                _refuse(path, "holds a key that looks like a seed")
            if key.casefold().startswith("epsilon") and not _is_finite(value):
                _refuse(path, _NO_PROMISE)
        if path == METRICS:
            _check_score(path, table)


def _check_score(path: str, table: dict[str, Any]) -> None:
    if "source" in table and table["source"] not in NUMBER_SOURCES:
        _refuse(path, "holds a number computed from real recordings, or from a source nobody knows")
    if "value" in table and "source" not in table:
        _refuse(path, "holds a number that does not say where it comes from")
    if str(table.get("name", "")).startswith("epsilon") and not _is_finite(table.get("value")):
        _refuse(path, _NO_PROMISE)


def _tables(body: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if isinstance(body, dict):
        yield where, body
        for key, value in body.items():
            yield from _tables(value, (*where, key))
    elif isinstance(body, list):
        for value in body:
            yield from _tables(value, where)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _json(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PrivacyError(f"refused before signing: {shown(path)} is not JSON") from error


def _toml(path: str, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PrivacyError(f"refused before signing: {shown(path)} is not TOML") from error


def _refuse(path: str, why: str) -> None:
    raise PrivacyError(f"refused before signing: {shown(path)} {why}. Nothing was signed or published")
