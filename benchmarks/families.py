"""Every family without privacy: train on what it draws from one anchor, test on real windows of people held out.

One rehearsal with epsilon = infinity and no gradients gives the anchor; each family draws from it. With --rounds
each family is rehearsed for itself and trained for so many rounds of gradients without noise.

    python examples/deal.py RECORDINGS dealt --hospitals 4 --hold-out 0.2
    python benchmarks/families.py examples/bonn/study.toml dealt dealt.holdout
    python benchmarks/families.py examples/bonn/study.toml dealt dealt.holdout --rounds 4

Prints AUROC of the positive label, macro-AUROC and macro-F1 of the product's classifier, means over seeds, and the
share of what training on real windows reaches (AUROC).
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from fedsynth.evaluation.classifier import answer, classifier_plan, train_classifier
from fedsynth.families.registry import FAMILIES
from fedsynth.modalities.shape import shape_of
from fedsynth.recordings.options import SiteOptions
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Windows
from fedsynth.recordings.windows import windows_of
from fedsynth.rehearsal.rehearse import Rehearsal, rehearse
from fedsynth.study import FamilyPlan, Study, parse_study
from fedsynth.synthesis.generator import Generator, untrained


def main() -> int:
    """Carry out; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("sites", type=Path, help="dealt hospitals")
    parser.add_argument("holdout", type=Path, help="people whom no hospital has")
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, default=3, help="trainings of the classifier (default 3)")
    parser.add_argument("--rounds", type=int, default=0, help="of gradients (default 0: the anchor alone)")
    given = parser.parse_args()
    text = without_privacy(given.study.read_text(encoding="utf-8"), rounds=given.rounds)
    study = parse_study(text)
    test = windows(given.holdout, study)
    own = [windows(site, study) for site in sorted(given.sites.iterdir()) if site.is_dir()]
    signal, labels = np.concatenate([w.signal for w in own]), np.concatenate([w.labels for w in own])
    real = scores(signal, labels, test, study, seeds=given.seeds)
    show("train-real", real, real)
    anchored = None if given.rounds else trained(text, given.sites)
    for name in given.families:
        if anchored is None:
            generator = trained(of_family(text, name), given.sites)
        else:
            one = study.model_copy(update={"family": FamilyPlan(name=name)})
            generator = untrained(one, anchored.anchor)
        drawn = generator.draw(per_label=classifier_plan(shape_of(study)).windows_per_label, seed="families")
        show(name, scores(drawn.signal, drawn.labels, test, study, seeds=given.seeds), real)
    return 0


def trained(text: str, sites: Path) -> Generator:
    """Rehearse a study and return its generator."""
    with tempfile.TemporaryDirectory(prefix="families-") as folder:
        what = Rehearsal(text, "benchmark", sites, Path(folder) / "run", options=SiteOptions(follow_links=True))
        # A trial's ledgers end with it: none knows the people of another.
        with patch.dict(os.environ, {"XDG_STATE_HOME": folder}):
            return rehearse(what, progress=lambda *_: None).generator()


def of_family(text: str, name: str) -> str:
    """Return the study with another family and that family's defaults."""
    head, rest = text.split("[family]")
    _, *others = re.split(r"(?m)^(?=\[)", rest)
    return f'{head}[family]\nname = "{name}"\n\n' + "".join(others)


def without_privacy(text: str, *, rounds: int) -> str:
    """Return the study with epsilon = infinity, every site for itself and the least held out."""
    text = re.sub(r"(?m)^epsilon = .*$", "epsilon = inf", text)
    text = re.sub(r"(?m)^trust = .*$", 'trust = "site"', text)
    text = re.sub(r"(?m)^least_subjects = .*$", "least_subjects = 2", text)
    return text + f"\n[plan]\nrounds = {rounds}\nheld_out = 0.05\n"


def windows(folder: Path, study: Study) -> Windows:
    """Return the windows of one folder of recordings."""
    return windows_of(read_site(folder, site=folder.name, study=study), study=study)


def scores(
    signal: NDArray[np.float32], labels: NDArray[np.int64], test: Windows, study: Study, *, seeds: int
) -> NDArray[np.float64]:
    """Return AUROC of the positive label, macro-AUROC and macro-F1, each mean and spread, shape (3, 2)."""
    names, positive = study.labels.names, study.labels.names.index(study.labels.positive)
    rows = []
    for seed in range(seeds):
        given = answer(train_classifier(signal, labels, shape=shape_of(study), seed=seed), test.signal)
        each = [roc_auc_score(test.labels == label, given[:, label]) for label in range(len(names))]
        rows.append((each[positive], np.mean(each), f1_score(test.labels, given.argmax(axis=1), average="macro")))
    return np.stack([np.mean(rows, axis=0), np.std(rows, axis=0)], axis=1)


def show(name: str, found: NDArray[np.float64], real: NDArray[np.float64]) -> None:
    """Print one row of a table."""
    cells = " | ".join(f"{mean:.3f} ± {std:.3f}" for mean, std in found)
    sys.stdout.write(f"| {name} | {cells} | {100 * found[0, 0] / real[0, 0]:.1f} % |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
