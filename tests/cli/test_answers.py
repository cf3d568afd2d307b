"""What every command has in common: one JSON document, exit codes, streams that fail, and being stopped."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedsynth.cli.main import app
from fedsynth.cli.progress import duration, lines
from fedsynth.source_code import code_in_use

COMMANDS = ("check", "rehearse", "release", "verify", "audit", "site ledger")


def run(*words: object, python: tuple[str, ...] = (), **options: object) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a process of its own."""
    environment = {**os.environ, **options.pop("env", {})}  # type: ignore[dict-item]
    command = [sys.executable, *python, "-m", "fedsynth", *map(str, words)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    return subprocess.run(command, text=True, check=False, env=environment, **settings)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    out = tmp_path_factory.mktemp("released") / "release"
    done = run("release", finished, "--out", out, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    return out


# Exit codes


def test_exit_code_0_is_for_what_was_done(release: Path) -> None:
    assert run("verify", release).returncode == 0


def test_exit_code_1_is_for_what_was_refused(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")

    assert fedsynth("release", run_copy, "--out", tmp_path / "full").code == 1


def test_exit_code_2_is_for_words_studies_and_places(fedsynth, study_file: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert fedsynth("rehearse", study_file).code == 2
    assert fedsynth("no-such-command").code == 2
    assert fedsynth().code == 2
    assert fedsynth("check", tmp_path / "nothing.toml").code == 2
    assert fedsynth("rehearse", study_file, "--cohort", "toy", "--out", study_file).code == 2


def test_exit_code_3_is_for_promises_that_would_be_broken(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = run_copy / "statement.json"
    path.write_text(path.read_text().replace('"epsilon": ', '"epsilon": 1'))

    assert fedsynth("release", run_copy, "--out", tmp_path / "release").code == 3


def test_exit_code_4_is_for_releases_that_do_not_verify(fedsynth, release: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(release, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("changed")

    assert fedsynth("verify", tmp_path / "copy").code == 4


@pytest.mark.parametrize("place", ["docs/commands.md", "README.md"])
def test_exit_codes_are_written_down(place: str) -> None:
    text = " ".join(Path(__file__).parents[2].joinpath(place).read_text(encoding="utf-8").split())

    codes = "0 done, 1 refused, 2 configuration, input or machine, 3 privacy, 4 a release that does not verify"
    assert codes in text
    assert codes in (app.info.help or "")


# One JSON document


def one(text: str) -> dict[str, object]:
    """Return the one document in a text; json.loads refuses a second."""
    body = json.loads(text)
    assert isinstance(body, dict)
    return body


FAILURES = [
    pytest.param(("check", "{there}/none.toml", "--json"), "StudyError", 2, id="check"),
    pytest.param(("rehearse", "{there}/none.toml", "--cohort", "toy", "--out", "x", "--json"), "StudyError", 2),
    pytest.param(("rehearse", "{there}/none.toml", "--json"), "UsageError", 2, id="rehearse: words"),
    pytest.param(("release", "{there}", "--out", "{there}/x", "--json"), "RunError", 2, id="release"),
    pytest.param(("verify", "{there}", "--json"), "VerificationError", 4, id="verify"),
    pytest.param(("audit", "{there}/none.toml", "--cohort", "toy", "--json"), "StudyError", 2, id="audit"),
    pytest.param(("site", "ledger", "{there}", "--json"), "RunError", 2, id="site ledger"),
    pytest.param(("verify", "--json", "--no-such-option"), "UsageError", 2, id="an option that is none"),
    pytest.param(("no-such-command", "--json"), "UsageError", 2, id="a command that is none"),
]


@pytest.mark.parametrize(("words", "kind", "code"), FAILURES)
def test_a_failure_is_one_json_document_and_a_sentence(  # type: ignore[no-untyped-def]
    fedsynth, tmp_path: Path, words: tuple[str, ...], kind: str, code: int
) -> None:
    done = fedsynth(*(word.format(there=tmp_path) for word in words))

    error = one(done.out)["error"]
    assert isinstance(error, dict)
    assert (error["kind"], error["exit_code"], done.code) == (kind, code, code)
    assert set(error) == {"kind", "exit_code", "said"}
    assert " ".join(done.err.split()).endswith(str(error["said"]))
    assert len(str(error["said"])) > 20


def test_dry_runs_and_answers_are_one_json_document_too(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, run_copy: Path, release: Path, tmp_path: Path
) -> None:
    dry = one(fedsynth("rehearse", study_file, "--sites", recordings, "--dry-run", "--json").out)
    audit = one(fedsynth("audit", study_file, "--cohort", "toy", "--dry-run", "--json").out)
    publication = one(fedsynth("release", run_copy, "--out", tmp_path / "r", "--dry-run", "--json").out)
    version = one(fedsynth("--version", "--json").out)

    assert (dry["dry_run"], dry["study"], dry["unit"]) == (True, "tiny", "subject")
    assert 7.9 < float(str(dry["epsilon"])) <= 8.0
    assert (audit["dry_run"], audit["canaries"]) == (True, 500)
    assert publication["dry_run"] is True
    assert version == {"fedsynth": code_in_use().version, "source_sha256": code_in_use().digest}
    assert one(fedsynth("verify", release, "--json").out)["files"]
    assert "plan" not in one(fedsynth("site", "ledger", run_copy / "sites" / "east", "--json").out)


def test_an_answer_that_was_given_before_the_failure_is_in_the_one_document(  # type: ignore[no-untyped-def]
    fedsynth, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an audit does: it prints what it found, and then fails because of it."""
    from fedsynth.errors import PrivacyError

    def found(*_: object, **__: object) -> None:
        sys.stdout.write('{"found": 3}\n')
        raise PrivacyError("the claim is contradicted")

    monkeypatch.setattr("fedsynth.plan.plan_of", found)
    done = fedsynth("check", study_file, "--json")

    assert one(done.out) == {
        "found": 3,
        "error": {"kind": "PrivacyError", "exit_code": 3, "said": "the claim is contradicted"},
    }


def test_a_fault_of_ours_is_a_document_and_a_traceback(  # type: ignore[no-untyped-def]
    fedsynth, study_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fedsynth.plan.plan_of", broken)
    with pytest.raises(ZeroDivisionError):
        fedsynth("check", study_file, "--json")

    assert "ZeroDivisionError" in str(one(capsys.readouterr().out)["error"])


# --version, --quiet, completion, progress


def test_the_version_is_said(fedsynth) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth("--version")

    assert (done.code, done.err) == (0, "")
    assert done.out == f"fedsynth {code_in_use().version} ({code_in_use().digest[:12]})\n"
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    assert code_in_use().version == project["version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_quiet(fedsynth, command: str) -> None:  # type: ignore[no-untyped-def]
    assert "--quiet" in fedsynth(*command.split(), "--help").out


def test_check_tells_that_it_goes_on_unless_it_is_quiet(fedsynth, study_file: Path) -> None:  # type: ignore[no-untyped-def]
    loud, quiet = fedsynth("check", study_file), fedsynth("check", study_file, "--quiet")

    assert "the plan's noise: 1 of 1\n" in loud.err
    assert "prices, train: 3 of 3\n" in loud.err
    assert quiet.err == ""
    assert quiet.out == loud.out


def test_shells_complete_commands() -> None:
    done = run(env={"_FEDSYNTH_COMPLETE": "complete_bash", "COMP_WORDS": "fedsynth re", "COMP_CWORD": "1"})

    assert done.stdout.split() == ["rehearse", "release"]


def test_lines_say_now_and_then_how_long_it_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    tell = lines(clock=lambda: now[0])

    for second, done in ((0, 0), (5, 1), (12, 2), (13, 3), (24, 4), (60, 10)):
        now[0] = 1000.0 + second
        tell("windows", done, 10)

    assert capsys.readouterr().err.splitlines() == [
        "windows: 2 of 10, about 48 s left",
        "windows: 4 of 10, about 36 s left",
        "windows: 10 of 10",
    ]
    assert (duration(200), duration(9000)) == ("3 min", "2.5 h")


# Streams and machines


@pytest.mark.parametrize("words", [("--json",), ()], ids=["json", "text"])
def test_an_answer_that_cannot_be_written_is_a_sentence(release: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("verify", release, *words, stdout=full)

    assert done.returncode == 2
    assert done.stderr == (
        "fedsynth: the answer could not be written to standard output (No space left on device)\n"
    )


def test_a_reader_that_went_away_is_no_traceback(release: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run("verify", release, "--json", stdout=writing)
    os.close(writing)

    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


@pytest.mark.parametrize("closing", [">&-", "2>&-", "0<&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_change_no_exit_code(release: Path, closing: str) -> None:
    for words, code in ((f"verify {release}", 0), ("verify /nowhere", 4)):
        line = f"{sys.executable} -m fedsynth {words} {closing}"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)

        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_never_takes_the_number_of_a_closed_stream() -> None:
    code = (
        "import sys, os\n"
        "from fedsynth.cli.answer import steady_streams\n"
        "steady_streams()\n"
        "sys.exit(os.open('/dev/null', os.O_RDONLY))\n"
    )
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{code}" <&- >&- 2>&-'], check=False)

    assert done.returncode > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, id="LANG=C"),
        pytest.param({"PYTHONIOENCODING": "ascii"}, id="ascii"),
        pytest.param({"PYTHONIOENCODING": "latin-1"}, id="latin-1"),
        pytest.param({"TERM": "dumb", "COLUMNS": "20"}, id="a narrow terminal"),
    ],
)
def test_letters_that_a_terminal_lacks_are_written_otherwise(
    tiny_text: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    study = tmp_path / "Studie über ε.toml"
    if "LANG" not in environment:  # letters are the same without a price, which takes seconds
        tiny_text = tiny_text.replace("epsilon = 8.0", "epsilon = inf")
        assert "epsilon = inf" in tiny_text
    study.write_text(f'title = "µV und ε, 脳波"\n{tiny_text}', encoding="utf-8")
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}

    fine = run("check", study, env=environment)
    wrong = run("check", tmp_path / "ε.toml", env=environment)
    help_page = run("check", "--help", env=environment)

    assert (fine.returncode, wrong.returncode, help_page.returncode) == (0, 2, 0), fine.stderr
    assert "Traceback" not in fine.stderr + wrong.stderr + help_page.stderr


@pytest.mark.slow
def test_it_works_without_assertions_and_docstrings(release: Path, study_file: Path) -> None:
    """-OO leaves out all that -O does."""
    assert run("verify", release, python=("-OO",)).returncode == 0
    assert run("check", study_file, python=("-OO",)).returncode == 0
    assert run("verify", "/nowhere", python=("-OO",)).returncode == 4


@pytest.mark.slow
def test_a_run_is_its_owners_alone_under_any_umask_and_into_any_folder(
    recordings: Path, study_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()  # as a mount point would be: it is filled and stays what it is
    before = (tmp_path / "there").stat()

    line = (
        f"umask 000; {sys.executable} -m fedsynth rehearse {study_file} --sites {recordings} --out there "
        f"--ledgers ledgers --quiet && {sys.executable} -m fedsynth release there --out released --quiet"
    )
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "there").stat().st_ino == before.st_ino
    for part in (tmp_path / "there", tmp_path / "ledgers"):
        for path in part.rglob("*"):
            if path.name != "release.key.pub":
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((tmp_path / "there" / "keys" / "release.key").stat().st_mode) == 0o600
    for path in (tmp_path / "released").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0, path
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), "No space left on device", id="a full disk"),
        pytest.param(
            OSError(errno.EIO, "Input/output error", "/sites/sub-07"), "Input/output error", id="a dead disk"
        ),
        pytest.param(MemoryError(), "the memory of this machine is used up", id="memory"),
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory", id="memory, in torch"),
    ],
)
def test_a_machine_that_fails_ends_with_a_sentence_and_what_was_kept(  # type: ignore[no-untyped-def]
    fedsynth,
    recordings: Path,
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    said: str,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("fedsynth.rehearsal.rehearse.approve", fails)
    done = fedsynth("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run", "--json")

    last = done.err.splitlines()[-1]
    assert done.code == 2
    assert said in last
    assert last.endswith("nothing was kept, and nobody was charged. Give the same command again")
    assert "sub-07" not in done.err + done.out
    assert one(done.out)["error"]
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_rehearsal_says_what_was_kept(  # type: ignore[no-untyped-def]
    fedsynth, recordings: Path, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedsynth.rehearsal.rehearse.approve", stopped)
        early = fedsynth(*words)
    monkeypatch.setattr("fedsynth.coordinator.run_folder.run_plan", stopped)
    late = fedsynth(*words)

    assert (early.code, late.code) == (130, 130)
    assert "stopped; nothing was kept, and nobody was charged" in early.err
    assert f"stopped; the run as far as it came is in {tmp_path / 'run'}. Give the same command again" in late.err


# Studies and places that cannot work are refused before anything is opened


@pytest.mark.parametrize("words", [("check",), ("rehearse", "--dry-run"), ("rehearse",)], ids=" ".join)
def test_a_study_that_can_never_be_released_is_refused_before_anything_is_opened(  # type: ignore[no-untyped-def]
    fedsynth, tiny_text: str, recordings: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    study, place = tmp_path / "study.toml", tmp_path / "place"
    study.write_text(f'title = "noise seed 7"\n{tiny_text}')
    place.mkdir()
    verb, *dry = words
    more = (
        () if verb == "check" else ("--sites", recordings, "--out", place / "run", "--ledgers", place / "ledgers")
    )

    done = fedsynth(verb, study, *more, *dry)

    assert done.code == 2
    assert "never be released: title holds what looks like a seed" in done.err
    assert "reading" not in done.err
    assert list(place.iterdir()) == []


def test_the_second_of_two_runs_into_one_folder_is_refused_at_once(  # type: ignore[no-untyped-def]
    fedsynth, study_file: Path, recordings: Path, run_copy: Path, tmp_path: Path
) -> None:
    from fedsynth.places import claimed

    shutil.rmtree(run_copy / "keys", ignore_errors=True)
    with claimed(tmp_path / "new", what="a run"):
        second = fedsynth("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "new")
    with claimed(run_copy / "keys" / "release.key", what="a key"):
        key = fedsynth("release", run_copy, "--out", tmp_path / "release")
    with claimed(tmp_path / "release", what="a release"):
        release = fedsynth("release", run_copy, "--out", tmp_path / "release")

    for done in (second, key, release):
        assert (done.code, "another process is making" in done.err) == (1, True), done.err
    assert not (tmp_path / "release").exists()
    assert not (run_copy / "keys").exists()


def test_too_little_memory_is_said_before_anything_is_charged(  # type: ignore[no-untyped-def]
    fedsynth, study_file: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsynth.rehearsal.places.memory_available", lambda: 10**8)
    words = ("rehearse", study_file, "--sites", recordings, "--out", tmp_path / "run")

    for done in (fedsynth(*words), fedsynth(*words, "--dry-run")):
        assert done.code == 2
        assert "of memory, and this machine has 0.1 GB free. Nothing was opened or charged" in done.err
        assert "reading" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--ledgers", "--heads"])
def test_ledgers_that_could_not_be_written_are_noticed_before_anything_is_opened(  # type: ignore[no-untyped-def]
    fedsynth, study_file: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    (tmp_path / "denied").mkdir()
    (tmp_path / "fine").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "denied" or not mode & os.W_OK)
    places = {"--ledgers": tmp_path / "fine", "--heads": tmp_path / "fine", option: tmp_path / "denied"}
    words = ("rehearse", study_file, "--sites", recordings, *(w for pair in places.items() for w in pair))

    for done in (fedsynth(*words, "--out", tmp_path / "run"), fedsynth(*words, "--dry-run")):
        assert (done.code, "may not be written to" in done.err, "reading" in done.err) == (2, True, False), done.err
    assert list((tmp_path / "fine").iterdir()) == []


def test_an_audit_whose_answer_has_nowhere_to_go_is_refused_before_it_runs(  # type: ignore[no-untyped-def]
    fedsynth, study_file: Path, tmp_path: Path
) -> None:
    done = fedsynth("audit", study_file, "--cohort", "toy", "--out", tmp_path / "missing" / "answer.json")

    assert (done.code, "simulating" in done.err) == (2, False)
    assert "is no folder" in done.err


def test_a_release_without_room_is_refused_before_it_is_drawn(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 10**6))

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert (done.code, "has 1.0 MB left" in done.err, "drawing" in done.err) == (2, True, False)
    assert not (tmp_path / "release").exists()


@pytest.mark.slow
def test_a_release_fills_an_empty_folder_and_the_one_it_is_called_from(
    finished: Path, release: Path, tmp_path: Path
) -> None:
    before = tmp_path.stat().st_ino

    done = run("release", finished, "--out", ".", "--quiet", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert tmp_path.stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in release.iterdir())
    assert run("verify", tmp_path).returncode == 0
