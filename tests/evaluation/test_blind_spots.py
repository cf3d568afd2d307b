"""Which differences a plan can carry, in words."""

import pytest

from fedsynth.evaluation import blind_spots
from fedsynth.evaluation.blind_spots import Measured, arm_of, differences_of
from fedsynth.study import Study

ROWS = (
    Measured("evoked waveform", "eeg", "anchor", -0.1),
    Measured("evoked waveform", "eeg", "all:vae-ldm", 0.8),
    Measured("spindle density", "eeg", "anchor", 0.3),
    Measured("in phase or antiphase", "eeg", "anchor", 1.0),
    Measured("in phase or antiphase", "eeg", "anchor without coherence", 0.0),
    Measured("evoked waveform", "eeg", "anchor at events", 0.9),
    Measured("phase-amplitude coupling", "eeg", "anchor", None),
    Measured("missing P", "ecg", "anchor", 0.9),
)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind_spots, "table", lambda: ROWS)


def study(*, channels: tuple[str, ...] = ("C3", "C4"), train: str = "adapters", epsilon: float = 8.0) -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "signal": {"modality": "eeg", "format": "edf", "channels": channels, "sfreq": 100.0},
            "windows": {"n_times": 128},
            "labels": {"names": ("a", "b"), "source": "participants.tsv", "positive": "b"},
            "privacy": {"unit": "subject", "epsilon": epsilon, "delta": 1e-5},
            "family": {"name": "vae-ldm", "train": train},
        }
    )


def test_what_the_anchor_carries_and_loses_stands_in_order_of_size() -> None:
    found = differences_of(study(), asks_coherence=True)

    assert [name for name, _ in found.carried] == ["in phase or antiphase"]
    assert [name for name, _ in found.in_part] == ["spindle density"]
    assert [name for name, _ in found.lost] == ["evoked waveform"]
    assert "  lost:         evoked waveform -0.10\n" in found.sentences()


def test_a_plan_that_asks_nothing_of_channels_together_loses_their_signs() -> None:
    assert ("in phase or antiphase", 0.0) in differences_of(study(), asks_coherence=False).lost


def test_a_plan_that_asks_for_event_related_means_carries_what_is_evoked() -> None:
    found = differences_of(study(), asks_coherence=True, asks_events=True)

    assert ("evoked waveform", 0.9) in found.carried
    assert not found.lost


def test_a_plan_that_asks_for_no_responses_loses_what_they_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (Measured("chirp", "eeg", "anchor", 0.8), Measured("chirp", "eeg", "anchor without responses", 0.0))
    monkeypatch.setattr(blind_spots, "table", lambda: rows)

    assert differences_of(study(), asks_coherence=True).carried == (("chirp", 0.8),)
    assert differences_of(study(), asks_coherence=True, asks_responses=False).lost == (("chirp", 0.0),)


def test_one_channel_has_no_phase_against_another() -> None:
    found = differences_of(study(channels=("C3",)), asks_coherence=False)

    assert "in phase or antiphase" not in found.sentences()


def test_what_was_not_measured_for_a_family_is_said() -> None:
    found = differences_of(study(train="all", epsilon=float("inf")), asks_coherence=True)

    assert [name for name, _ in found.carried] == ["evoked waveform"]
    assert found.unknown == ("spindle density", "in phase or antiphase", "phase-amplitude coupling")


@pytest.mark.parametrize(
    ("train", "epsilon", "arm"),
    [
        pytest.param("adapters", 8.0, "anchor", id="adapters"),
        pytest.param("all", 8.0, "anchor", id="layers by private gradients start at the anchor"),
        pytest.param("all", float("inf"), "all:vae-ldm", id="layers by minibatches"),
    ],
)
def test_arms(train: str, epsilon: float, arm: str) -> None:
    assert arm_of(study(train=train, epsilon=epsilon)) == arm
