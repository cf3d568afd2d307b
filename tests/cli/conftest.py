"""A tiny cohort in files, one finished run of it, and the command line in this process."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedsynth.cli.main import main
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.site.policy import Policy, load_policy
from fedsynth.study import Study


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def fedsynth(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["fedsynth", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory, tiny: Study) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    study = tiny.model_copy(update={"cohort": tiny.cohort.model_copy(update={"sites": ("east", "west")})})
    write_toy_cohort(folder, study=study, people=0.1)
    return folder


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.toml"
    path.write_text(tiny_text)
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, recordings: Path, study_file: Path) -> Path:
    """A finished run, made once through a real process."""
    run = tmp_path_factory.mktemp("runs") / "run"
    command = [sys.executable, "-m", "fedsynth", "rehearse", str(study_file), "--sites", str(recordings)]
    subprocess.run([*command, "--out", str(run)], check=True, capture_output=True)
    return run


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy with the sites' ledgers in it, as a run of made-up people has them, for tests to bend."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for site in (run / "sites").iterdir():
        policy = load_policy(site)
        shutil.copytree(policy.ledger, site / "ledger")
        inside = policy.model_dump(exclude_unset=True, exclude={"ledger"})
        (site / "site.toml").write_text(Policy(**inside).to_toml(), encoding="utf-8")
    return run
