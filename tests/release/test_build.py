import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import FedsynthError, PrivacyError, RefusedError, StudyError, VerificationError
from fedsynth.evaluation.score import Score
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release import build as module_under_test
from fedsynth.release.build import build_release
from fedsynth.release.signature import make_key
from fedsynth.release.verify import verify_release
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.windows import SyntheticWindows, stream_of

CONTRACT = {
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "croissant.json",
    "dataset_description.json",
    "participants.tsv",
    "data/ml/windows.npz",
    "privacy/statement.json",
    "report/index.html",
    "report/metrics.json",
    "provenance/study.toml",
    "provenance/environment.txt",
    "provenance/code.json",
    "integrity/SHA256SUMS",
    "integrity/release.dsse.json",
    "integrity/SHA256SUMS.sig",
    "integrity/HOWTO-VERIFY.md",
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_release_holds_what_the_contract_names_and_verifies(pristine: Path) -> None:
    found = files_of(pristine)

    assert set(found) >= CONTRACT
    assert {name.split("/")[0] for name in set(found) - CONTRACT} == {
        "participants.json",
        "task-synthetic_events.json",
        "data",
        ".bidsignore",
        *(f"sub-syn{number:04d}" for number in range(1, 7)),
    }
    assert verify_release(pristine).files == len(found) - 3


def test_the_same_facts_and_key_give_the_same_bytes(
    build: Callable[..., Path], pristine: Path, tmp_path: Path
) -> None:
    assert files_of(build(tmp_path / "again")) == files_of(pristine)


def test_the_cutting_of_the_stream_does_not_show_in_the_bytes(
    study: Study,
    study_text: str,
    statement: PrivacyStatement,
    windows: SyntheticWindows,
    scores: tuple[Score, ...],
    ledger_lengths: dict[str, int],
    signing_key: Path,
    pristine: Path,
    tmp_path: Path,
) -> None:
    one_by_one = replace(stream_of(windows), pieces=lambda: iter(windows.signal[:, None].reshape(10, 1, 2, 64)))

    build_release(
        tmp_path / "again",
        study=study,
        study_text=study_text,
        statement=statement,
        windows=one_by_one,
        scores=scores,
        facts={"family": "cwgan"},
        ledger_lengths=ledger_lengths,
        signing_key=signing_key,
    )

    assert files_of(tmp_path / "again") == files_of(pristine)


def test_the_readme_says_the_promise_and_its_three_lines_load_the_data(
    pristine: Path, statement: PrivacyStatement, windows: SyntheticWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (pristine / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    monkeypatch.chdir(pristine)
    exec(code[1], names)  # noqa: S102 - the README's own three lines are what is tested

    assert statement.sentence() in text
    assert "| healthy | 5 |" in text
    assert "No clinical use" in text
    assert len(code[1].splitlines()) == 3
    np.testing.assert_array_equal(names["X"], windows.signal)


def test_no_file_holds_a_path_of_the_machine_that_made_it(pristine: Path) -> None:
    machine = [str(Path.home()), str(pristine.parent), os.uname().nodename, str(Path(__file__).parents[2])]
    for name, data in files_of(pristine).items():
        for needle in machine:
            assert len(needle) < 5 or needle.encode() not in data, name


def test_amplitudes_beyond_the_range_are_cut_everywhere(
    build: Callable[..., Path], windows: SyntheticWindows, tmp_path: Path
) -> None:
    loud = windows.signal.copy()
    loud[3, 1, 5] = 4000.0

    out = build(tmp_path / "out", windows=replace(windows, signal=loud))

    assert np.load(out / "data/ml/windows.npz")["X"][3, 1, 5] == 500.0


def test_an_empty_folder_may_be_filled(build: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    assert verify_release(build(tmp_path / "out")).study == "small"


@pytest.mark.parametrize(
    "occupy",
    [
        pytest.param(lambda out: (out.mkdir(), (out / "thesis.txt").write_text("mine")), id="a folder with a file"),
        pytest.param(lambda out: out.write_text("mine"), id="a file"),
        pytest.param(lambda out: out.symlink_to(out.parent), id="a link"),
    ],
)
def test_what_stands_at_the_place_is_left_as_it_is(
    build: Callable[..., Path], tmp_path: Path, occupy: Callable[[Path], object]
) -> None:
    out = tmp_path / "here" / "out"
    out.parent.mkdir()
    occupy(out)
    before = files_of(tmp_path)

    with pytest.raises(RefusedError, match="left as it is"):
        build(out)

    assert files_of(tmp_path) == before


def refused(
    build: Callable[..., Path], tmp_path: Path, cause: type[FedsynthError], match: str, **exchanged: object
) -> None:
    with pytest.raises(cause, match=match):
        build(tmp_path / "there" / "out", **exchanged)
    assert not (tmp_path / "there" / "out").exists()
    assert not list(tmp_path.rglob("*staging*"))


def test_a_run_without_privacy_is_never_released(
    build: Callable[..., Path], tmp_path: Path, statement: PrivacyStatement
) -> None:
    bare = replace(statement, epsilon=float("inf"))

    refused(build, tmp_path, PrivacyError, "nothing can be released", statement=bare)


def test_one_site_without_privacy_is_enough_to_refuse(
    build: Callable[..., Path], tmp_path: Path, statement: PrivacyStatement
) -> None:
    first, second = statement.sites
    bare = replace(statement, sites=(first, replace(second, epsilon=float("inf"))))

    refused(build, tmp_path, PrivacyError, "nothing can be released", statement=bare)


def test_a_score_from_real_recordings_refuses_the_release_and_is_not_dropped(
    build: Callable[..., Path], tmp_path: Path, scores: tuple[Score, ...]
) -> None:
    inside = replace(scores[0], name="nearest neighbour", source="real")

    refused(build, tmp_path, PrivacyError, "1 of 2 scores", scores=(*scores, inside))


def test_a_study_text_other_than_the_study_is_refused(
    build: Callable[..., Path], tmp_path: Path, study_text: str
) -> None:
    other = study_text.replace("epsilon = 4.0", "epsilon = 2.0")

    refused(build, tmp_path, PrivacyError, "digests differ", study_text=other)


def test_a_study_text_that_says_the_same_in_other_words_is_kept_as_it_is(
    build: Callable[..., Path], tmp_path: Path, study_text: str
) -> None:
    commented = "# agreed in March\n" + study_text

    out = build(tmp_path / "out", study_text=commented)

    assert (out / "provenance/study.toml").read_text() == commented


def test_an_unknown_licence_is_refused_with_the_known_ones(
    build: Callable[..., Path], tmp_path: Path, study_text: str
) -> None:
    study = parse_study(study_text)
    odd = study.model_copy(update={"release": study.release.model_copy(update={"license": "WTFPL"})})

    refused(build, tmp_path, StudyError, "CC0-1.0, CC-BY-4.0", study=odd)


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param({"east": 3}, id="a site is missing"),
        pytest.param({"east": 3, "north": 5, "west": 1}, id="a site nobody knows"),
        pytest.param({"east": 3, "north": 0}, id="an empty ledger"),
    ],
)
def test_ledgers_that_are_not_the_statements_are_refused(
    build: Callable[..., Path], tmp_path: Path, lengths: dict[str, int]
) -> None:
    refused(build, tmp_path, PrivacyError, "Nothing was signed", ledger_lengths=lengths)


def test_windows_that_are_not_the_studys_are_refused(
    build: Callable[..., Path], tmp_path: Path, windows: SyntheticWindows
) -> None:
    short = replace(windows, signal=windows.signal[:, :, :32])

    refused(build, tmp_path, RefusedError, "do not fit", windows=short)


def test_a_value_that_is_not_finite_refuses_the_release_and_leaves_nothing(
    build: Callable[..., Path], tmp_path: Path, windows: SyntheticWindows
) -> None:
    spoiled = windows.signal.copy()
    spoiled[9, 0, 0] = np.nan

    refused(build, tmp_path, RefusedError, "not finite", windows=replace(windows, signal=spoiled))


def test_a_collapsed_generator_is_refused_by_its_lack_of_diversity(
    build: Callable[..., Path], tmp_path: Path, windows: SyntheticWindows
) -> None:
    same = np.repeat(windows.signal[:1], len(windows.signal), axis=0)

    refused(build, tmp_path, RefusedError, "diversity", windows=replace(windows, signal=same))


def test_the_report_shows_the_diversity_that_was_asked_for(pristine: Path) -> None:
    metrics = json.loads((pristine / "report/metrics.json").read_text(encoding="utf-8"))

    assert [metric["source"] for metric in metrics if "diversity" in metric["name"]] == ["synthetic"]


def test_a_fact_with_a_path_is_caught_by_the_guard(build: Callable[..., Path], tmp_path: Path) -> None:
    refused(build, tmp_path, PrivacyError, "absolute path", facts={"run": "/home/ada/run"})


def test_a_key_that_others_can_read_is_refused(build: Callable[..., Path], tmp_path: Path) -> None:
    key = tmp_path / "key"
    make_key(key)
    key.chmod(0o644)

    refused(build, tmp_path, RefusedError, "chmod 600", signing_key=key)


def test_a_missing_key_is_refused(build: Callable[..., Path], tmp_path: Path) -> None:
    refused(build, tmp_path, RefusedError, "signing key cannot be read", signing_key=tmp_path / "none")


@pytest.mark.parametrize("step", ["write_documents", "guard", "sign_release", "verify_release"])
def test_a_failure_at_any_step_leaves_nothing_behind(
    build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise VerificationError("the disk is full")

    monkeypatch.setattr(module_under_test, step, fail)

    refused(build, tmp_path, VerificationError, "the disk is full")


def test_an_interruption_leaves_nothing_behind(
    build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module_under_test, "guard", interrupt)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "there" / "out")

    assert list((tmp_path / "there").iterdir()) == []


def test_a_folder_that_fills_up_meanwhile_is_not_overwritten(build: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "there" / "out"

    def occupy(step: str) -> None:
        if step == "signing":
            out.mkdir()
            (out / "thesis.txt").write_text("mine")

    with pytest.raises(RefusedError, match="cannot be moved"):
        build(out, progress=occupy)

    assert files_of(tmp_path / "there") == {"out/thesis.txt": b"mine"}


def test_a_report_that_leaks_a_real_number_is_caught_by_the_guard(
    build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[Score, ...]
) -> None:
    def leak(folder: Path, _: object) -> None:
        folder.mkdir()
        (folder / "index.html").write_text("<h1>small</h1>")
        (folder / "metrics.json").write_text(str([asdict(scores[0]) | {"source": "real"}]).replace("'", '"'))

    monkeypatch.setattr("fedsynth.report.page.write_report", leak)

    refused(build, tmp_path, PrivacyError, "computed from real recordings")


def test_progress_names_the_steps(build: Callable[..., Path], tmp_path: Path) -> None:
    told = io.StringIO()

    build(tmp_path / "out", progress=lambda step: print(step, file=told))

    assert [line.split()[0].strip(":") for line in told.getvalue().splitlines()] == [
        *("writing", "writing", "looking", "signing", "verifying", "released")
    ]


def test_the_signed_study_is_the_study(pristine: Path, study: Study) -> None:
    assert verify_release(pristine).study_digest == study.digest
