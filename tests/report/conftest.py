"""Two made-up releases: a toy cohort at four sites, and a Bonn-like study of single-channel recordings."""

from dataclasses import replace

import numpy as np
import pytest

from fedsynth.evaluation.score import Score
from fedsynth.privacy.making import Making
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.report.page import ReportPage
from fedsynth.study import parse_study
from fedsynth.synthesis.windows import SyntheticWindows

STUDY = """
name = "{name}"
title = "{title}"
[signal]
modality = "{modality}"
format = "{format}"
channels = {channels}
sfreq = {sfreq}
bandpass = [0.5, 40.0]
[windows]
n_times = {n_times}
[labels]
names = {labels}
source = "file name"
positive = "{positive}"
[privacy]
unit = "{unit}"
epsilon = 8.0
delta = 1e-5
[family]
name = "cwgan"
[release]
publisher = "The four hospitals' data office"
"""


@pytest.fixture(scope="session")
def toy_page() -> ReportPage:
    return make_toy_page()


@pytest.fixture(scope="session")
def bonn_page() -> ReportPage:
    return make_bonn_page()


@pytest.fixture(scope="session")
def ecg_page() -> ReportPage:
    return make_ecg_page()


@pytest.fixture(scope="session")
def window_page(bonn_page: ReportPage) -> ReportPage:
    study = bonn_page.study
    return replace(
        bonn_page,
        study=study.model_copy(update={"privacy": study.privacy.model_copy(update={"unit": "window"})}),
        statement=replace(bonn_page.statement, unit="window"),
    )


def make_toy_page() -> ReportPage:
    channels = ("Fp1", "Fp2", "C3", "C4", "T7", "T8", "O1", "O2")
    study = parse_study(
        STUDY.format(
            modality="eeg",
            name="toy",
            title="Synthetic EEG of a made-up cohort",
            format="edf",
            channels=list(channels),
            sfreq=128.0,
            n_times=256,
            labels=["healthy", "epilepsy"],
            positive="epilepsy",
            unit="subject",
        )
    )
    return ReportPage(
        study=study,
        statement=_statement("subject", sites=("north", "east", "south", "west"), cohort="toy"),
        scores=(
            _score("AUROC, train on synthetic, test on real (epilepsy)", 0.913, 0.861, 0.965, +1),
            _score("AUROC, train on real at one site, test on real (epilepsy)", 0.842, 0.761, 0.923, +1),
            _score("macro-F1, train on synthetic, test on real", 0.806, 0.747, 0.865, +1),
            _score("AUROC, real against synthetic", 0.621, 0.559, 0.683, -1),
            Score("log-spectral distance between labels, dB", 4.37, 4.12, 4.61, 0, "synthetic", "1600 windows"),
            Score(
                "log-spectral distance to the simulator, dB",
                1.84,
                1.71,
                1.98,
                -1,
                "public simulation",
                "fresh made-up people",
            ),
        ),
        windows=_windows(channels=channels, labels=("healthy", "epilepsy"), sfreq=128.0, n_times=256, count=30),
        counts=(800, 800),
        subjects=320,
        facts={
            "engine": "in process",
            "code": "fedsynth 0.1.0, commit 0123456789ab",
            "cohort": "toy",
            "sites": "north, east, south, west",
        },
    )


def make_bonn_page() -> ReportPage:
    study = parse_study(
        STUDY.format(
            modality="eeg",
            name="bonn",
            title="Synthetic EEG of the five Bonn sets",
            format="text",
            channels=["EEG"],
            sfreq=173.61,
            n_times=512,
            labels=["Z", "O", "N", "F", "S"],
            positive="S",
            unit="recording",
        )
    )
    return ReportPage(
        study=study,
        statement=_statement("recording", sites=("bonn-a", "bonn-b", "bonn-c", "bonn-d")),
        scores=(
            _score("AUROC, train on synthetic, test on real (S)", 0.988, 0.941, 1.035, +1),
            _score("macro-F1, train on synthetic, test on real", 0.698, 0.622, 0.774, +1),
        ),
        windows=_windows(channels=("EEG",), labels=("Z", "O", "N", "F", "S"), sfreq=173.61, n_times=512, count=40),
        counts=(500,) * 5,
        subjects=100,
        facts={"engine": "Flower simulation", "code": "fedsynth 0.1.0", "cohort": "folders"},
    )


