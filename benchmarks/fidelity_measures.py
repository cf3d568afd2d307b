"""Measures of how alike synthetic and real windows are that no classifier of labels sees.

Windows are float, microvolts, shape (window, channel, time). Everything compares sets of windows; nothing is
compared with what a generator was asked for.
"""

from typing import Any

import numpy as np
import torch
from blind_spot_referee import auroc
from numpy.typing import NDArray

from fedsynth.evaluation.waves import similarities
from fedsynth.modalities.ecg.beats import find_beats
from fedsynth.modalities.ecg.leads import axes_of

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

TWIN = 0.95  # correlation at the best lag, in size, from which two windows are the same wave
_R_PEAK_S = 0.05


def twins(signal: Floats, labels: Integers) -> dict[str, float]:
    """Return the share of windows that have a twin of the same label, and of another one."""
    alike = similarities(signal) > TWIN
    np.fill_diagonal(alike, val=False)
    same = labels[:, None] == labels[None, :]
    return {"same": float((alike & same).any(axis=1).mean()), "across": float((alike & ~same).any(axis=1).mean())}


def log_power(signal: Floats) -> NDArray[np.float64]:
    """Return log10 of each window's variance, a mean over channels, shape (window,)."""
    power: NDArray[np.float64] = np.log10(signal.astype(np.float64).var(axis=2) + 1e-2).mean(axis=1)
    return power


def median_rms(signal: Floats) -> float:
    """Return the median over windows of the root mean square over channels, each without its mean."""
    return float(np.median(np.sqrt(signal.astype(np.float64).var(axis=2).mean(axis=1))))


def mean_correlations(signal: Floats) -> NDArray[np.float64]:
    """Return the mean over windows of the correlation of each pair of channels, shape (pair,)."""
    waves = signal.astype(np.float64) - signal.mean(axis=2, keepdims=True)
    waves /= np.sqrt((waves**2).sum(axis=2, keepdims=True)) + 1e-6
    mean = (waves @ waves.transpose(0, 2, 1)).mean(axis=0)
    pairs: NDArray[np.float64] = mean[np.triu_indices(len(mean), 1)]
    return pairs


def rms_difference(one: Floats, other: Floats) -> float:
    """Return the root mean square of a difference."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def intraclass_correlation(values: Floats, people: Integers, labels: Integers) -> float:
    """Return the share of variance within labels that lies between people (Shrout and Fleiss 1979, ICC(1)).

    A person's windows of another label count as another person.
    """
    _, group = np.unique(np.stack([labels, people]), axis=1, return_inverse=True)
    group = group.ravel()
    counts = np.bincount(group)
    means = np.bincount(group, values) / counts
    within = ((values - means[group]) ** 2).sum() / max(1, len(values) - len(counts))
    bearing = np.zeros(len(counts), np.int64)
    bearing[group] = labels
    between, freedom = 0.0, 0
    for label in np.unique(labels):
        mine = bearing == label
        middle = (counts[mine] * means[mine]).sum() / counts[mine].sum()
        between += (counts[mine] * (means[mine] - middle) ** 2).sum()
        freedom += int(mine.sum()) - 1
    mean_square = between / max(1, freedom)
    size = (counts.sum() - (counts**2).sum() / counts.sum()) / max(1, len(counts) - 1)
    return float((mean_square - within) / (mean_square + (size - 1) * within))


def log_spectrum(signal: Floats, sfreq: float, hertz: Floats) -> NDArray[np.float64]:
    """Return ten times log10 of the mean relative power density around each frequency, dB, shape (frequency,).

    A mean over windows of logarithms, so that a few loud windows decide nothing; around is half a hertz or a bin.
    """
    taper = np.hanning(signal.shape[2])
    waves = signal.astype(np.float64) - signal.mean(axis=2, keepdims=True)
    power = (np.abs(np.fft.rfft(waves * taper, axis=2)) ** 2).mean(axis=1)
    power /= power.sum(axis=1, keepdims=True) + 1e-9
    at = np.fft.rfftfreq(signal.shape[2], 1 / sfreq)
    half = max(0.5, 0.75 * float(at[1]))
    columns = [power[:, np.abs(at - one) <= half].mean(axis=1) for one in hertz]
    spectrum: NDArray[np.float64] = 10 * np.log10(np.stack(columns, axis=1) + 1e-12).mean(axis=0)
    return spectrum


def r_peak_variation(signal: Floats, channels: tuple[str, ...], sfreq: float) -> float:
    """Return the median over windows of the coefficient of variation of R peaks' heights in one lead.

    Beats are found as the product finds them; a height is the largest distance from the window's median within
    50 ms of the beat. Windows with fewer than three beats are left out.
    """
    axes = torch.einsum("ac,wct->wat", axes_of(channels).read, torch.from_numpy(signal.astype(np.float32)))
    beats = find_beats(axes, sfreq=sfreq)
    half = max(1, round(_R_PEAK_S * sfreq))
    lead = channels.index("II") if "II" in channels else 0
    out = []
    for wave, at, known in zip(signal[:, lead], beats.at.numpy(), beats.found.numpy(), strict=True):
        away = np.abs(wave - np.median(wave))
        places = at[known].round().astype(int)
        heights = [away[one - half : one + half + 1].max() for one in places if half <= one < len(wave) - half]
        if len(heights) >= 3:
            out.append(np.std(heights, ddof=1) / (np.mean(heights) + 1e-6))
    return float(np.median(out)) if out else float("nan")


def told_apart(train: tuple[Floats, Floats], test: tuple[Floats, Floats]) -> float:
    """Return the AUROC with which random convolutions, trained on two sets, tell two others apart."""
    joined = [np.concatenate(pair).astype(np.float32) for pair in (train, test)]
    truth = [np.repeat([0, 1], [len(pair[0]), len(pair[1])]) for pair in (train, test)]
    return auroc(joined[0], truth[0], joined[1], truth[1])
