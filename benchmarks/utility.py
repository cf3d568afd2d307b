"""The benchmark against peers at equal epsilon: train on synthetic windows, test on real windows of unseen people.

Every method gets the same training windows, labels and units and returns as many synthetic windows of every label;
the same classifiers are trained on them and tested on the same real windows. See docs/benchmark.md.

    python benchmarks/utility.py --data DIR --sets bonn --seeds 3 --epsilon 1 8 --json out.json

A run that was stopped goes on where it stopped: what stands in the file is not done again.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers.dp_gan import dp_sgd_gan
from peers.dp_merf import dp_merf
from peers.marginals import UnavailableError, marginals
from peers.private_evolution import private_evolution
from peers.product import product
from peers.spectral import Codec, Space, Spectral
from peers.task import Outcome, Progress, Task
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, roc_auc_score
from utility_data import HOSPITALS, ROOT, SETS, Dealt, load

from fedsynth.evaluation.classifier import answer, classifier_plan, train_classifier
from fedsynth.modalities.shape import Shape

DELTA = 1e-5
UNITS = {"bonn": "recording", "cinc2017": "recording", "mitbih": "window", "simulated": "recording"}
"""What a set's study promises to protect; the subject elsewhere."""
Classifier = Callable[[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class Row:
    """One trial: who, on what, at which price, and the scores by classifier (higher is better)."""

    set: str
    unit: str
    epsilon: float
    delta: float
    method: str
    seed: int
    spent: float
    accountant: str
    seconds: float
    scores: dict[str, dict[str, float]]

    @property
    def key(self) -> tuple[str, str, float, str, int]:
        """Return what a trial is told apart by."""
        return self.set, self.unit, self.epsilon, self.method, self.seed


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing; print one line for each trial."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows = read(options.json)
    done = {row.key for row in rows}
    for name in options.sets:
        unit = options.unit or UNITS.get(name, "subject")
        for seed in range(1, options.seeds + 1):
            trials = [(m, e) for m, e in _trials(options) if (name, unit, e, m, seed) not in done]
            if not trials:
                continue
            _say(f"{name}: reading split {seed}")
            dealt = load(name, data=options.data, seed=seed, work=options.work)
            for method, epsilon in trials:
                try:
                    row = trial(name, dealt, unit=unit, method=method, epsilon=epsilon, seed=seed, options=options)
                except UnavailableError as reason:
                    _say(f"{method} at epsilon {epsilon:g}: left out: {reason}")
                    continue
                rows.append(row)
                write(rows, options.json)
                cnn = row.scores["cnn"]
                print(
                    f"{name} {unit} epsilon {epsilon:g} {method} seed {seed}: "
                    f"AUROC {cnn['auroc']:.3f}, macro-AUROC {cnn['macro_auroc']:.3f}, "
                    f"macro-F1 {cnn['macro_f1']:.3f} ({row.seconds:.0f} s)",
                    flush=True,
                )
    return 0


def trial(
    name: str, dealt: Dealt, *, unit: str, method: str, epsilon: float, seed: int, options: argparse.Namespace
) -> Row:
    """Run one method on one split and judge what it returned.

    Raises:
        UnavailableError: the method cannot run here.
    """
    started = time.monotonic()
    train = dealt.train
    task = Task(
        signal=train.signal,
        labels=train.labels,
        units=dealt.units(unit),
        hospitals=train.hospitals,
        shape=dealt.shape,
        limit=dealt.study.signal.range_uv,
        unit=unit,
        epsilon=epsilon,
        delta=DELTA,
        seed=seed,
        per_label=options.per_label or classifier_plan(dealt.shape).windows_per_label,
    )
    progress = partial(_progress, f"{name} {method} at epsilon {epsilon:g}, split {seed}")
    if method == "train-real":
        given = [Outcome(train.signal, train.labels, math.inf, "none")]
    elif method == "local-only":
        # Each hospital for itself, on its own real windows; the mean over hospitals is reported.
        sites = [train.hospitals == hospital for hospital in range(HOSPITALS)]
        given = [Outcome(train.signal[mine], train.labels[mine], math.inf, "none") for mine in sites]
    elif method.startswith("fedsynth"):
        given = product(task, name, dealt.sites, variant=method.removeprefix("fedsynth"), progress=progress)
    else:
        given = [PEERS[method](task, progress)]
    positive = dealt.study.labels.names.index(dealt.study.labels.positive)
    each = [judge(one, dealt, positive=positive, seed=seed) for one in given]
    return Row(
        set=name,
        unit=unit,
        epsilon=epsilon,
        delta=DELTA,
        method=method,
        seed=seed,
        spent=max(one.spent for one in given),
        accountant=given[0].accountant,
        seconds=time.monotonic() - started,
        scores=_mean(each),
    )


def judge(given: Outcome, dealt: Dealt, *, positive: int, seed: int) -> dict[str, dict[str, float]]:
    """Train each classifier on the windows given and score its answers on windows of unseen people."""
    test = dealt.test
    classifiers: dict[str, Classifier] = {
        "cnn": partial(_cnn, shape=dealt.shape, seed=seed),
        "forest": partial(_forest, shape=dealt.shape, seed=seed),
    }
    answers = {
        name: classifier(given.signal, given.labels, test.signal) for name, classifier in classifiers.items()
    }
    return {
        name: {
            **scores(answer, test.labels, positive=positive),
            **narrower(answer, test.labels, test.people, positive=positive),
        }
        for name, answer in answers.items()
    }


def scores(answers: NDArray[np.float64], labels: NDArray[np.int64], *, positive: int) -> dict[str, float]:
    """Return the AUROC of the positive label against the rest, the mean AUROC over labels, and macro-F1.

    Labels that no test window bears are left out of both means.
    """
    present = np.unique(labels)
    each = {int(label): float(roc_auc_score(labels == label, answers[:, label])) for label in present}
    f1 = f1_score(labels, answers.argmax(axis=1), average="macro", labels=present, zero_division=0)
    return {
        "auroc": each[positive],
        "macro_auroc": float(np.mean(list(each.values()))),
        "macro_f1": float(f1),
    }


def narrower(
    answers: NDArray[np.float64], labels: NDArray[np.int64], people: NDArray[np.int64], *, positive: int
) -> dict[str, float]:
    """Return the AUROC of the positive label against the study's first, and, where everybody's windows bear one
    label, that of people, each by the mean log odds of their windows."""
    odds = np.log(answers[:, positive] + 1e-6) - np.log(answers[:, 0] + 1e-6)
    two = np.isin(labels, (0, positive))
    found = {"auroc_against_first": float(roc_auc_score(labels[two] == positive, odds[two]))} if positive else {}
    each = [np.flatnonzero(people == person) for person in np.unique(people)]
    if all(len(set(labels[rows])) == 1 for rows in each):
        whole = np.log(answers[:, positive] + 1e-6) - np.log(1 - answers[:, positive] + 1e-6)
        theirs = np.array([labels[rows[0]] == positive for rows in each])
        found["person_auroc"] = float(roc_auc_score(theirs, [whole[rows].mean() for rows in each]))
    return found


def _cnn(
    signal: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32], *, shape: Shape, seed: int
) -> NDArray[np.float64]:
    return answer(train_classifier(signal, labels, shape=shape, seed=seed), test)


def _forest(
    signal: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32], *, shape: Shape, seed: int
) -> NDArray[np.float64]:
    """Answer by a random forest on log band powers and the waveform's shape, a column for every label."""
    forest = RandomForestClassifier(200, min_samples_leaf=2, class_weight="balanced", random_state=seed)
    forest.fit(_described(signal, shape), labels)
    answers = np.zeros((len(test), shape.n_labels))
    answers[:, forest.classes_] = forest.predict_proba(_described(test, shape))
    return answers


