"""A family that is not ours, registered as the documentation says, for the tests that ask for it."""

import importlib.util
import sys
from pathlib import Path

import pytest

from fedsynth.families.registry import FAMILIES

CONTRIBUTED = Path(__file__).parent / "adversarial" / "least_squares_gan.py"


@pytest.fixture
def contributed(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Register the least-squares GAN as if its file stood beside the other families, and return the file."""
    name = f"fedsynth.families.adversarial.{CONTRIBUTED.stem}"
    spec = importlib.util.spec_from_file_location(name, CONTRIBUTED)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(FAMILIES, "least-squares-gan", f"adversarial.{CONTRIBUTED.stem}:LeastSquaresGan")
    return CONTRIBUTED
