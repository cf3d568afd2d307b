import json
import math
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fedsynth.errors import PrivacyError
from fedsynth.evaluation.compared_scores import RECORDINGS_LESS_RELEASE, WINDOWS_LESS_FEATURES
from fedsynth.evaluation.score import Score
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.report.page import ReportPage, write_report

SOURCES = {"private sum", "synthetic", "public simulation", "accountant"}


@dataclass(frozen=True)
class Written:
    page: ReportPage
    folder: Path

    @property
    def text(self) -> str:
        return (self.folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["toy_page", "bonn_page", "window_page", "ecg_page"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    page: ReportPage = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, page)
    return Written(page, folder)


def test_the_page_is_one_file_that_asks_for_nothing(report: Written) -> None:
    text, read = report.text, Reader.of(report.text)

    assert len(text.encode()) < 3_000_000
    assert sorted(found.name for found in report.folder.iterdir()) == ["index.html", "metrics.json"]
    assert read.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "img", "form", "base"})
    assert all(target.startswith("#") for target in read.targets)
    assert not any(name.startswith("on") for name in read.attributes)
    assert "url(http" not in text
    assert "@import" not in text
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in read.policies


def test_the_page_can_be_walked_without_seeing_it(report: Written) -> None:
    read = Reader.of(report.text)

    assert read.language == "en"
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(read.headings, read.headings[1:], strict=False))
    assert len(read.ids) == len(set(read.ids))
    assert {target[1:] for target in read.targets} <= set(read.ids)
    assert read.references <= set(read.ids)
    assert read.headers_without_scope == 0


def test_epsilon_and_its_unit_share_one_size(report: Written) -> None:
    text = report.text
    line = re.search(r'<p class="promise">(.*?)</p>', text)

    assert line is not None
    assert re.findall(r'<span class="([^"]+)">', line[1]) == ["promise-epsilon", "promise-unit"]
    assert visible(line[1]) == f"ε = 8.00 per {report.page.study.privacy.unit}"
    # Neither part has a rule of its own: both inherit the paragraph's size.
    assert ".promise-epsilon" not in text
    assert ".promise-unit" not in text


def test_every_number_shown_is_in_the_metrics(report: Written) -> None:
    text, metrics = report.text, load(report.folder)
    known = {str(metric[key]) for metric in metrics for key in ("value", "low", "high")}

    shown = re.findall(r'<data value="([^"]*)">', text)
    table = re.search(r'<table id="scores">.*?</table>', text, re.DOTALL)

    assert set(shown) <= known
    assert table is not None
    # Outside names and explanations, each number of the table is such an element.
    cells = " ".join(re.findall(r"<td.*?</td>", table[0], re.DOTALL))
    assert not re.search(r"\d", visible(re.sub(r"<data .*?</data>", "", cells)))
    for score in report.page.scores:
        assert {str(score.value), str(score.low), str(score.high)} <= set(shown)


def test_metrics_say_where_each_number_comes_from(report: Written) -> None:
    metrics = load(report.folder)
    by_name = {metric["name"]: metric for metric in metrics}

    assert {metric["source"] for metric in metrics} <= SOURCES
    fields = ["name", "value", "low", "high", "direction", "source", "about", "windows", "says_nothing"]
    assert all(list(metric) == fields for metric in metrics)
    assert len(by_name) == len(metrics)
    assert by_name["epsilon"]["source"] == "accountant"
    assert by_name["epsilon"]["value"] == 7.9942
    assert by_name[report.page.scores[0].name]["low"] == report.page.scores[0].low


def test_the_same_page_gives_the_same_bytes(report: Written, tmp_path: Path) -> None:
    write_report(tmp_path, report.page)

    for file in ("index.html", "metrics.json"):
        assert (tmp_path / file).read_bytes() == (report.folder / file).read_bytes()


def test_a_score_of_real_recordings_is_refused(toy_page: ReportPage, tmp_path: Path) -> None:
    leak = Score("nearest real window, µV", 3.1, 2.0, 4.0, -1, "real", "")

    with pytest.raises(PrivacyError, match=r"1 of 7 scores.*nearest real window.*Nothing was written"):
        write_report(tmp_path / "report", replace(toy_page, scores=(*toy_page.scores, leak)))

    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("unit", ["recording", "everybody"])
def test_a_statement_with_another_unit_is_refused(toy_page: ReportPage, tmp_path: Path, unit: str) -> None:
    with pytest.raises(PrivacyError, match=unit):
        write_report(tmp_path, replace(toy_page, statement=replace(toy_page.statement, unit=unit)))


