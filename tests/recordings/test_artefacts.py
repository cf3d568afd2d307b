"""Artefacts planted into windows of noise and of beats, and what is left in peace."""

import logging
from collections.abc import Callable

import numpy as np
import pytest

from fedsynth.recordings.artefacts import RULES, artefacts
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.study import Modality, Study, parse_study

SFREQ = 128.0


def brain(*, seed: int = 0, n_times: int = 512) -> np.ndarray:
    """Two channels of coloured noise in steps of half a microvolt, 4200 uV off zero."""
    noise = np.random.default_rng(seed).normal(0, 12, (2, n_times + 8))
    smooth = np.stack([np.convolve(row, np.ones(9) / 3, mode="valid") for row in noise])
    return (np.round(2 * smooth) / 2 + 4200).astype(np.float32)


def hearts(*, n_times: int = 1280, gain: float = 1000.0) -> np.ndarray:
    """A quiet line with sharp beats, in steps of 5 uV."""
    time = np.arange(n_times) / 256
    beats = sum(gain * np.exp(-0.5 * ((time - at) / 0.008) ** 2) for at in np.arange(0.4, 5, 0.8))
    noise = np.random.default_rng(2).normal(0, 8, (1, n_times))
    return (5 * np.round((beats + noise) / 5)).astype(np.float32)


def broken(window: np.ndarray, *, sfreq: float = SFREQ, modality: Modality = "eeg") -> dict[str, list[int]]:
    found = artefacts(window, sfreq=sfreq, modality=modality)
    assert tuple(found) == RULES
    return {rule: np.flatnonzero(flags).tolist() for rule, flags in found.items() if flags.any()}


def planted(change: Callable[[np.ndarray], object]) -> np.ndarray:
    window = brain()
    change(window[1])
    return window


def put(part: slice, value: float | np.ndarray) -> Callable[[np.ndarray], object]:
    return lambda row: row.__setitem__(part, value)


def clip(row: np.ndarray, low: float, high: float) -> None:
    row[:] = np.clip(row, low, high)


def hold(row: np.ndarray, count: int, value: float | None = None) -> None:
    """Hold a value for so many of 64 samples, again and again."""
    for start in range(0, len(row), 64):
        row[start : start + count] = row[start] if value is None else value


TIME = np.arange(512) / SFREQ
DITHER = 4200 + np.random.default_rng(5).normal(0, 0.25, 200)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param(put(slice(None), 4200.0), "flat", id="flat all along"),
        pytest.param(put(slice(100, 228), 4211.0), "flat", id="flat for a second"),
        pytest.param(put(slice(384, 512), 0.0), "flat", id="flat at the end"),
        pytest.param(put(slice(10, 60), 8401.5), "clipped", id="at the upper rail for a while"),
        pytest.param(put(slice(10, 60), 0.0), "clipped", id="at the lower rail for a while"),
        pytest.param(lambda row: clip(row, 4185, 4215), "clipped", id="clipped at both sides"),
        pytest.param(lambda row: clip(row, 0, 4205), "clipped", id="clipped at one side"),
        pytest.param(
            lambda row: row.__setitem__(slice(None), np.where(TIME * 4 % 1 < 0.5, 500, -500)),
            "clipped",
            id="square",
        ),
        pytest.param(lambda row: row.__iadd__(np.where(TIME > 2, 800, 0)), "jump", id="jump up"),
        pytest.param(lambda row: row.__iadd__(np.where(TIME > 3.9, -800, 0)), "jump", id="jump down near the end"),
        pytest.param(lambda row: row.__iadd__(200 * np.sin(2 * np.pi * 50 * TIME)), "line noise", id="50 Hz"),
        pytest.param(lambda row: row.__iadd__(200 * np.sin(2 * np.pi * 60.2 * TIME)), "line noise", id="60 Hz"),
        pytest.param(lambda row: row.__iadd__(200 * np.sin(2 * np.pi * 16.67 * TIME)), "line noise", id="railway"),
        pytest.param(put(slice(100, 300), DITHER), "flat", id="an open input that dithers"),
        pytest.param(lambda row: hold(row, 28), "flat", id="packets of a radio that were lost"),
        pytest.param(lambda row: hold(row, 28, 4200.0), "flat", id="lost packets filled by a constant"),
    ],
)
def test_a_planted_artefact_is_found_on_its_channel(change: Callable[[np.ndarray], object], rule: str) -> None:
    assert broken(planted(change))[rule] == [1]