def _described(signal: NDArray[np.float32], shape: Shape) -> NDArray[np.float64]:
    """Return band powers and the logarithms of three ratios: peak, slope and line length to root mean square."""
    size = signal.std(axis=2) + 1e-3
    slope = np.diff(signal, axis=2)
    ratios = [np.abs(signal).max(axis=2) / size, slope.std(axis=2) / size, np.abs(slope).mean(axis=2) / size]
    return np.concatenate([Spectral(shape).encode(signal), *(np.log(ratio + 1e-3) for ratio in ratios)], axis=1)


def _on(space: Callable[[Shape], Space], method: Callable[..., Outcome], **options: str) -> Callable[..., Outcome]:
    def run(task: Task, progress: Progress) -> Outcome:
        return method(task, space(task.shape), progress, **options)

    return run


PEERS: dict[str, Callable[..., Outcome]] = {
    "dp-sgd-gan": dp_sgd_gan,
    "dp-merf": _on(Spectral, dp_merf),
    "private-evolution": _on(Spectral, private_evolution),
    "mst": _on(Spectral, marginals, mechanism="mst"),
    "aim": _on(Spectral, marginals, mechanism="aim"),
    "dp-merf+codec": _on(Codec, dp_merf),
    "private-evolution+codec": _on(Codec, private_evolution),
    "mst+codec": _on(Codec, marginals, mechanism="mst"),
    "aim+codec": _on(Codec, marginals, mechanism="aim"),
}
PRODUCT = ("fedsynth", "fedsynth-site", "fedsynth-pooled", "fedsynth-local")
REAL = ("train-real", "local-only")
METHODS = (*REAL, *PRODUCT, *PEERS)


def read(path: Path) -> list[Row]:
    """Read results; none where there is no file."""
    if not path.exists():
        return []
    raw = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{**row, "epsilon": float(row["epsilon"]), "spent": float(row["spent"])}) for row in raw["rows"]]


def write(rows: list[Row], path: Path) -> None:
    """Write results in one move, so that a run that is stopped leaves a whole file."""
    body = {"delta": DELTA, "rows": [_plain(asdict(row)) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Write infinity as a word: JSON has none."""
    return {name: str(value) if value in (math.inf, -math.inf) else value for name, value in row.items()}


def _mean(each: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        classifier: {
            score: float(np.mean([one[classifier][score] for one in each])) for score in each[0][classifier]
        }
        for classifier in each[0]
    }


def _trials(options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Go through methods and epsilons; training on real windows has one epsilon, infinity."""
    for method in options.methods:
        for epsilon in (math.inf,) if method in REAL else options.epsilon:
            yield method, epsilon


def _progress(about: str, what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(
            f"\r{about}: {what} {done}/{total}\033[K", end="" if done < total else "\n", file=sys.stderr, flush=True
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="utility.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder that holds the public sets, one folder each")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=["simulated"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 8.0], metavar="E", help="inf is allowed")
    parser.add_argument("--unit", choices=("window", "recording", "subject"), help="default: as the set's study")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="splits, numbered from 1 (default 3)")
    parser.add_argument("--per-label", type=int, metavar="N", help="default: as many as classifiers are trained on")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "utility" / "results.json", metavar="FILE")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "utility", metavar="DIR", help="scratch")
    return parser


if __name__ == "__main__":
    sys.exit(main())
