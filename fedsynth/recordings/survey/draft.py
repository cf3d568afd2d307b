"""A draft: from a survey to the commented text of a study file, which holds nothing of a person.

What the survey could not tell is a choice: a text that begins with `CHOICE` and asks a question, which no study
passes with. No number in it was counted or measured over people: they are constants, and the user's to declare.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedsynth.recordings.survey.survey import Survey
from fedsynth.study import CHOICE, Modality
from fedsynth.toml import dumps

_NOTES_FROM = 37  # the column in which remarks behind a value begin
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SECONDS: dict[Modality, tuple[float, ...]] = {"eeg": (2.0, 1.0, 0.5), "ecg": (5.0, 2.0, 1.0)}
_LARGEST_UNCHANGED: dict[Modality, float] = {"eeg": 200.0, "ecg": 128.0}  # Hz
_RESAMPLED: dict[Modality, float] = {"eeg": 128.0, "ecg": 100.0}  # Hz
_RANGE_UV: dict[Modality, float] = {"eeg": 500.0, "ecg": 5000.0}
_LEAST_TIMES, _MOST_TIMES = 64, 8192
_LEAST_SUBJECTS, _EXPECTED_UNITS = 10, 100  # as where a study says nothing
_HEAD = """\
# A study drafted by `fedsynth init`. All of it is public: a release carries this file, with its comments. Read each
# line, and agree on it with the other hospitals. docs/study.md lists every key.
"""
_OPEN = f"""\
# What begins with {CHOICE.strip()} could not be known: answer its question. `fedsynth check` names them all.
"""
_GUESS = """\
# A public guess at the people that one hospital trains on, never a count. 100 is no guess of yours yet: say what
# you would say of such a hospital without having looked.
"""


def draft(found: Survey) -> str:
    """Write the text of a study file for what a survey found; the same survey gives the same text."""
    modality = found.known.modality if found.known else found.channels.modality
    pages = {
        "signal": _signal(found, modality),
        "windows": _windows(found, modality),
        "labels": _labels(found),
        "privacy": _privacy(found),
        "cohort": _cohort(found),
        "family": _line("name", "cwgan", "docs/families/index.md compares them"),
        "release": _line("windows_per_label", 2000, "costs no privacy")
        + _line("publisher", "unnamed", "who answers for the release")
        + _line("license", "CC0-1.0", "or CC-BY-4.0"),
    }
    top = _line("name", found.known.name if found.known else "my-study", "letters, digits and hyphens")
    top += _line("title", found.known.title if found.known else "Synthetic recordings", "for people")
    if found.known:
        pages = {"recordings": _line("preset", found.known.name, "how the folders are arranged"), **pages}
    body = top + "".join(f"\n[{name}]\n{text}" for name, text in pages.items())
    return _HEAD + (_OPEN if CHOICE in body else "") + body


def _signal(found: Survey, modality: Modality | None) -> str:
    known, channels = found.known, found.channels
    names: Sequence[str] = channels.names
    if known and known.channels and (not names or set(known.channels) <= set(names) or known.missing != "refuse"):
        names = known.channels
    if found.form == "text" and modality:
        names = (modality.upper(),)
    text = _line("modality", modality or _ask("what is recorded, eeg or ecg?"))
    text += _line("format", found.form)
    text += _line("channels", list(names) or _ask("which channels, as in [C3, C4]? The files do not say"))
    if (known.missing if known else channels.missing) != "refuse":
        text += _line("missing", "leave out", "recordings without one of the channels")
    recorded = _recorded(found)
    if recorded is None:
        text += _line("sfreq", _ask("how many samples a second, in Hz? The files do not say"))
    else:
        rate = _rate(found, modality, recorded)
        if rate != recorded:
            text += _line("recorded_sfreq", recorded, "Hz, of the recordings")
        text += _line("sfreq", rate, "Hz, of the windows")
        text += _line("bandpass", [0.5, min(40.0, math.floor(0.4 * rate))], "Hz")
    if modality:
        largest = known.range_uv if known and known.range_uv else _RANGE_UV[modality]
        text += _line("range_uv", largest, "microvolts; of the amplifier, never of what was recorded")
    return text


def _recorded(found: Survey) -> float | None:
    """Return the rate of the recordings in Hz, None where nothing tells it."""
    return found.channels.sfreq or (found.known.sfreq if found.known else None)


def _rate(found: Survey, modality: Modality | None, recorded: float) -> float:
    """Return the rate of the windows: a band up to 40 Hz needs no more than 100 Hz or so."""
    if found.known and found.known.sfreq:
        return found.known.sfreq
    if found.known and modality == "eeg":
        return min(recorded, 256.0)
    if modality and recorded > _LARGEST_UNCHANGED[modality]:
        return _RESAMPLED[modality]
    return recorded


def _windows(found: Survey, modality: Modality | None) -> str:
    known, recorded = found.known, _recorded(found)
    if known:
        many = known.per_recording or (60 if known.labels["source"] == "intervals" else 8)
        return _line("n_times", known.n_times, "samples") + _line("per_recording", many, "at most, of each label")
    text = _line("per_recording", 8, "at most, spread evenly")
    if recorded is None or modality is None:
        return _line("n_times", _ask("how many samples in a window, 64 to 8192?")) + text
    rate = _rate(found, modality, recorded)
    for seconds in _SECONDS[modality]:
        n_times = math.floor(seconds * rate)
        if _LEAST_TIMES <= n_times <= _MOST_TIMES:
            return _line("n_times", n_times, f"samples: {seconds:g} s") + text
    return _line("n_times", _ask("how many samples in a window, 64 to 8192?")) + text


def _labels(found: Survey) -> str:
    table: Mapping[str, Any] = found.labels.table
    if table:
        text = dumps({"labels": table}).removeprefix("[labels]\n")
        note = "# The AUROC of `positive` against all others is reported. `rename` gives labels other names.\n"
        return text if found.known else note + text
    text = "# Where does it stand what a recording shows? docs/study.md lists what can be read.\n"
    if found.labels.candidates:
        columns = ", ".join(found.labels.candidates)
        text += _line("source", found.labels.columns_of)
        text += _line("column", _ask(f"which column holds the labels: {columns}?"))
    else:
        text += _line("source", _ask("participants.tsv, recordings.tsv, file name, layout, intervals or events?"))
    text += _line("names", _ask("which labels, as in [control, patient]?"))
    return text + _line("positive", _ask("which of them is reported against the others?"))


def _privacy(found: Survey) -> str:
    tells = found.form not in ("text", "rows") or found.labels.table.get("source") in (
        "participants.tsv",
        "recordings.tsv",
    )
    unit = found.known.unit if found.known else ("subject" if tells else "recording")
    note = "whom the promise is about" if unit == "subject" else "the files do not tell who is who"
    return (
        _line("unit", unit, note)
        + _line("epsilon", 8.0, "of the whole study; 8 is weak, 1 is strong")
        + _line("delta", 1e-5, "far below one over the number of people")
        + _line("trust", "site", 'or "aggregate": secure aggregation, three hospitals or more')
    )


def _cohort(found: Survey) -> str:
    names = list(found.sites)
    if not all(_NAME.fullmatch(name) for name in names):
        question = _ask("what are the hospitals called, in letters, digits and hyphens? Rename their folders so")
        named = _line("sites", question)
    else:
        named = _line("sites", names)
    alone = "you alone, for now" if len(names) == 1 else "with fewer left, the run ends"
    return (
        "# Names of the hospitals' folders, which are public.\n"
        + named
        + _line("least_sites", min(2, len(names)), alone)
        + _line("least_subjects", _LEAST_SUBJECTS, "a hospital with fewer people is refused")
        + _GUESS
        + _line("expected_units", _EXPECTED_UNITS)
    )


def _ask(question: str) -> str:
    return f"{CHOICE}{question}"


def _line(key: str, value: object, note: str = "") -> str:
    """Write one line: a key, its value, and a remark."""
    text = dumps({key: value}).rstrip("\n")
    return f"{text:<{_NOTES_FROM - 2}}  # {note}\n" if note else f"{text}\n"
