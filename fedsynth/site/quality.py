"""Quality: from what a site has taken in to a page and its numbers, which stay at the site."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from fedsynth.recordings.artefacts import RULES
from fedsynth.recordings.intake import MOST_SHOWN, TakenIn
from fedsynth.recordings.plausible import limits_of
from fedsynth.recordings.take import Recorded
from fedsynth.report.quality import BadRecording, Quality, quality_page
from fedsynth.study import Study

FOLDER, PAGE, NUMBERS = "quality", "index.html", "quality.json"


def write_quality(site: Path, taken: TakenIn, study: Study, *, pictures: bool) -> Path:
    """Write the page and its numbers into a site's folder, in place of older ones, and return where the page is.

    Args:
        site: its folder.
        taken: what it has taken in.
        study: that asks for windows.
        pictures: whether the page shows windows of people; not where these lie sealed.

    Raises:
        OSError: the disk is full, say.
    """
    folder = site / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    quality = quality_of(taken, study, pictures=pictures)
    body = json.dumps(quality.as_json(), indent=2, allow_nan=False) + "\n"
    for name, text in ((PAGE, quality_page(quality)), (NUMBERS, body)):
        new = folder / f".{name}.new"
        new.touch(mode=0o600)
        new.write_text(text, encoding="utf-8")
        new.replace(folder / name)
    return folder / PAGE


def quality_of(taken: TakenIn, study: Study, *, pictures: bool = True) -> Quality:
    """Sum up what is told of recordings; a copy of another counts once."""
    firsts = [
        (number, person, one)
        for number, person, one, copy in zip(
            taken.numbers, taken.people, taken.recordings, taken.copies, strict=True
        )
        if not copy
    ]
    names = taken.shape.label_names
    windows, people = Counter[str](), Counter[str]()
    seen: set[tuple[int, int]] = set()
    by_rule = np.zeros((len(RULES), len(taken.channels)), dtype=np.int64)
    spectrum = sum((one.told.spectrum * one.told.placed for _, _, one in firsts), start=np.zeros(()))
    for _, person, one in firsts:
        windows.update(names[label] for label in one.labels.tolist())
        seen |= {(person, label) for label in one.labels.tolist()}
        for (rule, channel), count in one.told.broken.items():
            by_rule[RULES.index(rule), taken.channels.index(channel)] += count
    people.update(names[label] for _, label in seen)
    placed = sum(one.told.placed for _, _, one in firsts)
    bad = sorted((pair for pair in firsts if pair[2].badness > 0), key=lambda pair: (-pair[2].badness, pair[0]))
    return Quality(
        study=study.name,
        modality=study.signal.modality,
        channels=taken.channels,
        sfreq=study.signal.rate_as_recorded,
        recordings=len(taken.recordings),
        people=len(set(taken.people)),
        hours=sum(one.n_times for one in taken.recordings) / study.signal.rate_as_recorded / 3600,
        windows_by_label={name: windows[name] for name in names},
        people_by_label={name: people[name] for name in names},
        people_without=len(set(taken.people) - {person for person, _ in seen}),
        placed=placed,
        remarks=taken.remarks,
        rules=RULES,
        by_rule=by_rule,
        amplitudes=np.array([one.amplitudes for one in taken.recordings], dtype=np.float64),
        bounds_uv=limits_of(study.signal.modality).bounds_uv,
        spectrum=np.atleast_2d(spectrum / max(1, placed)),
        worst=tuple(_bad(number, one, taken.channels, pictures=pictures) for number, _, one in bad[:MOST_SHOWN]),
    )


def _bad(place: int, one: Recorded, channels: tuple[str, ...], *, pictures: bool) -> BadRecording:
    causes = Counter[str]()
    for (rule, channel), count in one.told.broken.items():
        causes[f"{rule} on {channel}"] += count
    return BadRecording(
        place=place,
        left_out=one.told.placed - len(one.labels),
        placed=one.told.placed,
        causes=dict(sorted(causes.items(), key=lambda pair: (-pair[1], pair[0]))),
        channels=tuple(sorted({channels.index(channel) for _, channel in one.told.broken})),
        rules=one.told.shown_rules,
        shown=one.told.shown if pictures else one.told.shown[:, :0],
    )
