"""Drawing: made-up subjects whose windows belong together, the same whatever the batches, in bounded memory."""

import tracemalloc
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedsynth.errors import RunError, StudyError
from fedsynth.report.sample import coherence
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.asked import Asked
from fedsynth.synthesis.generator import Generator, at_prior, untrained
from fedsynth.synthesis.windows import SyntheticWindows


@pytest.fixture(scope="module")
def single(tiny_text: str) -> Study:
    """One channel, so that a draw is quick."""
    return parse_study(tiny_text.replace('["C3", "C4"]', '["Cz"]'))


@pytest.fixture(scope="module")
def generator(single: Study) -> Generator:
    return at_prior(single)


def differing(generator: Generator, share: float) -> Generator:
    """Return a generator of which subjects make up a share of the variance of every feature."""
    between = share * torch.eye(generator.anchor.between.shape[1]).to(generator.anchor.between)[None]
    between = between.expand_as(generator.anchor.between)
    return untrained(generator.study, replace(generator.anchor, between=between))


def variances(windows: SyntheticWindows, *, each: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variance of every band's log power within and between groups of `each` neighbours of one label."""
    powers = np.abs(np.fft.rfft(windows.signal[:, 0].astype(np.float64) * np.hanning(128))) ** 2
    bands = np.log10(np.stack([powers[:, first : first + 8].sum(axis=1) for first in (2, 10, 18, 26)], axis=1))
    groups = bands[: len(bands) // 2].reshape(-1, each, 4)
    within = groups.var(axis=1, ddof=1).mean(axis=0)
    return within, groups.mean(axis=1).var(axis=0, ddof=1) - within / each


def test_windows_of_one_subject_are_more_alike_than_windows_of_others(generator: Generator) -> None:
    windows = differing(generator, 0.8).draw(per_label=400, seed="a", windows_per_subject=10)

    within, between = variances(windows, each=10)

    assert (within < between).all()
    assert between / (within + between) == pytest.approx(0.8, abs=0.2)


def test_subjects_differ_by_the_share_that_the_anchor_says_and_no_more(generator: Generator) -> None:
    windows = differing(generator, 0.1).draw(per_label=400, seed="a", windows_per_subject=10)

    within, between = variances(windows, each=10)

    assert between / (within + between) == pytest.approx(0.1, abs=0.12)


def test_with_one_window_each_there_is_nothing_between_subjects(generator: Generator) -> None:
    """The control of the tests above: the same arithmetic where windows share nothing."""
    windows = differing(generator, 0.8).draw(per_label=400, seed="a", windows_per_subject=1)

    within, between = variances(windows, each=10)

    assert (between < 0.15 * within).all()


def test_subjects_have_one_label_and_stand_together(generator: Generator) -> None:
    windows = generator.draw(per_label=5, seed="a", windows_per_subject=2)

    assert windows.labels.tolist() == [0] * 5 + [1] * 5
    assert windows.subjects.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]


def test_labels_may_have_numbers_of_their_own_and_windows_stay_the_same(generator: Generator) -> None:
    windows = generator.draw(per_label=(2, 5), seed="a", windows_per_subject=2)
    even = generator.draw(per_label=5, seed="a", windows_per_subject=2)

    assert windows.labels.tolist() == [0] * 2 + [1] * 5
    assert windows.subjects.tolist() == [0, 0, 1, 1, 2, 2, 3]
    np.testing.assert_allclose(windows.signal, even.signal[[0, 1, 5, 6, 7, 8, 9]], atol=1e-2)


def test_by_default_every_window_is_another_subject(generator: Generator) -> None:
    assert generator.draw(per_label=3, seed="a").subjects.tolist() == list(range(6))


def test_the_size_of_a_batch_changes_rounding_only(generator: Generator) -> None:
    def draw(batch: int) -> NDArray[np.float32]:
        stream = generator.stream(per_label=300, seed="a", windows_per_subject=7, batch=batch)
        return stream.gathered().signal

    whole, sevens = draw(256), draw(7)
    apart = np.abs(whole - sevens).max(axis=(1, 2)) > 1e-2

    # Where two waveforms of the bank are equally near, rounding decides; that is rare.
    assert apart.mean() < 0.01


def test_a_longer_draw_begins_with_the_shorter_one(generator: Generator) -> None:
    shorter = generator.draw(per_label=256, seed="a", windows_per_subject=5)
    longer = generator.draw(per_label=512, seed="a", windows_per_subject=5)

    np.testing.assert_array_equal(longer.signal[:256], shorter.signal[:256])
    np.testing.assert_array_equal(longer.signal[512 : 512 + 256], shorter.signal[256:])


def test_a_stream_can_be_read_twice_and_says_how_far_it_is(generator: Generator) -> None:
    told: list[tuple[int, int]] = []
    stream = generator.stream(
        per_label=300, seed="a", windows_per_subject=10, progress=lambda n, of: told.append((n, of))
    )

    first, again = stream.gathered(), stream.gathered()

    np.testing.assert_array_equal(first.signal, again.signal)
    assert told == 2 * [(256, 600), (300, 600), (556, 600), (600, 600)]
    assert stream.counts() == (300, 300)


def test_seeds_labels_and_windows_have_noise_of_their_own(generator: Generator) -> None:
    one, other = (generator.draw(per_label=3, seed=seed).signal for seed in ("a", "b"))
    windows = [*one, *other]

    alike = [(i, j) for i in range(12) for j in range(i) if np.array_equal(windows[i], windows[j])]

    assert alike == []


def test_memory_does_not_grow_with_the_number_of_windows(generator: Generator) -> None:
    """NumPy's and Python's allocations; `benchmarks/sampling.py` measures the whole process."""

    def peak(per_label: int) -> int:
        stream = generator.stream(per_label=per_label, seed="a", windows_per_subject=25)
        tracemalloc.start()
        for _ in islice(stream.pieces(), 8):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1000)
    # A million windows would be 512 MB; eight bytes for each of 40,000 subjects are allowed.
    assert peak(500_000) < peak(1000) + 2_000_000


