"""The shape of a window: what a family must know of a study to build its parts."""

import math
from dataclasses import dataclass

from fedsynth.modalities.affordable import asks_every_lead
from fedsynth.study import Modality, Study


@dataclass(frozen=True)
class Shape:
    """Channels by name, samples, rate in Hz, pass band in Hz, the number of labels, and what the signal is.

    `centred` says that every window is centred on the R peak of a heart beat. `recorded_sfreq` is the rate in Hz at
    which recordings are filtered before they come to `sfreq`, None where they are recorded at it. `every_lead` says
    that the beat of every ECG lead is asked for, not only of the heart's dipole. `strata` is how many values each
    covariate has, `n_statements` how many statements there are, and `most_statements` how many a window bears.
    """

    channels: tuple[str, ...]
    n_times: int
    sfreq: float
    bandpass: tuple[float, float]
    n_labels: int
    modality: Modality
    centred: bool = False
    recorded_sfreq: float | None = None
    every_lead: bool = False
    strata: tuple[int, ...] = ()
    n_statements: int = 0
    most_statements: int = 0

    @property
    def conditioned(self) -> bool:
        """Whether anything is asked beside labels: covariates or statements."""
        return bool(self.strata) or self.n_statements > 0

    @property
    def n_strata(self) -> int:
        """How many combinations of the covariates' values there are: 1 without any."""
        return math.prod(self.strata)


def shape_of(study: Study) -> Shape:
    """Return the shape of a study's windows."""
    return Shape(
        channels=study.signal.channels,
        n_times=study.windows.n_times,
        sfreq=study.signal.sfreq,
        bandpass=study.signal.bandpass,
        n_labels=len(study.labels.names),
        modality=study.signal.modality,
        centred=study.labels.source == "beats",
        recorded_sfreq=study.signal.recorded_sfreq,
        every_lead=asks_every_lead(study),
        strata=study.strata,
        n_statements=study.n_statements,
        most_statements=study.statements.at_most if study.statements else 0,
    )