def test_a_headline_below_what_a_site_spent_is_refused(toy_page: ReportPage, tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match=r"north spent epsilon = 7\.994"):
        write_report(tmp_path, replace(toy_page, statement=replace(toy_page.statement, epsilon=7.0)))


def test_a_window_study_never_speaks_of_people(window_page: ReportPage, tmp_path: Path) -> None:
    text = visible(written(window_page, tmp_path)).lower()

    assert "per window" in text
    assert not re.search(r"per subject|subject[- ]level|per person|patient[- ]level", text)


@pytest.mark.parametrize(
    "claim",
    ["subject-level privacy", "Per-Subject epsilon", "protected per person", "patient level", "per  subject"],
)
@pytest.mark.parametrize("place", ["title", "score", "fact"])
def test_a_text_that_turns_windows_into_people_is_refused(
    window_page: ReportPage, tmp_path: Path, claim: str, place: str
) -> None:
    if place == "title":
        page = replace(window_page, study=window_page.study.model_copy(update={"title": claim}))
    elif place == "score":
        page = replace(window_page, scores=(Score("AUROC", 0.9, 0.8, 1.0, 1, "private sum", claim),))
    else:
        page = replace(window_page, facts={"note": claim})

    with pytest.raises(PrivacyError, match="the unit of this study is the window"):
        write_report(tmp_path / "report", page)

    assert not (tmp_path / "report").exists()


def test_hostile_texts_stay_texts(toy_page: ReportPage, tmp_path: Path) -> None:
    hostile = """</title><script>alert("x")</script><img src='//example.org/x' onerror=alert(1)>{{ 1931 * 1933 }}"""
    statement = toy_page.statement
    site = replace(
        statement.sites[0],
        site=hostile,
        ledger_head=hostile,
        events=(replace(statement.sites[0].events[0], purpose=hostile),),
    )
    text = written(
        replace(
            toy_page,
            study=toy_page.study.model_copy(update={"title": hostile}),
            scores=(Score(f"AUROC {hostile}", 0.9, 0.8, 1.0, 1, "private sum", hostile),),
            statement=replace(
                statement, sites=(site,), overlap=hostile, composes=hostile, trust=hostile, assumes=hostile
            ),
            windows=replace(toy_page.windows, label_names=(hostile, "b"), channels=(hostile,) * 8),
            facts={hostile: hostile},
        ),
        tmp_path,
    )
    read = Reader.of(text)

    assert read.tags.isdisjoint({"script", "img"})
    assert "onerror" not in read.attributes
    assert all(target.startswith("#") for target in read.targets)
    assert "3732623" not in visible(re.sub(r"<svg.*?</svg>|<data.*?</data>", "", text, flags=re.DOTALL))


def test_a_page_about_hearts_never_speaks_of_brains(ecg_page: ReportPage, tmp_path: Path) -> None:
    text = written(ecg_page, tmp_path)

    assert "ECG" in visible(text)
    assert not re.search("EEG|electrode|channel", visible(text).replace("(window, channel, time)", ""))
    assert "EEG" not in text + (tmp_path / "metrics.json").read_text()
    assert 'class="panels strips"' in text


def test_a_page_of_several_channels_says_that_connectivity_is_not_in_it(
    toy_page: ReportPage, bonn_page: ReportPage, tmp_path: Path
) -> None:
    assert "Connectivity cannot be studied" in visible(written(toy_page, tmp_path))
    assert "Connectivity" not in visible(written(bonn_page, tmp_path))


def test_an_eeg_page_has_no_strips(toy_page: ReportPage, tmp_path: Path) -> None:
    assert 'class="panels strips"' not in written(toy_page, tmp_path)


def test_the_page_counts_the_release_and_not_its_sample(toy_page: ReportPage, tmp_path: Path) -> None:
    text = visible(written(toy_page, tmp_path))
    by_name = {metric["name"]: metric["value"] for metric in load(tmp_path)}

    assert "1,600 of 320 made-up subjects" in text
    assert by_name["synthetic windows"] == 1600
    assert by_name["synthetic windows, label epilepsy"] == 800


def test_made_up_people_are_called_made_up(toy_page: ReportPage, bonn_page: ReportPage, tmp_path: Path) -> None:
    assert "The people in this study are made up" in written(toy_page, tmp_path)
    assert "made up" not in written(bonn_page, tmp_path)


