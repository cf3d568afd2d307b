"""TOML: what is written is read back by the standard library as the same data."""

import math
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import StudyError
from fedsynth.study import parse_study
from fedsynth.toml import dumps

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = TEXTS | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False)
TABLES = st.dictionaries(
    TEXTS,
    st.recursive(VALUES | st.lists(VALUES, max_size=3), lambda inner: st.dictionaries(TEXTS, inner, max_size=3)),
)


@given(TABLES)
def test_what_is_written_is_read_back(data: dict[str, Any]) -> None:
    assert _without_empty(tomllib.loads(dumps(data))) == _without_empty(data)


def test_a_study_with_every_default_filled_in_has_the_same_digest(tiny_text: str) -> None:
    for text in (tiny_text, tiny_text.replace("epsilon = 8.0", "epsilon = inf")):
        study = parse_study(text)

        assert parse_study(study.to_toml()).digest == study.digest


def test_infinity_is_a_word_of_toml() -> None:
    assert dumps({"a": math.inf}) == "a = inf\n"


def test_a_text_without_a_form_in_utf_8_is_refused() -> None:
    with pytest.raises(StudyError, match="no form in UTF-8"):
        dumps({"a": "\udc80"})


def _without_empty(data: Any) -> Any:
    """A table without values leaves no trace in the text."""
    if not isinstance(data, dict):
        return data
    kept = {key: _without_empty(value) for key, value in data.items()}
    return {key: value for key, value in kept.items() if value != {}}
