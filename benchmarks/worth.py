"""What a release is worth: classifiers trained on it, on real windows, and on both, tested on unseen people.

Three referees that share no weakness (the small convolutional network, random convolutions with ridge regression,
gradient boosting on features), each weighing every label alike, so that real windows are as balanced as a release.
For each set, epsilon and split:

- share: what a release reaches of what all real training windows reach, macro-F1 and the positive label's AUROC;
- worth: the share of training people whose real windows reach the release's macro-F1 (mean of the referees);
- both: real windows of 10, 30 and 100 % of training people with the release beside them, against them alone.

    python benchmarks/worth.py --data DIR --sets bonn cinc2017 --epsilon inf 8 1 --seeds 3 --json out.json
    python benchmarks/worth.py --page out.json

Private sums are asked of everybody at one site in memory (`benchmarks/fidelity.py`): the noise of trust
`aggregate`, no gradients. With `--minibatches N` all layers of the family learn on so many, without privacy.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fidelity import generator_of
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score
from utility_data import ROOT, SETS, Dealt, Half, load

from fedsynth.evaluation.protocol.classifiers.registry import classifier_of
from fedsynth.evaluation.protocol.classifiers.training import Setting, Training
from fedsynth.evaluation.protocol.material import Material
from fedsynth.evaluation.protocol.size import SIZES

REFEREES = ("small-cnn", "random-convolutions", "boosting")
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # of training people
WITH_MORE = (0.1, 0.3, 1.0)  # of training people, with a release beside them


@dataclass(frozen=True)
class Row:
    """One training set on one split: `real` is the share of people, `epsilon` None without a release."""

    set: str
    seed: int
    real: float
    epsilon: float | None
    seconds: float
    scores: dict[str, dict[str, float]]

    def mean(self, score: str) -> float:
        """Return the mean of the referees."""
        return float(np.mean([each[score] for each in self.scores.values()]))


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing in the file, and print tables."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    rows = read(options.json)
    for name in options.sets if not options.page else ():
        for seed in range(1, options.seeds + 1):
            _split(name, seed, rows, options)
    print(page(rows))
    return 0


def _split(name: str, seed: int, rows: list[Row], options: argparse.Namespace) -> None:
    done = {(row.real, row.epsilon) for row in rows if (row.set, row.seed) == (name, seed)}
    curve = SHARES if options.all else (1.0,)
    wanted = [(share, None) for share in curve] + [(0.0, epsilon) for epsilon in options.epsilon]
    if options.all:
        wanted += [(share, epsilon) for share in WITH_MORE for epsilon in options.epsilon]
    missing = [one for one in wanted if one not in done]
    if not missing:
        return
    dealt = load(name, data=options.data, seed=seed, work=options.work)
    setting = Setting(dealt.shape, SIZES["small"], seed=seed)
    released: dict[float, Material] = {}
    for share, epsilon in missing:
        began = time.monotonic()
        windows = real_windows(dealt.train, share, seed=seed) if share else None
        if epsilon is not None:
            if epsilon not in released:
                released[epsilon] = release(name, dealt, options, epsilon=epsilon, seed=seed)
            windows = released[epsilon] if windows is None else windows.with_more(released[epsilon])
        assert windows is not None
        row = Row(name, seed, share, epsilon, time.monotonic() - began, judge(windows, dealt, setting, options))
        rows.append(row)
        write(rows, options.json)
        print(
            f"{name} split {seed}: real {share:.0%}, release {'none' if epsilon is None else f'{epsilon:g}'}: "
            + ", ".join(f"{who} {each['macro_f1']:.3f} / {each['auroc']:.3f}" for who, each in row.scores.items()),
            flush=True,
        )


def real_windows(half: Half, share: float, *, seed: int) -> Material:
    """Return the windows of a share of the people of every label, by chance, at least one person of each."""
    rng = np.random.default_rng(seed)
    people, first = np.unique(half.people, return_index=True)
    bears, chosen = half.labels[first], np.zeros(len(people), bool)
    for label in np.unique(bears):
        mine = rng.permutation(np.flatnonzero(bears == label))
        chosen[mine[: max(1, round(share * len(mine)))]] = True
    rows = np.isin(half.people, people[chosen])
    return Material(half.signal[rows], half.labels[rows], half.people[rows])


def release(name: str, dealt: Dealt, options: argparse.Namespace, *, epsilon: float, seed: int) -> Material:
    """Return windows drawn after the private sums of the training people."""
    given = {"family": options.family, "epsilon": epsilon, "minibatches": options.minibatches}
    generator = generator_of(name, dealt, **given)
    drawn = generator.draw(per_label=options.per_label, seed=f"worth {seed}")
    return Material(drawn.signal, drawn.labels, drawn.subjects + 1_000_000)


def judge(
    windows: Material, dealt: Dealt, setting: Setting, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Train each referee and score it on people held out."""
    test, names = dealt.test, dealt.study.labels
    positive, found = names.names.index(names.positive), {}
    for who in options.referees:
        answers = classifier_of(who)(Training(windows), test.signal, setting=setting)
        found[who] = {
            "macro_f1": float(f1_score(test.labels, answers.argmax(axis=1), average="macro")),
            "auroc": _auroc(answers[:, positive], test.labels == positive),
            "person_auroc": person_auroc(answers[:, positive], test.labels == positive, test.people),
        }
    return found


