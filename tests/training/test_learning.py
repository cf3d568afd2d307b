"""Every GAN learns from recordings alone: no anchor, first without privacy, then clipped but not noised.

Clipping by itself has made DP-SGD of such networks collapse before; the second case would show it. An adversarial
generator wanders, the dense one most (AUROC .52 to .89 from moment to moment). So several moments are looked at;
who is drawn into a batch follows from a seed.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.evaluation.diversity import LEAST_DIVERSITY, diversity_score
from fedsynth.families.protocol import Family
from fedsynth.families.registry import class_of
from fedsynth.modalities.registry import codec_of, standardise
from fedsynth.modalities.shape import Shape, shape_of
from fedsynth.privacy import noise
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.recordings.readers.site import read_site
from fedsynth.recordings.recording import Windows
from fedsynth.recordings.toy.cohort import write_toy_cohort
from fedsynth.recordings.windows import windows_of
from fedsynth.study import load_study
from fedsynth.synthesis.windows import SyntheticWindows
from fedsynth.training.private_gradient import Batch, train
from fedsynth.training.trainer import StepScale, Trainer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Windows, Windows, Shape]:
    """Return windows of one site to train on and of another to test on."""
    folder, study = tmp_path_factory.mktemp("toy"), load_study(ROOT / "examples" / "toy" / "study.toml")
    write_toy_cohort(folder, study=study, people=0.6)
    east, north = (
        windows_of(read_site(folder / name, site=name, study=study), study=study) for name in ("east", "north")
    )
    return east, north, shape_of(study)


def vectors(signal: np.ndarray, shape: Shape) -> np.ndarray:
    return standardise(codec_of(shape).features(torch.from_numpy(signal)), shape).numpy()


def auroc(family: Family, parts: torch.nn.ModuleDict, test: Windows, shape: Shape) -> float:
    labels = torch.arange(2).repeat_interleave(400)
    drawn = torch.randn(800, family.noise_width(shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        synthetic = family.sample(parts, labels, drawn).numpy()
    classifier = LogisticRegression(C=0.1, max_iter=1000).fit(vectors(synthetic, shape), labels.numpy())
    return float(roc_auc_score(test.labels, classifier.predict_proba(vectors(test.signal, shape))[:, 1]))


def diversity(family: Family, parts: torch.nn.ModuleDict, shape: Shape) -> float:
    labels = torch.arange(2).repeat_interleave(100)
    drawn = torch.randn(200, family.noise_width(shape), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        synthetic = family.sample(parts, labels, drawn).numpy()
    numbers, names = np.arange(200), ("healthy", "epilepsy")
    return diversity_score(
        SyntheticWindows(synthetic, labels.numpy(), numbers, names, shape.channels, shape.sfreq)
    ).value


GANS = [
    pytest.param("cwgan", {}, 160, 0.85, id="cwgan convolutional"),
    pytest.param("cwgan", {"architecture": "dense"}, 320, 0.75, id="cwgan dense"),
    pytest.param("dense-gan", {}, 320, 0.85, id="dense-gan"),
    pytest.param("wavegan", {}, 200, 0.85, id="wavegan"),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "options", "steps", "least"), GANS)
@pytest.mark.parametrize(
    "clipping_norm", [pytest.param(math.inf, id="no privacy"), pytest.param(1.0, id="clipped")]
)
def test_training_from_the_prior_tells_the_labels_apart(
    people: tuple[Windows, Windows, Shape],
    name: str,
    options: dict[str, Any],
    steps: int,
    least: float,
    clipping_norm: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draws = np.random.default_rng(0)
    monkeypatch.setattr(noise, "_words", lambda count: draws.integers(0, 2**64, count, dtype=np.uint64))
    east, north, shape = people
    family = class_of(name)(**options, generator_learning_rate=3e-4)
    torch.manual_seed(0)
    parts = family.build(shape, prior_anchor(shape))
    before = auroc(family, parts, north, shape)
    batch = Batch(torch.from_numpy(east.signal), torch.from_numpy(east.labels), torch.from_numpy(east.subjects))

    phase, mechanism = family.phases[0], Mechanism("gradients", 0.0, 0.2, steps // 8, clipping_norm)
    scale = StepScale(float(batch.n_units), float(batch.n_units), torch.tensor([0.65, 0.35]))
    trainer = Trainer(family, parts, phase=phase, shape=shape, mechanism=mechanism, scale=scale)
    told = []
    for moment in range(8):
        train(trainer, batch=batch, allowance=Allowance(mechanism), method="loop")
        if moment >= 4:
            told.append(auroc(family, parts, north, shape))

    assert before < 0.7
    assert np.mean(told) > least, told
    assert diversity(family, parts, shape) > 10 * LEAST_DIVERSITY
