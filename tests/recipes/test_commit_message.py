"""What the hooks let pass: messages of commits, and files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = "Cut windows evenly\n\nThe middle of a recording counted twice.\nPrivacy: none.\n"
SCISSORS = "# ------------------------ >8 ------------------------"


def hook(name: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run a hook as pre-commit does."""
    asked = [sys.executable, str(ROOT / ".ci" / name), *map(str, files)]
    return subprocess.run(asked, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(GOOD, id="subject, body and privacy"),
        pytest.param("Cut windows evenly\n\nPrivacy: mechanism; the bound is lower.\n", id="no body but privacy"),
        pytest.param("x" * 72 + "\n\nPrivacy: accounting.\n", id="as long as allowed"),
        pytest.param(f"# a comment of git's\n{GOOD}# On branch main\n", id="comments do not count"),
        pytest.param(f"{GOOD}{SCISSORS}\n+{'x' * 200}\n", id="nor does what is below the scissors"),
        pytest.param(GOOD + "\nReviewed-by: somebody\n", id="privacy need not come last"),
    ],
)
def test_a_message_passes(message: str, tmp_path: Path) -> None:
    (tmp_path / "message").write_text(message, encoding="utf-8")

    done = hook("commit_message.py", tmp_path / "message")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        pytest.param("", "is empty", id="nothing"),
        pytest.param("\n# On branch main\n", "is empty", id="comments alone"),
        pytest.param(f"{SCISSORS}\n{GOOD}", "is empty", id="all below the scissors"),
        pytest.param("x" * 73 + "\n\nPrivacy: none.\n", "has 73 characters, 72 at most", id="a long subject"),
        pytest.param("Cut windows\nevenly\n\nPrivacy: none.\n", "second line is not empty", id="two lines of it"),
        pytest.param("Cut windows evenly\n", 'begins "Privacy: "', id="a subject alone"),
        pytest.param("Privacy: none.\n", 'begins "Privacy: "', id="privacy as the subject"),
        pytest.param("Cut\n\nThis has no Privacy: none.\n", 'begins "Privacy: "', id="privacy inside a line"),
        pytest.param("Cut\n\nPrivacy:none.\n", 'begins "Privacy: "', id="no blank"),
        pytest.param("Cut\n\nPrivacy: perhaps.\n", "says none, mechanism or accounting", id="another word"),
        pytest.param("Cut\n\n# Privacy: none.\n", 'begins "Privacy: "', id="in a comment"),
    ],
)
def test_a_message_is_refused_with_the_cause(message: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "message").write_text(message, encoding="utf-8")

    done = hook("commit_message.py", tmp_path / "message")

    assert done.returncode == 1
    assert cause in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_fault_of_a_message_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "message").write_text("x" * 80 + "\ngoes on\n", encoding="utf-8")

    assert len(hook("commit_message.py", tmp_path / "message").stderr.splitlines()) == 3


def test_the_message_that_contributors_are_shown_passes(tmp_path: Path) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```text\n(.*?)^```$", guide, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "message").write_text(shown, encoding="utf-8")

    assert hook("commit_message.py", tmp_path / "message").stderr == ""


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        pytest.param(b"x" * 500_000, "", id="as large as allowed"),
        pytest.param(b"x" * 500_001, "has 500001 bytes", id="one byte more"),
        pytest.param(b"a\n" + b"<" * 7 + b" HEAD\n", "merge marker", id="ours"),
        pytest.param(b"a\n" + b">" * 7 + b" theirs\n", "merge marker", id="theirs"),
        pytest.param(b"Title\n=======\n", "", id="a heading is no marker"),
        pytest.param(b">>> " + b">" * 7 + b"\n", "", id="inside a line"),
        pytest.param(b"", "", id="empty"),
    ],
)
def test_a_large_file_and_a_merge_marker_are_refused(data: bytes, cause: str, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"good\n")
    (tmp_path / "file").write_bytes(data)

    done = hook("changed_files.py", tmp_path / "good", tmp_path / "file")

    assert done.returncode == bool(cause)
    assert cause in done.stderr
