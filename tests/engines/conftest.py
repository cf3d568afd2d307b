"""A tiny run: three sites with twelve made-up people each, approved and ready for any engine."""

import hashlib
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedsynth.coordinator.run_folder import RunFacts, RunFolder, coordinate
from fedsynth.coordinator.transport import InProcess
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.recordings.recording import Recording, Windows
from fedsynth.site.approval import approve
from fedsynth.site.holdings import keep
from fedsynth.site.identity import make_identity
from fedsynth.site.session import SiteSession
from fedsynth.study import Study, parse_study

SITES = ("east", "north", "west")
PEOPLE = 12
STUDY_TEXT = """name = "tiny"

[signal]
modality = "eeg"
format = "edf"
channels = ["C3", "C4"]
sfreq = 64.0
bandpass = [0.5, 30.0]

[windows]
n_times = 64
per_recording = 2

[labels]
names = ["healthy", "epilepsy"]
source = "participants.tsv"
positive = "epilepsy"

[privacy]
unit = "subject"
epsilon = 8.0
delta = 1e-5

[cohort]
least_sites = 2
expected_units = 10

[family]
name = "cwgan"

[plan]
rounds = 1
local_steps = 2

[release]
windows_per_label = 20
windows_per_subject = 5
"""

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def study_of_secure_sums() -> str:
    """Return the same study with secure aggregation among its three sites."""
    return STUDY_TEXT.replace("delta = 1e-5", 'delta = 1e-5\ntrust = "aggregate"').replace(
        "[cohort]", '[cohort]\nsites = ["east", "north", "west"]'
    )


@pytest.fixture(scope="session")
def plan() -> Plan:
    return plan_of(parse_study(STUDY_TEXT))


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that makes a run's folder for an engine, as a rehearsal would."""

    def make(engine: str, study_text: str = STUDY_TEXT) -> RunFolder:
        # A quote in the path: Flower's own way of passing settings would end there.
        run = RunFolder(tmp_path / f"{engine}'s run")
        name, asked = secrets.token_hex(8), plan_of(parse_study(study_text))
        for number, site in enumerate(SITES):
            _make_site(run.site(site), site, seed=number, study=asked.study)
        together = asked.study.privacy.trust == "aggregate"
        roster = {site: make_identity(run.site(site)) for site in SITES}
        for site in SITES:
            approve(run.site(site), run=name, plan=asked, roster=roster if together else None)
        facts = RunFacts(
            run=name,
            engine=engine,
            cohort="toy",
            sites=SITES,
            composes="this run only",
            roster={site: key.hex() for site, key in roster.items()},
        )
        run.begin(facts=facts, plan=asked, study_text=study_text)
        return run

    return make


@pytest.fixture
def without_heads() -> Callable[[PrivacyStatement], PrivacyStatement]:
    """Return a function that takes out of a statement what belongs to one ledger, engine or draw of noise."""

    def strip(statement: PrivacyStatement) -> PrivacyStatement:
        sites = tuple(replace(site, ledger_head="") for site in statement.sites)
        made = replace(statement.made, engine="in-process", windows="0" * 64)
        assumes = statement.assumes.replace(f"engine {statement.made.engine} ", "engine in-process ")
        return replace(statement, sites=sites, made=made, assumes=assumes)

    return strip


@pytest.fixture
def in_process_statement(make_run: MakeRun) -> Callable[[], PrivacyStatement]:
    """Return a function that carries out the same plan with every site in this process."""

    def carry() -> PrivacyStatement:
        run = make_run("in-process")
        handlers = {site: SiteSession(run.site(site)).handle for site in run.facts().sites}
        coordinate(run.path, transport=InProcess(handlers))
        return run.statement()

    return carry


@pytest.fixture
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that a test leaves neither a process nor a home of its own behind; others may run beside it."""
    # A socket's path holds 107 bytes, and Ray's have long names below the home.
    with tempfile.TemporaryDirectory(prefix="fst-", dir="/tmp" if Path("/tmp").is_dir() else None) as place:
        monkeypatch.setenv("TMPDIR", place)
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield
        assert (_processes_of(place), [*Path(place).glob("fedsynth-*")]) == ({}, [])


@pytest.fixture
def listening() -> Callable[[], set[str]]:
    """Return a function that says where anybody on this machine listens now, as "address:port"."""

    def places() -> set[str]:
        found = set()
        for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            for row in Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *_ = row.split()
                address, port = local.split(":")
                if state == "0A":
                    words = np.frombuffer(bytes.fromhex(address), dtype=">u4").astype("<u4")
                    found.add(f"{socket.inet_ntop(family, words.tobytes())}:{int(port, 16)}")
        return found

    return places


def _processes_of(place: str) -> dict[int, str]:
    """Return the processes that have a folder in their command, environment, working folder or open files.

    Ray's workers write a title over command and environment; their logs are open below the home.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(folder.name) == os.getpid():
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            known = command + (folder / "environ").read_bytes().decode(errors="replace")
            known += " ".join(map(_target, (folder / "cwd", *(folder / "fd").iterdir())))
            if place in known:
                found[int(folder.name)] = command
    return found


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


def _make_site(folder: Path, name: str, *, seed: int, study: Study) -> None:
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text(f'name = "{name}"\nlargest_epsilon = 8.0\ndevice = "cpu"\n', encoding="utf-8")
    recordings = [_person(f"{name}-{number}", seed=100 * seed + number, study=study) for number in range(PEOPLE)]
    with Ledger(folder / "ledger") as ledger:
        keep(
            folder / "holdings", recordings=recordings, windows=_cut(recordings, study), study=study, key=ledger.key
        )


def _person(name: str, *, seed: int, study: Study) -> Recording:
    """Noise for the healthy, a 3 Hz rhythm on top for the others; in microvolts."""
    random = np.random.default_rng(seed)
    length = study.windows.n_times * study.windows.per_recording
    signal = random.normal(0, 20, (len(study.signal.channels), length)).cumsum(axis=1)
    signal -= signal.mean(axis=1, keepdims=True)
    label = study.labels.names[seed % 2]
    if label == study.labels.positive:
        signal += 150 * np.sin(2 * np.pi * 3 * np.arange(length) / study.signal.sfreq)
    signal = signal.astype(np.float32)
    digest = hashlib.sha256(signal.tobytes()).hexdigest()
    return Recording(signal, study.signal.sfreq, study.signal.channels, subject=name, label=label, digest=digest)


def _cut(recordings: list[Recording], study: Study) -> Windows:
    pieces = study.windows.per_recording
    signal = np.concatenate([np.stack(np.split(item.signal, pieces, axis=1)) for item in recordings])
    owner = np.repeat(np.arange(len(recordings), dtype=np.int64), pieces)
    labels = np.array([study.labels.names.index(item.label) for item in recordings], dtype=np.int64)
    return Windows(
        signal=signal,
        labels=labels[owner],
        subjects=owner,
        recordings=owner,
        label_names=study.labels.names,
        channels=study.signal.channels,
        sfreq=study.signal.sfreq,
    )
