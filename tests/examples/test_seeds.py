"""The seeds' studies: families are trained in them, originals are as flawed as they were, and pages come out."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from layout_folders import CHB, chb_site, edf, siena_site
from numpy.typing import NDArray

from fedsynth.errors import RecordingError
from fedsynth.evaluation.diversity import LEAST_DIVERSITY, diversity_score
from fedsynth.evaluation.protocol.cells import Cells
from fedsynth.evaluation.protocol.classifiers.training import Setting
from fedsynth.evaluation.protocol.features import feature_names
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.replicates import Replicates
from fedsynth.evaluation.protocol.size import SIZES
from fedsynth.evaluation.protocol.splits import LEAKY
from fedsynth.modalities.shape import Shape
from fedsynth.study import Study, load_study
from fedsynth.synthesis.windows import SyntheticWindows

FOLDER = Path(__file__).parents[2] / "examples" / "seeds"
SHAPE = Shape(("EEG",), 178, 173.61, (0.5, 40.0), 2, "eeg")


@pytest.fixture(scope="module")
def seeds() -> Iterator[SimpleNamespace]:
    """Import the studies as their command lines do, from their own folder."""
    sys.path.insert(0, str(FOLDER))
    names = [
        "arms",
        "bench",
        "bonn_sets",
        "cohorts",
        "fidelity",
        "findings",
        "hearts",
        "originals",
        "real_sets",
        "skips",
        "study",
    ]
    try:
        found = SimpleNamespace(**{name: importlib.import_module(f"kit.{name}") for name in names})
        found.studies = {name: importlib.import_module(name) for name in ("als", "bonn", "ecg", "geneeg")}
        yield found
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def real(seeds: SimpleNamespace) -> Material:
    """Return thirty recordings with two windows each."""
    material: Material = seeds.cohorts.oscillators(per_label=6, each=2, n_times=178, sfreq=173.61, seed=1)
    return material


def windows_of(
    seeds: SimpleNamespace, real: Material, shape: Shape, family: str, layers: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return windows of a family that was trained, and of the same one as it started, at the anchor."""
    arm = seeds.arms.Arm("test", family=family, layers=layers, steps=60, rows=16)
    generator = seeds.arms.trained(arm, real, seeds.arms.Frame(shape, ("one", "other"), "other"))
    trained, before = (generator.draw(per_label=3, seed="test", untrained=at).signal for at in (False, True))
    return trained, before


def families_in(*studies: Any) -> list[str]:
    """Return every family of which a study has an arm whose layers learn."""
    values = [value for study in studies for value in vars(study).values()]
    arms = [arm for value in values for arm in (value if isinstance(value, tuple) else (value,))]
    return sorted({arm.family for arm in arms if getattr(arm, "layers", "") == "all"})


@pytest.mark.slow
def test_families_are_trained_and_differ_from_the_anchor_and_from_one_another(
    seeds: SimpleNamespace, real: Material
) -> None:
    """Without layers that learn two GANs are bit-identical, which is what this test is there to see."""
    studies, hearts = seeds.studies, seeds.hearts
    of_eeg = families_in(studies["als"], studies["bonn"], studies["geneeg"])
    of_ecg = families_in(studies["ecg"])
    counts = (6, 6, 0, 0, 0, 0, 0)
    beats = hearts.hearts(counts=counts, device=hearts.CHAPMAN, leads=("II",), seed=1, n_times=200)
    ecg = Shape(("II",), 200, 100.0, (0.5, 40.0), 2, "ecg")
    trained = {name: windows_of(seeds, real, SHAPE, name, "all") for name in of_eeg}
    trained |= {name: windows_of(seeds, beats, ecg, name, "all") for name in of_ecg}
    alike = [windows_of(seeds, real, SHAPE, name, "adapters")[0] for name in ("dense-gan", "wavegan")]

    def apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
        return float(np.abs(one - other).mean() / np.abs(other).mean())

    assert np.array_equal(*alike)
    assert of_eeg == ["cwgan", "dense-gan", "vae-ldm", "wavegan"]
    assert of_ecg == ["diffwave", "time-diffusion", "time-vqvae"]
    pairs = {name: apart(*pair) for name, pair in trained.items()}
    for some in (of_eeg, of_ecg):
        pairs |= {pair: apart(*(trained[name][0] for name in pair)) for pair in combinations(some, 2)}
    # The learning rate still rises in the first hundred steps: sixty of them move windows by a twentieth and more.
    assert {pair: far for pair, far in pairs.items() if far < 0.02} == {}


