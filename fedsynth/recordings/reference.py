"""References: from the channels that a file holds to those that a study asks for, as the difference of some.

An EEG channel is a voltage between two places. Which the second is was decided when it was recorded, and can be
decided again: the mean of all channels, the next electrode, or both ears.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedsynth.montage import canonical_channel
from fedsynth.recording_plan import EARS, SignalPlan


def recorded_channels(plan: SignalPlan) -> tuple[str, ...]:
    """Return the channels that a file must hold, in the order in which they are read.

    >>> plan = SignalPlan(
    ...     modality="eeg", format="edf", channels=("Fp1-F7", "F7-T7"), sfreq=128.0, reference="bipolar"
    ... )
    >>> recorded_channels(plan)
    ('Fp1', 'F7', 'T7')
    """
    match plan.reference:
        case "bipolar":
            return tuple(dict.fromkeys(place for channel in plan.channels for place in channel.split("-")))
        case "linked ears":
            there = {canonical_channel(channel) for channel in plan.channels}
            return (*plan.channels, *(ear for ear in EARS if canonical_channel(ear) not in there))
        case _:
            return plan.channels


def derivation(plan: SignalPlan, recorded: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the matrix from channels as recorded to the study's, shape (channel, recorded); None where equal.

    >>> plan = SignalPlan(modality="eeg", format="edf", channels=("C3", "C4"), sfreq=128.0, reference="average")
    >>> derivation(plan, ("C3", "C4")).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    if plan.reference == "as recorded":
        return None
    places = {canonical_channel(name): index for index, name in enumerate(recorded)}
    matrix = np.zeros((len(plan.channels), len(recorded)))
    for row, channel in zip(matrix, plan.channels, strict=True):
        match plan.reference:
            case "average":
                row[:] = -1 / len(recorded)
                row[places[canonical_channel(channel)]] += 1
            case "linked ears":
                row[places[canonical_channel(channel)]] += 1
                for ear in EARS:
                    row[places[canonical_channel(ear)]] -= 0.5
            case "bipolar":
                first, second = channel.split("-")
                row[places[canonical_channel(first)]] += 1
                row[places[canonical_channel(second)]] -= 1
    return matrix


def derive(signal: NDArray[np.float32], matrix: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """Return the study's channels, shape (channel, time), of those recorded, shape (recorded, time)."""
    if matrix is None:
        return signal
    derived = np.zeros((len(matrix), signal.shape[1]), dtype=np.float64)
    for row, weights in zip(derived, matrix, strict=True):
        for index in np.flatnonzero(weights):
            row += weights[index] * signal[index]
    return derived.astype(np.float32)
