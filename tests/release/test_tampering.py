"""What a stranger may do to a release, and the cause that must be named."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fedsynth.errors import VerificationError
from fedsynth.release.verify import verify_release

NPZ = "data/ml/windows.npz"
EDF = "sub-syn0001/eeg/sub-syn0001_task-synthetic_eeg.edf"


def refused(release: Path, match: str, **arguments: Path) -> str:
    with pytest.raises(VerificationError, match=match) as caught:
        verify_release(release, **arguments)
    assert caught.value.exit_code == 4
    return str(caught.value)


def overwrite(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda release: (release / name).write_bytes(data)


def flip_one_bit(release: Path) -> None:
    data = bytearray((release / NPZ).read_bytes())
    data[len(data) // 2] ^= 1
    (release / NPZ).write_bytes(data)


def swap(release: Path) -> None:
    one, other = release / NPZ, release / EDF
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def rename(old: str, new: str) -> Callable[[Path], object]:
    def run(release: Path) -> None:
        (release / new).parent.mkdir(parents=True, exist_ok=True)
        (release / old).rename(release / new)

    return run


def link_out(release: Path) -> None:
    """The content is the same, but it stands outside."""
    (release / NPZ).rename(release.parent / "windows.npz")
    (release / NPZ).symlink_to(release.parent / "windows.npz")


def link_folder(release: Path) -> None:
    (release / "data").rename(release.parent / "data")
    (release / "data").symlink_to(release.parent / "data")


def hard_link_out(release: Path) -> None:
    os.link(release / NPZ, release.parent / "windows.npz")


def pipe(release: Path) -> None:
    (release / NPZ).unlink()
    os.mkfifo(release / NPZ)


def folder_for_file(release: Path) -> None:
    (release / NPZ).unlink()
    (release / NPZ).mkdir()


def edit_json(name: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def run(release: Path) -> None:
        body = json.loads((release / name).read_text())
        edit(body)
        (release / name).write_text(json.dumps(body))

    return run


def edit_text(name: str, old: str, new: str) -> Callable[[Path], object]:
    def run(release: Path) -> None:
        text = (release / name).read_text()
        assert old in text
        (release / name).write_text(text.replace(old, new, 1))

    return run


def drop_first_line_of_sums(release: Path) -> None:
    path = release / "integrity/SHA256SUMS"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


SUMS, SIG, DSSE = "integrity/SHA256SUMS", "integrity/SHA256SUMS.sig", "integrity/release.dsse.json"

TAMPERINGS = [
    pytest.param(flip_one_bit, rf"changed: {NPZ}\.", id="changed: one bit"),
    pytest.param(overwrite("README.md", b""), r"changed: README\.md", id="changed: emptied"),
    pytest.param(
        edit_text("privacy/statement.json", "3.5", "0.5"), r"changed: privacy/statement", id="changed: promise"
    ),
    pytest.param(
        edit_text("integrity/HOWTO-VERIFY.md", "AAAA", "AAAB"), r"changed: integrity/HOWTO", id="changed: key shown"
    ),
    pytest.param(swap, rf"changed: {NPZ}; changed: {EDF}", id="changed: two files swapped"),
    pytest.param(overwrite("extra.csv", b"1"), r"added: extra\.csv", id="added: a file"),
    pytest.param(overwrite("integrity/more", b"1"), "added: integrity/more", id="added: beside the signatures"),
    pytest.param(overwrite(".DS_Store", b"1"), r"added: \.DS_Store", id="added: a hidden file"),
    pytest.param(overwrite("a\nGood signature", b"1"), r"added: a\\nGood", id="added: a name with a line break"),
    pytest.param(overwrite("\u202egpj.exe", b"1"), r"added: \\u202e", id="added: a name that runs backwards"),
    pytest.param(
        lambda release: (release / "sub-syn9999/eeg").mkdir(parents=True),
        r"added: sub-syn9999/eeg/ \(an empty folder\)",
        id="added: an empty folder",
    ),
    pytest.param(lambda release: (release / NPZ).unlink(), f"removed: {NPZ}", id="removed"),
    pytest.param(rename(NPZ, "data/ml/w.npz"), f"renamed: {NPZ} is now data/ml/w.npz", id="renamed"),
    pytest.param(rename("LICENSE", "license"), "renamed: LICENSE is now license", id="renamed: only the case"),
    pytest.param(rename(EDF, "x.edf"), rf"renamed: {EDF} is now x\.edf", id="renamed: to another folder"),
    pytest.param(link_out, f"symbolic link: {NPZ}", id="linked: a file, same content"),
    pytest.param(link_folder, "symbolic link: data", id="linked: a folder, same content"),
    pytest.param(
        lambda release: (release / "x").symlink_to("/etc/passwd"), "symbolic link: x", id="linked: an added link"
    ),
    pytest.param(hard_link_out, f"hard link: {NPZ}", id="linked: another name outside"),
    pytest.param(pipe, f"not a regular file: {NPZ}", id="odd: a pipe that would block"),
    pytest.param(folder_for_file, f"removed: {NPZ}", id="odd: a folder in place of a file"),
    pytest.param(lambda r: (r / SUMS).unlink(), f"{SUMS} is missing", id="integrity: no manifest"),
    pytest.param(lambda r: (r / SIG).unlink(), f"{SIG} is missing", id="integrity: no SSH signature"),
    pytest.param(lambda r: (r / DSSE).unlink(), f"{DSSE} is missing", id="integrity: no envelope"),
    pytest.param(
        lambda r: (rename(SUMS, "../sums")(r), (r / SUMS).symlink_to(r.parent / "sums")),
        f"symbolic link: {SUMS}",
        id="integrity: manifest linked",
    ),
    pytest.param(overwrite(SUMS, b""), f"bad signature: {SUMS}", id="integrity: manifest emptied"),
    pytest.param(drop_first_line_of_sums, f"bad signature: {SUMS}", id="integrity: a line dropped"),
    pytest.param(overwrite(SIG, b"hello"), "malformed: SHA256SUMS.sig", id="integrity: not a signature"),
    pytest.param(overwrite(SIG, b"\xff" * 99), "malformed: SHA256SUMS.sig", id="integrity: binary signature"),
    pytest.param(overwrite(DSSE, b"{}"), "malformed: release.dsse.json", id="integrity: not an envelope"),
    pytest.param(
        edit_json(DSSE, lambda body: body.update(comment="trust me")),
        "malformed: release.dsse.json",
        id="integrity: a remark in the envelope",
    ),
    pytest.param(
        edit_json(DSSE, lambda body: body.update(signatures=2 * body["signatures"])),
        "two signatures of one key",
        id="integrity: signed twice",
    ),
    pytest.param(
        edit_json(DSSE, lambda body: body.update(payload="e30=")), f"bad signature: {DSSE}", id="integrity: payload"
    ),
    pytest.param(
        edit_json(DSSE, lambda body: body.update(signatures=[])), f"bad signature: {DSSE}", id="integrity: unsigned"
    ),
]


@pytest.mark.parametrize(("tamper", "cause"), TAMPERINGS)
def test_a_tampering_fails_with_its_cause(release: Path, tamper: Callable[[Path], object], cause: str) -> None:
    tamper(release)

    message = refused(release, cause)

    assert message.isprintable()
    assert "root:" not in message


@pytest.mark.parametrize(("tamper", "cause"), TAMPERINGS)
def test_the_single_file_refuses_every_tampering_too(
    release: Path, single_file: ModuleType, tamper: Callable[[Path], object], cause: str
) -> None:
    tamper(release)

    with pytest.raises(single_file.ReleaseError) as caught:
        single_file.verify(release, None)

    assert str(caught.value).isprintable()
    if not cause.startswith("renamed"):  # it calls that removed, and does not look for twins
        assert cause.partition(":")[0] in str(caught.value)


def test_the_single_file_accepts_what_verify_accepts(
    pristine: Path, signing_key: Path, single_file: ModuleType
) -> None:
    verified = verify_release(pristine, key=signing_key.with_suffix(".pub"))

    said = single_file.verify(pristine, signing_key.with_suffix(".pub"))

    assert (said["signer"], said["files"], said["pinned"]) == (verified.fingerprint, verified.files, True)
    assert said["promise"]["epsilon"] == verified.epsilon


def test_differences_are_all_found_five_are_named_and_the_rest_counted(release: Path) -> None:
    for name in "abcdefg":
        (release / name).write_text(name)
    (release / "README.md").write_text("")

    message = refused(release, "and 3 more")

    assert message.count("added: ") == 4
    assert message.count("changed: ") == 1


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "does not exist")


def test_a_folder_that_is_no_release_is_named(tmp_path: Path) -> None:
    refused(tmp_path, "not a signed release")


def test_nothing_outside_is_opened(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = os.open

    def record(path: str | Path, *arguments: int, **keywords: int) -> int:
        opened.append(os.path.realpath(path))
        return original(path, *arguments, **keywords)

    link_folder(release)
    monkeypatch.setattr(os, "open", record)

    refused(release, "symbolic link: data")

    assert opened
    assert all(name.startswith(str(release.resolve()) + os.sep) for name in opened)