def test_patients_differ_and_channels_are_differences_where_the_layout_says_so(seeds: SimpleNamespace) -> None:
    cohorts = seeds.cohorts
    first = cohorts.seizures(cohorts.CHB_MIT, patients=3, seed=1, n_times=128, each=0.2)
    again = cohorts.seizures(cohorts.CHB_MIT, patients=3, seed=1, n_times=128, each=0.2)

    assert np.array_equal(first.signal, again.signal)
    assert set(first.labels) == {0, 1, 2}
    # Both chains lead from Fp1 to O1: their sums see the same, but for the montage's own noise and its scaling.
    chains = [[cohorts.CHB_MIT.index(name) for name in names] for names in (
        ("FP1-F7", "F7-T7", "T7-P7", "P7-O1"), ("FP1-F3", "F3-C3", "C3-P3", "P3-O1")
    )]  # fmt: skip
    one, other = (first.signal[:, chain].sum(axis=1).ravel() for chain in chains)
    assert np.corrcoef(one, other)[0, 1] > 0.5


def test_a_feature_can_be_told_apart_after_correction(seeds: SimpleNamespace) -> None:
    """The least p-value of a permutation test is one over the permutations and one; Holm multiplies it by rows."""
    three_states = replace(SHAPE, n_labels=3)
    rows = len(feature_names(three_states)) * three_states.n_labels

    assert rows / (1 + seeds.fidelity.DRAWS) < 0.05


def test_what_is_simulated_lies_in_the_band_of_made_up_windows(seeds: SimpleNamespace) -> None:
    """Outside of it a classifier would tell made-up windows from recordings, whatever they are worth."""
    cohorts, hearts = seeds.cohorts, seeds.hearts
    beats = hearts.hearts(counts=(3,) * 7, device=hearts.OTHER, seed=1)
    several = {
        "seizures": (cohorts.seizures(cohorts.SIENA, patients=2, seed=1, sfreq=128.0, each=0.2), 128.0, 30.0),
        "als": (cohorts.als(people=4, share=0.5, windows=2, seed=1), 128.0, 30.0),
        "oscillators": (cohorts.oscillators(per_label=3, each=4, n_times=178, sfreq=173.61, seed=1), 173.61, 40.0),
        "hearts": (beats, 100.0, 40.0),
    }
    for name, (material, sfreq, highest) in several.items():
        tapered = material.signal * np.hanning(material.signal.shape[2])
        power = (np.abs(np.fft.rfft(tapered, axis=2)) ** 2).mean(axis=(0, 1))
        outside = np.fft.rfftfreq(material.signal.shape[2], 1 / sfreq) > 1.15 * highest

        assert power[outside].sum() < 1e-3 * power.sum(), name


def test_the_collapsed_original_is_refused_and_the_described_one_is_not(seeds: SimpleNamespace) -> None:
    cohorts = seeds.cohorts
    people = cohorts.als(people=8, share=0.25, windows=2, seed=1, sfreq=64.0, n_times=64)
    frame = seeds.arms.Frame(
        Shape(cohorts.ALS_CHANNELS, 64, 64.0, (0.5, 30.0), 2, "eeg"), ("control", "ALS"), "ALS"
    )
    scores = {}
    for is_collapsed in (True, False):
        made = seeds.originals.als_gan(people, frame, steps=10, per_label=8, seed=1, is_collapsed=is_collapsed)
        windows = SyntheticWindows(made.signal, made.labels, made.people, frame.names, cohorts.ALS_CHANNELS, 64.0)
        scores[is_collapsed] = diversity_score(windows).value

    assert scores[True] < LEAST_DIVERSITY < scores[False]


