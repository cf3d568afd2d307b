"""`fedsynth evaluate`: from archives or recordings to a page and its numbers, which stay in the house."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedsynth
from fedsynth.cli.main import main
from fedsynth.errors import RefusedError, RunError, StudyError
from fedsynth.evaluation.protocol.cells import NOTICE
from fedsynth.evaluation.protocol.plan import ProtocolPlan
from fedsynth.evaluation.protocol.splits import LEAKY
from fedsynth.experiments.evaluate import Asked, evaluate
from fedsynth.experiments.inputs import frame_of, read_real, read_synthetic
from fedsynth.experiments.inside import place_inside
from fedsynth.recordings.options import SiteOptions
from fedsynth.site.holdings import group_of_person

ROOT = Path(__file__).parents[2]


def write_archive(path: Path, *, people: int = 12, seed: int = 1, **more: object) -> Path:
    """Write people with four windows each; every other one is loud."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(people), 4)
    labels = whose % 2
    signal = 10 * (1 + 3 * labels)[:, None, None] * rng.normal(size=(len(whose), 1, 64))
    arrays: dict[str, object] = {
        "X": signal.astype(np.float32),
        "y": np.array(["quiet", "loud"])[labels],
        "subject": np.array([f"p{number}" for number in whose]),
        "sfreq": 64.0,
        "channels": ["Cz"],
        "label_names": ["quiet", "loud"],
        "modality": "eeg",
    }
    np.savez(path, **(arrays | more))  # type: ignore[arg-type]
    return path


PLAN = ProtocolPlan(classifiers=("boosting",), tables=("matrix", "fidelity"), size="quick")


def asked(folder: Path, **more: object) -> Asked:
    real, synthetic = (write_archive(folder / f"{name}.npz", seed=n) for n, name in enumerate(("real", "made")))
    return Asked(**({"real": real, "synthetic": synthetic, "plan": PLAN, "out": folder / "out"} | more))  # type: ignore[arg-type]


def quiet(*_: object) -> None:
    """Tell nobody."""


def test_the_page_needs_no_other_file_and_says_first_that_it_is_not_private(tmp_path: Path) -> None:
    found = evaluate(asked(tmp_path), progress=quiet)

    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    numbers = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert page.index("Not private.") < page.index("<table")
    assert NOTICE in page
    assert not any(word in page for word in ("<script", "src=", "http://", "https://"))
    assert numbers["notice"] == NOTICE
    assert numbers["question"]["leaky"] is False
    assert LEAKY not in page
    assert all(f"{score.value:.3f}" in page for score in found)
    assert min(score.value for score in found if "AUROC" in score.name) > 0.9


def test_a_leaky_evaluation_is_marked_on_the_page_on_every_table_and_in_the_numbers(tmp_path: Path) -> None:
    evaluate(asked(tmp_path, split="leaky"), progress=quiet)

    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert page.count(LEAKY) == 1 + page.count("<table")
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["question"]["leaky"] is True


def test_a_stopped_evaluation_goes_on_with_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(what: str, done: int, total: int) -> None:  # noqa: ARG001
        if what == "evaluation" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(asked(tmp_path), progress=stop)
    kept = json.loads((tmp_path / "out" / "evaluation.json").read_text())["cells"]
    trained: list[str] = []
    import fedsynth.evaluation.protocol.run as run

    real = run.classifier_of
    monkeypatch.setattr(run, "classifier_of", lambda name: trained.append(name) or real(name))
    evaluate(asked(tmp_path), progress=quiet)

    after = json.loads((tmp_path / "out" / "evaluation.json").read_text())["cells"]
    assert len(kept) == 4
    assert trained == ["boosting"]  # the third of three trainings
    assert {name: after[name] for name in kept} == kept
    assert len(after) == 6


def test_other_windows_do_not_go_on_where_an_evaluation_stands(tmp_path: Path) -> None:
    first = asked(tmp_path)
    evaluate(first, progress=quiet)
    before = (tmp_path / "out" / "evaluation.json").read_bytes()
    write_archive(tmp_path / "real.npz", seed=9)

    with pytest.raises(RunError, match="of other windows or of another plan"):
        evaluate(first, progress=quiet)
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == before


@pytest.mark.parametrize(
    ("sign", "what"),
    [
        pytest.param("run.json", "a run", id="a run"),
        pytest.param("privacy/statement.json", "a release", id="a release"),
        pytest.param("site.toml", "a site", id="a site"),
    ],
)
@pytest.mark.parametrize("below", ["", "internal/deep"])
def test_results_are_not_written_where_something_leaves_the_house(
    tmp_path: Path, sign: str, what: str, below: str
) -> None:
    folder = tmp_path / "folder"
    (folder / sign).parent.mkdir(parents=True)
    (folder / sign).write_text("{}", encoding="utf-8")

    with pytest.raises(RefusedError, match=f"is in {what}, and results on real recordings are not private"):
        evaluate(asked(tmp_path, out=folder / below), progress=quiet)
    assert not list(folder.rglob("evaluation.*"))


