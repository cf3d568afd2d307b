"""What `fedsynth verify` says when its answer has nowhere to go, and that nobody's words reach a terminal raw."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fedsynth.privacy import repricing
from fedsynth.release import verify as release_verify

VECTORS = Path(__file__).resolve().parents[1] / "release/vectors"
RELEASE, KEY = VECTORS / "release", VECTORS / "publisher.pub"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m fedsynth verify {RELEASE} --key {KEY}"
    return subprocess.run(
        ["bash", "-c", command.replace("VERIFY", program)], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("how", ["", "--json"])
def test_a_full_disk_under_the_answer_is_one_sentence(how: str) -> None:
    done = shell(f"VERIFY {how} > /dev/full")

    assert done.returncode == 2
    said = "fedsynth: the answer could not be written to standard output (No space left on device)\n"
    assert done.stderr == said


@pytest.mark.parametrize("how", ["", "--json"])
def test_a_closed_standard_output_leaves_the_exit_code_to_say_it(how: str) -> None:
    done = shell(f"VERIFY {how} >&-")

    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_is_one_sentence() -> None:
    done = shell("set -o pipefail; VERIFY --json | exec 0<&-")

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_the_answer_as_json_is_the_release(fedsynth) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth("verify", RELEASE, "--key", KEY, "--json")

    said = json.loads(done.out)
    assert (done.code, said["pinned"], said["epsilon"], said["files"]) == (0, True, 1.5, 5)


def test_it_says_whether_epsilon_was_repriced(fedsynth, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    assert "repriced: 0.927, and 0.928 by the second accountant." in fedsynth("verify", RELEASE).out
    assert json.loads(fedsynth("verify", RELEASE, "--json").out)["repriced"]["epsilon"] == pytest.approx(
        0.927, abs=1e-3
    )

    monkeypatch.setattr(repricing, "installed", lambda: None)
    assert "lower bound only: no accountant is installed here." in fedsynth("verify", RELEASE).out
    said = json.loads(fedsynth("verify", RELEASE, "--json").out)
    assert (said["repriced"], said["priced"]) == (None, "lower bound only: no accountant is installed here")


def test_half_of_what_sampled_events_cost_is_refused_where_an_accountant_is_installed(  # type: ignore[no-untyped-def]
    fedsynth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(RELEASE, tmp_path / "release")
    files = {"privacy/statement.json": "json", "integrity/release.dsse.json": "dsse.json"}
    files |= {"integrity/SHA256SUMS": "sums", "integrity/SHA256SUMS.sig": "sig"}
    for file, ending in files.items():
        half = VECTORS / f"variants/says-half-of-its-many-sampled-events.{ending}"
        shutil.copyfile(half, tmp_path / "release" / file)

    done = fedsynth("verify", tmp_path / "release", "--key", KEY)

    assert done.code == 4
    assert "contradicts itself" in done.err
    assert "by dp_accounting PLD, and its own events cost" in done.err
    monkeypatch.setattr(repricing, "installed", lambda: None)
    assert fedsynth("verify", tmp_path / "release", "--key", KEY).code == 0


def test_a_key_file_that_is_none_is_bad_input_and_a_wrong_key_does_not_verify(fedsynth) -> None:  # type: ignore[no-untyped-def]
    assert fedsynth("verify", RELEASE, "--key", RELEASE / "README.md").code == 2
    assert fedsynth("verify", RELEASE, "--key", "/dev/zero").code == 2
    assert fedsynth("verify", RELEASE, "--key", RELEASE / "nothing").code == 2
    assert fedsynth("verify", RELEASE, "--key", VECTORS / "forger.pub").code == 4


def test_a_publishers_words_do_not_reach_the_terminal_raw(fedsynth, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    verified = release_verify.verify_release(RELEASE)
    hostile = replace(verified, promise="epsilon \x1b[2J\u202e 0 \u00b5V \udcff\nverified")
    monkeypatch.setattr(release_verify, "verify_release", lambda *_, **__: hostile)

    said = fedsynth("verify", RELEASE).out

    assert r"epsilon \x1b[2J\u202e 0 \u00b5V \udcff\nverified".replace(r"\u00b5", "\u00b5") in said


def test_a_folder_of_any_name_is_verified(tmp_path: Path) -> None:
    folder = tmp_path / "\u00dcbung \x1b[2J"
    shutil.copytree(RELEASE, folder)

    done = subprocess.run(
        [sys.executable, "-m", "fedsynth", "verify", folder],
        capture_output=True,
        check=False,
        env={"LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )

    assert done.returncode == 0, done.stderr
    assert rb"\xdcbung \x1b[2J: verified" in done.stdout
