"""The pages of a study that say what recordings look like, how windows are cut, and where labels stand."""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
OwnReader = Annotated[str, Field(pattern=r"^reader:[A-Za-z0-9_.-]{1,64}$")]
"""A reader of somebody's own, by the name of its entry point in the group `fedsynth.readers`."""
RecordingFormat = (
    Literal["brainvision", "delimited", "edf", "eeglab", "fif", "npz", "parquet", "rows", "text", "wfdb"]
    | OwnReader
)
"""What a site's files are; one more is a file in `fedsynth/recordings/readers` and a row of the table there."""
Modality = Literal["eeg", "ecg"]
"""What kind of signal; one more is a folder in `fedsynth/modalities` and its rows in the registry there."""
Reference = Literal["as recorded", "average", "bipolar", "linked ears"]
"""What the second of the two places is between which an EEG channel is a voltage."""
EARS = ("A1", "A2")
_LARGEST_RATIO = 100_000


class Page(BaseModel):
    """A table of a study file: frozen, and without keys that are not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SignalPlan(Page):
    """What a recording must look like, and the filter applied to it before windows are cut.

    `sfreq` is the rate of the windows and `recorded_sfreq` that of the recordings, both in Hz; they are equal
    unless the study says otherwise. `bandpass` is in Hz. `range_uv` is the largest absolute amplitude kept, in
    microvolts: a public constant, which also becomes the physical range of the files of a release. `missing` says
    what becomes of a recording without one of the channels. `reference` is taken after reading: "average" of the
    study's channels, "linked ears" (the mean of A1 and A2, which files must hold), or "bipolar", where each channel
    names two places, as in "Fp1-F7". `notch` is the frequency of the mains in Hz, where it is to be taken out.
    """

    modality: Modality
    format: RecordingFormat
    channels: tuple[Name, ...] = Field(min_length=1, max_length=64)
    sfreq: float = Field(ge=50, le=1024)
    recorded_sfreq: float | None = Field(default=None, ge=50, le=32_768)
    missing: Literal["refuse", "leave out"] = "refuse"
    reference: Reference = "as recorded"
    notch: float | None = Field(default=None, gt=0)
    bandpass: tuple[float, float] = (0.5, 40.0)
    range_uv: float = Field(default=1000.0, gt=0, le=100_000)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.bandpass
        half = min(self.sfreq, self.rate_as_recorded) / 2
        if not 0 < low < high < half:
            raise ValueError(f"bandpass {low:g} to {high:g} Hz must lie inside 0 to {half:g} Hz")
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("a channel is listed twice")
        if self.notch is not None and self.notch >= self.rate_as_recorded / 2:
            raise ValueError(f"notch {self.notch:g} Hz must lie below half of {self.rate_as_recorded:g} Hz")
        if self.reference != "as recorded" and self.modality != "eeg":
            raise ValueError(f'reference = "{self.reference}" is for EEG')
        if self.reference == "average" and len(self.channels) < 2:
            raise ValueError('reference = "average" takes at least two channels')
        places = [channel.split("-") for channel in self.channels]
        if self.reference == "bipolar" and not all(
            len(two) == 2 and all(two) and two[0] != two[1] for two in places
        ):
            raise ValueError('with reference = "bipolar" a channel names two places, as in "Fp1-F7"')
        if self.reference == "linked ears" and set(self.channels) & set(EARS):
            raise ValueError('with reference = "linked ears" A1 and A2 are no channels of the study')
        if max(self.resampling) > _LARGEST_RATIO:
            raise ValueError(
                f"recorded_sfreq {self.rate_as_recorded!r} and sfreq {self.sfreq!r} have no ratio of whole numbers "
                f"up to {_LARGEST_RATIO}; choose an sfreq that has one"
            )
        return self

    @property
    def rate_as_recorded(self) -> float:
        """The sampling frequency that a recording must have, in Hz."""
        return self.sfreq if self.recorded_sfreq is None else self.recorded_sfreq

    @property
    def resampling(self) -> tuple[int, int]:
        """The whole numbers (up, down) by whose ratio recordings are resampled; (1, 1) where they are not."""
        return rate_ratio(self.rate_as_recorded, self.sfreq)


class WindowPlan(Page):
    """Windows of `n_times` samples, at most `per_recording` of them, spread evenly over each recording.

    With beats for labels, at most `per_recording` windows of each label, spread evenly over its beats. Windows with
    an artefact, by rules with public constants (`fedsynth.recordings.artefacts`), are left out or kept.
    """

    n_times: int = Field(ge=64, le=8192)
    per_recording: int = Field(default=16, ge=1, le=1000)
    artefacts: Literal["leave out", "keep"] = "leave out"


class BeforePlan(Page):
    """A stretch of `seconds` that ends `gap_seconds` before each interval of the label `of`."""

    of: Name
    seconds: float = Field(gt=0, le=86_400)
    gap_seconds: float = Field(default=0.0, ge=0, le=86_400)


class LabelPlan(Page):
    """The labels of a study, where each recording's label stands, and what the raw value is called here.

    `source` is "file name" (the letters before the digits: `Z001.txt` is Z), "participants.tsv", whose `column`
    holds the label of each participant, "recordings.tsv", whose rows name a recording, its participant and, in
    `column`, its label, or "beats": each window is centred on a beat of the recording's annotations, and the
    beat's symbol is the label. "layout" takes the label that the layout of the recordings tells. With "intervals"
    a window lies within one annotation, whose text is the label: `before` names stretches before others, and
    `background` what is left, `gap_seconds` from all of these. With "events" a window begins `offset_seconds` after
    where an annotation begins. `rename` maps raw values to names; a raw value that gives no name of this study is
    refused, or left out where `others` says so. `positive` is the label whose AUROC against all the others is
    reported.
    """

    names: tuple[Name, ...] = Field(min_length=2, max_length=20)
    source: Literal["file name", "participants.tsv", "recordings.tsv", "beats", "layout", "intervals", "events"]
    column: str = "group"
    rename: dict[str, Name] = Field(default_factory=dict)
    others: Literal["refuse", "leave out"] = "refuse"
    positive: Name
    background: Name | None = None
    before: dict[Name, BeforePlan] = Field(default_factory=dict)
    gap_seconds: float = Field(default=0.0, ge=0, le=86_400)
    offset_seconds: float = Field(default=0.0, ge=-600, le=600)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("a label is listed twice")
        if self.positive not in self.names:
            raise ValueError(f"positive is {self.positive!r}, which is not one of names")
        for target in self.rename.values():
            if target not in self.names:
                raise ValueError(f"rename leads to {target!r}, which is not one of names")
        used = {self.background, *self.before, *(rule.of for rule in self.before.values())} - {None}
        if used - set(self.names):
            raise ValueError("background or before names a label that is not one of names")
        if self.source != "intervals" and (used or self.gap_seconds):
            raise ValueError('background, before and gap_seconds need source = "intervals"')
        if self.source != "events" and self.offset_seconds:
            raise ValueError('offset_seconds needs source = "events"')
        return self


class RecordingsPlan(Page):
    """How folders of recordings are arranged: by default by the name of a preset, unless a site says otherwise."""

    preset: Name | None = None


def rate_ratio(before: float, after: float) -> tuple[int, int]:
    """Return (up, down), without a common divisor, so that `before` times up / down is `after`.

    Rates count as the decimals that are written, so that 173.61 is 17361 hundredths.

    >>> rate_ratio(360.0, 180.0), rate_ratio(173.61, 128.0)
    ((1, 2), (12800, 17361))
    """
    ratio = Fraction(repr(after)) / Fraction(repr(before))
    return ratio.numerator, ratio.denominator
