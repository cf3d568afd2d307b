"""A study, its promise and its windows, small enough to check by eye, and one signed release to spoil."""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fedsynth.errors import RefusedError
from fedsynth.evaluation.score import Score
from fedsynth.privacy.making import Making
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.release.attestation import Attestation, write_signed
from fedsynth.release.build import build_release
from fedsynth.release.manifest import build_manifest
from fedsynth.release.signature import Envelope, load_private_key, make_key
from fedsynth.study import Modality, Study, parse_study
from fedsynth.synthesis.archive import archive_digest, bounded, write_npz
from fedsynth.synthesis.windows import SyntheticWindows, stream_of

STUDY_TEXT = """name = "small"
title = "Synthetic EEG, small"

[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
sfreq = 173.61
range_uv = 500.0

[windows]
n_times = 64

[labels]
names = ["healthy", "epilepsy"]
source = "participants.tsv"
positive = "epilepsy"

[privacy]
unit = "subject"
epsilon = 4.0
delta = 1e-5

[family]
name = "cwgan"

[release]
windows_per_label = 5
windows_per_subject = 2
draw_seed = 7
"""

LEDGERS = {"east": 3, "north": 5}


@pytest.fixture(scope="session")
def study() -> Study:
    return parse_study(STUDY_TEXT)


@pytest.fixture(scope="session")
def study_text() -> str:
    return STUDY_TEXT


@pytest.fixture(scope="session")
def ledger_lengths() -> dict[str, int]:
    return dict(LEDGERS)


def digest_of(windows: SyntheticWindows, *, range_uv: float = 500.0, modality: Modality = "eeg") -> str:
    """Return the digest of the archive that a release of these windows holds."""
    with tempfile.TemporaryDirectory() as folder:
        write_npz(Path(folder) / "a.npz", windows=bounded(stream_of(windows), modality=modality, range_uv=range_uv))
        return archive_digest(Path(folder) / "a.npz")


@pytest.fixture(scope="session")
def statement(windows: SyntheticWindows) -> PrivacyStatement:
    event = Mechanism("anchor", noise_multiplier=2.0, sampling_probability=1.0, steps=1, clipping_norm=1.0)
    return PrivacyStatement(
        epsilon=3.5,
        delta=1e-5,
        unit="subject",
        adjacency="add-or-remove",
        trust="site",
        accountant="PLD",
        second_accountant="PRV",
        composes="this run only",
        overlap="assumed none",
        assumes="the code at the sites",
        made=Making(0, "in-process", "recordings", digest_of(windows)),
        sites=tuple(
            SiteStatement(site, 3.5, 3.5, 1e-5, ledger_head=digit * 64, events=(event,), held_out=())
            for site, digit in [("east", "a"), ("north", "b")]
        ),
    )


@pytest.fixture(scope="session")
def windows() -> SyntheticWindows:
    """Ten windows of six subjects; the first sample of window k is k microvolts on every channel."""
    random = np.random.default_rng(0)
    signal = random.normal(0, 100, size=(10, 2, 64)).astype(np.float32)
    signal[:, :, 0] = np.arange(10, dtype=np.float32)[:, None]
    return SyntheticWindows(
        signal=np.clip(signal, -500, 500),
        labels=np.repeat(np.arange(2, dtype=np.int64), 5),
        subjects=np.array([0, 0, 1, 1, 2, 3, 3, 4, 4, 5]),
        label_names=("healthy", "epilepsy"),
        channels=("C3", "C4"),
        sfreq=173.61,
    )


@pytest.fixture(scope="session")
def scores(statement: PrivacyStatement) -> tuple[Score, ...]:
    about = "trained on synthetic, tested on held-out"
    return (Score("seizure AUROC", 0.9, 0.85, 0.95, 1, "private sum", about, statement.made.windows),)


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "publisher"
    make_key(path)
    return path


@pytest.fixture(scope="session")
def build(
    study: Study,
    statement: PrivacyStatement,
    windows: SyntheticWindows,
    scores: tuple[Score, ...],
    signing_key: Path,
) -> Callable[..., Path]:
    """Build a release, with any argument exchanged; statement and scores follow the windows, or `of`."""

    def run(out: Path, **exchanged: Any) -> Path:
        arguments: dict[str, Any] = {
            "study": study,
            "study_text": STUDY_TEXT,
            "statement": statement,
            "windows": windows,
            "scores": scores,
            "facts": {"family": "cwgan"},
            "ledger_lengths": LEDGERS,
            "signing_key": signing_key,
        }
        arguments |= exchanged
        try:
            digest = digest_of(
                arguments["windows"],
                range_uv=arguments["study"].signal.range_uv,
                modality=arguments["study"].signal.modality,
            )
        except RefusedError:  # the release must say so itself
            digest = "0" * 64
        digest = arguments.pop("of", digest)
        made = replace(arguments["statement"].made, windows=digest)
        arguments["statement"] = replace(arguments["statement"], made=made)
        arguments["scores"] = tuple(replace(score, windows=digest) for score in arguments["scores"])
        arguments["windows"] = stream_of(arguments["windows"])
        build_release(out, **arguments)
        return out

    return run


@pytest.fixture(scope="session")
def pristine(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One signed release that nobody may change."""
    return build(tmp_path_factory.mktemp("pristine") / "release")


@pytest.fixture
def release(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the release to spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "release"))


@pytest.fixture
def resign(signing_key: Path) -> Callable[..., None]:
    """Sign a folder again with the publisher's own key, with parts of the claim exchanged."""

    def run(release: Path, **exchanged: object) -> None:
        envelope = Envelope.from_json((release / "integrity/release.dsse.json").read_bytes())
        claim = replace(Attestation.from_payload(envelope.payload), files=build_manifest(release))
        write_signed(release, attestation=replace(claim, **exchanged), key=load_private_key(signing_key))  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="session")
def single_file() -> ModuleType:
    """The other verifier: one file, which shares no line with fedsynth."""
    path = Path(__file__).resolve().parents[2] / "deploy/verify_release.py"
    spec = importlib.util.spec_from_file_location("verify_release", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