def test_a_run_without_privacy_says_so_first(toy_page: ReportPage, tmp_path: Path) -> None:
    statement = toy_page.statement
    silent = (Mechanism("class counts", 0.0, 1.0, 1, math.inf),)
    sites = tuple(
        replace(site, epsilon=math.inf, epsilon_second=math.inf, events=silent, held_out=())
        for site in statement.sites
    )
    text = written(replace(toy_page, statement=replace(statement, epsilon=math.inf, sites=sites)), tmp_path)

    assert text.index("No privacy is promised") < text.index('class="promise"')
    assert "ε = ∞ per subject" in visible(text)
    assert {m["value"] for m in load(tmp_path) if m["name"] in ("epsilon", "e^epsilon")} == {"inf"}


def test_what_nobody_checked_is_on_the_page(report: Written) -> None:
    text = visible(report.text)

    for topic in ("Attacks on the release", "Audit of the pipeline", "Fairness"):
        assert f"not checked {topic}" in text


def test_accountants_that_disagree_are_shown_to(toy_page: ReportPage, tmp_path: Path) -> None:
    site = replace(toy_page.statement.sites[0], epsilon_second=9.0)
    text = written(replace(toy_page, statement=replace(toy_page.statement, sites=(site,))), tmp_path)

    assert "does not hold Two independent accountants" in visible(text)


def test_a_thousand_equal_sites_share_one_table(toy_page: ReportPage, tmp_path: Path) -> None:
    site = toy_page.statement.sites[0]
    sites = tuple(replace(site, site=f"site-{k}") for k in range(1000))
    text = written(replace(toy_page, statement=replace(toy_page.statement, sites=sites)), tmp_path)

    assert len(text.encode()) < 3_000_000
    assert text.count("Private sums at all 1000 sites") == 2  # the caption and its region's label


@pytest.mark.parametrize(("value", "said"), [(0.2, "does not hold"), (0.0, "it does no better")])
def test_what_raw_windows_say_stands_in_words(
    toy_page: ReportPage, tmp_path: Path, value: float, said: str
) -> None:
    more = tuple(
        Score(name, found, found - 0.05, found + 0.05, 0, "private sum", "")
        for name, found in ((WINDOWS_LESS_FEATURES, 0.0), (RECORDINGS_LESS_RELEASE, value))
    )
    write_report(tmp_path, replace(toy_page, scores=(*toy_page.scores, *more)))
    paragraph = re.search(r'<p id="raw-windows">(.*?)</p>', (tmp_path / "index.html").read_text(encoding="utf-8"))

    assert paragraph is not None
    assert "recovers what one of features does" in paragraph[1]
    assert said in paragraph[1]


def test_scores_may_lack_an_interval_or_be_missing(toy_page: ReportPage, tmp_path: Path) -> None:
    undefined = Score("AUROC of nothing", math.nan, math.nan, math.nan, 1, "private sum", "no draw")

    assert "AUROC of nothing" in written(replace(toy_page, scores=(undefined,)), tmp_path)
    assert "No score was computed" in written(replace(toy_page, scores=()), tmp_path)


def test_text_contrasts_with_its_ground(toy_page: ReportPage, tmp_path: Path) -> None:
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", written(toy_page, tmp_path)))
    pairs = [("ink", "paper"), ("soft", "paper"), ("blue", "paper"), ("ink", "wash"), ("ink", "blue-wash")]
    pairs += [(colour, f"{colour}-wash") for colour in ("blue", "amber", "red", "green")]

    for front, ground in pairs:
        assert contrast(colours[front], colours[ground]) >= 4.5, (front, ground)


class Reader(HTMLParser):
    """Reads a page the way a checker does."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.headings: list[int] = []
        self.policies: list[str] = []
        self.language = ""
        self.headers_without_scope = 0

    @classmethod
    def of(cls, text: str) -> "Reader":
        reader = cls()
        reader.feed(text)
        return reader

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self._attribute(name, value or "")
        found = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "html":
            self.language = found.get("lang") or ""
        if tag == "th" and "scope" not in found:
            self.headers_without_scope += 1
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(found.get("content") or "")

    def _attribute(self, name: str, value: str) -> None:
        self.attributes.add(name)
        if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            self.targets.append(value)
        if name == "id":
            self.ids.append(value)
        if name == "aria-labelledby":
            self.references |= set(value.split())


def written(page: ReportPage, folder: Path) -> str:
    write_report(folder, page)
    return (folder / "index.html").read_text(encoding="utf-8")


def load(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def visible(text: str) -> str:
    """Return what a reader sees, with single spaces."""
    bare = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    bare = re.sub(r"<[^>]*>", "", re.sub(r"</(?:td|th|p|div|dd|dt|li|span)>", " ", bare))
    return re.sub(r"\s+", " ", bare.replace("&nbsp;", " ")).strip()


def contrast(front: str, ground: str) -> float:
    """Return the contrast ratio of WCAG 2.1."""
    light, dark = sorted((luminance(front), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