def make_ecg_page() -> ReportPage:
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    study = parse_study(
        STUDY.format(
            modality="ecg",
            name="hearts",
            title="Synthetic 12-lead recordings of two rhythms",
            format="wfdb",
            channels=list(leads),
            sfreq=100.0,
            n_times=1000,
            labels=["normal", "fast"],
            positive="fast",
            unit="subject",
        )
    )
    return ReportPage(
        study=study,
        statement=_statement("subject", sites=("north", "east", "south", "west")),
        scores=(_score("AUROC, train on synthetic, test on real (fast)", 0.943, 0.911, 0.975, +1),),
        windows=_beating(leads=leads, labels=("normal", "fast"), sfreq=100.0, n_times=1000, count=30),
        counts=(400, 400),
        subjects=160,
        facts={"engine": "in process", "code": "fedsynth 0.1.0", "cohort": "folders"},
    )


def _beating(
    *, leads: tuple[str, ...], labels: tuple[str, ...], sfreq: float, n_times: int, count: int
) -> SyntheticWindows:
    """Waves of P, QRS and T as bumps, 65 and 110 beats a minute, another size on every lead, a little noise."""
    rng = np.random.default_rng(5)
    times = np.arange(n_times) / sfreq
    size = np.linspace(-0.6, 1.6, len(leads))
    signal = rng.normal(0, 12, (len(labels) * count, len(leads), n_times))
    for row in range(len(signal)):
        beats = np.arange(rng.uniform(0, 0.9), times[-1], 60 / (65 + 45 * (row // count)))
        for after, width, height in ((-0.16, 0.025, 120), (0.0, 0.012, 1000), (0.25, 0.05, 260)):
            bump = np.exp(-0.5 * ((times[:, None] - beats - after) / width) ** 2).sum(axis=1)
            signal[row] += height * size[:, None] * bump
    return SyntheticWindows(
        signal=signal.astype(np.float32),
        labels=np.repeat(np.arange(len(labels)), count),
        subjects=np.arange(len(signal)) // 5,
        label_names=labels,
        channels=leads,
        sfreq=sfreq,
    )


def _score(name: str, value: float, low: float, high: float, direction: int) -> Score:
    return Score(name, value, low, high, direction, "private sum", "held-out fifth of every site")


def _statement(unit: str, *, sites: tuple[str, ...], cohort: str = "recordings") -> PrivacyStatement:
    events = (
        Mechanism("class counts and feature means", 2.113, 1.0, 1, 1.0),
        Mechanism("second moments of features", 3.422, 1.0, 1, 1.5),
        Mechanism("DP-SGD of the generator, round 1", 1.873, 0.2, 30, 1.0),
        Mechanism("DP-SGD of the generator, round 2", 1.873, 0.2, 30, 1.0),
    )
    held_out = (Mechanism("utility: confusion counts", 0.684, 1.0, 1, 1.0, "held-out"),)
    return PrivacyStatement(
        epsilon=7.9942,
        delta=1e-5,
        unit=unit,
        adjacency="add-or-remove-one",
        trust="site",
        accountant="dp_accounting PLD",
        second_accountant="Opacus PRV",
        composes="this run only; the ledgers began empty",
        overlap="sites are assumed to hold different people",
        assumes="the code at the sites",
        made=Making(60, "in-process", cohort, "c" * 64),
        sites=tuple(
            SiteStatement(site, 7.9942, 8.0063, 1e-5, f"{k + 1:x}f0e9d8c7b6a5948" * 4, events, held_out)
            for k, site in enumerate(sites)
        ),
    )


def _windows(
    *, channels: tuple[str, ...], labels: tuple[str, ...], sfreq: float, n_times: int, count: int
) -> SyntheticWindows:
    """Pink noise with an oscillation whose frequency and strength depend on the label."""
    rng = np.random.default_rng(3)
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    shape = 1 / np.maximum(freqs, 1.0)
    size = (len(labels), count, len(channels))
    white = rng.standard_normal((*size, len(freqs))) + 1j * rng.standard_normal((*size, len(freqs)))
    noise = np.fft.irfft(white * shape, n_times)
    noise *= 18 / noise.std()
    times = np.arange(n_times) / sfreq
    phase = rng.uniform(0, 2 * np.pi, (*size, 1))
    for k in range(len(labels)):
        wave = np.sin(2 * np.pi * (10 - 1.7 * k) * times + phase[k])
        noise[k] = noise[k] * (1 + 0.6 * k) + (14 + 25 * k) * wave**3
    return SyntheticWindows(
        signal=noise.reshape(-1, len(channels), n_times).astype(np.float32),
        labels=np.repeat(np.arange(len(labels)), count),
        subjects=np.arange(len(labels) * count) // 5,
        label_names=labels,
        channels=channels,
        sfreq=sfreq,
    )
