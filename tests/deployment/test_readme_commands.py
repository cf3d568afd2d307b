"""The administrator's page: every command in it exists, and its words lead to the first approved request."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from .commands import parse, words_of
from .federation import ROOT, SITES, STUDY, Federation

PAGE = ROOT / "deploy" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
PLACES = {
    "/var/lib/fedsynth/site": "north",
    "/var/lib/fedsynth/link": "link",
    "/var/lib/fedsynth/coordinator": "coordinator",
    "/var/lib/fedsynth/runs": "runs",
    "/mnt/backup": "backup",
    "/mnt/alice": "alice",
    "/data/eeg": "recordings/north",
    "/srv": "srv",
    "lock.txt": "lock.txt",
}
"""Where the folders of the page are in this test."""


def lines_of(text: str) -> list[str]:
    """Return the command lines of a page, those that are broken by a backslash as one."""
    joined = re.sub(r" *\\\n +", " ", text)
    return [line.strip() for line in joined.splitlines() if line.startswith("    ")]


COMMANDS = [line for line in lines_of(TEXT) if line.startswith("fedsynth ")]


def command(beginning: str, *, holds: str = "") -> str:
    """Return the page's first command that begins so and holds a word."""
    return next(line for line in COMMANDS if line.startswith(beginning) and holds in line)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_exists(line: str) -> None:
    parse(words_of(line))


def test_the_page_shows_every_step_of_a_site() -> None:
    shown = {tuple(line.split()[1:3]) for line in COMMANDS}

    wanted = (
        "init request approver preflight ingest requests approve start status stop ledger settle backup restore"
    )
    assert {("site", verb) for verb in wanted.split()} <= shown
    assert {
        ("federation", verb) for verb in ["request", "join", "revoke", "renew", "status", "pause", "resume", "stop"]
    } <= shown


def test_a_command_that_there_is_not_is_noticed() -> None:
    with pytest.raises(click.ClickException):
        parse(words_of("fedsynth site preflight SITE --off-line"))


def test_verbs_that_the_prose_names_exist() -> None:
    for group, verb in re.findall(r"`fedsynth (site|federation) ([a-z]+)[^`]*`", TEXT.replace("\n", " ")):
        with pytest.raises(click.exceptions.Exit):  # its help
            parse([group, verb, "--help"])


def test_files_that_roots_commands_copy_are_there() -> None:
    copied = re.findall(r"\bdeploy/[\w./-]+", "\n".join(lines_of(TEXT)))

    assert len(copied) > 10
    assert [place for place in copied if not (ROOT / place).exists()] == []


