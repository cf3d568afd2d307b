"""Covariates from a hospital's tables to a release: asked in one sum, drawn, written, and read again."""

import json
from pathlib import Path

import edfio
import numpy as np
import pyarrow.parquet as pq
import pytest

import fedsynth
from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.errors import StudyError
from fedsynth.release.load import Release
from fedsynth.synthesis.asked import Asked

pytestmark = pytest.mark.slow  # a rehearsal and a release

STATEMENTS = '[statements]\nnames = ["loud", "odd"]\nsource = "participants.tsv"\n'
CONDITIONS = (
    STATEMENTS + '[conditions.age]\nbands = [60]\nmissing = "leave out"\n[conditions.sex]\nvalues = ["F", "M"]\n'
)
ASKED = "[release.conditions.sex]\nF = 1\nM = 1\n"


def hospital(folder: Path, *, seed: int, people: int = 26) -> None:
    """Write people of whom the old are louder; one in five does not say a sex."""
    rng, rows = np.random.default_rng(seed), ["participant_id\tgroup\tage\tsex\tstatements"]
    folder.mkdir(parents=True)
    for number in range(people):
        old, label = number % 2 == 1, ("rest", "task")[number // 2 % 2]
        signal = (40.0 if old else 15.0) * rng.normal(size=(2, 500))
        signals = [
            edfio.EdfSignal(row.clip(-499, 499), sampling_frequency=100, label=f"EEG {name}",
                            physical_dimension="uV", physical_range=(-500, 500))
            for name, row in zip(("C3", "C4"), signal, strict=True)
        ]  # fmt: skip
        name = f"sub-{seed}{number:03d}"
        edfio.Edf(signals).write(folder / f"{name}_eeg.edf")
        sex, said = "n/a" if number % 5 == 4 else "FM"[number % 3 % 2], ["loud"] * old + ["odd"] * (number % 7 == 0)
        rows.append(f"{name}\t{label}\t{70 if old else 30}\t{sex}\t{','.join(said)}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> RunFolder:
    place = tmp_path_factory.mktemp("conditions")
    for number, name in enumerate(("east", "west"), start=1):
        hospital(place / "sites" / name, seed=number)
    text = tiny_text.replace("[privacy]", f"{CONDITIONS}[privacy]").replace("rounds = 1", "rounds = 0") + ASKED
    text = text.replace("windows_per_label = 12", "windows_per_label = 240")
    study = place / "study.toml"
    study.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        return fedsynth.rehearse(study, sites=place / "sites", out=place / "run", progress=False)


@pytest.fixture(scope="module")
def released(run: RunFolder) -> Release:
    return fedsynth.publish(run, out=run.path.with_name("release"), progress=False)


def test_the_statement_names_the_one_sum_that_was_asked(run: RunFolder) -> None:
    said = [event.purpose for event in run.statement().sites[0].events]

    assert said.count("anchor: effects of conditions") == 1


def test_a_release_says_for_which_covariates_each_subject_was_drawn(released: Release) -> None:
    lines = (released.folder / "participants.tsv").read_text(encoding="utf-8").splitlines()
    heads, rows = lines[0].split("\t"), [line.split("\t") for line in lines[1:]]
    told = json.loads((released.folder / "participants.json").read_text(encoding="utf-8"))
    table = pq.read_table(released.folder / "data/ml/windows.parquet")

    assert heads == ["participant_id", "label", "n_windows", "age", "sex", "statements"]
    assert {row[3] for row in rows} == {"under-60", "60-and-over"}
    assert {row[4] for row in rows} == {"F", "M"}
    assert set(told["sex"]["Levels"]) == {"F", "M", "not-said"}
    for place, name in ((3, "age"), (4, "sex")):
        of_windows = [rows[subject][place] for subject in released.subject]
        assert released.conditions[name].tolist() == of_windows == table[name].to_pylist()
    assert "covariates (age, sex)" in (released.folder / "README.md").read_text(encoding="utf-8")


def test_a_release_says_which_statements_each_window_bears(released: Release) -> None:
    lines = (released.folder / "participants.tsv").read_text(encoding="utf-8").splitlines()[1:]
    cells = [line.split("\t")[5] for line in lines]
    told = [";".join(np.array(released.statement_names)[row == 1]) or "n/a" for row in released.Y]
    table = pq.read_table(released.folder / "data/ml/windows.parquet")

    assert released.statement_names == ("loud", "odd")
    assert released.y.shape == (480,)
    assert released.Y.shape == (480, 2)
    assert told == [cells[subject] for subject in released.subject] == table["statements"].to_pylist()
    assert 0 < float(released.Y[:, 0].mean()) < 1
    assert "any of 2 statements" in (released.folder / "README.md").read_text(encoding="utf-8")


def test_subjects_who_bear_a_statement_can_be_asked_of_a_run(run: RunFolder) -> None:
    windows = run.generator().draw(per_label=20, seed="a", asked=Asked(statements=("odd",)))

    assert windows.statements is not None
    assert (windows.statements[:, 1] == 1).all()


def test_what_a_release_asks_for_is_drawn_and_the_rest_as_counted(released: Release) -> None:
    """Half of each sex; half are old, as at the hospitals, but for noise."""
    sex = released.conditions["sex"][::1]
    old = released.conditions["age"] == "60-and-over"

    assert float((sex == "F").mean()) == pytest.approx(0.5, abs=0.2)
    assert 0.2 < float(old.mean()) < 0.8


def test_subjects_of_a_covariate_can_be_asked_of_a_run(run: RunFolder) -> None:
    generator = run.generator()

    old = generator.draw(per_label=6, seed="a", asked=Asked({"age": {"60-and-over": 1}, "sex": {"F": 1}}))

    assert old.strata is not None
    assert set(old.strata.tolist()) == {3}
    with pytest.raises(StudyError, match="its values are"):
        generator.draw(per_label=6, seed="a", asked=Asked({"age": {"ancient": 1}}))


def test_a_longer_drawing_begins_with_the_shorter_one(run: RunFolder) -> None:
    generator, asked = run.generator(), Asked({"sex": {"F": 1.0, "M": 1.0}})

    short, long = (
        generator.draw(per_label=count, seed="a", windows_per_subject=2, asked=asked) for count in (6, 10)
    )

    assert short.strata is not None
    assert long.strata is not None
    assert np.array_equal(short.strata[:6], long.strata[:6])
    assert np.allclose(short.signal[:6], long.signal[:6], atol=1e-3)
    assert all(len(set(long.strata[long.subjects == subject])) == 1 for subject in range(10))
