"""The blind page: every window is shown once, and the key tells which are recordings."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Import the benchmark as its command line does, from its own folder."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield SimpleNamespace(blind=importlib.import_module("blind"))
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_a_form_shows_all_windows_and_its_key_is_right(bench: SimpleNamespace) -> None:
    signal = np.random.default_rng(0).normal(0, 30, (4, 5, 64)).astype(np.float32)
    is_real = np.array([False, True, True, False])

    form = bench.blind.fragment(
        bench.blind.Blind("<set>", 8.0, signal, ("a", "b<", "a", "a"), is_real, 2.0, ("1", "2", "3", "4", "5"))
    )

    assert form.count("<svg") == 4
    assert form.count("<polyline") == 12  # three channels of each
    assert "Recordings: 2, 3." in form
    assert re.findall(r'data-real="(.)"', form) == ["0", "1", "1", "0"]
    assert "<set>" not in form
    assert "b<)" not in form
    assert form in bench.blind.whole(form)


def test_without_public_sets_the_site_says_so() -> None:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)

    assert "without the public sets" in hooks.blind_windows(None)
    assert hooks._WINDOWS in (ROOT / "docs" / "blind.md").read_text(encoding="utf-8")