@pytest.mark.parametrize("seed", range(20))
def test_brains_are_left_in_peace(seed: int) -> None:
    assert broken(brain(seed=seed)) == {}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda row: row.__iadd__(10 * np.sin(2 * np.pi * 50 * TIME)), id="some line noise"),
        pytest.param(lambda row: row.__iadd__(60 * np.sin(2 * np.pi * 10 * TIME)), id="alpha"),
        pytest.param(
            lambda row: row.__iadd__(900 * np.maximum(0, np.sin(2 * np.pi * 3 * TIME)) ** 40), id="spikes"
        ),
        pytest.param(lambda row: row.__iadd__(3000 * TIME / 4), id="drift"),
        pytest.param(put(slice(100, 200), 4200.0), id="the middle of its range for less than a second"),
        pytest.param(lambda row: row.__setitem__(slice(None), np.round((row - 4200) / 6)), id="few steps"),
        pytest.param(lambda row: row.__iadd__(60 * np.sin(2 * np.pi * 15 * TIME)), id="a spindle"),
        pytest.param(lambda row: hold(row, 12), id="values held for less than a tenth of a second"),
    ],
)
def test_what_brains_do_is_left_in_peace(change: Callable[[np.ndarray], object]) -> None:
    assert broken(planted(change)) == {}


@pytest.mark.parametrize("gain", [300.0, 1000.0, 4000.0, -2000.0])
def test_beats_are_no_jumps_and_the_line_between_them_is_no_rail(gain: float) -> None:
    assert broken(hearts(gain=gain), sfreq=256.0, modality="ecg") == {}
    assert broken(hearts(gain=gain) + np.where(np.arange(1280) > 640, 9000, 0).astype(np.float32), sfreq=256.0,
                  modality="ecg") == {"jump": [0]}  # fmt: skip


STUDY = parse_study("""
name = "small"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
recorded_sfreq = 256.0
sfreq = 128.0
[windows]
n_times = 128
per_recording = 40
[labels]
names = ["healthy", "ill"]
source = "participants.tsv"
positive = "ill"
[privacy]
unit = "subject"
epsilon = 1.0
delta = 1e-5
[family]
name = "cwgan"
""")


def forty(*, seed: int, bad: range) -> Recording:
    """Forty windows of a second at 256 Hz; one channel is flat in some of them."""
    signal = np.tile(brain(seed=seed, n_times=256), 40) + np.random.default_rng(seed).normal(0, 9, (2, 40 * 256))
    signal[1, 256 * bad.start : 256 * bad.stop] = 17.0
    return Recording(signal.astype(np.float32), 256.0, ("C3", "C4"), f"s{seed}", "ill", f"digest {seed}")


def test_windows_with_an_artefact_on_one_channel_are_counted_shown_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        windows = windows_of([forty(seed=1, bad=range(5, 34))], study=STUDY, site="north")

    assert len(windows.labels) == 11
    assert "site 'north': 29 of 40 windows are left out for artefacts: flat on C4 29" in caplog.text


def test_the_windows_of_one_person_do_not_depend_on_anothers_artefacts() -> None:
    one, other, worse = forty(seed=1, bad=range(0)), forty(seed=2, bad=range(0)), forty(seed=2, bad=range(40))
    beside_good, beside_bad = (windows_of([one, second], study=STUDY) for second in (other, worse))

    assert (beside_good.subjects == 1).sum() == 40
    assert beside_bad.subjects.tolist() == [0] * 40
    np.testing.assert_array_equal(beside_bad.signal, beside_good.signal[:40])


def test_what_stays_of_a_recording_is_what_it_had_without_its_artefacts() -> None:
    """A window that is left out makes room for no other: each stands or falls alone."""
    good = windows_of([forty(seed=1, bad=range(0))], study=few(4))
    bad = windows_of([forty(seed=1, bad=range(4, 6))], study=few(4))

    assert (len(good.labels), len(bad.labels)) == (4, 3)


def few(count: int) -> Study:
    return STUDY.model_copy(update={"windows": STUDY.windows.model_copy(update={"per_recording": count})})


def test_a_study_may_keep_them() -> None:
    study = STUDY.model_copy(update={"windows": STUDY.windows.model_copy(update={"artefacts": "keep"})})

    assert len(windows_of([forty(seed=1, bad=range(5, 34))], study=study).labels) == 40


@pytest.mark.parametrize("line", [50.0, 60.0])
def test_multiples_of_the_mains_are_line_noise_too(line: float) -> None:
    time = np.arange(1024) / 512
    window = brain(n_times=1024)
    window[1] += 100 * np.sin(2 * np.pi * line * time) + 150 * np.sin(2 * np.pi * 3 * line * time + 1)

    assert broken(window, sfreq=512.0) == {"line noise": [1]}


def test_a_short_window_does_not_take_a_rhythm_for_a_railway() -> None:
    time = np.arange(64) / SFREQ
    window = (np.round(60 * np.sin(2 * np.pi * 15 * time) * 2) / 2 + brain(n_times=64)).astype(np.float32)

    assert broken(window) == {}
