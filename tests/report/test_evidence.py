"""What the page shows as evidence, and what it does not: scores that say nothing, the curve beside epsilon."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedsynth.evaluation.score import Score
from fedsynth.privacy import making
from fedsynth.privacy.accountant import largest_true_positives
from fedsynth.privacy.making import Setting
from fedsynth.report.page import COPIES, ReportPage, write_report


def written(folder: Path, page: ReportPage) -> tuple[str, dict[str, dict[str, object]]]:
    write_report(folder, page)
    rows = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return (folder / "index.html").read_text(encoding="utf-8"), {row["name"]: row for row in rows}


def test_a_score_from_chance_to_perfection_says_nothing_and_the_page_says_why(
    bonn_page: ReportPage, tmp_path: Path
) -> None:
    empty = Score("AUROC, S against the rest", 0.5, 0.0, 1.0, 1, "private sum", "", "c" * 64)

    text, metrics = written(tmp_path, replace(bonn_page, scores=(empty,)))

    assert "says nothing" in text
    assert "its interval covers chance and perfection" in text
    assert metrics[empty.name]["says_nothing"]
    assert metrics[empty.name]["value"] == 0.5
    assert 'id="forest-title"' not in text


def test_the_curve_of_the_mechanisms_stands_beside_epsilon_and_delta(bonn_page: ReportPage, tmp_path: Path) -> None:
    text, metrics = written(tmp_path, bonn_page)
    site = bonn_page.statement.sites[0]
    worst = max(largest_true_positives(h, false_positives=[0.01])[0] for h in (site.events, site.held_out))

    found = metrics["largest true-positive rate at 1 % false-positive rate, these mechanisms"]["value"]

    assert found == pytest.approx(worst)
    assert f"{100 * worst:.1f} %" in text
    assert metrics["largest true-positive rate at 1 % false-positive rate"]["value"] == pytest.approx(
        0.9997, abs=1e-4
    )


def test_copies_are_only_said_to_be_looked_for_where_they_were(bonn_page: ReportPage, tmp_path: Path) -> None:
    before, _ = written(tmp_path / "a", bonn_page)
    after, _ = written(tmp_path / "b", replace(bonn_page, facts=bonn_page.facts | {COPIES: "looked for"}))

    assert "looked for before signing" not in before
    assert "looked for before signing" in after


def test_no_line_says_that_the_coordinator_need_not_behave_where_its_code_runs_at_the_sites(
    bonn_page: ReportPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = replace(bonn_page, statement=replace(bonn_page.statement, trust="aggregate"))
    against = "Against the coordinator it holds"

    assert against not in written(tmp_path / "a", shared)[0]
    assert "it has to behave" in written(tmp_path / "a", shared)[0]

    monkeypatch.setitem(making.ENGINES, "in-process", Setting("deployment", is_rehearsal=False, own_code=True))

    assert against in written(tmp_path / "b", shared)[0]
