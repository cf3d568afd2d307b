"""One digest of the code: of everything that runs, of nothing else, and the same in plan and release."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedsynth.errors import RunError
from fedsynth.plan import plan_of
from fedsynth.source_code import PACKAGES, code_in_use, digest_of, package_folder
from fedsynth.study import Study


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    for name in PACKAGES:
        shutil.copytree(package_folder(name), folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def digest(folder: Path) -> str:
    return digest_of([folder / name for name in PACKAGES])


def test_a_copy_has_the_same_digest(copies: Path) -> None:
    assert digest(copies) == code_in_use().digest


@pytest.mark.parametrize(
    "name",
    [
        "client/app.py",
        "server/transport.py",
        "fedsynth/privacy/noise.py",
        "fedsynth/report/templates/report.html",
        "fedsynth/priors/vae-ldm-eeg.safetensors",
    ],
)
def test_a_changed_byte_changes_the_digest(copies: Path, name: str) -> None:
    path = copies / name
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    changed = digest(copies)
    path.write_bytes(before)

    assert changed != code_in_use().digest


def test_bytecode_and_notes_change_nothing(copies: Path) -> None:
    (copies / "fedsynth" / "privacy" / "noise.pyc").write_bytes(b"x")
    (copies / "fedsynth" / "NOTES").write_text("x")

    assert digest(copies) == code_in_use().digest


def test_a_plan_names_the_code_that_runs(tiny: Study) -> None:
    assert plan_of(tiny).code == str(code_in_use())


def test_the_apps_are_found_beside_the_package_and_not_on_the_path(tmp_path: Path) -> None:
    """A stranger's package called `server` in the working folder once went to the sites."""
    for name in ("server", "client"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("STRANGE = True\n")
        (tmp_path / name / "app.py").write_text("STRANGE = True\n")
    root = package_folder("fedsynth").parent
    code = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]
from pathlib import Path
from fedsynth.engines.flower import write_app
from fedsynth.source_code import code_in_use
write_app(Path({str(tmp_path / "app")!r}))
print(code_in_use().digest)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == code_in_use().digest
    for name in ("server", "client"):
        shipped = (tmp_path / "app" / name / "app.py").read_bytes()
        assert shipped == (package_folder(name) / "app.py").read_bytes()


def test_an_installation_without_the_apps_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fedsynth.source_code.__file__", str(tmp_path / "fedsynth" / "source_code.py"))

    with pytest.raises(RunError, match="'client' is not installed beside fedsynth"):
        package_folder("client")
