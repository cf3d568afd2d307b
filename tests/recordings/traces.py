"""Traces: whether a word stands in bytes, as it is or in another form, also within archives."""

import base64
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path


def forms_of(word: str) -> dict[str, bytes]:
    """Return how a word can stand in bytes, in lower case but for base64."""
    found = {name: word.lower().encode(name) for name in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")}
    found["hexadecimal"] = word.lower().encode().hex().encode()
    found["hexadecimal, as written"] = word.encode().hex().encode()
    found["JSON escapes"] = "".join(f"\\u{ord(one):04x}" for one in word).encode()
    found["URL escapes"] = "".join(f"%{ord(one):02x}" for one in word).encode()
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + word.encode() + b"\0" * (-(shift + len(word)) % 3 + 3))
        # The first characters and the last also hold what stands beside the word.
        found[f"base64, {shift}"] = coded[-(-shift * 8 // 6) : (shift + len(word)) * 8 // 6]
    return found


def traces_in(data: bytes, word: str) -> list[str]:
    """Return in which forms a word stands in bytes."""
    found = []
    for body in expanded(data):
        low = body.lower()
        found += [name for name, form in forms_of(word).items() if form in (body if "base64" in name else low)]
    return found


def expanded(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield bytes, and what they hold compressed: a ZIP archive, gzip, zlib, or cells of a Parquet table."""
    yield data
    if depth > 3:
        return
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from expanded(archive.read(name), depth + 1)
    elif data[:2] == b"\x1f\x8b":
        yield from expanded(gzip.decompress(data), depth + 1)
    elif data[:4] == b"PAR1":
        import pyarrow.parquet as store

        table = store.read_table(io.BytesIO(data))
        yield str(table.schema).encode()
        for name in table.column_names:
            column = table.column(name)
            if str(column.type) in ("string", "binary", "large_string"):
                yield str(column.to_pylist()).encode()
    else:
        try:
            yield zlib.decompress(data)
        except zlib.error:
            return


def traces_below(folder: Path, word: str) -> list[str]:
    """Return where below a folder a word stands, names of files included, and in which forms."""
    found = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder).as_posix()
        found += [f"{below}: name"] * bool(traces_in(below.encode("utf-8", "surrogateescape"), word))
        if path.is_file():
            found += [f"{below}: {form}" for form in traces_in(path.read_bytes(), word)]
    return found
