"""Mutations of a site's files that know what is where: fields of headers, lines and cells, arrays, lengths."""

import io
from collections.abc import Callable

import numpy as np

from fuzzing.seeds import Site

NUMBERS = (
    b"0", b"-0", b"1", b"-1", b"2", b"3", b"7", b"65535", b"65536", b"-32769", b"32768", b"2147483648", b"99999999",
    b"-9999999", b"1e9", b"1e308", b"1e999", b"-1e30", b"1e-300", b"nan", b"NaN", b"inf", b"-inf", b"0.1", b"0,5",
    b"1_0", b"0x10", b"1e", b"+", b"", b" ", b"..", b"\xb2", b"\xd9\xa3", b"100.00001", b"9" * 300, b"1.7e-45",
    b"00000100",
)  # fmt: skip
TEXTS = (
    b"", b" ", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"uV", b"mV", b"V", b"nV", b"\xb5V", b"\xc2\xb5V", b"\xce\xbcV",
    b"kV", b"MV", b"%", b"C3", b"C4", b"T1", b"../x", b"/etc/passwd", b"~", b"..", b".", b"a/b", b"\x85",
    b"\xe2\x80\xa8", b"\r", b"\x1b[2J", b"%s%n", b"{}", b"\xf0\x9f\x98\x80", b"x" * 5000, b"T3", b"T7",
    b"EDF Annotations", b"EDF+D", b"EDF+C", b"$b", b"n/a",
)  # fmt: skip
_NOTES = (b"\x14", b"\x15", b"\0", b"+", b"-", b"+99999", b"-5", b"+1e9", b"+0.5", b"+.", b"\x14\x14\0+2")
_EDF_FIELDS = (8, 80, 80, 8, 8, 8, 44, 8, 8, 4)
_EDF_COLUMNS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
_TEXT = (".vhdr", ".vmrk", ".hea", ".json", ".tsv", ".toml", ".txt", ".csv")
Rng = np.random.Generator


def mutated(site: Site, rng: Rng) -> Site:
    """Return a site with one to four mutations."""
    out = dict(site)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            return out
        name = sorted(out)[int(rng.integers(len(out)))]
        suffix = "." + name.rsplit(".", 1)[-1]
        if rng.random() < 0.04:
            out = _files(out, name, rng)
            continue
        change: Callable[[bytes, Rng], bytes] = _bytes
        if suffix in (".edf", ".bdf"):
            change = _one(rng, _edf, _edf, _edf, _notes, _bytes, _length, _samples)
        elif suffix in _TEXT:
            change = _one(rng, _line, _cell, _cell, _cell, _bytes, _length, _encoding)
        elif suffix == ".npz":
            change = _one(rng, _array, _bytes, _length)
        else:
            change = _one(rng, _bytes, _integer, _length, _samples)
        out[name] = change(out[name], rng)
    return out


def _one(rng: Rng, *options: Callable[[bytes, Rng], bytes]) -> Callable[[bytes, Rng], bytes]:
    return options[int(rng.integers(len(options)))]


def _pick(rng: Rng, values: tuple[bytes, ...]) -> bytes:
    return values[int(rng.integers(len(values)))]


def _files(site: Site, name: str, rng: Rng) -> Site:
    out = dict(site)
    kind = int(rng.integers(4))
    if kind == 0:
        del out[name]
    elif kind == 1:
        out[name] = out[sorted(out)[int(rng.integers(len(out)))]]
    elif kind == 2:
        stem, _, suffix = name.rpartition(".")
        out[f"{stem}.{suffix.upper()}"] = out.pop(name)
    else:
        stem, _, suffix = name.rpartition(".")
        out[f"{stem}2.{suffix}"] = out[name]
    return out


def _edf(data: bytes, rng: Rng) -> bytes:
    """Replace a field of the header."""
    try:
        count = max(1, int(data[252:256]))
    except ValueError:
        count = 4
    if rng.random() < 0.4:
        field = int(rng.integers(len(_EDF_FIELDS)))
        start, width = sum(_EDF_FIELDS[:field]), _EDF_FIELDS[field]
    else:
        field, which = int(rng.integers(len(_EDF_COLUMNS))), int(rng.integers(min(count, 8)))
        width = _EDF_COLUMNS[field]
        start = 256 + count * sum(_EDF_COLUMNS[:field]) + which * width
    value = _pick(rng, NUMBERS if rng.random() < 0.6 else TEXTS)[:width].ljust(
        width, b" " if rng.random() < 0.7 else b"\0"
    )
    return data[:start] + value + data[start + width :]


def _notes(data: bytes, rng: Rng) -> bytes:
    """Change an onset, a duration or a separator of annotations."""
    places = [i for i in range(1280, len(data)) if data[i] in (0x14, 0x15, 0x2B)]
    if not places:
        return _bytes(data, rng)
    place = places[int(rng.integers(len(places)))]
    value = _pick(
        rng, (b"\x14", b"\x15", b"\0", b"+", b"-", b"+99999", b"-5", b"+1e9", b"+0.5", b"+.", b"\x14\x14\0+2")
    )
    return data[:place] + value + data[place + len(value) :]


