"""Facts and fingerprints of a recording that comes in pieces are those of the whole."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.recordings.facts import FactsGatherer, facts_of, microvolts
from fedsynth.recordings.fingerprints import Fingerprinter, fingerprints
from fedsynth.recordings.plausible import amplitude

cuts = st.lists(st.integers(0, 3000), max_size=6).map(lambda at: [0, *sorted(at), 3000])


@settings(max_examples=30, deadline=None)
@given(cuts=cuts, seed=st.integers(0, 5), kind=st.sampled_from(["int16", "int32", "float32", "float64"]))
def test_fingerprints_do_not_depend_on_how_a_channel_is_cut(cuts: list[int], seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    wave = (3 * np.rint(np.cumsum(rng.normal(0, 6, 3000)))).astype(kind)
    pieces = Fingerprinter()

    while pieces.wanting:
        for first, last in pairwise(cuts):
            if last > first:
                pieces.take(wave[first:last])
        pieces.end_pass()

    assert pieces.found() == fingerprints(wave)
    assert len(pieces.found()) == 8


@settings(max_examples=30, deadline=None)
@given(cuts=cuts, seed=st.integers(0, 5), sfreq=st.sampled_from([1.0, 7.3, 250.0, 5000.0]))
def test_facts_do_not_depend_on_how_a_recording_is_cut(cuts: list[int], seed: int, sfreq: float) -> None:
    signal = np.random.default_rng(seed).normal(0, 30, (2, 3000)).astype(np.float32)
    signal[1] = 5.0
    pieces = FactsGatherer(sfreq)

    for first, last in pairwise(cuts):
        pieces.take(list(signal[:, first:last]))

    assert pieces.found() == facts_of(signal, sfreq=sfreq)
    assert pieces.found()[0].amplitude == amplitude(signal[0], sfreq=sfreq)
    assert [one.flat for one in pieces.found()] == [False, True]


@settings(max_examples=30, deadline=None)
@given(cuts=cuts, seed=st.integers(0, 5), gains=st.tuples(*[st.sampled_from([0.1, -0.3, 1e-3, 1e300])] * 2))
def test_facts_of_steps_are_those_of_their_microvolts(cuts: list[int], seed: int, gains: tuple[float, ...]) -> None:
    steps = np.random.default_rng(seed).integers(-32768, 32768, (2, 3000)).astype(np.int16)
    scales = tuple((gain, 17.3) for gain in gains)
    signal = np.stack([microvolts(row, *scale) for row, scale in zip(steps, scales, strict=True)])
    pieces = FactsGatherer(250.0)

    for first, last in pairwise(cuts):
        pieces.take(list(steps[:, first:last]), scales)

    with np.errstate(invalid="ignore"):
        assert repr(pieces.found()) == repr(facts_of(signal, sfreq=250.0))  # nan is not nan
    assert [one.finite for one in pieces.found()] == [gain < 1e300 for gain in gains]


@pytest.mark.parametrize("at", [0, 700, 2999])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_no_number_is_seen(at: int, number: float) -> None:
    signal = np.ones((1, 3000), dtype=np.float32)
    signal[0, at] = number

    assert not facts_of(signal, sfreq=250.0)[0].finite
