"""The page of a study that names covariates: their public values, and where each recording's stands."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedsynth.recording_plan import Name, Page

Weights = dict[Name, dict[str, Annotated[float, Field(ge=0, le=1e6)]]]
"""How often values are drawn, by condition and value."""
NOT_SAID = "not-said"
"""The value of those whose covariate is missing, where the study keeps them."""
MOST_STRATA = 100
"""Combinations of values; each is counted, and noise hides those of a few people anyway."""
MOST_CONDITIONS = 4
_TAKEN = ("participant_id", "label", "n_windows", "window", "subject", "y", "x", "time", "species", "statements")
_NOTHING = ("", "n/a", "na", "nan", "none", "null", "unknown", "?")
_MOST_VALUES = 12


class ConditionPlan(Page):
    """A covariate of a recording or of its person: age band, sex, state.

    `values` names them, or `bands` parts a number at these bounds: a band begins at its first bound and ends before
    the next. `source` is the table that holds it, in `column` (by default the condition's name), or "layout", whose
    page says where it stands. `rename` maps raw values to names. `missing` says what becomes of a recording
    without a value, or with one that is none of these: kept as "not-said", left out, or refused.
    """

    source: Literal["participants.tsv", "recordings.tsv", "layout"] = "participants.tsv"
    column: str = ""
    values: tuple[Name, ...] = Field(default=(), max_length=_MOST_VALUES)
    bands: tuple[float, ...] = Field(default=(), max_length=_MOST_VALUES - 1)
    rename: dict[str, Name] = Field(default_factory=dict)
    missing: Literal["not said", "leave out", "refuse"] = "not said"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.values) == bool(self.bands):
            raise ValueError("give values, or bands of a number; one of the two")
        if len(set(self.values)) != len(self.values) or NOT_SAID in self.values:
            raise ValueError(f'a value is listed twice, or is "{NOT_SAID}", which missing = "not said" adds')
        if any(not math.isfinite(bound) or bound < 0 for bound in self.bands):
            raise ValueError("bounds of bands are numbers from 0 on")
        if any(low >= high for low, high in pairwise(self.bands)):
            raise ValueError("bounds of bands must rise")
        if len(self.values) == 1 and self.missing != "not said":
            raise ValueError("one value parts nobody from anybody")
        if self.bands and self.rename:
            raise ValueError("rename is for values, and bands are of a number")
        if set(self.rename.values()) - set(self.values):
            raise ValueError("rename leads to a value that is not listed")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The values in order, as a release names them.

        >>> ConditionPlan(bands=(40, 60.5)).names
        ('under-40', '40-to-60.5', '60.5-and-over', 'not-said')
        """
        last = (NOT_SAID,) if self.missing == "not said" else ()
        if not self.bands:
            return (*self.values, *last)
        bounds = [f"{bound:g}" for bound in self.bands]
        between = (f"{low}-to-{high}" for low, high in pairwise(bounds))
        return (f"under-{bounds[0]}", *between, f"{bounds[-1]}-and-over", *last)

    def number_of(self, raw: str | None) -> int | None:
        """Return the index of a raw value among `names`; None where it is missing and not kept.

        >>> age = ConditionPlan(bands=(40, 60))
        >>> [age.number_of(raw) for raw in ("39.5", "40", "61", "n/a", None)]
        [0, 1, 2, 3, 3]
        """
        found = self._found((raw or "").strip())
        return (len(self.names) - 1 if self.missing == "not said" else None) if found is None else found

    def _found(self, raw: str) -> int | None:
        if raw.lower() in _NOTHING and raw not in self.rename and raw not in self.values:
            return None
        if not self.bands:
            name = self.rename.get(raw, raw)
            return self.values.index(name) if name in self.values else None
        try:
            number = float(raw)
        except ValueError:
            return None
        if not math.isfinite(number) or number < 0:
            return None
        return sum(number >= bound for bound in self.bands)


class StatementPlan(Page):
    """Statements of which a recording may bear several: a set, beside its label.

    `names` are those that count; others are passed over. `source` is the table that holds them, in `column` (by
    default "statements"), or "layout". A cell parts them by commas or semicolons, or is a dictionary of codes, as
    PTB-XL writes them. `rename` maps raw words to names. Of one recording the first `at_most` in the order of
    `names` count, so that it says no more than that.
    """

    names: tuple[Name, ...] = Field(min_length=2, max_length=100)
    source: Literal["participants.tsv", "recordings.tsv", "layout"] = "recordings.tsv"
    column: str = ""
    rename: dict[str, Name] = Field(default_factory=dict)
    at_most: int = Field(default=4, ge=1, le=8)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("a statement is listed twice")
        if set(self.rename.values()) - set(self.names):
            raise ValueError("rename leads to a statement that is not listed")
        return self

    def flags_of(self, raw: Sequence[str]) -> tuple[int, ...]:
        """Return of every name 1 where it is among raw words and one of the first `at_most`, otherwise 0.

        >>> StatementPlan(names=("AF", "LBBB", "PVC"), at_most=2).flags_of(["PVC", "x", "AF", "LBBB"])
        (1, 1, 0)
        """
        said = {self.rename.get(word, word) for word in raw}
        there = [name for name in self.names if name in said][: self.at_most]
        return tuple(int(name in there) for name in self.names)


def check_conditions(
    conditions: Mapping[str, ConditionPlan], *, weights: Mapping[str, Mapping[str, float]]
) -> None:
    """Refuse conditions that a release has no room for, or that cannot be drawn.

    Args:
        conditions: of a study.
        weights: of values in its release.

    Raises:
        ValueError: too many, too many combinations of values, a name that columns of a release bear already, or as
            `check_weights`.
    """
    check_weights(weights, conditions)
    if len(conditions) > MOST_CONDITIONS:
        raise ValueError(f"{len(conditions)} conditions are named, and {MOST_CONDITIONS} are the most")
    if taken := [name for name in conditions if name.lower() in _TAKEN]:
        raise ValueError(f"a condition cannot be called {taken[0]!r}: a column of the release is")
    strata = math.prod(len(plan.names) for plan in conditions.values())
    if strata > MOST_STRATA:
        raise ValueError(
            f"the conditions have {strata} combinations of values, and {MOST_STRATA} are the most; name fewer"
        )


def check_weights(weights: Mapping[str, Mapping[str, float]], conditions: Mapping[str, ConditionPlan]) -> None:
    """Refuse weights of values that no condition has, or that leave nobody to draw.

    Raises:
        ValueError: with what is wrong.
    """
    for name, of_values in weights.items():
        if name not in conditions:
            raise ValueError(
                f"{name!r} is none of the study's conditions ({', '.join(conditions) or 'it has none'})"
            )
        if unknown := set(of_values) - set(conditions[name].names):
            raise ValueError(
                f"{sorted(unknown)[0]!r} is no value of {name}; its values are {', '.join(conditions[name].names)}"
            )
        if not any(of_values.values()):
            raise ValueError(f"every value of {name} has the weight 0, so that nobody can be drawn")


def stratum_of(numbers: Sequence[int], sizes: Sequence[int]) -> int:
    """Return the number of a combination of values: the first condition counts slowest.

    >>> stratum_of((1, 2), (4, 3)), stratum_of((), ())
    (5, 0)
    """
    stratum = 0
    for number, size in zip(numbers, sizes, strict=True):
        stratum = stratum * size + number
    return stratum


def numbers_of(stratum: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the value of each condition in a stratum.

    >>> numbers_of(5, (4, 3))
    (1, 2)
    """
    numbers = []
    for size in reversed(sizes):
        stratum, number = divmod(stratum, size)
        numbers.append(number)
    return tuple(reversed(numbers))
