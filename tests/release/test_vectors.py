"""One small release, a table of what is done to it and a table of key files: OpenSSH, `verify` and the single file.

The tables and the release are for anybody who writes a verifier; `vectors/make.py` says how they were made.
"""

import base64
import calendar
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import ReaderFileError, VerificationError
from fedsynth.privacy.repricing import installed
from fedsynth.release import allowed_signers
from fedsynth.release.allowed_signers import matches, parse_signers
from fedsynth.release.manifest import UNCOVERED
from fedsynth.release.signature import NAMESPACE
from fedsynth.release.verify import verify_release

VECTORS = Path(__file__).resolve().parent / "vectors"
KEYS = {
    name: (VECTORS / f"{file}.pub").read_text().split()[1]
    for name, file in (("publisher", "publisher"), ("other", "forger"))
}
TAMPERINGS = [pytest.param(row, id=row["name"]) for row in json.loads((VECTORS / "tamperings.json").read_text())]
KEY_FILES = [pytest.param(row, id=row["name"]) for row in json.loads((VECTORS / "key_files.json").read_text())]

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    return Path(shutil.copytree(VECTORS / "release", tmp_path / "release"))


def styled(body: dict[str, Any], style: str) -> str:
    """The envelope as somebody else's software might write it, or with another content."""
    match style:
        case "compact":
            return json.dumps(body)
        case "reversed":
            return json.dumps(dict(reversed(body.items())), indent=2) + "\n"
        case "signatures reversed":
            body["signatures"].reverse()
        case "signatures twice":
            body["signatures"] *= 2
        case "payload {}":
            body["payload"] = base64.b64encode(b"{}").decode()
        case "no signatures":
            body["signatures"] = []
        case _:
            raise AssertionError(style)
    return json.dumps(body, indent=2) + "\n"


def do(step: dict[str, Any], release: Path) -> None:
    """Take one step of the table."""
    path = release / step["file"]
    match step["do"]:
        case "write":
            path.write_text(step["text"])
        case "replace":
            old, new = step["old"].encode(), step["new"].encode()
            assert old in path.read_bytes()
            path.write_bytes(path.read_bytes().replace(old, new))
        case "append":
            path.write_bytes(path.read_bytes() + step["text"].encode())
        case "prepend":
            path.write_bytes(step["text"].encode() + path.read_bytes())
        case "cut":
            path.write_bytes(path.read_bytes()[: -step["bytes"]])
        case "drop line":
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(lines[: step["line"] - 1] + lines[step["line"] :]))
        case "unfold":
            head, *body, tail = path.read_text().splitlines()
            path.write_text("\n".join([head, "".join(body), tail, ""]))
        case "stray bits":
            # 64 bytes leave four bits of the last letter unused: "A==" and "B==" decode to the same.
            path.write_text(re.sub(r"([AQgw])==\"\n", lambda m: f'{chr(ord(m[1]) + 1)}=="\n', path.read_text()))
        case "json":
            path.write_text(styled(json.loads(path.read_text()), step["style"]))
        case "copy":
            shutil.copyfile(VECTORS / step["from"], path)
        case "move":
            path.rename(release / step["to"])
        case "remove":
            path.unlink()
        case "folder":
            path.mkdir(parents=True)
        case "link":
            path.symlink_to(step["to"])
        case "hard link":
            os.link(path, release / step["to"])
        case "pipe":
            os.mkfifo(path)
        case _:
            raise AssertionError(step)


def tampered(row: dict[str, Any], release: Path) -> Path | None:
    """Do what the row says, which must do something; return its key."""
    for step in row["steps"]:
        do(step, release)
    return VECTORS / row["key"] if "key" in row else None


@pytest.mark.parametrize("row", TAMPERINGS)
def test_verify_says_of_each_vector_what_the_table_says(row: dict[str, Any], vector: Path) -> None:
    key = tampered(row, vector)

    if row["cause"] is None:
        assert verify_release(vector, key=key).study == "vectors"
    else:
        with pytest.raises(VerificationError, match=row["cause"]) as caught:
            verify_release(vector, key=key)
        assert caught.value.exit_code == 4
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("row", [row for row in TAMPERINGS if row.values[0].get("repriced")])
def test_with_an_accountant_verify_refuses_what_no_closed_form_sees(row: dict[str, Any], vector: Path) -> None:
    key = tampered(row, vector)

    with pytest.raises(VerificationError, match=row["repriced"]):
        verify_release(vector, key=key, reprice=installed())


