"""What the release guard would refuse in the end is refused at the start, and nothing else is."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import FedsynthError, PrivacyError, StudyError
from fedsynth.release.guard import forbidden_in
from fedsynth.release.releasable import check_releasable
from fedsynth.study import parse_study
from fedsynth.synthesis.generator import subject_sizes
from fedsynth.synthesis.windows import SyntheticWindows

TITLE = 'title = "Synthetic EEG, small"'


def edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def check(text: str, *, sites: tuple[str, ...] = ()) -> None:
    check_releasable(parse_study(text), text, sites=sites)


def title(words: str) -> tuple[str, str]:
    return TITLE, f"title = {words!r}"


NEVER = [
    # The issue's own cases; its fifth, a title "SEED: 15 subjects", passes now.
    pytest.param([("[signal]", "# from /data/north/rec.edf\n[signal]")], "line 4 .* absolute path", id="comment"),
    pytest.param([("windows_per_label = 5", "windows_per_label = 1")], "lack diversity", id="one window"),
    pytest.param(
        [("windows_per_label = 5", "windows_per_label = { healthy = 1, epilepsy = 1 }")],
        "lack diversity",
        id="one window of each",
    ),
    pytest.param(
        [
            ("windows_per_label = 5", "windows_per_label = { healthy = 9, epilepsy = 100001 }"),
            ("subject = 2", "subject = 1"),
        ],
        "100010 synthetic subjects",
        id="too many subjects of one label",
    ),
    pytest.param([('"C3", "C4"', '"C3", "C4567890123456789"')], "16 characters", id="a channel of 18 letters"),
    pytest.param(
        [("windows_per_label = 5", "windows_per_label = 100000"), ("subject = 2", "subject = 1")],
        "200000 synthetic subjects",
        id="too many subjects",
    ),
    pytest.param([title("noise seed: 4711")], "title .* seed", id="a noise seed"),
    # Others of the kind.
    pytest.param([title("EEG of /home/ada/study")], "title .* absolute path", id="title: a path"),
    pytest.param([title("seed = 12")], "title .* seed", id="title: a bare seed"),
    pytest.param([title("drawn with seed: 12345 for noise")], "title .* seed", id="title: a seed in a sentence"),
    pytest.param([title("EEG from C:\\\\Users\\\\ada")], "title .* absolute path", id="title: a path of Windows"),
    pytest.param([title("see file://server")], "title .* absolute path", id="title: an address"),
    pytest.param([title("A PRIVATE KEY of Ada")], "title .* private key", id="title: a key"),
    pytest.param([("range_uv = 500.0", "range_uv = 0.01")], "lack diversity", id="range: below a recorder's step"),
    pytest.param(
        [("draw_seed = 7", 'draw_seed = 7\npublisher = "Ada, /mnt/eeg"')],
        "publisher .* path",
        id="publisher: a path",
    ),
    pytest.param([("[signal]", "# noise_seed = 81\n[signal]")], "line 4 .* seed", id="comment: a noise seed"),
    pytest.param(
        [("[signal]", "# -----BEGIN OPENSSH " + "PRIVATE KEY-----\n[signal]")], "line 4 .* key", id="comment: a key"
    ),
    pytest.param(
        [("[family]", '[family.options]\n"torch_seed" = 4\n[family]')], "looks like a seed", id="option: a seed"
    ),
    pytest.param(
        [('unit = "subject"', 'unit = "recording"'), title("Privacy for each patient")],
        "the unit of this study is the recording",
        id="title: people where the unit is a recording",
    ),
    pytest.param(
        [('unit = "subject"', 'unit = "window"'), ('"healthy"', '"per-subject"')],
        "the unit of this study is the window",
        id="label: people where the unit is a window",
    ),
    pytest.param(
        [('modality = "eeg"', 'modality = "ecg"'), ('"C3", "C4"', '"I", "II_of_the_left_ankle"')],
        "16 characters",
        id="ECG: a channel of 20 letters",
    ),
]


@pytest.mark.parametrize(("edits", "cause"), NEVER)
def test_a_study_that_can_never_be_released_is_refused_at_the_start(
    study_text: str, edits: list[tuple[str, str]], cause: str
) -> None:
    with pytest.raises(StudyError, match=f"never be released: .*{cause}") as refused:
        check(edited(study_text, *edits))

    assert str(refused.value).endswith("Nothing was opened or charged; change the study")
    assert refused.value.exit_code == 2


def test_a_site_whose_name_a_release_cannot_hold_is_refused_at_the_start(study_text: str) -> None:
    with pytest.raises(StudyError, match="site 2 holds what looks like a seed"):
        check(study_text, sites=("north", "noise seed 5"))


def test_a_text_of_another_study_is_refused(study_text: str) -> None:
    with pytest.raises(StudyError, match="not this study"):
        check_releasable(parse_study(study_text), study_text.replace("500.0", "501.0"))


def test_a_study_without_privacy_is_left_to_those_who_only_look(study_text: str) -> None:
    check(edited(study_text, ("epsilon = 4.0", "epsilon = inf"), title("seed = 12")))


ALWAYS = [
    pytest.param([], id="as it is"),
    pytest.param([title("SEED: 15 subjects")], id="title: a data set called SEED"),
    pytest.param([title("SEED-IV: 4 emotions; SEED: 62-channel EEG")], id="title: two of them"),
    pytest.param([title("Sunflower seeds: 40 kinds, and noise seeds: none")], id="title: ordinary words"),
    pytest.param([title("Ä & <b> µV, ‘ε’ / δ | 1/2")], id="title: letters of many kinds"),
    pytest.param([title("EEG/ECG and/or nothing")], id="title: slashes"),
    pytest.param([('"healthy"', '"SEED-1"')], id="label: of the data set SEED"),
    pytest.param([('"healthy"', '"epsilon_low"')], id="label: a word of ours"),
    pytest.param([("[labels]", '[labels.rename]\n"seed" = "healthy"\n[labels]')], id="rename: of SEED"),
    pytest.param([("draw_seed = 7", 'draw_seed = 7\npublisher = "Universität zu Köln"')], id="publisher: Köln"),
    pytest.param([("[signal]", "# SEED: 15 subjects, kept at the sites\n[signal]")], id="comment: of SEED"),
    pytest.param([('modality = "eeg"', 'modality = "ecg"'), ('"C3", "C4"', '"I", "II"')], id="ECG"),
    pytest.param([("range_uv = 500.0", "range_uv = 0.5")], id="range: small"),
    pytest.param([("range_uv = 500.0", "range_uv = 100000")], id="range: large"),
    pytest.param([("windows_per_label = 5", "windows_per_label = 2")], id="two windows"),
    pytest.param(
        [("windows_per_label = 5", "windows_per_label = { healthy = 1, epilepsy = 7 }")], id="a rare label filled"
    ),
    pytest.param([('unit = "subject"', 'unit = "window"'), title("Privacy for each window")], id="unit: a window"),
]


@pytest.mark.parametrize("edits", ALWAYS)
def test_what_passes_at_the_start_is_released_in_the_end(  # type: ignore[no-untyped-def]
    study_text: str, edits: list[tuple[str, str]], build, statement, windows, tmp_path: Path
) -> None:
    text = edited(study_text, *edits)
    study = parse_study(text)
    check_releasable(study, text)
    unit = study.privacy.unit
    promise = dataclasses.replace(
        statement,
        unit=unit,
        sites=tuple(
            dataclasses.replace(one, events=tuple(dataclasses.replace(e, unit=unit) for e in one.events))
            for one in statement.sites
        ),
    )
    drawn = dataclasses.replace(
        windows,
        signal=windows.signal * (study.signal.range_uv / 500.0 if study.signal.range_uv < 500 else 1),
        channels=study.signal.channels,
        label_names=study.labels.names,
    )

    build(tmp_path / "out", study=study, study_text=text, statement=promise, windows=drawn)

    assert (tmp_path / "out" / "integrity" / "SHA256SUMS").exists()


@pytest.mark.parametrize("edits", [row.values[0] for row in NEVER], ids=[row.id for row in NEVER])
def test_what_is_refused_at_the_start_could_not_have_been_released(  # type: ignore[no-untyped-def]
    study_text: str, edits: list[tuple[str, str]], build, windows, statement, tmp_path: Path
) -> None:
    """The other side of the property: nothing is refused that would have passed."""
    text = edited(study_text, *edits)
    study = parse_study(text)
    counts = study.windows_by_label
    sizes = np.concatenate([subject_sizes(count, study.release.windows_per_subject) for count in counts])
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    subjects = np.repeat(np.arange(len(sizes)), sizes)
    drawn = SyntheticWindows(
        signal=np.clip(windows.signal[np.arange(len(labels)) % 10], -study.signal.range_uv, study.signal.range_uv),
        labels=labels,
        subjects=subjects,
        label_names=study.labels.names,
        channels=study.signal.channels,
        sfreq=study.signal.sfreq,
    )

    with pytest.raises(FedsynthError):
        build(
            tmp_path / "out",
            study=study,
            study_text=text,
            statement=dataclasses.replace(statement, unit=study.privacy.unit),
            windows=drawn,
        )


@pytest.mark.parametrize(
    "words",
    [
        "SEED: 15 subjects",
        "SEED: 15-subject cohort",
        "seed: none",
        "noise seeds: a survey of words",
        "seeds = poppy, 3 kinds",
        "Noise-seeded is a word",
        "SEED: 1,200 trials",
    ],
)
def test_the_guard_lets_words_pass(words: str) -> None:
    assert forbidden_in(words) == ""


@pytest.mark.parametrize(
    "words",
    [
        "noise seed: 0x12",
        "noise_seed=4",
        '"noise_seed": "correct horse"',
        "Noise seed was 12345",
        "the seed of the noise is 99",
        "seed for noise: 7",
        "rng_seed = 3",
        "torch seed: 3",
        "seed: 12",
        "seed=12,",
        "Seed: 12.",
        "seed: 0xdeadbeef of ours",
        "seeds: 11 12 13",
        "seed: 12 was used",
        "seed: 1234567890 people",
        "random.seed = 8",
    ],
)
def test_the_guard_refuses_seeds(words: str) -> None:
    assert forbidden_in(f"before\n{words}\nafter") == "holds what looks like a seed"


def test_the_guard_itself_says_so_of_a_study_with_a_noise_seed_in_a_comment(  # type: ignore[no-untyped-def]
    study_text: str, build, tmp_path: Path
) -> None:
    with pytest.raises(PrivacyError, match="looks like a seed"):
        build(tmp_path / "out", study_text=f"# noise seed 4711\n{study_text}")