def test_a_link_into_a_release_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "release" / "privacy").mkdir(parents=True)
    (tmp_path / "release" / "privacy" / "statement.json").write_text("{}", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "release")

    with pytest.raises(RefusedError, match="is in a release"):
        place_inside(tmp_path / "link" / "results", apart_from=())


STUDY = ROOT / "examples" / "bonn" / "study.toml"


def write_site(folder: Path, *, numbers: range) -> Path:
    """Write recordings of the five Bonn sets, each set louder than the one before."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(numbers.start)
    for loudness, label in enumerate("ZONFS", start=1):
        for number in numbers:
            text = "\n".join(str(value) for value in rng.integers(-20 * loudness**2, 20 * loudness**2, 4097))
            (folder / f"{label}{number:03d}.txt").write_text(text + "\n", encoding="ascii")
    return folder


def write_release(folder: Path) -> Path:
    """Write what an evaluation reads of a release; its signatures are `fedsynth verify`'s."""
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(5), 12)
    signal = 12 * ((1 + labels) ** 2)[:, None, None] * rng.uniform(-1, 1, (60, 1, 512))
    for name in ("data/ml", "privacy", "provenance"):
        (folder / name).mkdir(parents=True)
    np.savez(
        folder / "data" / "ml" / "windows.npz",
        X=signal.astype(np.float32),
        y=labels,
        subject=np.arange(60) // 2,
        label_names=list("ZONFS"),
        channels=["EEG"],
        sfreq=173.61,
    )
    (folder / "privacy" / "statement.json").write_text("{}", encoding="utf-8")
    (folder / "provenance" / "study.toml").write_text(STUDY.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def test_a_release_is_held_against_hospitals_by_its_own_study(tmp_path: Path) -> None:
    text = STUDY.read_text(encoding="utf-8")
    release = write_release(tmp_path / "release")
    sites = tmp_path / "sites"
    for name, numbers in (("north", range(1, 5)), ("south", range(5, 9))):
        write_site(sites / name, numbers=numbers)
    named = text.replace("[cohort]", '[cohort]\nsites = ["north", "south"]')
    (release / "provenance" / "study.toml").write_text(named, encoding="utf-8")

    found = evaluate(asked(tmp_path, real=sites, synthetic=release), progress=quiet)

    fold = found.question.split.folds[0]
    assert found.question.split.name == "given"
    assert fold.train.n_people + fold.test.n_people == 40
    assert not set(fold.train.people) & set(fold.test.people)
    assert found.question.names == tuple("ZONFS")
    assert min(score.value for score in found if "AUROC" in score.name) > 0.9
    with pytest.raises(RefusedError, match="is in a release"):
        evaluate(asked(tmp_path, real=sites, synthetic=release, out=release / "results"), progress=quiet)
    with pytest.raises(RunError, match="among the recordings"):
        evaluate(asked(tmp_path, real=sites, synthetic=release, out=sites / "results"), progress=quiet)


def test_recordings_are_read_as_the_study_says_and_split_as_it_held_people_out(tmp_path: Path) -> None:
    site, study = write_site(tmp_path / "hospital", numbers=range(1, 5)), STUDY
    frame = frame_of(write_archive(tmp_path / "made.npz"), study=study, positive=None)

    given = read_real(site, frame, options=SiteOptions(), staging=tmp_path, progress=quiet)

    assert given.windows.signal.shape == (160, 1, 512)
    assert given.windows.n_people == 20
    assert given.held_out is not None
    held_out = {f"{label}{n:03d}" for label in "ZONFS" for n in range(1, 5)}
    held_out = {name for name in held_out if group_of_person(name, held_out=0.2) == "held-out"}
    assert len(np.unique(given.windows.people[given.held_out])) == len(held_out) > 0


def test_recordings_without_a_study_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()

    with pytest.raises(StudyError, match="name it with --study"):
        evaluate(asked(tmp_path, real=tmp_path / "recordings"), progress=quiet)


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        pytest.param({"sfreq": None}, "that can be read", id="an object that would be unpickled"),
        pytest.param({"y": np.array(["other"] * 48)}, "1 labels of the windows are none of", id="other labels"),
        pytest.param({"modality": "meg"}, "modality is 'meg'", id="another kind of signal"),
        pytest.param({"sfreq": 0.0}, "sfreq is 0", id="no rate"),
        pytest.param({"label_names": ["loud", "loud"]}, "one name twice", id="two labels of one name"),
        pytest.param({"X": np.ones((48, 1, 64)) * 1j}, "not real numbers", id="complex numbers"),
    ],
)
def test_an_archive_that_does_not_say_enough_is_refused(
    tmp_path: Path, archive: dict[str, object], said: str
) -> None:
    path = write_archive(tmp_path / "made.npz", **archive)
    with pytest.raises(RefusedError, match=said):
        read_synthetic(path, frame_of(path, study=None, positive=None).names)


