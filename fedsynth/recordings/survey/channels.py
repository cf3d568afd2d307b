"""Channels: from the headers of recordings to the kind of signal, the rate and the channels that a study may name.

A label of a header goes into a study only where it is the name of an electrode or a lead, or where the recordings
of several people have it: any other may be somebody's own words.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedsynth.montage import canonical_channel, scalp_position
from fedsynth.recordings.survey.headings import Heading
from fedsynth.study import Modality

LEAST_PEOPLE = 5
"""So many people must share a word of theirs before it is written into a study."""
MOST_CHANNELS = 64
_LEAD = re.compile(r"I|II|III|AVR|AVL|AVF|V[1-9]R?|V[3-6]R|MLI|MLII|MLIII|MCL[1-6]|ECG ?[0-9]?|EKG ?[0-9]?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,15}")
_BESIDE_EEG = re.compile(r"EOG|EMG|ECG|EKG|RESP|STATUS|TRIG|STI|PHOTIC|SPO2|PULSE|DC[0-9]|EVENT|REF|A[12]$|M[12]$")


@dataclass(frozen=True)
class Channels:
    """What headers tell: None, or no names, where they do not.

    `other_rates` counts recordings at another rate.
    `missing` is "leave out" where some recordings lack channels that most have.
    """

    modality: Modality | None
    sfreq: float | None
    names: tuple[str, ...]
    missing: Literal["refuse", "leave out"] = "refuse"
    other_rates: int = 0
    has_unit: bool = True


def channels_of(headings: Sequence[tuple[str, Heading]], *, hint: Modality | None) -> Channels:
    """Return what headers have in common.

    Args:
        headings: of recordings, each with the person whose it is.
        hint: the kind of signal, where names of files tell it.
    """
    rates = Counter(round(one.sfreq, 4) for _, one in headings if one.sfreq is not None)
    sfreq = rates.most_common(1)[0][0] if rates else None
    alike = [(who, one) for who, one in headings if one.sfreq is None or round(one.sfreq, 4) == sfreq]
    labels = Counter(label for _, one in alike for label in dict.fromkeys(map(study_name, one.labels)))
    modality = hint or _modality(labels)
    people: dict[str, set[str]] = {}
    for who, one in alike:
        for label in map(study_name, one.labels):
            people.setdefault(label, set()).add(who)
    sets = Counter(_usable(one, modality, people) for _, one in alike)
    names, missing = _in_common(sets)
    return Channels(
        modality,
        sfreq,
        names[:MOST_CHANNELS],
        missing,
        sum(rates.values()) - (rates[sfreq] if sfreq is not None else 0),
        all(one.has_unit for _, one in headings),
    )


def study_name(label: str) -> str:
    """Return how a study names the channel of a header's label.

    >>> study_name("EEG T3-Ref"), study_name("ecg ii"), study_name("ECG aVR"), study_name("FP1-F7")
    ('T7', 'II', 'AVR', 'FP1-F7')
    """
    name = canonical_channel(label)
    bare = name.removeprefix("ECG ").strip()
    return bare if bare and _LEAD.fullmatch(bare) else name.replace(" ", "-")


def is_electrode(name: str) -> bool:
    """Tell an electrode of the 10-10 system, or two of them.

    >>> is_electrode("Cz"), is_electrode("FP1-F7"), is_electrode("Rosa")
    (True, True, False)
    """
    return all(scalp_position(part) is not None for part in name.split("-", 1))


def is_lead(name: str) -> bool:
    """Tell a lead of an ECG."""
    return _LEAD.fullmatch(name) is not None


def _modality(labels: Counter[str]) -> Modality | None:
    electrodes = sum(is_electrode(name) for name in labels)
    leads = sum(is_lead(name) for name in labels)
    if electrodes >= 2 or (electrodes and not leads):
        return "eeg"
    return "ecg" if leads else ("eeg" if "EEG" in labels else None)


def _usable(heading: Heading, modality: Modality | None, people: dict[str, set[str]]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(map(study_name, heading.labels)))
    known = tuple(n for n in names if (is_electrode(n) and modality == "eeg") or (is_lead(n) and modality == "ecg"))
    if known:
        return known
    return tuple(
        name
        for name in names
        if _NAME.fullmatch(name) and len(people[name]) >= LEAST_PEOPLE and not _BESIDE_EEG.match(name)
    )


def _in_common(sets: Counter[tuple[str, ...]]) -> tuple[tuple[str, ...], Literal["refuse", "leave out"]]:
    if not sets:
        return (), "refuse"
    usual = sets.most_common(1)[0][0]
    common = tuple(name for name in usual if all(name in one for one in sets))
    if 2 * len(common) >= len(usual):
        return common, "refuse"
    return usual, "leave out"