def person_auroc(answers: NDArray[np.float64], truth: NDArray[np.bool_], people: NDArray[np.int64]) -> float:
    """Return the AUROC of people by the mean log odds of their windows; not a number where labels mix in people."""
    each = [people == one for one in np.unique(people)]
    if any(len(set(truth[rows])) > 1 for rows in each):
        return math.nan
    odds = np.log(answers + 1e-6) - np.log(1 - answers + 1e-6)
    return _auroc(np.array([odds[rows].mean() for rows in each]), np.array([truth[rows][0] for rows in each]))


def _auroc(answers: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    return float(roc_auc_score(truth, answers))


def worth(rows: list[Row], release_: Row) -> float:
    """Return the share of real people whose windows reach the release's macro-F1, by a line between two shares.

    0 where the smallest share is better already, 1 where all of them are not.
    """
    curve = sorted((row.real, row.mean("macro_f1")) for row in rows if row.epsilon is None)
    reached, before = release_.mean("macro_f1"), (0.0, 0.0)
    for share, score in curve:
        if score >= reached:
            part = (reached - before[1]) / max(1e-9, score - before[1])
            return before[0] + part * (share - before[0]) if before[0] else 0.0
        before = (share, max(score, before[1]))
    return 1.0


def page(rows: list[Row]) -> str:
    """Return a table in Markdown: means over splits, and each split behind them."""
    head = "| set | ε | share of macro-F1 | share of AUROC | by person | worth | both − real, 10, 30, 100 % |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, epsilon in dict.fromkeys((row.set, row.epsilon) for row in rows if row.epsilon is not None):
        cells: dict[str, list[float]] = {key: [] for key in ("f1", "auroc", "person", "worth")}
        gains: dict[float, list[float]] = {share: [] for share in WITH_MORE}
        for seed in sorted({row.seed for row in rows if row.set == name}):
            mine = [row for row in rows if (row.set, row.seed) == (name, seed)]
            alone = {row.real: row for row in mine if row.epsilon is None}
            both = {row.real: row for row in mine if row.epsilon == epsilon}
            if 1.0 not in alone or 0.0 not in both:
                continue
            cells["f1"].append(both[0.0].mean("macro_f1") / alone[1.0].mean("macro_f1"))
            cells["auroc"].append(both[0.0].mean("auroc") / alone[1.0].mean("auroc"))
            cells["person"].append(both[0.0].mean("person_auroc") / alone[1.0].mean("person_auroc"))
            if len(alone) == len(SHARES):
                cells["worth"].append(worth(mine, both[0.0]))
            for share in WITH_MORE:
                if share in both:
                    gains[share].append(both[share].mean("macro_f1") - alone[share].mean("macro_f1"))
        more = ", ".join(f"{np.mean(each):+.3f}" for each in gains.values() if each)
        told = [_each(cells[key]) for key in ("f1", "auroc", "person", "worth")]
        lines.append(
            f"| {name} | {'∞' if math.isinf(epsilon) else f'{epsilon:g}'} | " + " | ".join([*told, more]) + " |"
        )
    return "\n".join(lines)


def _each(values: list[float]) -> str:
    kept = [value for value in values if not math.isnan(value)]
    if not kept:
        return ""
    return f"{np.mean(kept):.0%} ({', '.join(f'{value:.0%}' for value in kept)})"


def read(path: Path) -> list[Row]:
    """Read rows; none where there is no file."""
    if not path.exists():
        return []
    raw: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{**row, "epsilon": None if row["epsilon"] is None else float(row["epsilon"])}) for row in raw]


def write(rows: list[Row], path: Path) -> None:
    """Write rows in one move, so that a run that is stopped leaves a whole file."""
    body = [{**asdict(row), "epsilon": None if row.epsilon is None else str(row.epsilon)} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worth.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder that holds the public sets, one folder each")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=["simulated"])
    parser.add_argument("--family", default="cwgan")
    parser.add_argument(
        "--minibatches", type=int, default=0, metavar="N", help="train all layers on so many (default: the anchor)"
    )
    parser.add_argument("--epsilon", nargs="+", type=float, default=[math.inf, 8.0, 1.0], metavar="E")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="splits, numbered from 1 (default 3)")
    parser.add_argument("--per-label", type=int, default=1000, metavar="N", help="synthetic windows (default 1000)")
    parser.add_argument("--referees", nargs="+", default=list(REFEREES), metavar="NAME")
    parser.add_argument("--all", action="store_true", help="worth, and real with synthetic windows, as well")
    parser.add_argument("--page", action="store_true", help="print the tables of what stands in the file")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "utility" / "worth.json", metavar="FILE")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "utility", metavar="DIR", help="scratch")
    return parser


if __name__ == "__main__":
    sys.exit(main())