def test_a_decoder_that_learned_with_skips_fails_without_them_and_one_that_did_not_does_not_care(
    seeds: SimpleNamespace, real: Material
) -> None:
    frame = seeds.arms.Frame(SHAPE, ("rest", "seizure"), "seizure")
    even = replace(real, signal=real.signal[:, :, :176])
    skipped, plain = (
        seeds.skips.autoencoded(even, frame, steps=60, per_label=4, seed=1, with_skips=with_skips)
        for with_skips in (True, False)
    )

    assert skipped.with_skips > 0.8
    assert skipped.without < skipped.with_skips - 0.3
    assert plain.without > skipped.without
    assert plain.made.signal.shape == (8, 1, 176)


def test_seizures_are_thinned_and_nobody_else_is(seeds: SimpleNamespace) -> None:
    everybody = seeds.cohorts.oscillators(per_label=20, each=2, n_times=178, sfreq=173.61, seed=1)
    thinned = seeds.bonn_sets.thinned(everybody, per_seizure=10)

    assert np.bincount(thinned.labels).tolist() == [160, 16]
    assert thinned.n_people == 88


def test_doubling_adds_as_many_synthetic_windows_as_there_are_real_ones_and_then_repeats(
    seeds: SimpleNamespace,
) -> None:
    labels = np.array([0] * 10 + [1] * 2)
    people = Material(np.zeros((12, 1, 8), np.float32), labels, np.arange(12))
    made = Material(np.ones((20, 1, 8), np.float32), np.repeat([0, 1], 10), np.arange(20))

    training = seeds.bench.training_of(people, made, seeds.bench.DOUBLED, n_labels=2).windows

    assert np.bincount(training.labels).tolist() == [10, 10]
    assert not training.signal[training.labels == 0].any()
    assert len(np.unique(training.people[(training.labels == 1) & (training.signal[:, 0, 0] == 1)])) <= 2


def small_bench(seeds: SimpleNamespace, real: Material, cells: Cells) -> Any:
    """Return a bench that trains in seconds: two folds, one network."""
    frame = seeds.arms.Frame(SHAPE, ("rest", "seizure"), "seizure")
    size = replace(SIZES["quick"], steps=8, draws=20)
    folds = seeds.bench.groups(real, count=2)
    return seeds.bench.Bench("small", real, frame, folds, Setting(SHAPE, size), ("cnn-bilstm",), cells)


def test_two_processes_find_what_one_does_and_a_stopped_study_goes_on(
    seeds: SimpleNamespace, real: Material, tmp_path: Path
) -> None:
    found = {}
    for workers in (1, 2):
        cells = Cells.at(tmp_path / f"{workers}.json", {})
        bench = small_bench(seeds, real, cells)
        made = seeds.bench.Made(replace(real, signal=real.signal * 2), {"fold": 1.0})
        ways = ("minority only", seeds.bench.DOUBLED, seeds.bench.STAGED)
        source = seeds.bench.Source("made up", lambda *_, made=made: made, ways)
        jobs = [*bench.real_jobs(("none", seeds.bench.HALVES)), *bench.jobs(source)]
        if workers == 2:
            seeds.study.carry_out(cells, jobs[:1], workers=workers)
            cells = bench.cells = Cells.at(tmp_path / "2.json", {})
        seeds.study.carry_out(cells, jobs, workers=workers)
        found[workers] = {key: value for key, value in cells.more.items() if key != seeds.study.SECONDS}

    assert found[1] == found[2]
    assert list(found[1]) == [f"small/{source}/{fold}" for source in ("real", "made up") for fold in (0, 1)]
    assert bench.notes("made up") == [{"fold": 1.0}, {"fold": 1.0}]
    staged, halves = (found[1][f"small/{source}/0"] for source in ("made up", "real"))
    assert staged[f"cnn-bilstm/{seeds.bench.STAGED}"] != halves[f"cnn-bilstm/{seeds.bench.HALVES}"]