class Reader:
    """Somebody who does what the page says, with its very words, below one folder."""

    def __init__(self, trial: Federation) -> None:
        self.trial = trial

    def place(self, text: str) -> str:
        for there, here in PLACES.items():
            text = text.replace(there, str(self.trial.root / here))
        return text

    def give(self, line: str, words: Mapping[str, str] | None = None, *more: str) -> str:
        line = self.place(line)
        for placeholder, said in (words or {}).items():
            assert placeholder in line
            line = line.replace(placeholder, said)
        return self.trial.say("host", *words_of(line), *more)

    def words_shown(self, said: str) -> str:
        found = re.findall(r"^\s*([a-z]+(?:[- ][a-z]+){11})\s*$", said, flags=re.MULTILINE)
        return str(found[-1])


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Return a reader of the page who has come as far as the kits."""
    trial = Federation(tmp_path_factory.mktemp("page"), address="federation.example.org:443")
    one, root = Reader(trial), trial.root
    for folder in ("srv/request", "srv/requests", "srv/study", "srv/kits", "alice", "backup", "runs", "link"):
        (root / folder).mkdir(parents=True)
    (charter,) = re.findall(r"```toml\n(name = .*?)```", TEXT, flags=re.DOTALL)
    (root / "FEDERATION.toml").write_text(charter)
    (root / "lock.txt").write_text("fedsynth==0.2.0\n")

    one.give(command("fedsynth site init", holds="--name"))
    one.give(command("fedsynth site approver"))
    words = {
        "WORDS-OF-NORTH": one.words_shown(one.give(command("fedsynth site request"))),
        "WORDS-OF-COORDINATOR": one.words_shown(one.give(command("fedsynth federation request"))),
    }
    for name in SITES:
        if name != "north":  # the other hospitals do the same
            trial.say(name, "site", "init", trial.site(name), "--name", name)
            said = trial.say(name, "site", "request", trial.site(name), "--out", f"srv/request/{name}.json")
            words[f"WORDS-OF-{name.upper()}"] = one.words_shown(said)
    for sent in (root / "srv" / "request").iterdir():
        sent.rename(root / "srv" / "requests" / sent.name)
    authority = {"WORDS-OF-THE-AUTHORITY": one.words_shown(one.give(command("fedsynth provision"), words))}
    for kit in (root / "srv" / "edition-1" / "kits").iterdir():
        kit.rename(root / "srv" / "kits" / kit.name)
    one.give(command("fedsynth federation join"), authority)
    one.give(command("fedsynth site init", holds="--kit"), authority)
    yield one
    trial.end()


@pytest.mark.slow
def test_the_link_can_use_what_it_is_given(reader: Reader) -> None:
    from fedsynth.node.kit import load_kit

    (line,) = [line for line in lines_of(TEXT) if line.startswith("# install -o fedsynth-link")]
    given = reader.place(line.removeprefix("# ").replace("-o fedsynth-link -g fedsynth-link ", ""))

    subprocess.run(["bash", "-c", given], check=True)

    assert load_kit(reader.trial.root / "link").address == "federation.example.org:443"
    assert {path.stat().st_mode & 0o777 for path in (reader.trial.root / "link").iterdir()} == {0o600}


@pytest.mark.slow
def test_from_the_kit_to_the_first_approved_request_and_the_drill(reader: Reader) -> None:
    from fedsynth.recordings.toy.cohort import write_toy_cohort
    from fedsynth.study import load_study

    root = reader.trial.root
    study = root / "srv" / "study" / "study.toml"
    study.write_text(STUDY.format(trust="site", dishonest=""))
    write_toy_cohort(root / "recordings", study=load_study(study), people=0.25)
    rules = root / "north" / "site.toml"
    limits = rules.read_text().replace("largest_epsilon = 1.0", "largest_epsilon = 20.0")
    rules.write_text(limits.replace("least_subjects = 20", "least_subjects = 5"))

    # The lock file of this test names fedsynth alone.
    looked = reader.give(command("fedsynth site preflight", holds="--offline"), None, "--json", "--room", "0.1")
    assert [check for check in json.loads(looked)["checks"] if not check["passed"]] == []
    reader.give(command("fedsynth site ingest", holds="--dry-run"))
    assert not list((root / "north").glob("holdings/*"))
    reader.give(next(line for line in COMMANDS if line.startswith("fedsynth site ingest") and "--dry" not in line))
    reader.give(command("fedsynth run", holds="--prepare-only"))
    (root / "runs" / "sleep-1" / "request.json").rename(root / "srv" / "study" / "request.json")

    shown = reader.give(command("fedsynth site requests"))
    (digest,) = re.findall(r"^Request ([0-9a-f]{12}) ", shown, flags=re.MULTILINE)
    said = reader.give(command("fedsynth site approve "), {"DIGEST": digest})
    assert said.startswith("Approved: run sleep-1")
    reader.give(command("fedsynth site ledger"))
    reader.give(command("fedsynth federation status"))

    reader.give(command("fedsynth site backup"))
    reader.give(command("fedsynth site restore"))
    assert "frozen" in reader.give(command("fedsynth site settle", holds="drill"))
    (line,) = [line for line in lines_of(TEXT) if line.startswith("# rm -r ")]
    subprocess.run(shlex.split(reader.place(line.removeprefix("# "))), check=True)
    assert reader.give(command("fedsynth site approve", holds="--withdraw")).startswith("Withdrawn")


@pytest.mark.slow
def test_the_authoritys_later_commands(reader: Reader) -> None:
    for verb in ("renew", "revoke"):
        reader.give(command(f"fedsynth federation {verb}"))

    root: Path = reader.trial.root
    assert (root / "srv" / "edition-2" / "kits" / "north").is_dir()
    assert (root / "srv" / "edition-3" / "notice").is_dir()