@pytest.mark.parametrize("row", TAMPERINGS)
def test_the_single_file_says_of_each_vector_what_the_table_says(
    row: dict[str, Any], vector: Path, single_file: ModuleType
) -> None:
    key = tampered(row, vector)

    if row["cause"] is None:
        assert single_file.verify(vector, key)["study"]["name"] == "vectors"
    else:
        with pytest.raises(single_file.ReleaseError, match=row["cause"]) as caught:
            single_file.verify(vector, key)
        assert str(caught.value).isprintable()


INTEGRITY = {name: (VECTORS / name).read_bytes() for name in (f"release/{path}" for path in UNCOVERED)}


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(INTEGRITY)),
    where=st.integers(min_value=0, max_value=2**16),
    cut=st.integers(min_value=0, max_value=2),
    put=st.binary(max_size=2) | st.sampled_from([b" ", b"\n", b"\r", b"\t", b"=", b"==", b"\\n"]),
)
def test_no_byte_of_the_integrity_files_is_free(
    name: str, where: int, cut: int, put: bytes, single_file: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is put, cut or exchanged at any place of them is refused."""
    data = INTEGRITY[name]
    where %= len(data) + 1
    changed = data[:where] + put + data[where + cut :]
    if changed == data:
        return
    folder = tmp_path_factory.getbasetemp() / "free bytes"
    if not folder.exists():
        shutil.copytree(VECTORS / "release", folder / "release")
    (folder / name).write_bytes(changed)
    try:
        with pytest.raises(VerificationError):
            verify_release(folder / "release")
        with pytest.raises(single_file.ReleaseError):
            single_file.verify(folder / "release", None)
    finally:
        (folder / name).write_bytes(data)


def test_the_tampered_envelopes_decode_to_what_was_signed() -> None:
    """Or the rows about how an envelope is written would be about what it says."""
    text = (VECTORS / "release/integrity/release.dsse.json").read_text()
    signatures = [entry["sig"] for entry in json.loads(text)["signatures"]]
    stray = [re.sub(r"([AQgw])==", lambda m: f"{chr(ord(m[1]) + 1)}==", signature) for signature in signatures]

    assert [base64.b64decode(one) for one in stray] == [base64.b64decode(one) for one in signatures]
    assert stray != signatures


def test_the_vectors_are_what_their_maker_makes(tmp_path: Path) -> None:
    maker = "import sys, runpy, pathlib; runpy.run_path(sys.argv[1])['make'](pathlib.Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", maker, VECTORS / "make.py", tmp_path], check=True)

    for part in ("release", "release/integrity", "release/privacy", "release/data", "variants"):
        names = sorted(path.name for path in (VECTORS / part).iterdir() if path.is_file())
        assert names == sorted(path.name for path in (tmp_path / part).iterdir() if path.is_file())
        assert filecmp.cmpfiles(VECTORS / part, tmp_path / part, names, shallow=False)[0] == names


@pytest.fixture
def key_file(tmp_path: Path, row: dict[str, Any]) -> Path:
    text = row["text"]
    for name, key in KEYS.items():
        text = text.replace("{" + name + "}", key)
    (tmp_path / "allowed_signers").write_bytes(text.encode("latin-1"))
    return tmp_path / "allowed_signers"


@needs_ssh_keygen
@pytest.mark.parametrize("row", KEY_FILES)
def test_openssh_says_of_each_key_file_what_the_table_says(row: dict[str, Any], key_file: Path) -> None:
    sums = (VECTORS / "release/integrity/SHA256SUMS").read_bytes()
    signature = str(VECTORS / "release/integrity/SHA256SUMS.sig")
    words = ["ssh-keygen", "-Y", "verify", "-f", str(key_file), "-I", NAMESPACE, "-n", NAMESPACE, "-s", signature]

    done = subprocess.run(words, input=sums, capture_output=True, check=False)

    assert (done.returncode == 0) == row["accepted"], done


@pytest.mark.parametrize("row", KEY_FILES)
def test_verify_says_of_each_key_file_what_openssh_says(row: dict[str, Any], key_file: Path, vector: Path) -> None:
    if row["accepted"]:
        assert verify_release(vector, key=key_file).pinned
        return
    with pytest.raises(VerificationError, match=r"wrong key|not an OpenSSH public key") as caught:
        verify_release(vector, key=key_file)
    # A file with no key is bad input; one that does not allow the signer's leaves the release unverified.
    assert isinstance(caught.value, ReaderFileError) == (not parse_signers(key_file.read_bytes()))


@pytest.mark.parametrize("row", KEY_FILES)
def test_the_single_file_says_of_each_key_file_what_openssh_says(
    row: dict[str, Any], key_file: Path, vector: Path, single_file: ModuleType
) -> None:
    try:
        accepted = single_file.verify(vector, key_file)["pinned"]
    except (single_file.ReleaseError, single_file.InputError):
        accepted = False

    assert accepted == row["accepted"]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def utc(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%S"))


MOMENTS = [
    # In UTC whatever the reader's zone, inclusive at both ends.
    pytest.param("EST5", 'valid-after="20300101000000Z"', "20291231235959", False, id="a second before it begins"),
    pytest.param("EST5", 'valid-after="20300101000000Z"', "20300101000000", True, id="when it begins"),
    pytest.param("EST5", 'valid-before="20300101000000Z"', "20300101000000", True, id="when it ends"),
    pytest.param("EST5", 'valid-before="20300101000000Z"', "20300101000001", False, id="a second after it ended"),
    # 5 hours behind UTC; 14 hours before it; a date is its midnight.
    pytest.param("EST5", 'valid-after="20300101"', "20300101045959", False, id="behind UTC, not yet"),
    pytest.param("EST5", 'valid-after="20300101"', "20300101050000", True, id="behind UTC, now"),
    pytest.param("XXX-14", 'valid-before="203001011200"', "20291231220000", True, id="before UTC, still"),
    pytest.param("XXX-14", 'valid-before="203001011200"', "20291231220001", False, id="before UTC, no more"),
    # In July too OpenSSH reads the zone's winter time: noon is 11:00 UTC in Berlin.
    pytest.param(
        "CET-1CEST,M3.5.0,M10.5.0/3", 'valid-after="203007011200"', "20300701105959", False, id="July, not yet"
    ),
    pytest.param(
        "CET-1CEST,M3.5.0,M10.5.0/3", 'valid-after="203007011200"', "20300701110000", True, id="July, now"
    ),
]


@needs_ssh_keygen
@pytest.mark.parametrize(("zone", "option", "moment", "valid"), MOMENTS, indirect=["zone"])
def test_times_are_read_in_openssh_in_the_readers_zone(
    zone: str, option: str, moment: str, valid: bool, tmp_path: Path
) -> None:
    (tmp_path / "allowed").write_text(f"{NAMESPACE} {option} ssh-ed25519 {KEYS['publisher']}\n")
    signature = str(VECTORS / "release/integrity/SHA256SUMS.sig")
    words = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", NAMESPACE, "-n", NAMESPACE]

    done = subprocess.run(
        [*words, "-s", signature, "-O", f"verify-time={moment}Z"],
        input=(VECTORS / "release/integrity/SHA256SUMS").read_bytes(),
        capture_output=True,
        check=False,
    )

    assert (done.returncode == 0) == valid, (zone, done)


@pytest.fixture
def timed(option: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key file with the option, read at the moment."""
    (tmp_path / "allowed").write_text(f"{NAMESPACE} {option} ssh-ed25519 {KEYS['publisher']}\n")
    monkeypatch.setattr(time, "time", lambda: utc(moment) + 0.9)
    return tmp_path / "allowed"


@pytest.mark.usefixtures("zone", "option", "moment")
@pytest.mark.parametrize(("zone", "option", "moment", "valid"), MOMENTS, indirect=["zone"])
def test_times_are_read_as_openssh_reads_them(timed: Path, valid: bool, vector: Path) -> None:
    if valid:
        assert verify_release(vector, key=timed).pinned
    else:
        with pytest.raises(VerificationError, match=r"wrong key.*it (is|was) valid only"):
            verify_release(vector, key=timed)


@pytest.mark.usefixtures("zone", "option", "moment")
@pytest.mark.parametrize(("zone", "option", "moment", "valid"), MOMENTS, indirect=["zone"])
def test_the_single_file_reads_times_so_too(
    timed: Path, valid: bool, vector: Path, single_file: ModuleType
) -> None:
    if valid:
        assert single_file.verify(vector, timed)["pinned"]
    else:
        with pytest.raises(single_file.ReleaseError, match="wrong key"):
            single_file.verify(vector, timed)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{key}\n", id="as ssh-keygen writes it"),
        pytest.param("{key} a comment of words\r\n", id="DOS line ends"),
        pytest.param("\n# ssh-ed25519 {other}\n  {key}", id="behind a comment"),
    ],
)
def test_a_bare_public_key_is_a_key_file(text: str, vector: Path, tmp_path: Path, single_file: ModuleType) -> None:
    key = f"ssh-ed25519 {KEYS['publisher']}"
    (tmp_path / "key.pub").write_bytes(text.format(key=key, other=KEYS["other"]).encode())

    assert verify_release(vector, key=tmp_path / "key.pub").pinned
    assert single_file.verify(vector, tmp_path / "key.pub")["pinned"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ssh-ed25519 {other}\nssh-ed25519 {publisher}\n", id="two bare keys"),
        pytest.param("# ssh-ed25519 {publisher}\n", id="a bare key in a comment"),
        pytest.param(
            "-----BEGIN OPENSSH PRIVATE KEY-----\nssh-ed25519 {publisher}\n", id="a bare key in a private one"
        ),
        pytest.param("x ssh-ed25519 {publisher}\n", id="a bare key behind something"),
    ],
)
def test_a_bare_key_beside_anything_else_is_not_used(
    text: str, vector: Path, tmp_path: Path, single_file: ModuleType
) -> None:
    (tmp_path / "key.pub").write_text(text.format(**KEYS))

    with pytest.raises(VerificationError):
        verify_release(vector, key=tmp_path / "key.pub")
    with pytest.raises((single_file.ReleaseError, single_file.InputError)):
        single_file.verify(vector, tmp_path / "key.pub")


