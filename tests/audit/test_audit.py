"""Audits of the real pipeline on a tiny study: below the claim, or above it where noise or clipping is at fault."""

import json
import math
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fedsynth.privacy.noise
import fedsynth.secure_aggregation.messages
import fedsynth.secure_aggregation.protocol
import fedsynth.site.session
import fedsynth.site.steps
from fedsynth.audit.bounds import Finding, bounds
from fedsynth.audit.canaries import make_canaries
from fedsynth.audit.run import Audit, audit, dry_audit
from fedsynth.cli.main import main
from fedsynth.errors import PrivacyError, RecordingError, StudyError
from fedsynth.privacy.accountant import least_noise
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.noise import LATTICE_STD, NoiseSource
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.recordings.gate import check_recording
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.site.holdings import group_of_person
from fedsynth.study import Study, parse_study
from fedsynth.wire.envelope import seal, unseal
from fedsynth.wire.update import Update


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


def together(study: Study) -> Study:
    """Return the study with secure aggregation over three sites."""
    privacy = study.privacy.model_copy(update={"trust": "aggregate"})
    cohort = study.cohort.model_copy(update={"sites": ("north", "east", "south")})
    return study.model_copy(update={"privacy": privacy, "cohort": cohort})


def noise_of(seed: int, *, share: float = 1.0) -> NoiseSource:
    """Return noise that a test can repeat, `share` as loud as it should be."""
    rng = np.random.default_rng(seed)
    return lambda count: np.rint(share * LATTICE_STD * rng.normal(size=count)).astype(np.int64)


def test_a_sound_pipeline_stays_below_its_claim_and_shows_something_at_epsilon_eight(eight: Study) -> None:
    found = audit(Audit(eight, canaries=200), progress=silent)

    # Two sums of the anchor and the parts of one round at either site.
    assert found.answers == 2 * 3
    assert found.claimed < 8 < found.deciding.ceiling
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
    study = together(eight.model_copy(update={"training": eight.training.model_copy(update=shares)}))

    found = audit(Audit(study, canaries=40), progress=silent, noise=no_noise)

    assert found.answers == 12
    for bound in found.bounds:
        assert bound.epsilon >= 0.8 * bound.ceiling


def test_secure_aggregation_is_audited_by_its_totals(eight: Study) -> None:
    study = together(eight)

    sound = audit(Audit(study, canaries=30), progress=silent)
    faulty = audit(Audit(study, canaries=30), progress=silent, noise=no_noise)

    assert sound.answers == faulty.answers == 4
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

    assert found.answers == 3 * 2


def test_noise_that_stays_inside_a_site_is_noticed(one: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums are noisy where they are made, and what is sent is the sum without it."""

    def bare(sums: PrivateSum) -> torch.Tensor:
        noisy = sums._close()
        assert not torch.equal(noisy, sums._parameter.summed_grad)
        sent: torch.Tensor = sums._parameter.summed_grad * sums._unit
        return sent

    monkeypatch.setattr(PrivateSum, "read", bare)

    found = audit(Audit(one, canaries=100), progress=silent)

    assert found.contradicted


def test_a_site_without_masks_is_noticed(eight: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedsynth.secure_aggregation.protocol, "add_keystream", lambda *_, **__: None)
    monkeypatch.setattr(fedsynth.secure_aggregation.messages, "add_keystream", lambda *_, **__: None)

    with pytest.raises(PrivacyError, match="words can be read"):
        audit(Audit(together(eight), canaries=4), progress=silent)


EVENT = Mechanism("sum 1.25, -3.5", 1.0, 1.0, 1, 1.0)


@pytest.mark.parametrize(
    "fields",
    [{"ledger_length": 1 << 40}, {"ledger_head": "a" * 64}, {"train": ((EVENT, 1),)}],
    ids=["length", "head", "history"],
)
def test_a_second_copy_in_a_signed_word_is_noticed(
    one: Study, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    true_word = fedsynth.site.session.word_of
    monkeypatch.setattr(
        fedsynth.site.session, "word_of", lambda *words, **named: replace(true_word(*words, **named), **fields)
    )

    with pytest.raises(PrivacyError, match=r"more than was paid for.*another word than that of its ledger"):
        audit(Audit(one, canaries=4), progress=silent)


def test_a_second_tensor_is_noticed(one: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    true_pack = fedsynth.site.session.pack_arrays
    monkeypatch.setattr(
        fedsynth.site.session,
        "pack_arrays",
        lambda arrays: true_pack({**arrays, "copy": arrays["sum"]} if "sum" in arrays else arrays),
    )

    with pytest.raises(PrivacyError, match=r"more than was paid for.*other tensors than the order asks for"):
        audit(Audit(one, canaries=4), progress=silent)


def field_more(data: bytes) -> bytes:
    header, payload = unseal(data)
    return seal({**header, "copy": [1.25, -3.5]}, payload)


def a_blank_more(data: bytes) -> bytes:
    header, payload = unseal(data)
    text = json.dumps(header, sort_keys=True).encode() + b" "
    return b"fedsynth1" + struct.pack(">I", len(text)) + text + payload


@pytest.mark.parametrize(
    ("change", "said"),
    [(field_more, "bytes that are more than an update"), (a_blank_more, "bytes, and no update is written so")],
)
def test_bytes_that_no_update_has_are_noticed(one: Study, change: Callable[[bytes], bytes], said: str) -> None:
    def wrapper(handle: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        return lambda data: change(handle(data))

    with pytest.raises(PrivacyError, match=said):
        audit(Audit(one, canaries=4), progress=silent, answers=wrapper)


def test_canaries_train_pass_the_gate_and_differ(one: Study) -> None:
    canaries = make_canaries(one, count=24, seed="audit", sites=("east", "west"))

    recordings = [recording for canary in canaries for recording in canary.recordings]
    for recording in recordings:
        check_recording(recording, n_times=one.windows.n_times, modality=one.signal.modality)
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


def perfect(share: float) -> Finding:
    """Audit one private sum in which each of 4000 canaries has a coordinate of its own, as bytes, at epsilon 4."""
    count, rng = 4000, np.random.default_rng(5)
    sigma = least_noise(lambda sigma: [Mechanism("sum", sigma, 1.0, 1, 1.0)], epsilon=4.0, delta=1e-5)
    coins = rng.random(count) < 0.5
    sums = PrivateSum(count, clipping_norm=1.0, noise_multiplier=sigma, noise=noise_of(6, share=share))
    for some in np.array_split(np.flatnonzero(coins), 20):
        sums.add(torch.nn.functional.one_hot(torch.from_numpy(some), count).double())
    sent = Update.from_bytes(Update({"sum": sums.read()}).to_bytes()).tensors["sum"]
    found = bounds((sent.numpy() - 0.5) / sigma**2, coins, delta=1e-5)
    return Finding("one sum", 4.0, 1e-5, "subject", "site", count, int(coins.sum()), 1, found)


def test_half_of_the_noise_is_noticed_where_canaries_do_not_hide_one_another() -> None:
    sound, faulty = perfect(1.0), perfect(0.5)

    assert 1.5 < sound.deciding.epsilon < 3.5
    assert not sound.contradicted
    assert faulty.deciding.epsilon > 4.4
    assert faulty.contradicted