def test_a_finding_says_what_its_interval_says(seeds: SimpleNamespace) -> None:
    told = {
        "up": Replicates(0.2, (0.1, 0.3)),
        "level": Replicates(0.1, (-0.1, 0.3)),
        "down": Replicates(-0.2, (-0.3, -0.1)),
        "absent": None,
    }

    (said,) = seeds.findings.findings("filling helps", told)
    (cost,) = seeds.findings.costs("here", {"noise": told["down"], "distance": told["level"], "luck": told["up"]})

    assert said == (
        "Filling helps: held by 1 of 3, up (+0.200 [+0.105, +0.295]). "
        "The opposite held by 1, down (−0.200 [−0.295, −0.105]). Not told from zero: level."
    )
    assert cost == (
        "Here: noise costs 0.200 [0.105, 0.295]; distance makes no difference told from zero "
        "(+0.100 [−0.090, +0.290]); luck gains +0.200 [+0.105, +0.295]."
    )
    assert seeds.findings.findings("filling helps", {"absent": None}) == ()


def test_windows_of_the_originals_stay_in_the_range_of_those_who_trained(
    seeds: SimpleNamespace, real: Material
) -> None:
    frame = seeds.arms.Frame(SHAPE, ("rest", "seizure"), "seizure")
    for train in (seeds.originals.dense_gan, seeds.originals.wavegan):
        made = seeds.originals.one_network_a_label(real, frame, train=train, steps=3, per_label=5, seed=1)

        assert made.signal.shape == (10, 1, 178)
        assert np.bincount(made.labels).tolist() == [5, 5]
        assert real.signal.min() <= made.signal.min() <= made.signal.max() <= real.signal.max()


def test_the_seeds_scaler_sees_who_is_tested(seeds: SimpleNamespace, real: Material) -> None:
    """Change one recording that is tested, and what trains changes with it: that is the leak."""
    scaled_by_all = seeds.studies["bonn"].scaled_by_all
    louder = Material(real.signal.copy(), real.labels, real.people)
    louder.signal[-2:] *= 10

    assert not np.allclose(scaled_by_all(real).signal[:2], scaled_by_all(louder).signal[:2])


def test_folds_keep_people_whole_but_for_the_leaky_one(seeds: SimpleNamespace, real: Material) -> None:
    bench = seeds.bench
    for folds in (bench.leave_one_out(real), bench.groups(real, count=3)):
        assert all(not set(real.people[train]) & set(real.people[test]) for train, test in folds)
        assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(len(real)))
    assert any(
        set(real.people[train]) & set(real.people[test]) for train, test in bench.random_windows(real, count=3)
    )


