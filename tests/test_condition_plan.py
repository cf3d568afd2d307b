"""Covariates of a study: public values, what a raw value counts as, and what cannot be asked."""

import math

import pytest

from fedsynth.condition_plan import ConditionPlan, numbers_of, stratum_of
from fedsynth.errors import StudyError
from fedsynth.study import Study, parse_study

AGE = "[conditions.age]\nbands = [40, 60, 75]\n"
SEX = '[conditions.sex]\nvalues = ["F", "M"]\nmissing = "leave out"\n'


def with_conditions(text: str, conditions: str, release: str = "") -> Study:
    return parse_study(text.replace("[privacy]", f"{conditions}[privacy]") + release)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("39.9", "under-40"), ("40", "40-to-60"), (" 59 ", "40-to-60"), ("60", "60-to-75"), ("300", "75-and-over"),
        ("", "not-said"), ("n/a", "not-said"), ("NaN", "not-said"), ("-1", "not-said"), ("old", "not-said"),
        (None, "not-said"),
    ],
)  # fmt: skip
def test_a_number_falls_into_the_band_that_begins_at_or_before_it(raw: str | None, name: str) -> None:
    age = ConditionPlan(bands=(40, 60, 75))
    number = age.number_of(raw)
    assert number is not None

    assert age.names[number] == name


def test_values_are_renamed_and_others_are_missing() -> None:
    sex = ConditionPlan(values=("F", "M"), rename={"0": "M", "1": "F"}, missing="leave out")

    assert [sex.number_of(raw) for raw in ("1", "0", "F", "X", "")] == [0, 1, 0, None, None]
    assert sex.names == ("F", "M")


def test_strata_number_every_combination_once() -> None:
    sizes = (4, 3, 2)

    found = [numbers_of(stratum, sizes) for stratum in range(math.prod(sizes))]

    assert len(set(found)) == 24
    assert [stratum_of(numbers, sizes) for numbers in found] == list(range(24))


def test_a_study_names_conditions_and_counts_their_combinations(tiny_text: str) -> None:
    study = with_conditions(tiny_text, AGE + SEX, "[release.conditions.sex]\nF = 1\nM = 3\n")

    assert study.strata == (5, 2)
    assert study.condition_values["sex"] == ("F", "M")
    assert parse_study(study.to_toml()).digest == study.digest


@pytest.mark.parametrize(
    ("conditions", "release", "fragment"),
    [
        ("[conditions.age]\n", "", "give values, or bands"),
        ('[conditions.age]\nbands = [40]\nvalues = ["a", "b"]\n', "", "give values, or bands"),
        ("[conditions.age]\nbands = [60, 40]\n", "", "must rise"),
        ("[conditions.age]\nbands = [-1, 40]\n", "", "from 0 on"),
        ('[conditions.sex]\nvalues = ["F", "F"]\n', "", "listed twice"),
        ('[conditions.sex]\nvalues = ["F", "not-said"]\n', "", "not-said"),
        ('[conditions.sex]\nvalues = ["F"]\nmissing = "refuse"\n', "", "parts nobody"),
        ('[conditions.sex]\nvalues = ["F", "M"]\nrename = { x = "W" }\n', "", "not listed"),
        ('[conditions.label]\nvalues = ["F", "M"]\n', "", "a column of the release is"),
        (
            "".join(f"[conditions.c{n}]\nbands = [1, 2, 3, 4]\n" for n in range(3)), "", "216 combinations",
        ),
        (
            "".join(f'[conditions.c{n}]\nvalues = ["a"]\n' for n in range(5)), "", "5 conditions",
        ),
        (AGE, "[release.conditions.sex]\nF = 1\n", "none of the study's conditions"),
        (AGE, "[release.conditions.age]\nold = 1\n", "its values are"),
        (AGE, "[release.conditions.age]\nunder-40 = 0\n", "weight 0"),
        (SEX, '[plan]\nestimator = "evolution"\n', "plan.estimator"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_with_the_reason(
    tiny_text: str, conditions: str, release: str, fragment: str
) -> None:
    text = tiny_text.split("[plan]")[0] if release.startswith("[plan]") else tiny_text

    with pytest.raises(StudyError, match=fragment):
        with_conditions(text, conditions, release)


@pytest.mark.parametrize(
    ("statements", "fragment"),
    [
        ('names = ["AF"]', "at least 2"),
        ('names = ["AF", "AF"]', "listed twice"),
        ('names = ["AF", "PVC"]\nrename = { x = "LBBB" }', "not listed"),
        ('names = ["AF", "PVC"]\nat_most = 9', "less than or equal to 8"),
    ],
)
def test_statements_that_cannot_be_asked_are_refused(tiny_text: str, statements: str, fragment: str) -> None:
    with pytest.raises(StudyError, match=fragment):
        with_conditions(tiny_text, f"[statements]\n{statements}\n")


def test_a_study_counts_its_statements(tiny_text: str) -> None:
    study = with_conditions(tiny_text, '[statements]\nnames = ["AF", "PVC"]\n')

    assert study.n_statements == 2
    assert parse_study(study.to_toml()).digest == study.digest
