"""Folders of sites: what counts as a recording, what is left out, and where links may lead."""

import os
import subprocess
from pathlib import Path

import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.folder import Found, check_beside, command_for, find_recordings

POINTER = "/annex/objects/SHA256E-s1234--0123456789abcdef.edf\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234\n"


def put(root: Path, *names: str, content: str = "recording") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def find(folder: Path, *, follow: bool = False) -> Found:
    return find_recordings(folder, suffixes=(".edf", ".bdf"), site="north", follow_links=follow)


def names(found: Found, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found.files]


@pytest.mark.parametrize(
    "aside",
    [
        "derivatives/clean/sub-1.edf",
        "sourcedata/sub-1.edf",
        "code/test.edf",
        "stimuli/tone.edf",
        "sub-1/derivatives/sub-1.edf",
        "Derivatives/sub-1.edf",
        "old/sub-1.edf",
        "OLD/2019/sub-1.edf",
        "backup/sub-1.edf",
        ".Trash-1000/files/sub-1.edf",
        "$RECYCLE.BIN/sub-1.edf",
        "lost+found/sub-1.edf",
        "@eaDir/sub-1.edf",
        "__MACOSX/sub-1.edf",
        "Backup_2023/sub-1.edf",
        "old recordings/sub-1.edf",
        "sub-1/eeg_old/sub-1.edf",
        "Papierkorb/sub-1.edf",
        "~snapshot/hourly/sub-1.edf",
        "tmp/sub-1.edf",
        ".git/sub-1.edf",
        "._sub-1.edf",
        ".sub-1.edf",
    ],
)
def test_what_is_no_raw_data_of_the_site_is_left_out_and_counted(tmp_path: Path, aside: str) -> None:
    put(tmp_path, "sub-1/eeg/sub-1.edf", "folder/sub-2.EDF", aside)

    found = find(tmp_path)

    assert names(found, tmp_path) == ["folder/sub-2.EDF", "sub-1/eeg/sub-1.edf"]
    assert found.left_out.total() == 1


@pytest.mark.parametrize(
    "name",
    ["older/sub-1.edf", "code-7/sub-1.edf", "sub-old/sub-1.edf", "temporal/1.edf", "oldenburg/1.edf", "old.edf"],
)
def test_names_that_only_begin_like_those_are_read(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)

    assert names(find(tmp_path), tmp_path) == [name]


def test_links_inside_the_folder_are_followed_and_a_circle_ends(tmp_path: Path) -> None:
    put(tmp_path, "a/sub-1.edf")
    (tmp_path / "b.edf").symlink_to("a/sub-1.edf")
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "a" / "up").symlink_to("..")

    assert names(find(tmp_path), tmp_path) == ["a/sub-1.edf", "b.edf", "c/sub-1.edf"]


@pytest.mark.parametrize("kind", ["file", "folder", "chain"])
def test_links_out_of_the_folder_need_a_word(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "nas", "more/sub-1.edf")
    site = tmp_path / "north"
    put(site, "sub-2.edf")
    target = {"file": "../nas/more/sub-1.edf", "folder": "../nas/more", "chain": "../nas/link"}[kind]
    (tmp_path / "nas" / "link").symlink_to("more")
    (site / ("sub-1.edf" if kind == "file" else "more")).symlink_to(target)

    with pytest.raises(RecordingError, match=r"'north': 1 links lead out of its folder.*--follow-links") as refusal:
        find(site)

    assert "sub-1" not in str(refusal.value)
    assert len(find(site, follow=True).files) == 2


def test_a_site_that_is_itself_a_link_is_a_folder_like_others(tmp_path: Path) -> None:
    put(tmp_path / "real", "sub-1.edf")
    (tmp_path / "north").symlink_to("real")

    assert len(find(tmp_path / "north").files) == 1


def annexed(root: Path, name: str, *, present: bool) -> None:
    key = f".git/annex/objects/Xx/Yy/KEY-{name.replace('/', '-')}/KEY"
    if present:
        put(root, key)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(os.path.relpath(root / key, (root / name).parent))


@pytest.mark.parametrize(
    "below", ["", "sites/north"], ids=["the data set is the site", "the site lies in the data set"]
)
def test_content_in_the_annex_of_its_own_repository_is_read(tmp_path: Path, below: str) -> None:
    annexed(tmp_path, f"{below}/sub-1/sub-1.edf".lstrip("/"), present=True)

    assert len(find(tmp_path / below).files) == 1


def test_content_that_is_absent_is_counted_whatever_stands_for_it(tmp_path: Path) -> None:
    annexed(tmp_path, "sub-1/sub-1.edf", present=True)
    annexed(tmp_path, "sub-2/sub-2.edf", present=False)
    put(tmp_path, "sub-3.edf", content=POINTER)
    put(tmp_path, "sub-4.edf", content=LFS)

    with pytest.raises(
        RecordingError, match="3 recordings are only pointers to content that is not on this machine"
    ):
        find(tmp_path)


def test_an_annex_of_another_repository_is_outside(tmp_path: Path) -> None:
    put(tmp_path / "other", ".git/annex/objects/K/K")
    (tmp_path / "north").mkdir()
    (tmp_path / "north" / "sub-1.edf").symlink_to("../other/.git/annex/objects/K/K")

    with pytest.raises(RecordingError, match="1 links lead out"):
        find(tmp_path / "north")


def test_a_link_to_nowhere_is_said(tmp_path: Path) -> None:
    put(tmp_path, "sub-1.edf")
    (tmp_path / "sub-2.edf").symlink_to("gone.edf")

    for follow in (False, True):
        with pytest.raises(RecordingError, match="1 links lead out of its folder, or nowhere"):
            find(tmp_path, follow=follow)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_said(tmp_path: Path) -> None:
    put(tmp_path, "sub-1.edf", "closed/sub-2.edf")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(RecordingError, match="1 folders below its folder may not be listed"):
            find(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_the_command_lists_what_was_found_in_the_same_order(tmp_path: Path) -> None:
    site = tmp_path / "a site's folder"
    put(
        site,
        "b.edf",
        "a/c d.BDF",
        "a/e.edf",
        "Z.edf",
        "derivatives/x.edf",
        ".h/y.edf",
        "old/z.edf",
        ".k.edf",
        "n.txt",
    )
    put(site, "ä.edf")
    (site / "linked").symlink_to("a")
    expected = names(find(site), site)

    command = command_for(site, suffixes=(".edf", ".bdf"), numbers=range(1, 99), links=True)
    shown = subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert [line.removeprefix("a site's folder/") for line in shown.splitlines()] == expected
    assert len(expected) == 7


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        pytest.param(lambda _: None, "is missing beside it", id="missing"),
        pytest.param(lambda path: path.mkdir(), "is missing beside it", id="folder"),
        pytest.param(lambda path: os.mkfifo(path), "is missing beside it", id="queue"),
        pytest.param(lambda path: path.symlink_to("gone"), "content that is not on this machine", id="broken link"),
        pytest.param(lambda path: path.write_text(POINTER), "only points to content", id="pointer"),
        pytest.param(lambda path: path.symlink_to("../out.dat"), "a link out of the site's folder", id="outside"),
    ],
)
def test_a_file_beside_a_header_must_be_there_and_inside(tmp_path: Path, make: object, fragment: str) -> None:
    (tmp_path / "north").mkdir()
    (tmp_path / "out.dat").write_text("samples")
    make(tmp_path / "north" / "x.dat")  # type: ignore[operator]

    with pytest.raises(RecordingError, match=fragment):
        check_beside(tmp_path / "north" / "x.dat", root=tmp_path / "north")
