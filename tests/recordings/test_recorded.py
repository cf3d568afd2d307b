"""What is known of a recording is written beside its windows and read again, as earlier versions wrote it too."""

import json
from typing import Any

import numpy as np
import pytest

from fedsynth.recordings.excerpt import Told
from fedsynth.recordings.identity import Identity
from fedsynth.recordings.take import Recorded

SPECTRUM = np.array([[0.0, 1.5, 1e-30], [1234.5, 2e9, 7.0]])


@pytest.fixture
def recorded() -> Recorded:
    told = Told(5, {("flat", "C3"): 2}, SPECTRUM, np.ones((2, 7), dtype=np.float32), ("flat",))
    who = Identity("s", "d", frozenset({"d", "p"}), frozenset({"p"}))
    return Recorded(who, "train", "source", 1000, (30.0, 40.0), ("one",), np.array([0, 1, 1]), told, (2, 1))


def same(one: Recorded, other: Recorded) -> None:
    assert (one.identity, one.group, one.source, one.n_times) == (
        other.identity, other.group, other.source, other.n_times,
    )  # fmt: skip
    assert (one.amplitudes, one.remarks, one.covariates) == (other.amplitudes, other.remarks, other.covariates)
    assert one.labels.tolist() == other.labels.tolist()
    assert (one.told.placed, one.told.broken, one.told.shown_rules) == (
        other.told.placed, other.told.broken, other.told.shown_rules,
    )  # fmt: skip
    np.testing.assert_array_equal(one.told.shown, other.told.shown)
    np.testing.assert_allclose(one.told.spectrum, other.told.spectrum, rtol=1e-6)


@pytest.mark.parametrize("shown", [True, False])
def test_what_is_written_is_read(recorded: Recorded, shown: bool) -> None:
    one = recorded if shown else recorded.unshown()

    same(Recorded.from_bytes(one.to_bytes(), labels=(0, 1, 1)), one)


def test_a_spectrum_that_earlier_versions_wrote_in_decimals_is_read(recorded: Recorded) -> None:
    body: dict[str, Any] = json.loads(recorded.to_bytes())
    body["spectrum"] = SPECTRUM.tolist()

    same(Recorded.from_bytes(json.dumps(body).encode(), labels=(0, 1, 1)), recorded)