def test_rhythms_have_their_rates_and_limb_leads_add_up(seeds: SimpleNamespace) -> None:
    hearts = seeds.hearts
    people = hearts.hearts(counts=(6,) * 7, device=hearts.CHAPMAN, seed=1)
    one, two, three = (people.signal[:, hearts.LEADS.index(name)] for name in ("I", "II", "III"))
    rates = [
        np.median(
            [(np.diff((wave > 0.55 * wave.max()).astype(int)) == 1).sum() for wave in two[people.labels == label]]
        )
        for label in range(7)
    ]

    assert np.allclose(one + three, two, atol=1e-2)
    told = dict(zip(hearts.RHYTHMS, rates, strict=True))
    assert told["bradycardia"] < told["sinus"] < told["tachycardia"] < told["supraventricular"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["als", pytest.param("bonn", marks=pytest.mark.long), "ecg", pytest.param("geneeg", marks=pytest.mark.long)],
)
def test_a_study_ends_in_a_page_and_a_second_call_computes_nothing(
    seeds: SimpleNamespace, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = seeds.studies[name]
    words = ["--quick", "--out", str(tmp_path)]
    assert study.main(words) == 0
    numbers = (tmp_path / "study.json").read_text(encoding="utf-8")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    study.main(words)

    assert (tmp_path / "study.json").read_text(encoding="utf-8") == numbers
    assert json.loads(numbers)["question"]["study"] == name
    assert "What held, and what did not" in page
    assert "The published figures beside ours" in page
    assert "ε = 8, secure sums" in page
    assert "each hospital" in page
    assert not any(word in page for word in ("<script", "src=", "http://", "https://"))
    if name in ("bonn", "geneeg"):
        assert LEAKY.partition(":")[0] in page
    assert "Page:" in capsys.readouterr().out


def chb_patients(folder: Path) -> Path:
    """Write two patients more than `chb_site`."""
    chb_site(folder)
    for seed, who in ((20, "chb02"), (30, "chb03")):
        for number in (1, 2):
            path = folder / who / f"{who}_0{number}.edf"
            edf(path, near_seizures("chb-mit").signal.channels, sfreq=256, seconds=60, seed=seed + number)
        (folder / who / f"{who}-summary.txt").write_text(CHB.replace("chb01", who))
    return folder


def near_seizures(name: str) -> Study:
    """Return the example study of a set, for recordings of minutes instead of hours."""
    study = load_study(FOLDER.parent / name / "study.toml")
    before = {"preictal": study.labels.before["preictal"].model_copy(update={"seconds": 20.0})}
    labels = study.labels.model_copy(update={"gap_seconds": 2.0, "before": before})
    rate = {"siena": 64.0, "chb-mit": 256.0}[name]
    signal = study.signal.model_copy(update={"recorded_sfreq": rate, "sfreq": 64.0})
    return study.model_copy(update={"labels": labels, "signal": signal})


@pytest.mark.parametrize(("name", "make"), [("Siena", siena_site), ("CHB-MIT", chb_patients)])
def test_real_patients_with_seizures_take_the_place_of_simulated_ones(
    seeds: SimpleNamespace, name: str, make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = seeds.real_sets.SEIZURES[name]
    monkeypatch.setattr(seeds.real_sets, "load_study", lambda path: near_seizures(path.parent.name))
    channels = near_seizures(folder).signal.channels
    shape = Shape(channels, 256, 64.0, (0.5, 30.0), 3, "eeg")

    real = seeds.real_sets.patients_with_seizures(name, make(tmp_path / "patients"), shape)

    assert real.signal.shape[1:] == (16, 256)
    assert sorted(set(real.labels.tolist())) == [0, 1, 2]
    most = [24, 8, 24]
    for person in np.unique(real.people):
        counts = np.bincount(real.labels[real.people == person], minlength=3)
        assert (counts <= most).all()
    # Parts of a patient's recordings are of one person, and so are CHB-MIT's 1 and 21.
    assert len(np.unique(real.people)) == 3


def test_recordings_without_a_state_are_refused_in_a_sentence(
    seeds: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = near_seizures("siena")
    far = study.model_copy(update={"labels": study.labels.model_copy(update={"gap_seconds": 3600.0})})
    monkeypatch.setattr(seeds.real_sets, "load_study", lambda _: far)
    shape = Shape(study.signal.channels, 256, 64.0, (0.5, 30.0), 3, "eeg")

    with pytest.raises(RecordingError, match="no normal windows; name the folder of Siena as published"):
        seeds.real_sets.patients_with_seizures("Siena", siena_site(tmp_path / "patients"), shape)


@pytest.mark.long
def test_a_study_of_recorded_patients_says_so(
    seeds: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds.real_sets, "load_study", lambda path: near_seizures(path.parent.name))
    folder = siena_site(tmp_path / "patients")
    words = ["--quick", "--layouts", "Siena", "--siena", str(folder), "--jobs", "1", "--out", str(tmp_path / "out")]

    assert seeds.studies["geneeg"].main(words) == 0

    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "3 patients of Siena, as recorded" in page
    assert "simulated" not in page
    assert json.loads((tmp_path / "out" / "study.json").read_text())["question"]["recorded"] == ["Siena"]
