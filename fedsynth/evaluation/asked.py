"""What held-out units are shown: the classifier of a release's windows, and those it is compared with."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsynth.anchors.anchor import Anchor
from fedsynth.evaluation.classifier import Classifier, answer, classifier_plan, set_edges, train_classifier
from fedsynth.evaluation.comparison import Comparison
from fedsynth.evaluation.private_scores import tallies
from fedsynth.evaluation.tally_plan import TallyPlan
from fedsynth.modalities.shape import Shape
from fedsynth.progress import StepProgress
from fedsynth.synthesis.windows import SyntheticWindows

_COMPARED = "compared."


class Asked:
    """The classifiers of one plan; blank until they are taught or their tensors are taken over."""

    def __init__(self, shape: Shape, tally: TallyPlan) -> None:
        """Make room for what the plan asks."""
        self._shape, self._tally = shape, tally
        self._classifier = Classifier(len(shape.channels), shape.n_labels, plan=classifier_plan(shape)).eval()
        self._comparison = Comparison(shape, tally)

    def learn(
        self, windows: SyntheticWindows, anchor: Anchor, *, positive: int, progress: StepProgress | None = None
    ) -> None:
        """Teach all of them, by windows of a release and what private sums said.

        Args:
            windows: of the release.
            anchor: for what recordings teach.
            positive: the label whose AUROC is wanted.
            progress: called with (steps done, steps in all).
        """
        self._classifier = train_classifier(
            windows.signal, windows.labels, shape=self._shape, seed=0, progress=progress
        )
        set_edges(self._classifier, windows, positive=positive, bins=self._tally.bins)
        self._comparison.learn(windows, anchor, positive=positive, bins=self._tally.bins)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as named tensors, for the wire."""
        compared = {f"{_COMPARED}{name}": value for name, value in self._comparison.state_dict().items()}
        return {**self._classifier.state_dict(), **compared}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` returned of the same plan."""
        compared = {name for name in tensors if name.startswith(_COMPARED)}
        self._classifier.load_state_dict({name: tensors[name] for name in tensors if name not in compared})
        self._comparison.load_state_dict({name.removeprefix(_COMPARED): tensors[name] for name in compared})

    def tell(self, signal: Tensor, labels: NDArray[np.int64], *, positive: int) -> Tensor:
        """Return each window's tally, shape (window, tally_size), float64.

        Args:
            signal: microvolts, shape (window, channel, time).
            labels: the true ones, shape (window,).
            positive: the label whose AUROC is wanted.
        """
        given = answer(self._classifier, signal.numpy())
        edges, confusion = self._classifier.edges.numpy(), self._tally.confusion
        told = tallies(given, labels, positive=positive, edges=edges, confusion=confusion)
        return torch.cat([told, self._comparison.tell(signal, labels, positive=positive)], dim=1)
