"""Links out of a site's folder need a word, whatever they stand for; queues are not waited for."""

import os
from pathlib import Path

import pytest
from fuzzing.attempt import study_of
from fuzzing.seeds import SEEDS
from odd_sites import DATA, MARKS, put, read

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.site import read_site


def test_a_queue_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sub-a_eeg.edf")

    with pytest.raises(RecordingError, match="a queue or a device"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("edf", "sub-a_eeg.edf"), ("bids", "sub-a_events.tsv"), ("bids", "sub-a_channels.tsv"),
        ("bids", "list.csv"), ("bids", "recordings.toml"), ("delimited", "sub-a_eeg.json"),
        ("siena", "PN00/Seizures-list-PN00.txt"),
        ("wfdb 16", "sub-a.dat"), ("wfdb 16", "sub-a.atr"), ("wfdb segments", "s_1.hea"), ("brainvision", DATA),
        ("brainvision", MARKS),
    ],
)  # fmt: skip
def test_a_link_out_of_the_folder_needs_a_word_whatever_it_is(tmp_path: Path, kind: str, name: str) -> None:
    form, make = SEEDS[kind]
    site = make()
    put(tmp_path / "elsewhere", {"file": site.pop(name)})
    folder = put(tmp_path / "north", site)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere" / "file")

    with pytest.raises(RecordingError, match="follow-links"):
        read(folder, form)


def test_a_table_of_people_that_is_a_link_out_of_the_folder_needs_a_word(tmp_path: Path) -> None:
    folder = put(tmp_path / "north", SEEDS["edf"][1]())
    (tmp_path / "people").write_text("participant_id\tgroup\nsub-a\ttask\n")
    (folder / "participants.tsv").symlink_to(tmp_path / "people")
    study = study_of("edf")
    labels = study.labels.model_copy(update={"source": "participants.tsv", "background": None})

    with pytest.raises(RecordingError, match=r"participants.tsv is a link out .* --follow-links"):
        read_site(folder, site="north", study=study.model_copy(update={"labels": labels}))