def _line(data: bytes, rng: Rng) -> bytes:
    lines = data.split(b"\n")
    place = int(rng.integers(len(lines)))
    kind = int(rng.integers(5))
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(int(rng.integers(len(lines))), lines[place])
    elif kind == 2:
        other = int(rng.integers(len(lines)))
        lines[place], lines[other] = lines[other], lines[place]
    elif kind == 3:
        lines.insert(place, _pick(rng, TEXTS))
    else:
        lines[place] += _pick(rng, TEXTS)
    return b"\n".join(lines)


def _cell(data: bytes, rng: Rng) -> bytes:
    """Replace a word between separators."""
    lines = data.split(b"\n")
    few = min(len(lines), 25)  # what is said stands at the beginning
    place = int(rng.integers(few if rng.random() < 0.8 else len(lines)))
    separators = (b" ", b"\t", b",", b";", b"=", b"/", b"(", b":", b'"')
    found = [one for one in separators if one in lines[place]]
    if not found:
        lines[place] = _pick(rng, NUMBERS)
        return b"\n".join(lines)
    separator = found[int(rng.integers(len(found)))]
    cells = lines[place].split(separator)
    which = int(rng.integers(len(cells)))
    kind = int(rng.integers(4))
    if kind == 0:
        del cells[which]
    elif kind == 1:
        cells.insert(which, cells[which])
    else:
        cells[which] = _pick(rng, NUMBERS if kind == 2 else TEXTS)
    lines[place] = separator.join(cells)
    return b"\n".join(lines)


def _encoding(data: bytes, rng: Rng) -> bytes:
    text = data.decode("utf-8", errors="replace")
    kind = int(rng.integers(5))
    if kind < 2:
        return text.encode("utf-16" if kind else "latin-1", errors="replace")
    if kind == 2:
        return b"\xef\xbb\xbf" + data
    return data.replace(b"\n", b"\r" if kind == 3 else b"\r\n")


def _bytes(data: bytes, rng: Rng) -> bytes:
    if not data:
        return rng.bytes(int(rng.integers(1, 40)))
    out = bytearray(data)
    near = len(out) if rng.random() < 0.5 else min(len(out), 1500)
    for _ in range(int(rng.integers(1, 6))):
        out[int(rng.integers(near))] = int(rng.integers(256))
    return bytes(out)


def _integer(data: bytes, rng: Rng) -> bytes:
    width = int(rng.choice([2, 4, 8]))
    if len(data) < width:
        return data
    place = int(rng.integers(len(data) - width + 1))
    value = int(rng.choice([0, 1, -1, 255, 256, 1 << 15, (1 << 31) - 1, -(1 << 31), 1 << 30]))
    octets = (value % (1 << 8 * width)).to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return data[:place] + octets + data[place + width :]


def _length(data: bytes, rng: Rng) -> bytes:
    kind = int(rng.integers(5))
    if kind == 0:
        return data[: int(rng.integers(len(data) + 1))]
    if kind == 1:
        return data + rng.bytes(int(rng.integers(1, 600)))
    if kind == 2:
        return data + data[-int(rng.integers(1, 900)) :]
    start, end = sorted(int(x) for x in rng.integers(len(data) + 1, size=2))
    return data[:start] + data[end:] if kind == 3 else data[:end] + data[start:]


def _samples(data: bytes, rng: Rng) -> bytes:
    """Make a stretch of the body constant, a rail, or noise."""
    start, end = sorted(int(x) for x in rng.integers(min(len(data), 1280), len(data) + 1, size=2))
    kind = int(rng.integers(3))
    middle = (
        rng.bytes(end - start) if kind == 0 else (b"\xff\x7f" if kind == 1 else b"\0\0") * ((end - start + 1) // 2)
    )
    return data[:start] + middle[: end - start] + data[end:]


def _array(data: bytes, rng: Rng) -> bytes:
    """Save other arrays."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except Exception:  # noqa: BLE001
        return _bytes(data, rng)
    if not held:
        return data
    name = sorted(held)[int(rng.integers(len(held)))]
    one = held[name]
    options: list[np.ndarray] = [
        np.array([]), np.zeros((0, 5)), np.array(None), np.array(np.nan), np.array("uV"), np.array(b"uV"),
        np.array([[1 + 2j]]), np.array([True]), np.array(["2002-01-01"], dtype="datetime64[D]"), np.array(1e300),
        np.array([[1.0, "x"]], dtype=object), one.reshape(-1), one[None], np.concatenate([one.reshape(-1)] * 2),
        np.array(-5), np.array([["C3", "C4"]]), np.zeros((3, 1)),
    ]  # fmt: skip
    if one.dtype.kind == "f":
        with np.errstate(all="ignore"):
            options += [
                one * 1e6,
                one * 1e-6,
                one.astype("f2"),
                one.astype(">f4"),
                one.astype("u1"),
                one.T,
                one.reshape(-1)[:1],
            ]
    value = options[int(rng.integers(len(options)))]
    if rng.random() < 0.15:
        del held[name]
    else:
        held[name] = value
    file_out = io.BytesIO()
    (np.savez if rng.random() < 0.7 else np.savez_compressed)(file_out, **held)
    return file_out.getvalue()
