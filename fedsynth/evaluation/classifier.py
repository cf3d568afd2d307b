"""Train on synthetic, test on real: a small convolutional classifier and the scores read off its answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedsynth.evaluation.private_scores import EVEN_EDGES, edges_for
from fedsynth.modalities.shape import Shape
from fedsynth.rng import torch_generator
from fedsynth.synthesis.windows import SyntheticStream, SyntheticWindows

_BATCH = 64
_PIECES = 4
_LAST = 28  # samples that the last layer of an ECG classifier leaves, at least


@dataclass(frozen=True)
class ClassifierPlan:
    """How a classifier is built and trained; constants, the same for real and synthetic windows.

    `depth` is the number of convolutions, each of which halves the window. With `responses`, layers are normalised
    and their mean responses are read beside their power. Of synthetic windows, at most `windows_per_label` are
    trained on: what a release holds is what is scored. Windows are gone through `epochs` times in at most `steps`,
    and where there are so many that seeing them `epochs_at_most` times takes more, in at most `steps_at_most`.
    """

    windows_per_label: int = 3200
    depth: int = 3
    responses: bool = False
    epochs: int = 40
    epochs_at_most: int = 6
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    steps: int = 600
    steps_at_most: int = 600

    def steps_for(self, windows: int) -> int:
        """Return how many steps a classifier is trained on so many windows."""
        epoch = max(1, windows // _BATCH)
        return max(min(self.steps, self.epochs * epoch), min(self.steps_at_most, self.epochs_at_most * epoch))


def classifier_plan(shape: Shape) -> ClassifierPlan:
    """Return how a classifier of windows of this shape is built and trained.

    What tells ECG apart may be as long as a few beats, so there the last layer sees seconds; EEG gained nothing.
    """
    match shape.modality:
        case "eeg":
            return ClassifierPlan()
        case "ecg":
            depth = max(3, (shape.n_times // _LAST).bit_length() - 1)
            return ClassifierPlan(
                windows_per_label=6400, depth=depth, responses=True, steps=1200, steps_at_most=2400
            )
        case other:
            assert_never(other)


def windows_to_train_on(released: SyntheticStream, *, shape: Shape) -> SyntheticWindows:
    """Return the windows of a release that a classifier learns from: all, or as many as it takes of each label.

    Where it takes fewer, they are spread evenly over the label: as many made-up subjects as can be are among them.
    """
    most = classifier_plan(shape).windows_per_label
    labels = np.repeat(released.subject_labels, released.subject_windows)
    rows = [np.flatnonzero(labels == label) for label in range(shape.n_labels)]
    chosen = [
        mine if len(mine) <= most else mine[np.linspace(0, len(mine) - 1, most).round().astype(np.int64)]
        for mine in rows
    ]
    return released.pick(np.sort(np.concatenate(chosen)))


class Classifier(nn.Module):
    """A small network: strided convolutions, and the log power of each one's response.

    Log power over pieces of the window (its mean and its unrest) is what ShallowConvNet reads (Schirrmeister et al.
    2017, doi:10.1002/hbm.23730). Amplitudes enter through asinh(x / 20 microvolts), a public compression.
    """

    def __init__(
        self, n_channels: int, n_labels: int, *, plan: ClassifierPlan = ClassifierPlan(), filters: int = 24
    ) -> None:
        """Build for windows of `n_channels` channels and any length from 64 samples."""
        super().__init__()
        widths = (n_channels, *(filters,) * (plan.depth - 1))
        kernels = (17, *(9,) * (plan.depth - 1))
        self.layers = nn.ModuleList(
            nn.Conv1d(width, filters, kernel, stride=2, padding=kernel // 2)
            for width, kernel in zip(widths, kernels, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, filters) for _ in widths if plan.responses)
        size = (3 if plan.responses else 2) * filters * plan.depth
        self.norm = nn.LayerNorm(size)
        self.edges: Tensor
        self.register_buffer("edges", torch.tensor(EVEN_EDGES))  # between the bins that answers are told in
        self.head = nn.Sequential(nn.Linear(size, 64), nn.GELU(), nn.Dropout(0.25), nn.Linear(64, n_labels))

    def forward(self, signal: Tensor) -> Tensor:
        """Return logits, shape (window, label), for microvolts of shape (window, channel, time)."""
        flow, parts = torch.asinh(signal / 20.0), []
        for number, layer in enumerate(self.layers):
            response = layer(flow)
            length = response.shape[-1] // _PIECES * _PIECES
            power = response[..., :length].unflatten(-1, (_PIECES, -1)).square().mean(dim=-1)
            log_power = torch.log(power + 1e-4)
            parts += [log_power.mean(dim=-1), log_power.std(dim=-1)]
            flow = nn.functional.gelu(self.norms[number](response) if len(self.norms) else response)
            if len(self.norms):
                parts.append(flow.mean(dim=-1))
        return self.head(self.norm(torch.cat(parts, dim=1)))


def train_classifier(
    signal: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    shape: Shape,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """Train a classifier on windows.

    Args:
        signal: microvolts, shape (window, channel, time).
        labels: shape (window,), each in [0, shape.n_labels).
        shape: of the windows; it decides what classifier is trained, and how.
        seed: of initial weights and batch order, public.
        progress: called with (steps done, steps in all).
    """
    plan, n_labels = classifier_plan(shape), shape.n_labels
    generator = torch_generator("referee", seed)  # the name of version 0.1, so that its scores repeat
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(signal.shape[1], n_labels, plan=plan)
        windows, targets = torch.from_numpy(signal), torch.from_numpy(labels)
        counts = torch.bincount(targets, minlength=n_labels).clamp_min(1)
        loss_of = nn.CrossEntropyLoss(weight=len(targets) / (n_labels * counts.float()), label_smoothing=0.05)
        total = plan.steps_for(len(targets))
        optimizer = torch.optim.AdamW(classifier.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=total)
        classifier.train()
        for step in range(total):
            rows = torch.randint(0, len(targets), (_BATCH,), generator=generator)
            optimizer.zero_grad()
            loss_of(classifier(windows[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
            if progress:
                progress(step + 1, total)
    return classifier.eval()


def set_edges(classifier: Classifier, windows: SyntheticWindows, *, positive: int, bins: int) -> None:
    """Set the edges between which a classifier's answers are told, so that synthetic windows fill bins equally."""
    given = answer(classifier, windows.signal)[:, positive]
    edges = edges_for(given, windows.labels, positive=positive, bins=bins)
    classifier.edges.copy_(torch.from_numpy(edges))


def answer(classifier: Classifier, signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return label probabilities, shape (window, label)."""
    with torch.no_grad():
        batches = [torch.softmax(classifier(part).double(), dim=1) for part in torch.from_numpy(signal).split(256)]
    return torch.cat(batches).numpy()