def test_training_noise_is_left_alone(generator: Generator) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)

    torch.manual_seed(3)
    generator.draw(per_label=2, seed="a")

    assert torch.equal(torch.rand(2), expected)


def test_parts_of_other_code_are_refused(single: Study, generator: Generator) -> None:
    strange = Generator(single, {"generator.nothing": torch.zeros(1)}, generator.anchor)

    with pytest.raises(RunError, match="another version"):
        strange.draw(per_label=1, seed="a")


def test_coherence_is_near_nothing_for_windows_that_share_nothing(generator: Generator) -> None:
    generator = differing(generator, 0.8)
    alone = generator.draw(per_label=100, seed="a")
    together = generator.draw(per_label=100, seed="a", windows_per_subject=2)
    paired = replace(alone, subjects=alone.subjects // 2)

    independent, coherent = coherence(paired), coherence(together)

    assert independent is not None
    assert coherent is not None
    assert abs(independent) < 0.2
    assert coherent > 0.4
    assert coherence(alone) is None


def test_coherence_is_the_intraclass_correlation_of_a_known_mixture() -> None:
    """Amplitudes whose logarithm has variance 3 between subjects and 1 within: three quarters."""
    rng = np.random.default_rng(8)
    logs = rng.normal(0, np.sqrt(3), (500, 1)) + rng.normal(0, 1, (500, 4))
    wave = np.sin(np.arange(128))
    windows = SyntheticWindows(
        signal=(100 * np.exp(logs.reshape(-1, 1, 1) / 2) * wave).astype(np.float32),
        labels=np.zeros(2000, np.int64),
        subjects=np.arange(2000) // 4,
        label_names=("all",),
        channels=("Cz",),
        sfreq=128.0,
    )

    assert coherence(windows) == pytest.approx(0.75, abs=0.04)


def test_a_subject_can_be_asked_for_by_where_it_lies_in_the_distribution_of_a_feature(generator: Generator) -> None:
    plain, quiet, loud = (
        generator.draw(per_label=400, seed="a", windows_per_subject=4, asked=asked)
        for asked in (None, Asked(features={"loudness": (0.1, 0.1)}), Asked(features={"loudness": (0.9, 0.9)}))
    )

    def levels(windows: SyntheticWindows) -> NDArray[np.float64]:
        level: NDArray[np.float64] = np.log10(windows.signal.astype(np.float64).std(axis=2).mean(axis=1))
        return level

    assert np.quantile(levels(plain), 0.5) < np.median(levels(loud))
    assert np.median(levels(quiet)) < np.quantile(levels(plain), 0.4)
    assert np.median(levels(loud)) > np.quantile(levels(plain), 0.6)
    assert generator.draw(per_label=4, seed="a", asked=Asked()).signal.shape == plain.signal[:8].shape


@pytest.mark.parametrize(
    ("asked", "fragment"),
    [
        (Asked({"age": {"old": 1}}), "none of the study's conditions"),
        (Asked(features={"charm": (0, 1)}), "delta, theta, alpha, beta, loudness"),
        (Asked(features={"alpha": (0.9, 0.1)}), "two rising numbers"),
    ],
)
def test_what_no_subject_can_be_asked_by_is_refused(generator: Generator, asked: Asked, fragment: str) -> None:
    with pytest.raises(StudyError, match=fragment):
        generator.draw(per_label=4, seed="a", asked=asked)
