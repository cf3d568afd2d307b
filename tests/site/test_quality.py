"""The quality page shows what is wrong with recordings, to the site alone."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from federation import STUDY

from fedsynth.recordings.readers.edf_header import parse_header
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.site.ingest import ingest
from fedsynth.study import Study, parse_study

CANARY = "Canarywolf"


@pytest.fixture(scope="module")
def study() -> Study:
    return parse_study(STUDY.format(trust="site", dishonest=""))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Path:
    place = tmp_path_factory.mktemp("recordings") / "all"
    write_toy_cohort(place, study=study, people=0.1)
    return place / "east"


@pytest.fixture
def run(tmp_path: Path, cohort: Path, study: Study) -> Callable[..., Path]:
    """Take in a folder whose second recording loses its first channel, and return the folder of the page."""

    def go(rules: str = "") -> Path:
        folder = Path(shutil.copytree(cohort, tmp_path / CANARY))
        unplug(sorted(folder.glob("*.edf"))[1])
        site = tmp_path / "site"
        site.mkdir()
        (site / "site.toml").write_text(f'name = "east"\nlargest_epsilon = 20.0\n{rules}', encoding="utf-8")
        page = Path(ingest(site, folder, study=study, progress=lambda *_: None).page)
        assert page == site / "quality" / "index.html"
        return page.parent

    return go


def unplug(path: Path) -> None:
    """Have the first channel of an EDF file lie flat for the last 45 % of the time."""
    data = bytearray(path.read_bytes())
    header = parse_header(bytes(data), file_size=len(data))
    records = np.frombuffer(bytes(data[header.n_bytes :]), "<i2").copy().reshape(header.n_records, -1)
    start, end = (place // 2 for place in header.place(0))
    channel = records[:, start:end].reshape(-1)
    channel[int(0.55 * len(channel)) :] = 17
    records[:, start:end] = channel.reshape(header.n_records, -1)
    data[header.n_bytes :] = records.tobytes()
    path.write_bytes(data)


def test_a_channel_that_is_lost_is_named_counted_and_shown(run: Callable[..., Path], study: Study) -> None:
    folder = run()
    numbers = json.loads((folder / "quality.json").read_text())
    page = (folder / "index.html").read_text()

    [worst] = numbers["worst"]
    name = study.signal.channels[0]
    assert (worst["place"], worst["left_out"], worst["of"]) == (2, 1, 2)
    assert worst["causes"] == {f"flat on {name}": 1}
    assert numbers["channels"][0]["left_out"]["flat"] == 1
    assert numbers["windows_left_out"] == 1
    assert sum(numbers["windows_by_label"].values()) == numbers["windows"] == 2 * numbers["recordings"] - 1
    assert "Recording 2: 1 of 2 windows left out" in page
    assert 'id="worst-2-title"' in page


def test_the_page_asks_for_nothing_and_names_nobody(run: Callable[..., Path], cohort: Path) -> None:
    folder = run()

    for path in folder.iterdir():
        text = path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600
        assert "<script" not in text
        assert not re.search(r"(?:src|href)=[\"'](?!#)", text)
        assert CANARY not in text
        assert not any(file.stem in text for file in cohort.glob("*.edf"))


def test_where_windows_lie_sealed_the_page_shows_none(run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))

    folder = run(f'windows_key = "{tmp_path / "key"}"\n')

    page = (folder / "index.html").read_text()
    assert "Recording 2: 1 of 2 windows left out" in page
    assert "worst-2-title" not in page
