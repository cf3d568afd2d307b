import base64
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as ReferenceEnvelope
from securesystemslib.exceptions import VerificationError as ReferenceVerificationError
from securesystemslib.signer import SSlibKey

from fedsynth.errors import RefusedError, VerificationError
from fedsynth.release.manifest import (
    build_manifest,
    format_manifest,
    parse_manifest,
    read_bounded,
    scan,
    sha256_of,
    shown,
)
from fedsynth.release.signature import (
    Envelope,
    load_private_key,
    make_key,
    parse_public_key,
    parse_ssh,
    public_of,
    sign_ssh,
    strict_json,
    verify_ssh,
)

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
needs_sha256sum = pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""SHA-256 of "abc", FIPS 180-2, appendix B.1."""


def shell(command: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True, check=False)


def signed_with(release: Path) -> str:
    """The allowed_signers line that HOWTO-VERIFY.md tells a reader to write."""
    howto = (release / "integrity/HOWTO-VERIFY.md").read_text()
    return next(line for line in howto.splitlines() if line.startswith("    ssh-ed25519 ")).strip()


def test_the_manifest_is_every_file_sorted_with_its_digest(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", "a.txt", "integrity/SHA256SUMS", "integrity/HOWTO-VERIFY.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("abc")

    text = format_manifest(build_manifest(tmp_path)).decode()

    assert text == (f"{ABC}  a.txt\n{ABC}  a/c.txt\n{ABC}  b.txt\n{ABC}  integrity/HOWTO-VERIFY.md\n")


@needs_sha256sum
def test_sha256sum_accepts_the_manifest_of_a_release(pristine: Path) -> None:
    done = shell("sha256sum --check --strict --quiet integrity/SHA256SUMS", cwd=pristine)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9_-]{1,8}(/[a-z0-9_-]{1,8}){0,3}", fullmatch=True),
        st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        min_size=1,
    )
)
def test_a_manifest_reads_back(digests: dict[str, str]) -> None:
    assert parse_manifest(format_manifest(digests)) == digests


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param(f"{ABC}  a.txt", "cut", id="no newline at the end"),
        pytest.param(f"{ABC} *a.txt\n", "line 1", id="binary marker"),
        pytest.param(f"{ABC.upper()}  a.txt\n", "line 1", id="upper case digest"),
        pytest.param(f"{ABC[1:]}  a.txt\n", "line 1", id="short digest"),
        pytest.param(f"{ABC}  a.txt\r\n", "cannot hold", id="carriage return"),
        pytest.param(f"{ABC}  ../a.txt\n", "outside", id="above the folder"),
        pytest.param(f"{ABC}  a/../../b\n", "outside", id="above the folder, later"),
        pytest.param(f"{ABC}  /etc/passwd\n", "outside", id="absolute"),
        pytest.param(f"{ABC}  ./a.txt\n", "cannot hold", id="dot"),
        pytest.param(f"{ABC}  a//b\n", "cannot hold", id="empty part"),
        pytest.param(f"{ABC}  a/\n", "cannot hold", id="a folder"),
        pytest.param(f"{ABC}  a\\b\n", "cannot hold", id="backslash"),
        pytest.param(f"{ABC}  C:a\n", "cannot hold", id="drive"),
        pytest.param(f"{ABC}  a\x1b[2Jb\n", "cannot hold", id="escape sequence"),
        pytest.param(f"{ABC}  integrity/SHA256SUMS\n", "cannot hold", id="itself"),
        pytest.param(f"{ABC}  a\n{ABC}  a\n", "twice", id="twice"),
        pytest.param(f"{ABC}  Ab\n{ABC}  aB\n", "twice", id="twice but for case"),
        pytest.param(f"{ABC}  b\n{ABC}  a\n", "not sorted", id="out of order"),
        pytest.param(f"{ABC}  \u00e4\n", "ASCII", id="umlaut"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(text: str, cause: str) -> None:
    with pytest.raises(VerificationError, match=cause):
        parse_manifest(text.encode())


@given(st.binary(max_size=100) | st.text(alphabet="0ab./\r\n *", max_size=90).map(str.encode))
def test_of_one_manifest_there_is_one_file(noise: bytes) -> None:
    """Whatever is read is written back byte by byte, so that a manifest holds no free byte."""
    for data in (noise, f"{ABC}  a\n".encode() + noise, noise + f"{ABC}  a\n".encode()):
        try:
            digests = parse_manifest(data)
        except VerificationError:
            continue
        assert format_manifest(digests) == data


@pytest.mark.parametrize("name", ["a b", "a\nb", "\u00e4", "a\\b", "x:y"])
def test_a_name_that_the_manifest_cannot_hold_is_not_written(name: str) -> None:
    with pytest.raises(VerificationError, match="cannot hold"):
        format_manifest({name: ABC})


def test_scan_follows_no_link_and_names_what_is_odd(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "inside/file").write_text("abc")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "one").write_text("abc")
    os.link(tmp_path / "one", tmp_path / "two")

    tree = scan(tmp_path)

    assert tree.files == ("inside/file",)
    assert tree.empty == ("empty/",)
    assert tree.odd == (
        ("dangling", "symbolic link"),
        ("loop", "symbolic link"),
        ("one", "hard link"),
        ("pipe", "not a regular file"),
        ("two", "hard link"),
    )
    with pytest.raises(VerificationError, match="regular files only"):
        build_manifest(tmp_path)


def test_a_file_that_became_something_else_after_the_scan_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret").write_text("abc")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")

    for name in ("link", "pipe", "folder"):
        with pytest.raises(VerificationError):
            sha256_of(tmp_path, name)


def test_large_files_are_hashed_and_not_read_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsynth.release.manifest.LARGEST_TEXT", 2)
    (tmp_path / "a").write_text("abc")

    assert sha256_of(tmp_path, "a") == ABC
    with pytest.raises(VerificationError, match="larger than 2 bytes"):
        read_bounded(tmp_path, "a")


def test_shown_names_carry_no_control_character() -> None:
    assert shown("a\x1b[31m\n\u202e\udcff") == r"a\x1b[31m\n\u202e\udcff"
    assert len(shown("a" * 1000)) == 120


def test_a_key_is_made_for_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    public = make_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()

    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert public_of(load_private_key(tmp_path / "key")) == public
    assert (tmp_path / "key.pub").read_text() == f"{public.line} fedsynth-release\n"
    with pytest.raises(RefusedError, match="left as it is"):
        make_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


@needs_ssh_keygen
def test_openssh_reads_our_key_and_prints_our_fingerprint(tmp_path: Path) -> None:
    public = make_key(tmp_path / "key")

    assert public.fingerprint in shell("ssh-keygen -l -f key.pub", cwd=tmp_path).stdout
    assert shell("ssh-keygen -y -f key", cwd=tmp_path).stdout.split()[1] == public.line.split()[1]


@needs_ssh_keygen
@pytest.mark.parametrize(
    ("command", "cause"),
    [
        pytest.param("ssh-keygen -q -t ed25519 -N secret -f key", "passphrase", id="behind a passphrase"),
        pytest.param("ssh-keygen -q -t ecdsa -N '' -f key", "not an Ed25519", id="another algorithm"),
        pytest.param("install -m 600 /dev/null key", "not an OpenSSH", id="empty"),
    ],
)
def test_a_key_that_cannot_sign_is_refused(tmp_path: Path, command: str, cause: str) -> None:
    shell(command, cwd=tmp_path)

    with pytest.raises(RefusedError, match=cause):
        load_private_key(tmp_path / "key")


@needs_ssh_keygen
def test_we_sign_as_openssh_does_byte_by_byte(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "message").write_bytes(b"abc\n" * 50)

    shell("ssh-keygen -q -Y sign -f key -n fedsynth-release message", cwd=tmp_path)

    ours = sign_ssh(b"abc\n" * 50, key=load_private_key(tmp_path / "key"))
    assert ours == (tmp_path / "message.sig").read_text()


@needs_ssh_keygen
@pytest.mark.parametrize(
    ("spoil", "accepted"),
    [
        pytest.param("true", True, id="untouched"),
        pytest.param("sed -i s/a/b/ integrity/SHA256SUMS", False, id="manifest changed"),
    ],
)
def test_openssh_verifies_a_release_as_the_howto_says(release: Path, spoil: str, accepted: bool) -> None:
    (release.parent / "allowed_signers").write_text(f"fedsynth-release {signed_with(release)}\n")
    shell(spoil, cwd=release)

    done = shell(
        "ssh-keygen -Y verify -f ../allowed_signers -I fedsynth-release -n fedsynth-release "
        "-s integrity/SHA256SUMS.sig < integrity/SHA256SUMS",
        cwd=release,
    )

    assert (done.returncode == 0) == accepted
    assert ('Good "fedsynth-release" signature' in done.stdout) == accepted


@needs_ssh_keygen
@needs_sha256sum
def test_the_howtos_commands_run_as_printed_and_show_an_added_file(release: Path) -> None:
    howto = (release / "integrity/HOWTO-VERIFY.md").read_text().split("## Without our software")[1]
    commands = "\n".join(line.strip() for line in howto.splitlines() if line.startswith("    "))

    clean = shell(f"set -e\n{commands}", cwd=release)
    (release / "extra.txt").write_text("added")
    spoiled = shell(f"set -e\n{commands}", cwd=release)

    unsigned = ["integrity/SHA256SUMS", "integrity/SHA256SUMS.sig", "integrity/release.dsse.json"]
    assert clean.returncode == 0, clean.stderr
    assert clean.stdout.splitlines()[1:] == unsigned
    assert spoiled.stdout.splitlines()[1:] == ["extra.txt", *unsigned]


def reference_key(release: Path) -> SSlibKey:
    key = parse_public_key(signed_with(release))
    return SSlibKey(key.fingerprint, "ed25519", "ed25519", {"public": key.raw.hex()})


def test_securesystemslib_verifies_the_envelope(pristine: Path) -> None:
    raw = json.loads((pristine / "integrity/release.dsse.json").read_text())
    envelope = ReferenceEnvelope.from_dict(raw)

    accepted = envelope.verify([reference_key(pristine)], 1)

    assert len(accepted) == 1
    statement = json.loads(envelope.payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:fedsynth:release:1"
    assert statement["predicate"]["ledgers"][0] == {
        "site": "east",
        "ledger_head": "a" * 64,
        "ledger_length": 3,
    }
    assert {"name", "digest"} == set(statement["subject"][0])


def test_securesystemslib_refuses_a_changed_payload(pristine: Path) -> None:
    raw = json.loads((pristine / "integrity/release.dsse.json").read_text())
    payload = base64.b64decode(raw["payload"]).replace(b'"epsilon":3.5', b'"epsilon":0.5')
    raw["payload"] = base64.b64encode(payload).decode()

    with pytest.raises(ReferenceVerificationError):
        ReferenceEnvelope.from_dict(raw).verify([reference_key(pristine)], 1)


def test_a_signature_is_over_the_bytes_and_by_the_key(tmp_path: Path) -> None:
    key, other = make_key(tmp_path / "key"), make_key(tmp_path / "other")
    signer, signature = parse_ssh(sign_ssh(b"abc", key=load_private_key(tmp_path / "key")).encode())

    assert signer == key
    assert verify_ssh(b"abc", signature=signature, key=key)
    assert not verify_ssh(b"abd", signature=signature, key=key)
    assert not verify_ssh(b"abc", signature=signature, key=other)
    assert not verify_ssh(b"abc", signature=signature[:-1], key=key)


@needs_ssh_keygen
def test_a_signature_made_for_another_purpose_is_refused(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "message").write_text("abc")
    shell("ssh-keygen -q -Y sign -f key -n git message", cwd=tmp_path)

    with pytest.raises(VerificationError, match="another purpose"):
        parse_ssh((tmp_path / "message.sig").read_bytes())


@given(st.binary(max_size=200))
def test_any_bytes_in_place_of_a_signature_are_refused_by_name(data: bytes) -> None:
    armoured = b"-----BEGIN SSH SIGNATURE-----\n%b\n-----END SSH SIGNATURE-----\n"
    for candidate in (data, armoured % data, armoured % base64.b64encode(b"SSHSIG\0\0\0\1" + data)):
        with pytest.raises(VerificationError):
            parse_ssh(candidate)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_any_bytes_in_place_of_an_envelope_are_refused_by_name(data: bytes | str) -> None:
    with pytest.raises(VerificationError):
        Envelope.from_json(data if isinstance(data, bytes) else data.encode())


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', "[" * 100_000, "\x00", '"\\ud800'],
)
def test_loose_json_is_refused(text: str) -> None:
    with pytest.raises(VerificationError, match="is not JSON"):
        strict_json(text.encode(), what="this")


@pytest.mark.parametrize(
    "text",
    ["", "hello", "ssh-rsa AAAAB3NzaC1yc2E= me", "ssh-ed25519 AAAA", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAA=="],
)
def test_what_is_not_a_public_key_is_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        parse_public_key(text)


def test_a_public_key_is_read_from_either_kind_of_file(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")

    assert parse_public_key((tmp_path / "key.pub").read_text()) == key
    assert parse_public_key(f'fedsynth-release namespaces="fedsynth-release" {key.line}\n') == key
    with pytest.raises(VerificationError, match="2 were found"):
        parse_public_key(f"a {key.line}\nb {make_key(tmp_path / 'other').line}\n")
