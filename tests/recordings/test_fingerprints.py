"""Fingerprints: the same signal is known however it was saved, and different people are not joined."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.recordings.fingerprints import KEPT, RUN, Fingerprinter, fingerprints
from fedsynth.recordings.people import copies, is_copy, people_of
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.sketch import rolling


def brain(seed: int, n_times: int = 4000) -> np.ndarray:
    """A slow wave with noise, in steps of a 12-bit converter."""
    rng = np.random.default_rng(seed)
    return np.rint(np.cumsum(rng.normal(0, 6, n_times)) + rng.normal(0, 9, n_times)).astype(np.int16)


SAVED: dict[str, object] = {
    "as it was": lambda x: x,
    "in 24 bits": lambda x: x.astype(np.int32) << 8,
    "with a negative gain": lambda x: -x,
    "with another zero": lambda x: x.astype(np.int32) + 32768,
    "in microvolts": lambda x: x * (20 / 39) + 4200.0,
    "in volts": lambda x: x * (1e-6 * 20 / 39),
    "in single precision": lambda x: (x * (20 / 39)).astype(np.float32),
    "as decimals": lambda x: np.round(x * 0.25, 2),
    "padded to whole data records": lambda x: np.concatenate([x, np.zeros(400, np.int16)]),
    "cut to whole data records": lambda x: x[:-300],
    "with its beginning cut off": lambda x: x[300:],
}


BOTH_KINDS = 2 * KEPT


@pytest.mark.parametrize(
    ("n_times", "factor", "expected"),
    [(4000, 1, "15dc30013e331766"), (200_000, 1, "dcd9a8b1e6cd79aa"), (200_000, 3, "dcd9a8b1e6cd79aa")],
)
def test_ledgers_from_before_know_their_people(n_times: int, factor: int, expected: str) -> None:
    """What earlier versions found, whose tokens lie in ledgers."""
    found = fingerprints(brain(4, n_times=n_times).astype(np.int32) * factor)

    assert len(found) == BOTH_KINDS
    assert hashlib.sha256("".join(found).encode()).hexdigest()[:16] == expected


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("seed", range(5))
def test_a_signal_is_known_again_however_it_was_saved(name: str, seed: int) -> None:
    wave = brain(seed)
    before, after = set(fingerprints(wave)), set(fingerprints(SAVED[name](wave)))  # type: ignore[operator]

    assert len(before) == BOTH_KINDS
    assert 2 * len(before & after) >= KEPT


def in_16_bits_of_its_range(x: np.ndarray) -> np.ndarray:
    """As software writes EDF: the physical limits are the smallest and the largest value."""
    step = (float(x.max()) - float(x.min())) / 65535
    return np.rint((x - float(x.min())) / step).astype(np.int32)


ROUNDED: dict[str, object] = {
    "written by other limits": in_16_bits_of_its_range,
    "written by other limits, cut": lambda x: in_16_bits_of_its_range(x)[700:],
    "as decimals of a table": lambda x: np.round(x * (20 / 39), 1),
    "in other microvolts and limits": lambda x: in_16_bits_of_its_range(np.round(x * (20 / 39), 2)),
}


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("seed", range(5))
def test_a_signal_that_was_rounded_anew_is_known_again(name: str, seed: int) -> None:
    wave = brain(seed)
    again = ROUNDED[name](wave)  # type: ignore[operator]

    channels = [(wave, again), (brain(seed + 100), ROUNDED[name](brain(seed + 100)))]  # type: ignore[operator]
    one = held("one", *(before for before, _ in channels), used=2, digest="1")
    two = held("two", *(after for _, after in channels), used=2, digest="2")
    other = held("other", brain(seed + 50), brain(seed + 51), used=2, digest="3")
    assert people_of([one, two, other]) == [0, 0, 1]
    assert is_copy([one, two, other]) == [False, True, False]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.zeros(4000, np.int16), id="flat"),
        pytest.param(np.full(4000, 32767, np.int16), id="at a rail"),
        pytest.param(np.arange(4000) % 128, id="counter"),
        pytest.param(np.arange(4000, dtype=np.int64), id="ramp"),
        pytest.param(np.where(np.arange(4000) // 50 % 2, 100, -100), id="calibration by a square wave"),
        pytest.param((np.arange(4000) % 1000 == 0).astype(int) * 5, id="trigger"),
        pytest.param(np.full(4000, np.nan), id="no samples"),
        pytest.param(np.zeros(0, np.int16), id="empty"),
        pytest.param(brain(1)[:RUN], id="shorter than a stretch"),
        pytest.param(np.float64([0, 1e300, -1e300] * 100), id="huge"),
    ],
)
def test_signals_that_are_alike_in_everybody_have_no_fingerprint(values: np.ndarray) -> None:
    assert fingerprints(values) == ()


def test_flat_stretches_do_not_stand_for_a_signal() -> None:
    one, other = brain(1), brain(2)
    one[1000:3000] = 77
    other[500:3500] = 77

    assert len(set(fingerprints(one))) == BOTH_KINDS
    assert not set(fingerprints(one)) & set(fingerprints(other))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_different_signals_share_nothing(a: int, b: int) -> None:
    if a != b:
        assert not set(fingerprints(brain(a))) & set(fingerprints(brain(b)))


def held(subject: str, *waves: np.ndarray, used: int = 1, digest: str) -> Recording:
    signal = np.stack([wave[:3000] for wave in waves[:used]]).astype(np.float32)
    prints = tuple(fingerprints(wave) for wave in waves)
    return Recording(signal, 128.0, ("C3", "C4")[:used], subject, "ill", digest, fingerprints=prints)


def test_a_recording_saved_again_is_one_person_and_counts_once() -> None:
    a, b, c = brain(1), brain(2), brain(3)
    recordings = [
        held("one", a, b, c, used=2, digest="1"),
        held("two", a, b, used=2, digest="2"),  # an unused channel was dropped
        held("three", b, a, c, used=2, digest="3"),  # reordered in the file, and then by the study
        held("four", brain(4), brain(5), brain(6), used=2, digest="4"),
        held("one", a[:-200], b[:-200], used=2, digest="5"),
    ]

    assert people_of(recordings) == [0, 0, 0, 1, 0]
    assert is_copy(recordings) == [False, True, True, False, True]
    assert copies(recordings) == (1, 2)


def test_a_study_of_other_channels_of_the_same_recording_finds_the_same_person_but_no_copy() -> None:
    a, b = brain(1), brain(2)
    one, two = held("one", a, b, digest="1"), held("two", b, a, digest="2")

    assert people_of([one, two]) == [0, 0]
    assert is_copy([one, two]) == [False, False]


def test_recordings_without_fingerprints_are_known_by_their_data_alone() -> None:
    flat = np.zeros(4000, np.int16)
    recordings = [held(name, flat, digest=name) for name in ("a", "b")]

    assert people_of(recordings) == [0, 1]
    assert is_copy(recordings) == [False, False]


def test_the_hash_of_a_stretch_is_that_of_its_steps_alone() -> None:
    steps = np.abs(np.diff(brain(3).astype(np.int64)))
    whole = rolling(steps, RUN)

    assert len(whole) == len(steps) - RUN + 1
    assert len(np.unique(whole)) == len(whole)
    for start in (0, 1, 77, 2000):
        assert rolling(steps[start : start + RUN], RUN).tolist() == [whole[start]]


@pytest.mark.parametrize(
    "largest",
    [
        pytest.param(100, id="small steps"),
        pytest.param(16_383, id="the largest steps that 16 bits hold"),
        pytest.param(16_384, id="steps that 16 bits do not hold, by one"),
        pytest.param(32_767, id="steps of 17 bits"),
    ],
)
def test_it_does_not_matter_how_many_bits_hold_a_sample(largest: int) -> None:
    wave = np.random.default_rng(1).integers(-largest, largest, 20_000, endpoint=True)
    wave[300:305] = [-largest, largest, -largest, largest, 1 - largest]

    assert len(fingerprints(wave)) == BOTH_KINDS
    assert fingerprints(wave) == fingerprints(wave.astype(np.int16)) == fingerprints(wave.astype(np.int32))


@pytest.mark.parametrize("name", ["as it was", "in 24 bits", "in microvolts"])
@pytest.mark.parametrize("at_once", [70, 1000])
def test_it_does_not_matter_how_many_samples_are_hashed_together(
    monkeypatch: pytest.MonkeyPatch, name: str, at_once: int
) -> None:
    wave = SAVED[name](brain(3))  # type: ignore[operator]
    before = fingerprints(wave)
    monkeypatch.setattr("fedsynth.recordings.fingerprints._AT_ONCE", at_once)

    assert fingerprints(wave) == before


@pytest.mark.parametrize(
    ("factors", "passes"),
    [
        pytest.param((1, 1), 1, id="no common factor, as the beginning shows"),
        pytest.param((4, 4), 2, id="a common factor"),
        pytest.param((4, 1), 2, id="none, as only the rest shows"),
    ],
)
def test_a_channel_is_gone_through_as_often_as_its_factor_needs(factors: tuple[int, int], passes: int) -> None:
    parts = [brain(seed).astype(np.int32) * factor for seed, factor in enumerate(factors)]
    whole, gone_through = Fingerprinter(), 0
    while whole.wanting:
        for part in parts:
            whole.take(part)
        whole.end_pass()
        gone_through += 1

    assert gone_through == passes
    assert whole.found() == fingerprints(np.concatenate(parts))
    assert len(whole.found()) == BOTH_KINDS
