"""Audits of the real pipeline on a tiny study: below the claim, or above it where noise or clipping is at fault."""

import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fedsynth.audit.run
import fedsynth.privacy.noise
import fedsynth.site.steps
from fedsynth.audit.canaries import make_canaries
from fedsynth.audit.run import Audit, audit, dry_audit
from fedsynth.cli.main import main
from fedsynth.errors import PrivacyError, RecordingError, RunError, StudyError
from fedsynth.privacy.noise import LATTICE_STD, NoiseSource
from fedsynth.recordings.gate import check_recording
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.site.holdings import group_of_person
from fedsynth.study import Study, parse_study
from fedsynth.training.trainer import Trainer


@pytest.fixture(scope="module")
def eight(tiny_text: str) -> Study:
    """A study at epsilon 8, with an anchor and two sampled gradient steps, at two sites."""
    return parse_study(tiny_text.replace("[cohort]\n", '[cohort]\nsites = ["north", "east"]\n'))


@pytest.fixture(scope="module")
def wide(eight: Study) -> Study:
    """The same over more channels: canaries get in one another's way less."""
    signal = eight.signal.model_copy(update={"channels": ("Fp1", "F4", "C3", "T8", "P4", "O1")})
    return eight.model_copy(update={"signal": signal})


@pytest.fixture(scope="module")
def one_text(tiny_text: str) -> str:
    """A study at epsilon 1 with an anchor alone, over more channels: canaries get in one another's way less."""
    text = tiny_text.replace('["C3", "C4"]', '["Fp1", "F4", "C3", "T8", "P4", "O1"]')
    text = text.replace("epsilon = 8.0", "epsilon = 1.0").replace("rounds = 1", "rounds = 0")
    return text.replace("[cohort]\n", '[cohort]\nsites = ["north", "east", "south", "west"]\n')


@pytest.fixture(scope="module")
def one(one_text: str) -> Study:
    return parse_study(one_text)


def silent(*_: object) -> None:
    """Report no progress."""


def no_noise(count: int) -> NDArray[np.int64]:
    return np.zeros(count, dtype=np.int64)


def noise_of(seed: int, *, share: float = 1.0) -> NoiseSource:
    """Return noise that a test can repeat, `share` as loud as it should be."""
    rng = np.random.default_rng(seed)
    return lambda count: np.rint(share * LATTICE_STD * rng.normal(size=count)).astype(np.int64)


def test_a_sound_pipeline_stays_below_its_claim_and_shows_something_at_epsilon_eight(eight: Study) -> None:
    found = audit(Audit(eight, canaries=200), progress=silent)

    # Two sums of the anchor and two gradients at either site.
    assert found.sums == 2 * 4
    assert found.claimed < 8 < found.bounds[1].ceiling
    for bound in found.bounds:
        assert 0.1 < bound.epsilon <= found.claimed
    found.check()


@pytest.mark.parametrize(("canaries", "seed"), [(60, 1), (240, 2)])
def test_a_sound_pipeline_stays_below_its_claim_at_epsilon_one(one: Study, canaries: int, seed: int) -> None:
    # Noise that can be repeated: one audit in twenty may be a false alarm.
    found = audit(Audit(one, canaries=canaries, seed=str(seed)), progress=silent, noise=noise_of(seed))

    for bound in found.bounds:
        assert bound.epsilon <= found.claimed < bound.ceiling


def test_without_noise_an_audit_comes_near_its_ceiling_and_refuses_the_claim(wide: Study) -> None:
    found = audit(Audit(wide, canaries=200), progress=silent, noise=no_noise)

    for bound in found.bounds:
        assert bound.epsilon >= 0.8 * bound.ceiling
    with pytest.raises(PrivacyError, match="contradicts its claim"):
        found.check()


@pytest.mark.slow
def test_sampled_gradients_alone_give_canaries_away_without_noise(eight: Study) -> None:
    # Whoever is in stays out of all twelve sums once in four thousand times.
    shares = {"anchor": False, "local_steps": 12, "sampling_probability": 0.5}
    study = eight.model_copy(update={"training": eight.training.model_copy(update=shares)})

    found = audit(Audit(study, canaries=40), progress=silent, noise=no_noise)

    assert found.sums == 2 * 12
    for bound in found.bounds:
        assert bound.epsilon >= 0.8 * bound.ceiling


def test_secure_aggregation_is_audited_by_its_totals(eight: Study) -> None:
    privacy = eight.privacy.model_copy(update={"trust": "aggregate"})
    cohort = eight.cohort.model_copy(update={"sites": ("north", "east", "south")})
    study = eight.model_copy(update={"privacy": privacy, "cohort": cohort})

    sound = audit(Audit(study, canaries=30), progress=silent)
    faulty = audit(Audit(study, canaries=30), progress=silent, noise=no_noise)

    assert sound.sums == faulty.sums == 4
    for with_noise, without in zip(sound.bounds, faulty.bounds, strict=True):
        assert with_noise.epsilon < 0.8 * without.ceiling <= without.epsilon


@pytest.mark.parametrize("unit", ["recording", "window"])
def test_canaries_are_units_of_the_study(one: Study, unit: str) -> None:
    study = one.model_copy(update={"privacy": one.privacy.model_copy(update={"unit": unit})})

    found = audit(Audit(study, canaries=40), progress=silent, noise=no_noise)

    assert found.unit == unit
    assert all(bound.epsilon >= 0.8 * bound.ceiling for bound in found.bounds)


def test_noise_at_a_quarter_is_noticed(one: Study) -> None:
    found = audit(Audit(one, canaries=400), progress=silent, noise=noise_of(1, share=0.25))

    assert found.contradicted


