"""The command line as a user meets it: the main job on tiny recordings, and every refusal with its exit code."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedsynth.source_code import code_in_use
from fedsynth.study import parse_study


def test_rehearse_release_and_verify(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    release = tmp_path / "release"

    released = fedsynth("release", run_copy, "--out", release)
    verified = fedsynth("verify", release)

    assert (released.code, verified.code) == (0, 0)
    assert "per subject" in released.out
    statement = json.loads((release / "privacy" / "statement.json").read_text())
    assert statement["epsilon"] <= 8.0
    with np.load(release / "data" / "ml" / "windows.npz", allow_pickle=False) as windows:
        assert windows["X"].shape == (24, 2, 128)
        assert sorted(set(windows["y"].tolist())) == [0, 1]


def test_releasing_again_changes_nothing(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    release = tmp_path / "release"
    fedsynth("release", run_copy, "--out", release)
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}

    again = fedsynth("release", run_copy, "--out", release)

    assert again.code == 0
    assert before == {path: path.stat().st_mtime_ns for path in release.rglob("*")}


def test_rehearsing_a_finished_run_again_is_quick_and_changes_nothing(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, recordings: Path, study_file: Path
) -> None:
    before = (run_copy / "statement.json").read_bytes()

    again = fedsynth("rehearse", study_file, "--sites", recordings, "--out", run_copy)

    assert again.code == 0
    assert (run_copy / "statement.json").read_bytes() == before


def test_exact_scores_on_real_people_stay_inside(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fedsynth("release", run_copy, "--out", tmp_path / "release")

    inside = json.loads((run_copy / "internal" / "scores.json").read_text())
    public = json.loads((tmp_path / "release" / "report" / "metrics.json").read_text())

    assert {score["source"] for score in inside} == {"real"}
    assert "real" not in {score["source"] for score in public}


def test_a_dry_run_of_release_writes_nothing(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth("release", run_copy, "--out", tmp_path / "release", "--dry-run")

    assert done.code == 0
    assert not (tmp_path / "release").exists()


def edit_statement(run: Path) -> None:
    path = run / "statement.json"
    path.write_text(path.read_text().replace('"noise_multiplier": ', '"noise_multiplier": 1'))


def lower_epsilon(run: Path) -> None:
    path = run / "statement.json"
    body = json.loads(path.read_text())
    body["epsilon"] = 1.0
    path.write_text(json.dumps(body))


def drop_site(run: Path) -> None:
    path = run / "statement.json"
    body = json.loads(path.read_text())
    body["sites"] = body["sites"][1:]
    path.write_text(json.dumps(body))


def edit_ledger(run: Path) -> None:
    with sqlite3.connect(run / "sites" / "east" / "ledger" / "ledger.sqlite") as db:
        db.execute("DROP TRIGGER charges_keep")
        db.execute("UPDATE charges SET study = 'x' WHERE number = 1")


def swap_ledgers(run: Path) -> None:
    east, west, aside = (run / "sites" / name / "ledger" for name in ("east", "west", "aside"))
    aside.parent.mkdir()
    east.rename(aside)
    west.rename(east)
    aside.rename(west)


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(edit_statement, id="events with more noise"),
        pytest.param(lower_epsilon, id="a lower epsilon"),
        pytest.param(drop_site, id="a site left out"),
        pytest.param(edit_ledger, id="an edited ledger"),
        pytest.param(swap_ledgers, id="ledgers of other sites"),
    ],
)
def test_a_run_whose_ledger_and_statement_disagree_is_not_released(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, tmp_path: Path, tamper
) -> None:
    tamper(run_copy)

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code == 3
    assert not (tmp_path / "release").exists()


def test_a_tampered_release_does_not_verify(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fedsynth("release", run_copy, "--out", tmp_path / "release")
    (tmp_path / "release" / "README.md").write_text("changed")

    done = fedsynth("verify", tmp_path / "release")

    assert done.code == 4
    assert "README.md" in done.err


def test_check_prints_the_plan_and_opens_nothing(fedsynth, study_file: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth("check", study_file)

    assert done.code == 0
    assert "gradients: critic, round 1" in done.out
    assert "Opacus PRV" in done.out
    assert "Delta alone would allow to publish 0.0002 of the 20 units declared.\n" in done.out
    assert "the private score can say nothing" in done.out
    assert "the very same ones" not in done.out


def test_check_says_so_where_delta_gives_people_away(fedsynth, tiny_text: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    study = tmp_path / "study.toml"
    many = tiny_text.replace("delta = 1e-5", "delta = 1e-3").replace("expected_units = 10", "expected_units = 1000")
    study.write_text(many.replace("rounds = 1", "rounds = 0"))

    done = fedsynth("check", study)
    assert "publish 2 of the 2000 units declared. That is much" in done.out
    assert "cwgan, dense-gan, wavegan draw the very same ones" in done.out


def test_a_site_reads_its_own_ledger(fedsynth, finished: Path) -> None:  # type: ignore[no-untyped-def]
    done = fedsynth("site", "ledger", finished / "sites" / "east")

    assert done.code == 0
    assert "4 charges, the chain holds" in done.out


def test_a_release_verifies_where_neither_torch_nor_numpy_can_be_imported(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, tmp_path: Path
) -> None:
    fedsynth("release", run_copy, "--out", tmp_path / "release")
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'scipy', 'mne', 'flwr', 'opacus'): sys.modules[name] = None\n"
        f"sys.argv = ['fedsynth', 'verify', {str(tmp_path / 'release')!r}]\n"
        "from fedsynth.cli.main import main\n"
        "main()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_study_of_the_tests_is_a_study(tiny_text: str) -> None:
    assert parse_study(tiny_text).name == "tiny"


def test_a_finer_unit_is_not_released_as_a_coarser_one(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("study.toml", "statement.json"):
        path = run_copy / name
        path.write_text(path.read_text().replace("subject", "window"))

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code in {2, 3}
    assert not (tmp_path / "release").exists()


def test_a_study_that_differs_from_the_approved_plan_is_not_released(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, tmp_path: Path
) -> None:
    path = run_copy / "study.toml"
    path.write_text(path.read_text().replace("windows_per_label = 12", "windows_per_label = 13"))

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code == 3
    assert "not the one its sites approved" in done.err


def test_a_generator_of_other_code_is_refused_in_one_sentence(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from fedsynth.wire.arrays import pack, unpack

    path = run_copy / "generator.safetensors"
    tensors = unpack(path.read_bytes())
    tensors.pop(next(name for name in tensors if name.startswith("parts.generator.feature")))
    path.write_bytes(pack(tensors))

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code == 2
    assert "another version of the code" in done.err


def test_a_head_kept_elsewhere_is_found_at_release(fedsynth, run_copy: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    east, head = run_copy / "sites" / "east", tmp_path / "other disk" / "head"
    head.parent.mkdir()
    shutil.move(east / "ledger" / "ledger.head", head)
    with (east / "site.toml").open("a") as policy:
        policy.write(f"ledger_head = {json.dumps(str(head))}\n")

    assert fedsynth("release", run_copy, "--out", tmp_path / "release").code == 0


def test_a_run_is_not_released_by_other_code_than_its_sites_approved(  # type: ignore[no-untyped-def]
    fedsynth, run_copy: Path, tmp_path: Path
) -> None:
    plan = run_copy / "plan.json"
    text = plan.read_text()
    digest = json.loads(text)["code"].partition("+")[2]
    plan.write_text(text.replace(digest, "0" * 64))

    done = fedsynth("release", run_copy, "--out", tmp_path / "release")

    assert done.code == 1
    assert f"the sites approved the code {code_in_use().version} (000000000000)" in done.err
    assert not (tmp_path / "release").exists()
