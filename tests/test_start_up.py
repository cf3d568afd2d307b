"""What loading costs: each door imports what it runs and nothing else, and says what an installation lacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedsynth.errors import MissingPackageError
from fedsynth.extras import EXTRA_OF, explained

ONLY = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {allowed}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(code: str, *, allowed: set[str] | None = None, cwd: Path | None = None) -> str:
    """Run code in a process that can import only the standard library and `allowed`; all, where it is None."""
    text = code if allowed is None else ONLY.format(allowed=allowed | {"fedsynth"}) + code
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_fedsynth_imports_nothing_but_the_standard_library() -> None:
    assert run("import fedsynth; print(len(dir(fedsynth)) > 5)", allowed=set()) == "True"


def test_a_node_tells_its_sites_name_without_torch_or_an_accountant(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('name = "north"\nlargest_epsilon = 8.0\n', encoding="utf-8")
    code = f"""
import json, sys
import client.app
from fedsynth.site.policy import load_policy
from pathlib import Path
name = load_policy(Path({str(tmp_path)!r})).name
print(json.dumps([name, sorted({{"torch", "opacus", "dp_accounting", "scipy", "mne", "ray"}} & set(sys.modules))]))
"""
    assert json.loads(run(code)) == ["north", []]


def test_a_refused_order_loads_no_accountant_and_no_opacus(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('name = "north"\nlargest_epsilon = 8.0\n', encoding="utf-8")
    code = f"""
import sys
from pathlib import Path
from fedsynth.site.session import SiteSession
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update
answer = SiteSession(Path({str(tmp_path)!r})).handle(Order("run", "plan", 0, {{}}).to_bytes())
heavy = {{"opacus", "dp_accounting", "scipy", "mne", "sklearn"}}
print(Update.from_bytes(answer).refused, sorted(heavy & set(sys.modules)))
"""
    assert run(code) == "refused []"


@pytest.mark.parametrize("module", EXTRA_OF)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(module: str) -> None:
    with pytest.raises(MissingPackageError, match=rf"needs {module}.*fedsynth\[{EXTRA_OF[module]}\]"), explained():
        raise ModuleNotFoundError(f"No module named '{module}.part'", name=f"{module}.part")


def test_a_module_of_our_own_that_is_missing_is_a_fault_and_not_explained() -> None:
    with pytest.raises(ModuleNotFoundError), explained():
        raise ModuleNotFoundError("No module named 'fedsynth.nothing'", name="fedsynth.nothing")


@pytest.mark.parametrize(
    ("call", "module"),
    [
        pytest.param('fedsynth.load_study("x.toml")', "pydantic", id="a study"),
        pytest.param('fedsynth.plan_of("x.toml")', "numpy|torch|pydantic", id="a plan"),
        pytest.param('fedsynth.rehearse("x.toml")', "pydantic|torch|safetensors", id="a rehearsal"),
    ],
)
def test_the_base_installation_says_what_a_call_needs(call: str, module: str) -> None:
    code = f"""
import fedsynth
try:
    {call}
except fedsynth.FedsynthError as error:
    print(type(error).__name__, error)
"""
    said = run(code, allowed={"cryptography", "_cffi_backend", "numpy", "rich", "typer", "click"})

    assert said.startswith("MissingPackageError this needs ")
    assert any(f"needs {name}," in said for name in module.split("|"))
    assert "pip install 'fedsynth[" in said


def test_the_extras_of_the_table_are_those_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert set(EXTRA_OF.values()) == set(project["optional-dependencies"]) - {"all", "dev"}


def test_what_a_hospital_decides_with_loads_no_torch() -> None:
    """Requests, their wording, approvals that are read, settling, copies, preflight and membership."""
    code = """
import json, sys
import fedsynth.coordinator.asking, fedsynth.federation.provision, fedsynth.federation.standing
import fedsynth.release.countersignature
import fedsynth.site.approval, fedsynth.site.backup, fedsynth.site.leave, fedsynth.site.preflight
import fedsynth.site.requests, fedsynth.site.settlement, fedsynth.site.wording
print(json.dumps(sorted({"torch", "opacus", "scipy", "mne", "ray", "flwr"} & set(sys.modules))))
"""
    assert json.loads(run(code)) == []


def test_a_step_a_report_and_the_coordinator_load_scikit_learn_when_they_score() -> None:
    """It takes as long to load as torch, and a study starts dozens of processes."""
    code = """
import json, sys
import fedsynth.site.steps, fedsynth.report.page, server.app
print(json.dumps(sorted({"sklearn", "pandas", "opacus", "dp_accounting", "mne", "ray"} & set(sys.modules))))
"""
    assert json.loads(run(code)) == []


def test_membership_needs_cryptography_and_nothing_else(tmp_path: Path) -> None:
    code = f"""
from datetime import UTC, datetime
from pathlib import Path
from fedsynth.federation.authority import open_authority
from fedsynth.federation.membership import make_membership
import fedsynth.federation.kit, fedsynth.federation.provision, fedsynth.federation.standing
root = Path({str(tmp_path)!r})
open_authority(root / "authority", federation="sleep", now=datetime.now(UTC))
request, _ = make_membership(root / "keys", role="site", name="north", identity=root / "keys" / "identity.key")
print(request.words.count("-"))
"""
    assert run(code, allowed={"cryptography", "_cffi_backend"}) == "11"
