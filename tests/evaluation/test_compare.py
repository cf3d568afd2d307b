"""A comparison tests on people who did not train, and tells useful windows from useless ones."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsynth.errors import RefusedError
from fedsynth.evaluation.compare import Comparison, Labelled, compare
from fedsynth.modalities.shape import Shape

SHAPE = Shape(("Cz",), n_times=64, sfreq=64.0, bandpass=(1.0, 30.0), n_labels=2, modality="eeg")
NAMES = ("quiet", "loud")


def windows(count: int, *, seed: int, louder: float = 4.0, swapped: bool = False) -> Labelled:
    """Noise; windows of the second label are `louder`, or those of the first where `swapped`."""
    labels = np.arange(count) % 2
    gain = np.where(labels == (0 if swapped else 1), louder, 1.0)[:, None, None]
    signal = 10 * gain * np.random.default_rng(seed).normal(size=(count, 1, 64))
    return Labelled(signal.astype(np.float32), labels.astype(np.int64))


def compared(synthetic: Labelled, **exchanged: object) -> Comparison:
    real = windows(120, seed=1)
    arguments: dict[str, object] = {
        "people": np.arange(120) % 40,
        "shape": SHAPE,
        "names": NAMES,
        "positive": 1,
        "progress": lambda *_: None,
    }
    return compare(real, synthetic, **(arguments | exchanged))  # type: ignore[arg-type]


def aurocs(found: Comparison) -> dict[str, float]:
    return {s.name.partition("trained on ")[2]: s.value for s in found if s.name.startswith("AUROC")}


def test_windows_of_the_same_law_serve_as_real_ones_do() -> None:
    found = aurocs(compared(windows(120, seed=2)))

    assert set(found) == {"synthetic", "real", "real and synthetic"}
    assert min(found.values()) > 0.95


def test_windows_whose_labels_are_swapped_do_not_serve() -> None:
    found = aurocs(compared(windows(120, seed=2, swapped=True)))

    assert found["synthetic"] < 0.1
    assert found["real"] > 0.95


def test_nobody_trains_and_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    people = np.arange(120) % 40
    real = windows(120, seed=1)
    trained: list[NDArray[np.float32]] = []
    tested: list[NDArray[np.float32]] = []
    monkeypatch.setattr(
        "fedsynth.evaluation.compare.train_classifier", lambda signal, *_, **__: trained.append(signal)
    )

    def answer(_: object, signal: NDArray[np.float32]) -> NDArray[np.float64]:
        tested.append(signal)
        return np.full((len(signal), 2), 0.5)

    monkeypatch.setattr("fedsynth.evaluation.compare.answer", answer)
    compared(windows(10, seed=2))

    whom = {real.signal[row].tobytes(): people[row] for row in range(120)}
    for training, test in zip(trained, tested, strict=True):
        who_trained = {whom[one.tobytes()] for one in training if one.tobytes() in whom}
        who_is_tested = {whom[one.tobytes()] for one in test}
        assert not who_trained & who_is_tested
    assert sum(len(test) for test in tested) == 3 * 120  # everybody is tested once by each kind


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda: {"people": np.zeros(120, dtype=np.int64)}, "is that of 1 people", id="one person"),
        pytest.param(lambda: {"people": np.arange(7)}, "120 real windows come with", id="subjects of others"),
        pytest.param(
            lambda: {"shape": Shape(("Cz",), 32, 64.0, (1.0, 30.0), 2, modality="eeg")},
            "not .window, 1, 32.",
            id="shape",
        ),
        pytest.param(lambda: {"names": ("quiet",), "positive": 0}, "label outside 0 to 0", id="labels"),
    ],
)
def test_what_does_not_belong_together_is_refused(spoil: Callable[[], dict[str, object]], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        compared(windows(10, seed=2), **spoil())