@pytest.mark.parametrize(
    ("real", "made", "more", "said"),
    [
        pytest.param({"channels": ["Pz"]}, {}, {}, "its channels are Pz", id="another channel"),
        pytest.param({"sfreq": 128.0}, {}, {}, "have 128 Hz", id="another rate"),
        pytest.param({"people": 2}, {}, {}, "is that of 1 people", id="two people"),
        pytest.param({"y": np.array(["quiet"] * 48)}, {}, {}, "is that of 0 people", id="one label"),
        pytest.param(
            {}, {"y": np.array(["quiet"] * 48)}, {}, "1 have no window among the synth", id="one label made"
        ),
        pytest.param({}, {"subject": np.array(["one"] * 48)}, {}, "1 made-up subjects", id="one subject made"),
        pytest.param(
            {"held_out": np.arange(48) // 4 % 2 == 0},
            {},
            {"split": "given"},
            "no window among the people",
            id="a side",
        ),
        pytest.param(
            {"held_out": np.ones(48, bool)}, {}, {"split": "given"}, "everybody is held out", id="all out"
        ),
        pytest.param({"X": np.full((48, 1, 64), np.nan)}, {}, {}, "not finite", id="not finite"),
        pytest.param({"X": np.zeros((48, 64))}, {}, {}, r"shape \(48, 64\)", id="no axis of channels"),
    ],
)
def test_windows_that_nothing_can_be_learned_from_are_refused_in_words(
    tmp_path: Path, real: dict[str, Any], made: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    given = asked(tmp_path, **more)
    assert isinstance(given.real, Path)
    assert isinstance(given.synthetic, Path)
    write_archive(given.real, **real)
    write_archive(given.synthetic, **({"seed": 2} | made))

    with pytest.raises(RefusedError, match=said):
        evaluate(given, progress=quiet)
    assert not list((tmp_path / "out").glob("evaluation.*"))


def test_a_file_that_is_not_there_is_not_taken_for_recordings(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="is not there"):
        evaluate(asked(tmp_path, real=tmp_path / "nothing.npz"), progress=quiet)


def test_the_call_takes_arrays_and_gives_tables(tmp_path: Path) -> None:
    made = write_archive(tmp_path / "made.npz", seed=2)
    with np.load(write_archive(tmp_path / "real.npz")) as archive:
        X, y, subject = archive["X"], archive["y"], archive["subject"]

    found = fedsynth.evaluate(
        (X, y), made, subjects=subject, classifiers=("boosting",), size="quick", progress=False
    )

    assert [score.name for score in found][::2] == [
        f"macro-F1, boosting, trained on {what}" for what in ("synthetic", "real", "both")
    ]
    assert NOTICE in str(found)
    assert NOTICE in found._repr_html_()
    with pytest.raises(RefusedError, match="need `subjects`"):
        fedsynth.evaluate((X, y), made)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedsynth", "evaluate", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_command_writes_a_page_and_answers_in_json(tmp_path: Path) -> None:
    given = asked(tmp_path)
    words = [str(given.real), str(given.synthetic), "--out", str(given.out), "--size", "quick", "--json"]
    done = command(*words, "--tables", "matrix", "--classifiers", "boosting", "--split", "leaky")

    assert done.returncode == 0, done.stderr
    assert "not private" in done.stderr
    body = json.loads(done.stdout)
    assert body["leaky"] is True
    assert len(body["scores"]) == 6
    assert Path(body["page"]).is_file()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        pytest.param(["--split", "random"], 2, "not one of: person", id="a split"),
        pytest.param(["--classifiers", "oracle"], 1, "no classifier 'oracle'", id="a classifier"),
        pytest.param(["--tables", "pie"], 1, "no table 'pie'", id="a table"),
    ],
)
def test_the_command_refuses_names_that_it_does_not_know(
    tmp_path: Path,
    more: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = asked(tmp_path)
    words = ["fedsynth", "evaluate", str(given.real), str(given.synthetic), "--out", str(given.out), *more]
    monkeypatch.setattr(sys, "argv", words)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == code
    assert said in re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", "", capsys.readouterr().err))
    assert not (tmp_path / "out").exists()
