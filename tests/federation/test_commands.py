"""From FEDERATION.toml to kits that are taken in, by commands alone, as the people of three houses give them."""

import io
import re
from pathlib import Path

import pytest

from fedsynth.federation.standing import standing

from .conftest import CHARTER, Command, Done

WORDS = re.compile(r"^    ((?:[a-z]{4}-){11}[a-z]{4})$", re.MULTILINE)


def words_in(done: Done) -> str:
    found = WORDS.search(done.out)
    assert found, done
    return found[1]


@pytest.fixture
def asked(tmp_path: Path, fedsynth: Command) -> dict[str, str]:
    """Have everybody make a request, and return the words of each."""
    (tmp_path / "FEDERATION.toml").write_text(CHARTER)
    (tmp_path / "requests").mkdir()
    words = {}
    for name in ("north", "east"):
        assert fedsynth("site", "init", tmp_path / name, "--name", name).code == 0
        made = fedsynth("site", "request", tmp_path / name, "--out", tmp_path / "requests" / f"{name}.json")
        words[name] = words_in(made)
    out = tmp_path / "requests" / "coordinator.json"
    words["coordinator"] = words_in(
        fedsynth("federation", "request", "--federation", tmp_path / "coordinator", "--out", out)
    )
    return words


def provision(fedsynth: Command, root: Path, *more: object, out: str = "out") -> Done:
    return fedsynth(
        "provision",
        root / "FEDERATION.toml",
        "--authority",
        root / "authority",
        "--requests",
        root / "requests",
        "--out",
        root / out,
        *more,
    )


def test_a_federation_is_made_by_commands_alone(tmp_path: Path, fedsynth: Command, asked: dict[str, str]) -> None:
    confirm = [word for name, words in asked.items() for word in ("--confirm", f"{name}={words.replace('-', ' ')}")]
    made = provision(fedsynth, tmp_path, *confirm)
    kit = tmp_path / "out" / "kits"
    joined = [
        fedsynth("site", "init", tmp_path / "north", "--kit", kit / "north", "--authority", words_in(made)),
        fedsynth("site", "init", tmp_path / "east", "--kit", kit / "east", "--authority", words_in(made)),
        fedsynth(
            *("federation", "join", kit / "coordinator", "--federation", tmp_path / "coordinator"),
            *("--authority", words_in(made)),
        ),
    ]

    assert [done.code for done in joined] == [0, 0, 0], joined
    assert standing(tmp_path / "north" / "federation", name="coordinator").role == "coordinator"
    assert standing(tmp_path / "coordinator", name="east").role == "site"

    gone = fedsynth(
        *("federation", "revoke", "east", "--authority", tmp_path / "authority", "--out", tmp_path / "later")
    )
    told = fedsynth("site", "init", tmp_path / "north", "--kit", tmp_path / "later" / "notice")

    assert (gone.code, told.code) == (0, 0)
    assert "east" not in told.out


def test_without_a_comparison_nobody_is_certified_and_the_words_are_shown(
    tmp_path: Path, fedsynth: Command, asked: dict[str, str]
) -> None:
    done = provision(fedsynth, tmp_path)

    assert done.code == 1
    assert all(words in done.out for words in asked.values())
    assert not (tmp_path / "out").exists()


def test_whoever_was_not_compared_waits(tmp_path: Path, fedsynth: Command, asked: dict[str, str]) -> None:
    done = provision(fedsynth, tmp_path, "--confirm", f"north={asked['north']}")

    assert done.code == 0
    assert "Still without a certificate: coordinator, east" in done.out
    assert sorted(path.name for path in (tmp_path / "out" / "kits").iterdir()) == ["north"]

    later = provision(fedsynth, tmp_path, "--confirm", f"east={asked['east']}", out="out-2")
    assert later.code == 0
    assert sorted(path.name for path in (tmp_path / "out-2" / "kits").iterdir()) == ["east", "north"]


@pytest.mark.parametrize(
    ("confirm", "code", "said"),
    [
        ("north=babi-babi-babi", 1, "the words said for north are not those"),
        ("west=babi-babi-babi", 1, "no new request"),
        ("north", 2, "NAME=words"),
    ],
)
def test_what_is_confirmed_wrongly_is_refused(
    tmp_path: Path, fedsynth: Command, asked: dict[str, str], confirm: str, code: int, said: str
) -> None:
    assert asked
    done = provision(fedsynth, tmp_path, "--confirm", confirm)

    assert done.code == code
    assert said in " ".join(done.err.split())
    assert not (tmp_path / "out").exists()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_the_words_are_asked_for_and_never_shown(
    tmp_path: Path, fedsynth: Command, asked: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sees the words that are expected says yes to them; who types what was heard has heard it."""
    heard = {"north": asked["north"], "east": ""}
    questions = []

    def answer(question: str, **_: object) -> str:
        questions.append(question)
        return next((words for name, words in heard.items() if name in question), "")

    monkeypatch.setattr("sys.stdin", _Terminal())
    monkeypatch.setattr("typer.prompt", answer)

    done = provision(fedsynth, tmp_path)

    assert (done.code, len(questions)) == (0, 3)
    assert "Still without a certificate: coordinator, east" in done.out
    assert not any(words in done.out + done.err + "".join(questions) for words in asked.values())


def test_a_kit_of_another_site_is_refused(tmp_path: Path, fedsynth: Command, asked: dict[str, str]) -> None:
    made = provision(fedsynth, tmp_path, *("--confirm", f"east={asked['east']}"))
    kit = tmp_path / "out" / "kits" / "east"

    done = fedsynth("site", "init", tmp_path / "north", "--kit", kit, "--authority", words_in(made))

    assert done.code == 1
    assert "not for the key that was made here" in " ".join(done.err.split())


def test_rotation_and_renewal_by_command(tmp_path: Path, fedsynth: Command, asked: dict[str, str]) -> None:
    provision(fedsynth, tmp_path, "--confirm", f"north={asked['north']}")
    place = ("--authority", tmp_path / "authority", "--out")
    assert fedsynth("federation", "renew", "north", *place, tmp_path / "renewed").code == 0
    for path in (tmp_path / "north").rglob("*.key"):
        path.unlink()
    again = tmp_path / "again.json"
    words = words_in(fedsynth("site", "request", tmp_path / "north", "--out", again))

    refused = fedsynth("federation", "rotate", "north", *place, tmp_path / "rotated", "--request", again)
    assert (refused.code, words in refused.out) == (1, True)
    done = fedsynth(
        *("federation", "rotate", "north", *place, tmp_path / "rotated", "--request", again, "--confirm", words)
    )

    assert done.code == 0
    assert (tmp_path / "rotated" / "kits" / "north" / "tls.pem").exists()
    assert fedsynth("federation", "revoke", "east", *place, tmp_path / "no").code == 1


def test_a_folder_that_is_in_use_changes_nothing(tmp_path: Path, fedsynth: Command, asked: dict[str, str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "something").touch()

    done = provision(fedsynth, tmp_path, "--confirm", f"north={asked['north']}")

    assert done.code == 1
    assert not (tmp_path / "authority").exists()