def test_clipping_windows_where_people_were_promised_is_noticed(
    one: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_batch = fedsynth.site.steps._batch
    monkeypatch.setattr(
        fedsynth.site.steps,
        "_batch",
        lambda windows, *, device, **_: true_batch(windows, unit="window", device=device),
    )

    found = audit(Audit(one, canaries=240), progress=silent, noise=noise_of(2))

    assert found.contradicted


def test_sites_without_a_canary_take_part_and_are_not_looked_at(one: Study) -> None:
    found = audit(Audit(one, canaries=3), progress=silent)

    assert found.sums == 3 * 2


def test_a_round_that_cannot_be_replayed_is_not_audited(eight: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Trainer):
        def step(self, total: torch.Tensor) -> None:
            super().step(1.01 * total)

    monkeypatch.setattr(fedsynth.audit.run, "Trainer", Other)

    with pytest.raises(RunError, match="does not end where the site did"):
        audit(Audit(eight, canaries=4), progress=silent)


def test_canaries_train_pass_the_gate_and_differ(one: Study) -> None:
    canaries = make_canaries(one, count=24, seed="audit", sites=("east", "west"))

    recordings = [recording for canary in canaries for recording in canary.recordings]
    for recording in recordings:
        check_recording(recording, n_times=one.windows.n_times)
        assert group_of_person(recording.subject, held_out=one.training.held_out) == "train"
    assert len({recording.digest for recording in recordings}) == len(recordings) == 48
    assert len({recording.subject for recording in recordings}) == 24
    assert [canary.site for canary in canaries[:3]] == ["east", "west", "east"]
    assert {recording.label for recording in recordings} == {"rest", "task"}


def test_canaries_of_an_ecg_study_with_beats_are_centred_windows_of_that_label(one_text: str) -> None:
    text = one_text.replace('"eeg"', '"ecg"').replace('format = "edf"', 'format = "wfdb"')
    text = text.replace('["Fp1", "F4", "C3", "T8", "P4", "O1"]', '["II"]').replace('"participants.tsv"', '"beats"')
    study = parse_study(text)

    canaries = make_canaries(study, count=12, seed="audit", sites=("east", "west"))

    assert [canary.unit.labels.unique().tolist() for canary in canaries] == [[0], [0], [1], [1]] * 3
    assert {tuple(canary.unit.signal.shape[1:]) for canary in canaries} == {(1, 128)}
    patterns = torch.stack([canary.unit.signal[0, 0] for canary in canaries])
    assert float(torch.corrcoef(patterns).triu(diagonal=1).abs().max()) < 0.99


def test_a_study_that_promises_nothing_has_no_claim_to_audit(one: Study) -> None:
    study = one.model_copy(update={"privacy": one.privacy.model_copy(update={"epsilon": math.inf})})

    with pytest.raises(StudyError, match="promises nothing"):
        dry_audit(Audit(study))


def test_a_site_of_the_study_that_has_no_folder_is_named(one: Study, tmp_path: Path) -> None:
    (tmp_path / "north").mkdir()

    with pytest.raises(RecordingError, match=r"names site 'east', but .* has no such folder"):
        audit(Audit(one, sites=tmp_path), progress=silent)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, one_text: str) -> Any:
    """Return a function that runs `fedsynth audit STUDY ...` in this process."""
    study = tmp_path / "study.toml"
    study.write_text(one_text)
    monkeypatch.setattr(fedsynth.privacy.noise, "system_noise", noise_of(4))

    def command(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["fedsynth", "audit", str(study), *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return command


def test_the_command_prints_bounds_ceilings_and_what_they_mean(run: Any, tmp_path: Path) -> None:
    done = run("--cohort", "toy", "--canaries", 40, "--out", tmp_path / "audit.json")

    assert done.code == 0, done.err
    assert re.search(r"claimed epsilon (0\.99\d|1\.000) at delta 1e-05 per subject, trust site", done.out)
    for word in ("any mechanism", "Gaussian mechanism", "ceiling", "guesses", "does not confirm epsilon"):
        assert word in done.out
    assert "looking for canaries" in done.err
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["contradicted"] is written["noise_off"] is written["recordings"] is False
    assert run("--cohort", "toy", "--canaries", 40, "--out", tmp_path / "audit.json").code == 1


def test_the_command_without_noise_exits_with_three(run: Any) -> None:
    done = run("--cohort", "toy", "--canaries", 60, "--noise-off", "--seed-free", "--json")

    assert done.code == 3
    body = json.loads(done.out)
    assert body["contradicted"] is body["noise_off"] is True
    assert all(bound["epsilon"] >= 0.8 * bound["ceiling"] for bound in body["bounds"])
    assert "contradicts its claim" in done.err


def test_the_command_leaves_real_recordings_and_their_ledgers_alone(run: Any, one: Study, tmp_path: Path) -> None:
    folder = tmp_path / "sites"
    write_toy_cohort(folder, study=one, people=0.04)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    done = run("--sites", folder, "--canaries", 20)

    assert done.code == 0, done.err
    assert "keep them where the recordings are" in done.out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_command_says_beforehand_what_it_could_show(run: Any) -> None:
    done = run("--cohort", "toy", "--canaries", 300, "--dry-run")

    assert done.code == 0, done.err
    assert "at most epsilon 4.381" in done.out
    assert "Nothing was run or written" in done.out


def test_the_command_wants_recordings_or_a_toy_cohort(run: Any) -> None:
    assert run("--canaries", 20).code == 2