def test_of_a_key_that_is_named_and_not_allowed_the_reason_is_told(vector: Path, tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text(
        f"somebody ssh-ed25519 {KEYS['publisher']}\n{NAMESPACE} ssh-ed25519 {KEYS['other']}\n"
    )

    with pytest.raises(VerificationError, match="names and does not allow: its line is for other identities"):
        verify_release(vector, key=tmp_path / "allowed")


def test_patterns_take_no_more_steps_than_both_lengths_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, takes = [0], allowed_signers._takes

    def counted(pattern: str, place: int, letter: str) -> bool:
        steps[0] += 1
        assert steps[0] <= 1001 * 1000, "the search turns back"
        return takes(pattern, place, letter)

    monkeypatch.setattr(allowed_signers, "_takes", counted)

    assert not matches("a" * 1000, "*a" * 500 + "b")
    assert steps[0] > 1000


@pytest.mark.parametrize("name", ["folder", "pipe", "/dev/zero", "huge", "missing", "loop", "zero\0byte"])
def test_what_is_no_small_regular_file_is_not_read_as_a_key(
    name: str, vector: Path, tmp_path: Path, single_file: ModuleType
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1024**4)

    with pytest.raises(ReaderFileError, match="the key given") as caught:
        verify_release(vector, key=tmp_path / name)
    with pytest.raises(single_file.InputError, match="the key given"):
        single_file.verify(vector, tmp_path / name)

    assert caught.value.exit_code == 2
    assert str(tmp_path) not in str(caught.value)


def test_a_key_behind_a_link_of_the_readers_is_read(vector: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(VECTORS / "publisher.pub")

    assert verify_release(vector, key=tmp_path / "link").pinned


def test_the_single_file_ends_as_it_says(vector: Path, tmp_path: Path) -> None:
    program = Path(__file__).resolve().parents[2] / "deploy/verify_release.py"

    def code(*words: object) -> int:
        done = subprocess.run([sys.executable, "-I", program, *map(str, words)], capture_output=True, check=False)
        assert b"Traceback" not in done.stderr
        return done.returncode

    assert code(vector, "--key", VECTORS / "publisher.pub") == 0
    assert code(vector) == 0
    assert code(vector, "--key", VECTORS / "forger.pub") == 4
    assert code(vector, "--key", tmp_path / "none") == 2
    assert code(tmp_path / "none") == 4
    (vector / "added").write_text("")
    assert code(vector) == 4


def test_the_single_file_needs_cryptography_and_fits_in_a_sitting() -> None:
    text = (Path(__file__).resolve().parents[2] / "deploy/verify_release.py").read_text()
    imported = set(re.findall(r"^(?:from|import) ([a-z0-9_]+)", text, re.MULTILINE))

    assert imported - sys.stdlib_module_names == {"cryptography"}
    assert "fedsynth" not in imported
    assert len(text.splitlines()) < 600
    compile(text, "verify_release.py", "exec", dont_inherit=True, _feature_version=9)
