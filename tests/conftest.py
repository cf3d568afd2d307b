"""A tiny study, tiny recordings, and sites made of them: shared by the suites of site and coordinator."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsynth.ledger.ledger import Ledger
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.site.holdings import Holdings, keep
from fedsynth.site.identity import load_identity, make_identity
from fedsynth.study import Study, parse_study
from fedsynth.wire.update import Update

torch.set_num_threads(1)  # tiny tensors, and tests that run beside others

TINY = """
name = "tiny"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
sfreq = 100.0
bandpass = [1.0, 30.0]
[windows]
n_times = 128
per_recording = 3
[labels]
names = ["rest", "task"]
source = "participants.tsv"
positive = "task"
[privacy]
unit = "subject"
epsilon = 8.0
delta = 1e-5
[cohort]
least_sites = 2
least_subjects = 4
expected_units = 10
[family]
name = "cwgan"
[plan]
rounds = 1
local_steps = 2
[release]
windows_per_label = 12
windows_per_subject = 6
"""

LONGEST_FIRST = (
    "mutations/test_planted_faults.py",
    "families/test_contract.py",
    "examples/test_seeds.py",
    "recipes/test_recipes.py",
    "cli/test_answers.py",
    "cli/test_resume.py",
    "cli/test_rehearse.py",
    "test_face.py",
    "coordinator/test_checkpoint.py",
)
"""Files whose slow tests take a minute and more: begun last, they would keep one process busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `make test-all` deals files to processes in this order."""
    places = {str(Path(__file__).parent / name): place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


@pytest.fixture(scope="session", autouse=True)
def no_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep ledgers and registers of tests out of the state folder of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a state folder of its own: recordings that tests share were never asked before."""
    place = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(place))
    return place


@pytest.fixture(scope="session")
def tiny() -> Study:
    return parse_study(TINY)


@pytest.fixture(scope="session")
def tiny_text() -> str:
    return TINY


def people(count: int, *, seed: int, per_person: int = 1) -> list[Recording]:
    """Return recordings of `count` people; every second one has the label "task" and twice the amplitude."""
    rng = np.random.default_rng(seed)
    out = []
    for number in range(count):
        for _ in range(per_person):
            signal = (10 * (1 + number % 2) * rng.normal(size=(2, 420))).astype(np.float32)
            digest = hashlib.sha256(signal.tobytes()).hexdigest()
            label = ("rest", "task")[number % 2]
            out.append(Recording(signal, 100.0, ("C3", "C4"), f"CANARY-{seed}-{number}", label, digest))
    return out


@pytest.fixture
def make_people() -> Callable[..., list[Recording]]:
    return people


@pytest.fixture
def make_site(tiny: Study) -> Callable[..., Holdings]:
    """Return a maker of site folders: policy, ledger and holdings of the people given."""

    def make(folder: Path, recordings: list[Recording], *, policy: str = "", study: Study = tiny) -> Holdings:
        folder.mkdir(parents=True)
        if "largest_epsilon" not in policy:
            policy += "\nlargest_epsilon = 8.0"
        if "units" not in policy:
            policy += f'\nunits = ["{study.privacy.unit}"]'
        make_identity(folder)
        (folder / "site.toml").write_text(f'name = "{folder.name}"\n{policy}', encoding="utf-8")
        windows = windows_of(recordings, study=study)
        with Ledger(folder / "ledger") as ledger:
            return keep(folder / "holdings", recordings=recordings, windows=windows, study=study, key=ledger.key)

    return make


class SiteLog:
    """What the site's own log holds: of every refusal the kind, which no message tells, and the sentence."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        """Read from a capture that stands for the log."""
        self._caplog = caplog

    @property
    def kinds(self) -> list[str]:
        """The kind of every refusal, in order."""
        return [record.kind for record in self._caplog.records if hasattr(record, "kind")]

    @property
    def text(self) -> str:
        """Everything that the log says."""
        return self._caplog.text


@pytest.fixture
def site_log(caplog: pytest.LogCaptureFixture) -> SiteLog:
    """Return what stands in the log of the sites of this test, which never leaves them."""
    caplog.set_level(logging.WARNING, logger="fedsynth.site")
    return SiteLog(caplog)


@pytest.fixture
def pinned() -> Callable[..., dict[str, bytes]]:
    """Return a function that pins the keys of the sites whose folders stand in one folder."""

    def keys(folder: Path) -> dict[str, bytes]:
        return {place.parent.name: make_identity(place.parent) for place in folder.glob("*/identity.key")}

    return keys


@pytest.fixture
def said_anew() -> Callable[..., bytes]:
    """Return a function that changes a site's answer, and signs its word again as that site would."""

    def say(answer: bytes, folder: Path, *, tensors: Any = None, **word: Any) -> bytes:
        update = Update.from_bytes(answer)
        assert update.word is not None
        told = replace(update.word, **word)
        kept = update.tensors if tensors is None else tensors
        return Update(kept, word=told, signature=told.sign(load_identity(folder))).to_bytes()

    return say
