"""The benchmark against peers: nobody crosses the split, one classifier judges all, and a peer spends what it
says."""

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant
from scipy.stats import norm

from fedsynth.modalities.shape import Shape

FOLDER = Path(__file__).parents[2] / "benchmarks"
SHAPE = Shape(channels=("EEG",), n_times=256, sfreq=128.0, bandpass=(0.5, 40.0), n_labels=2, modality="eeg")
DELTA = 1e-5


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """Import the benchmark as its command line does, from its own folder."""
    sys.path.insert(0, str(FOLDER))
    names = ("utility", "utility_data", "utility_page")
    peers = ("task", "spectral", "dp_merf", "private_evolution", "dp_gan", "marginals", "product")
    try:
        modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in names}
        modules |= {name: importlib.import_module(f"peers.{name}") for name in peers}
        yield SimpleNamespace(**modules)
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def dealt(bench: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Deal a simulated cohort of ten recordings a label."""
    work = tmp_path_factory.mktemp("work")
    bench.utility_data.write_simulated(work / "simulated", per_label=10)
    return SimpleNamespace(of=bench.utility_data.load("simulated", data=None, seed=1, work=work), work=work)


def windows(labels: NDArray[np.int64], *, seed: int = 0) -> NDArray[np.float32]:
    """Return noise for label 0, and slow waves three times as large for label 1."""
    noise = 10 * np.random.default_rng(seed).normal(size=(len(labels), 1, SHAPE.n_times))
    slow = np.cumsum(noise, axis=-1)
    slow = 30 * (slow - slow.mean(axis=-1, keepdims=True)) / slow.std(axis=-1, keepdims=True)
    return np.where(labels[:, None, None] == 1, slow, noise).astype(np.float32)


def task_of(bench: SimpleNamespace, *, epsilon: float = 8.0) -> object:
    """Return a task of 60 units with two windows each; every second unit has label 1."""
    units = np.repeat(np.arange(60), 2)
    return bench.task.Task(
        signal=windows(units % 2),
        labels=units % 2,
        units=units,
        hospitals=units % 4,
        shape=SHAPE,
        limit=500.0,
        unit="recording",
        epsilon=epsilon,
        delta=DELTA,
        seed=1,
        per_label=20,
    )


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


def test_no_recording_is_on_both_sides_of_the_split(dealt: SimpleNamespace) -> None:
    folders = [dealt.work / "simulated-1" / f"hospital-{number}" for number in (1, 2, 3, 4)]
    folders.append(dealt.work / "simulated-1.holdout")
    held = [{path.name for path in folder.rglob("*.txt")} for folder in folders]

    assert [len(names) for names in held] == [10, 10, 10, 10, 10]
    assert len(set().union(*held)) == 50


def test_another_number_of_hospitals_holds_out_the_same_recordings(
    bench: SimpleNamespace, dealt: SimpleNamespace
) -> None:
    bench.utility_data.deal(dealt.work / "simulated", dealt.work / "one", hospitals=1, seed=1)

    one, four = (dealt.work / f"{name}.holdout" for name in ("one", "simulated-1"))
    assert {path.name for path in one.rglob("*.txt")} == {path.name for path in four.rglob("*.txt")}


def test_units_are_numbered_over_all_hospitals(dealt: SimpleNamespace) -> None:
    train = dealt.of.train
    recordings = dealt.of.units("recording")

    assert len(np.unique(recordings)) == 40
    assert all(len(np.unique(train.hospitals[recordings == unit])) == 1 for unit in range(40))
    assert len(np.unique(dealt.of.units("window"))) == len(train.labels)


def test_every_method_is_judged_by_the_same_classifiers_on_the_same_windows(
    bench: SimpleNamespace, dealt: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def judge(given: object, of: object, *, positive: int, seed: int) -> dict[str, dict[str, float]]:  # noqa: ARG001
        seen.append((id(of), positive, seed))
        return {"cnn": {"auroc": 0.5}}

    def peer(task: object, progress: object) -> object:  # noqa: ARG001
        return bench.task.Outcome(dealt.of.train.signal, dealt.of.train.labels, 1.0, "none")

    monkeypatch.setattr(bench.utility, "judge", judge)
    monkeypatch.setattr(bench.utility, "PEERS", {"dp-merf": peer, "mst": peer})
    monkeypatch.setattr(bench.utility, "product", lambda *_, **__: [peer(None, None)])
    for method in ("train-real", "dp-merf", "mst", "fedsynth"):
        bench.utility.trial(
            "simulated", dealt.of, unit="recording", method=method, epsilon=1.0, seed=3,
            options=SimpleNamespace(per_label=5),
        )  # fmt: skip

    assert len(seen) == 4
    assert set(seen) == {(id(dealt.of), 4, 3)}  # S is the fifth name of the study


def test_the_mean_of_local_hospitals_is_over_disjoint_windows(
    bench: SimpleNamespace, dealt: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def judge(given: SimpleNamespace, of: object, **_: int) -> dict[str, dict[str, float]]:  # noqa: ARG001
        sizes.append(len(given.labels))
        return {"cnn": {"auroc": float(len(sizes))}}

    monkeypatch.setattr(bench.utility, "judge", judge)
    row = bench.utility.trial(
        "simulated", dealt.of, unit="recording", method="local-only", epsilon=math.inf, seed=1,
        options=SimpleNamespace(per_label=5),
    )  # fmt: skip

    assert sum(sizes) == len(dealt.of.train.labels)
    assert row.scores == {"cnn": {"auroc": 2.5}}


def test_people_are_scored_by_all_of_their_windows(bench: SimpleNamespace) -> None:
    labels, people = np.repeat([0, 0, 1, 1, 2], 3), np.repeat(np.arange(5), 3)
    right = np.eye(3)[labels] * 0.8 + 0.1
    right[[6, 9]] = [0.94, 0.05, 0.01]  # one window of three of each person of label 1
    mixed = np.where(np.arange(15) % 3 == 0, 0, labels)

    found = bench.utility.narrower(right, labels, people, positive=1)

    assert found["person_auroc"] == 1.0
    assert 0.6 < found["auroc_against_first"] < 1.0
    assert "person_auroc" not in bench.utility.narrower(right, mixed, people, positive=1)


def test_scores_of_a_perfect_and_of_a_guessing_classifier(bench: SimpleNamespace) -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])

    perfect = bench.utility.scores(np.eye(3)[labels], labels, positive=2)
    guess = bench.utility.scores(np.full((6, 3), 1 / 3), labels, positive=2)

    assert perfect == {"auroc": 1.0, "macro_auroc": 1.0, "macro_f1": 1.0}
    # Everything is called 0: its F1 is 2 * (1/3) * 1 / (1/3 + 1) = 1/2, that of the others 0.
    assert guess == pytest.approx({"auroc": 0.5, "macro_auroc": 0.5, "macro_f1": 1 / 6})


@pytest.mark.parametrize(("epsilon", "steps"), [(1.0, 1), (8.0, 1), (1.0, 4), (8.0, 4)])
def test_gaussian_sums_cost_what_the_analytic_formula_says(
    bench: SimpleNamespace, epsilon: float, steps: int
) -> None:
    sigma = bench.task.gaussian("sums", epsilon=epsilon, delta=DELTA, steps=steps).noise_multiplier / steps**0.5

    # Balle and Wang 2018, theorem 8, for sensitivity 1; k sums at sigma are one at sigma / sqrt(k).
    def delta_at(eps: float) -> float:
        return float(norm.cdf(0.5 / sigma - eps * sigma) - math.exp(eps) * norm.cdf(-0.5 / sigma - eps * sigma))

    assert delta_at(epsilon * 1.0005) <= DELTA
    assert delta_at(epsilon * 0.99) > DELTA


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_gans_steps_cost_what_a_second_accountant_says(bench: SimpleNamespace, epsilon: float) -> None:
    gan = bench.dp_gan
    mechanism = bench.task.gaussian(
        "gradients", epsilon=epsilon, delta=DELTA, steps=gan.STEPS, probability=gan.PROBABILITY
    )
    second = PRVAccountant()
    second.history = [(mechanism.noise_multiplier, gan.PROBABILITY, gan.STEPS)]

    assert second.get_epsilon(DELTA, eps_error=0.005) == pytest.approx(epsilon, rel=0.02)


@pytest.mark.parametrize("method", ["dp-merf", "private-evolution", "dp-sgd-gan"])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_a_peer_returns_what_was_asked_for_at_the_price_asked_for(
    bench: SimpleNamespace, method: str, epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.dp_gan, "STEPS", 6)
    monkeypatch.setattr(bench.dp_merf, "_STEPS", 10)
    monkeypatch.setattr(bench.private_evolution, "POPULATION", 20)

    made = bench.utility.PEERS[method](task_of(bench, epsilon=epsilon), silent)

    assert made.signal.shape == (40, 1, SHAPE.n_times)
    assert np.bincount(made.labels).tolist() == [20, 20]
    assert np.isfinite(made.signal).all()
    assert np.abs(made.signal).max() <= 500.0
    assert 0.99 * epsilon <= made.spent <= epsilon


@pytest.mark.parametrize("method", ["dp-merf", "private-evolution"])
def test_without_noise_a_peer_tells_two_easy_labels_apart(bench: SimpleNamespace, method: str) -> None:
    made = bench.utility.PEERS[method](task_of(bench, epsilon=math.inf), silent)
    labels = np.arange(60) % 2
    test = windows(labels, seed=9)

    answers = bench.utility._forest(made.signal, made.labels, test, shape=SHAPE, seed=1)

    assert made.spent == math.inf
    assert bench.utility.scores(answers, labels, positive=1)["auroc"] > 0.95


def test_a_units_rows_count_as_one_contribution_of_norm_one_at_most(bench: SimpleNamespace) -> None:
    rng = np.random.default_rng(3)
    rows, units = 100 * rng.normal(size=(30, 5)), np.repeat(np.arange(10), 3)
    mechanism = bench.task.gaussian("sum", epsilon=1.0, delta=DELTA)
    quiet = {"noise": lambda size: np.zeros(size, dtype=np.int64)}

    whole = bench.task.noisy_sum(rows, units, mechanism, **quiet)
    less = bench.task.noisy_sum(rows[units != 4], units[units != 4], mechanism, **quiet)

    expected = rows[units == 4].mean(axis=0)
    assert whole - less == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_the_noise_of_a_sum_has_the_size_that_is_priced(bench: SimpleNamespace) -> None:
    mechanism = bench.task.gaussian("sum", epsilon=1.0, delta=DELTA)

    nobody = bench.task.noisy_sum(np.zeros((0, 4000)), np.zeros(0, dtype=np.int64), mechanism)

    # The standard deviation of 4000 normals is right to 1.1 % (one sigma).
    assert nobody.std() == pytest.approx(mechanism.noise_multiplier, rel=0.05)


def test_contributions_of_the_embedding_and_of_votes_have_norm_one(bench: SimpleNamespace) -> None:
    rng = np.random.default_rng(1)
    vectors, labels = rng.normal(size=(12, 7)), np.arange(12) % 3

    embedded = bench.dp_merf.contributions(vectors, labels, rng.normal(size=(7, 40)), n_labels=3)
    votes = bench.private_evolution.ballots(vectors, labels, rng.normal(size=(3, 5, 7)))

    assert np.linalg.norm(embedded, axis=1) == pytest.approx(np.ones(12))
    assert np.linalg.norm(votes, axis=1) == pytest.approx(np.ones(12))
    assert [int(vote.argmax()) // 5 for vote in votes] == labels.tolist()


def test_the_embeddings_inner_product_is_the_gaussian_kernel(bench: SimpleNamespace) -> None:
    rng = np.random.default_rng(2)
    pair = rng.normal(size=(2, 4)) * 0.5

    embedded = bench.dp_merf.contributions(pair, np.zeros(2, int), rng.standard_normal((4, 20_000)), n_labels=1)

    kernel = math.exp(-0.5 * float(np.sum((pair[0] - pair[1]) ** 2)))
    weight = bench.dp_merf.COUNT_WEIGHT**2
    assert embedded[0] @ embedded[1] == pytest.approx(weight + (1 - weight) * kernel, abs=0.02)


def test_the_random_phase_decoder_has_the_powers_asked_for(bench: SimpleNamespace) -> None:
    space = bench.spectral.Spectral(SHAPE)
    asked = space.simulate(200, rng=np.random.default_rng(0))

    got = space.encode(space.decode(asked, rng=np.random.default_rng(1)))

    # One spread of the simulator is about .8 in log10 power; a tapered estimate scatters and leaks.
    middle = np.abs(got - asked)[:, 3:]
    assert np.median(middle) < 0.25
    assert np.corrcoef(got[:, 3:].ravel(), asked[:, 3:].ravel())[0, 1] > 0.95


def test_bins_are_public_and_decoded_within_themselves(bench: SimpleNamespace) -> None:
    vectors = np.random.default_rng(5).uniform(-2, 2, (50, 6))

    bins = bench.marginals.binned(vectors)
    back = bench.marginals.unbinned(bins, np.random.default_rng(6))

    assert np.array_equal(bench.marginals.binned(back), bins)
    assert np.abs(back - vectors).max() <= 0.75  # the outer bins reach half a bin of .5 further


def test_one_row_of_each_unit_is_taken(bench: SimpleNamespace) -> None:
    units = np.array([4, 4, 4, 1, 1, 9])

    rows = bench.marginals.one_per_unit(units, np.random.default_rng(0))

    assert units[rows].tolist() == [1, 4, 9]


def test_a_peer_that_is_not_installed_is_left_out_with_its_reason(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.marginals, "PYTHON", Path("/nowhere/python"))

    with pytest.raises(bench.marginals.UnavailableError, match=r"environment\.py"):
        bench.utility.PEERS["mst"](task_of(bench), silent)


def row(bench: SimpleNamespace, **changes: object) -> object:
    values = {
        "set": "simulated", "unit": "recording", "epsilon": 1.0, "delta": DELTA, "method": "dp-merf", "seed": 1,
        "spent": 0.999, "accountant": "PLD", "seconds": 2.0,
        "scores": {name: {"auroc": 0.9, "macro_auroc": 0.8, "macro_f1": 0.5} for name in ("cnn", "forest")},
    } | changes  # fmt: skip
    return bench.utility.Row(**values)


def test_results_come_back_as_written_and_infinity_is_a_word(bench: SimpleNamespace, tmp_path: Path) -> None:
    rows = [row(bench), row(bench, method="train-real", epsilon=math.inf, spent=math.inf)]

    bench.utility.write(rows, tmp_path / "out.json")

    assert bench.utility.read(tmp_path / "out.json") == rows
    assert "Infinity" not in (tmp_path / "out.json").read_text()


def test_a_stopped_run_does_only_what_is_missing(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, float, int]] = []

    def trial(name: str, dealt: object, **options: object) -> object:  # noqa: ARG001
        given = {key: options[key] for key in ("method", "epsilon", "seed", "unit")}
        done.append((str(given["method"]), float(str(given["epsilon"])), int(str(given["seed"]))))
        return row(bench, set=name, **given)

    monkeypatch.setattr(bench.utility, "trial", trial)
    monkeypatch.setattr(bench.utility, "load", lambda *_, **__: None)
    bench.utility.write([row(bench)], tmp_path / "out.json")
    command = ["--sets", "simulated", "--methods", "train-real", "dp-merf", "--epsilon", "1", "8", "--seeds", "2"]

    bench.utility.main([*command, "--json", str(tmp_path / "out.json")])

    real = ("train-real", math.inf)
    assert done == [(*real, 1), ("dp-merf", 8.0, 1), (*real, 2), ("dp-merf", 1.0, 2), ("dp-merf", 8.0, 2)]
    assert len(bench.utility.read(tmp_path / "out.json")) == 6


def test_the_page_shows_mean_and_spread_over_seeds(bench: SimpleNamespace, tmp_path: Path) -> None:
    scores = {name: {"auroc": 0.95, "macro_auroc": 0.9, "macro_f1": 0.7} for name in ("cnn", "forest")}
    bench.utility.write([row(bench), row(bench, seed=2, scores=scores)], tmp_path / "out.json")
    page, picture = tmp_path / "page.md", tmp_path / "picture.svg"
    page.write_text(
        f"# Title\n{bench.utility_page.BEGIN}\nold\n{bench.utility_page.END}\nafter\n", encoding="utf-8"
    )

    command = [str(tmp_path / "out.json"), "--page", str(page), "--picture", str(picture)]
    bench.utility_page.main(command)
    first = page.read_text(encoding="utf-8"), picture.read_bytes()
    bench.utility_page.main(command)

    # Of .8 and .9: mean .85, standard deviation .1 / sqrt 2.
    measured = ".925 ± .035 | .850 ± .071 | .600 ± .141 | .850 ± .071 | .600 ± .141"
    assert f"| 1 | dp-merf | {measured} | 0.999 | 2 |" in first[0]
    assert "old" not in first[0]
    assert first[0].startswith("# Title\n")
    assert first[0].endswith("after\n")
    assert first == (page.read_text(encoding="utf-8"), picture.read_bytes())


def test_the_product_is_asked_for_the_promise_of_the_task(bench: SimpleNamespace) -> None:
    task = task_of(bench, epsilon=1.0)
    four = [f"hospital-{number}" for number in (1, 2, 3, 4)]

    together = bench.product.changes(task, "bonn", four, "aggregate")
    pooled = bench.product.changes(task, "bonn", [bench.product.EVERYBODY], "site")

    assert together["privacy"] == {"unit": "recording", "epsilon": 1.0, "delta": DELTA, "trust": "aggregate"}
    assert pooled["cohort"]["expected_units"] == 4 * together["cohort"]["expected_units"]
