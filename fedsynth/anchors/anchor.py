"""The anchor: what private sums give of each label, a mixture of Gaussians of public features, and draws from it.

How it is estimated is an estimator's matter (`fedsynth.anchors.estimator`). With no anchor the generator starts at
the public prior, the same for every label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.rng import normal_of, uniform_of

_LEAST_VARIANCE = 1e-3
_EDGE = 1e-5  # quantiles beyond it are drawn as this
_ASKED = (
    *("coherence", "evoked", "course", "modulation", "beats", "effects", "strata"),
    *("statement_effects", "statement_shares", "statement_correlation"),
    *("views", "views_variance", "responses", "responses_variance"),
)


@dataclass(frozen=True)
class Anchor:
    """What is known of each label, in standardised features.

    `counts` (label,) units, noisy; `noise_variance` (label,) is that of a coordinate of the mean after the last
    step.
    Each label is a mixture with `weights` (label, component), `means` (label, component, feature) and
    `covariances` within components (label, component, feature, feature), of which subjects differ by the share
    `between` (label, axis, axis), along the axes of the public frame, and windows of one subject by the rest: with
    R the root of a covariance and S the share, whose eigenvalues lie from 0 to 1, R S R and R (1 - S) R.
    `component_correlation` (label,) is how much of the choice of a component a subject's windows share, 0 to 1.
    `done` counts the steps finished. Where they were asked, `coherence` (label, band, channel, channel, 2) is what
    channels have in common, real and imaginary part (`fedsynth.modalities.coherence`), and `evoked` (label,
    channel, cosine) and `course` (label, channel, band, segment) are the mean waveform and the course of power of
    windows that begin at events (`fedsynth.modalities.event_related`); `modulation` (label, number) is how rhythms
    come and go (`fedsynth.modalities.modulation`), `beats` (label, number) how beats follow one another. `views`
    (label, view) are mean random views of raw windows and `views_variance` (label,) the noise in each
    (`fedsynth.modalities.random_views`): for the report, never drawn. `responses` (label, response) are the means
    of what views are made of and `responses_variance` (label,) the noise in each; drawn windows are moved until
    theirs are the same (`fedsynth.synthesis.embedding_flow`).
    Where a study names covariates, `effects` (value, feature) is what each of their values adds, and `strata`
    (label, stratum) which share of a label's subjects has which combination of values. Of statements
    `statement_effects` (statement, feature) is what each adds, `statement_shares` (label, stratum, statement) how
    many subjects bear it, and `statement_correlation` (statement, statement) that of normal numbers behind them.
    """

    counts: Tensor
    noise_variance: Tensor
    weights: Tensor
    means: Tensor
    covariances: Tensor
    between: Tensor
    component_correlation: Tensor
    done: int
    coherence: Tensor | None = None
    evoked: Tensor | None = None
    course: Tensor | None = None
    modulation: Tensor | None = None
    beats: Tensor | None = None
    effects: Tensor | None = None
    strata: Tensor | None = None
    statement_effects: Tensor | None = None
    statement_shares: Tensor | None = None
    statement_correlation: Tensor | None = None
    views: Tensor | None = None
    views_variance: Tensor | None = None
    responses: Tensor | None = None
    responses_variance: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the anchor as named tensors, for the wire."""
        last = {name: getattr(self, name) for name in _ASKED}
        asked = {f"anchor.{name}": value for name, value in last.items() if value is not None}
        return {
            **asked,
            "anchor.counts": self.counts,
            "anchor.noise_variance": self.noise_variance,
            "anchor.weights": self.weights,
            "anchor.means": self.means,
            "anchor.covariances": self.covariances,
            "anchor.between": self.between,
            "anchor.component_correlation": self.component_correlation,
            "anchor.done": torch.tensor([self.done]),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Anchor":
        """Read what `tensors` returned."""
        return cls(
            counts=tensors["anchor.counts"],
            noise_variance=tensors["anchor.noise_variance"],
            weights=tensors["anchor.weights"],
            means=tensors["anchor.means"],
            covariances=tensors["anchor.covariances"],
            between=tensors["anchor.between"],
            component_correlation=tensors["anchor.component_correlation"],
            done=int(tensors["anchor.done"][0]),
            **{name: tensors.get(f"anchor.{name}") for name in _ASKED},
        )


def prior_anchor(shape: Shape, *, components: int = 1) -> Anchor:
    """Return the anchor before anything was asked: every label looks like the public prior."""
    size, labels = codec_of(shape).n_features, shape.n_labels
    return Anchor(
        counts=torch.ones(labels, dtype=torch.float64),
        noise_variance=torch.zeros(labels, dtype=torch.float64),
        weights=torch.full((labels, components), 1 / components, dtype=torch.float64),
        means=torch.zeros(labels, components, size, dtype=torch.float64),
        covariances=torch.eye(size, dtype=torch.float64).repeat(labels, components, 1, 1),
        between=uniform_shares(torch.full((labels,), 0.5, dtype=torch.float64), size),
        component_correlation=torch.ones(labels, dtype=torch.float64),
        done=0,
    )


def uniform_shares(shares: Tensor, size: int) -> Tensor:
    """Return share matrices (label, size, size) of labels that have one share (label,) along all axes."""
    return shares[:, None, None] * torch.eye(size, dtype=torch.float64)


def deviations(anchor: Anchor, shape: Shape) -> Tensor:
    """Return what each stratum adds to the mean of a label, (label, stratum, feature); over a label nothing."""
    whole = torch.zeros(1, anchor.means.shape[2], dtype=torch.float64)
    if anchor.effects is None or anchor.strata is None:
        return whole.expand(shape.n_labels, shape.n_strata, -1)
    for effects in anchor.effects.split(list(shape.strata)):
        whole = (whole[:, None] + effects[None]).flatten(0, 1)
    return whole[None] - (anchor.strata @ whole)[:, None]


def draw_width(shape: Shape) -> int:
    """Return how many standard normal numbers a drawn vector takes: those of a subject, and its own of features."""
    return subject_draw_width(shape) + 1 + codec_of(shape).n_features


def subject_draw_width(shape: Shape) -> int:
    """Return how many of them, the first, windows of one subject share; covariates and statements come first."""
    return covariate_width(shape) + 1 + codec_of(shape).n_features


def covariate_width(shape: Shape) -> int:
    """Return how many numbers pick a subject's stratum and its statements."""
    return bool(shape.strata) + shape.n_statements


class FeatureDraw(nn.Module):
    """Draws standardised feature vectors; windows of one subject share the subject's part of the noise.

    The noise of a window begins with the subject's part (which component, and how the subject differs from its
    mean), then comes the window's own, of the same form (`width` in all). With covariates the subject's stratum
    comes before all (`fedsynth.anchors.asked`). Which component is chosen by a standard normal number; those of
    two windows of a subject correlate by `component_correlation` (a Gaussian copula).
    """

    def __init__(self, anchor: Anchor, shape: Shape) -> None:
        """Take what is needed of an anchor; buffers, so that it travels with the parts."""
        super().__init__()
        self.width, self.shape = draw_width(shape), shape
        self.statements = StatementDraw(anchor) if anchor.statement_shares is not None else None
        frame = coordinates_of(shape)
        share, vectors = (part[:, None] for part in torch.linalg.eigh(anchor.between))
        share = share.clamp(0, 1)[..., None, :]
        along = frame.there @ frame.axes
        root = (frame.axes.T @ frame.back).T @ _root(along.T @ anchor.covariances @ along) @ vectors
        self.register_buffer("cumulative", anchor.weights.cumsum(dim=1).to(torch.float32))
        self.register_buffer("means", anchor.means.to(torch.float32))
        self.register_buffer("between", (root * share.sqrt()).to(torch.float32))
        self.register_buffer("within", (root * (1 - share).sqrt()).to(torch.float32))
        if shape.strata:
            alike = torch.full((shape.n_labels, shape.n_strata), 1 / shape.n_strata, dtype=torch.float64)
            strata = alike if anchor.strata is None else anchor.strata
            self.register_buffer("strata", strata.cumsum(dim=1).to(torch.float32))
            self.register_buffer("deviations", deviations(anchor, shape).to(torch.float32))
        self.register_buffer("component_correlation", anchor.component_correlation.clamp(0, 1).to(torch.float32))

    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return standardised vectors, shape (window, feature), for noise of shape (window, width)."""
        means, correlation = self.get_buffer("means"), self.get_buffer("component_correlation")[labels, None]
        size = means.shape[2]
        told, common, subject, alone, window = noise.split([covariate_width(self.shape), 1, size, 1, size], dim=1)
        component = self._component(labels, correlation.sqrt() * common + (1 - correlation).sqrt() * alone)
        shared = torch.einsum("wij,wj->wi", self.get_buffer("between")[labels, component], subject)
        own = torch.einsum("wij,wj->wi", self.get_buffer("within")[labels, component], window)
        drawn = means[labels, component] + shared + own
        if self.shape.strata:
            drawn = drawn + self.get_buffer("deviations")[labels, self.strata_of(labels, told)]
        if self.statements is not None:
            drawn = drawn + self.statements.added(labels, self.statements_of(labels, told))
        return drawn

    @property
    def shares(self) -> Tensor:
        """Return the share of each component in a label, shape (label, component)."""
        cumulative = self.get_buffer("cumulative")
        return cumulative.diff(dim=1, prepend=torch.zeros_like(cumulative[:, :1]))

    def strata_of(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return which stratum each window's subject is of, shape (window,), by the first column of the noise."""
        if not self.shape.strata:
            return torch.zeros_like(labels)
        return picked(self.get_buffer("strata")[labels], noise[:, :1])

    def statements_of(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return which statements each window's subject bears, 0 or 1, shape (window, statement)."""
        assert self.statements is not None
        first = int(bool(self.shape.strata))
        normal = noise[:, first : first + self.shape.n_statements]
        return self.statements.flags(labels, self.strata_of(labels, noise), normal)

    def _component(self, labels: Tensor, normal: Tensor) -> Tensor:
        """Return the component that a standard normal number, shape (window, 1), picks for each window."""
        return picked(self.get_buffer("cumulative")[labels], normal)


class StatementDraw(nn.Module):
    """Draws which statements a subject bears: those whose number lies above a threshold (Gaussian copula)."""

    def __init__(self, anchor: Anchor) -> None:
        """Take what is needed of an anchor that has statements."""
        super().__init__()
        shares, correlation, effects = (
            anchor.statement_shares,
            anchor.statement_correlation,
            anchor.statement_effects,
        )
        assert shares is not None
        assert correlation is not None
        assert effects is not None
        assert anchor.strata is not None
        usual = torch.einsum("ls,lsj->lj", anchor.strata, shares)
        self.register_buffer("behind", _root(correlation).to(torch.float32))
        self.register_buffer("thresholds", normal_of(1 - shares).to(torch.float32))
        self.register_buffer("usual", (usual @ effects).to(torch.float32))
        self.register_buffer("effects", effects.to(torch.float32))

    def flags(self, labels: Tensor, strata: Tensor, normal: Tensor) -> Tensor:
        """Return 0 or 1 of every statement, of standard normal numbers, shape (subject, statement) both."""
        behind = normal @ self.get_buffer("behind").T
        return (behind > self.get_buffer("thresholds")[labels, strata]).to(torch.int64)

    def bearing(self, normal: Tensor, *, label: int, statements: Sequence[int]) -> Tensor:
        """Return numbers of subjects who bear these statements, whatever their stratum; others are as they follow.

        Args:
            normal: standard normal, shape (subject, statement).
            label: of the subjects.
            statements: their places.
        """
        rows = self.get_buffer("behind")[list(statements)].to(torch.float64)
        above = self.get_buffer("thresholds")[label][:, list(statements)].amax(dim=0).to(torch.float64)
        precise = normal.to(torch.float64)
        along = precise @ rows.T
        low = uniform_of(above)
        wanted = normal_of((low + uniform_of(along) * (1 - low)).clamp(_EDGE, 1 - _EDGE))
        wanted = torch.maximum(wanted, above + 1e-3)
        return (precise + (wanted - along) @ torch.linalg.pinv(rows).T).to(normal.dtype)

    def added(self, labels: Tensor, flags: Tensor) -> Tensor:
        """Return what statements add to a label's mean, shape (subject, feature); over a label nothing."""
        effects = self.get_buffer("effects")
        return flags.to(effects) @ effects - self.get_buffer("usual")[labels]


def picked(cumulative: Tensor, normal: Tensor) -> Tensor:
    """Return which of several kinds standard normal numbers pick, shape (row,).

    Args:
        cumulative: of the kinds' shares, shape (row, kind).
        normal: shape (row, 1).
    """
    uniform = uniform_of(normal) * cumulative[:, -1:]
    return (uniform > cumulative).sum(dim=1).clamp(max=cumulative.shape[1] - 1)


def positive(covariances: Tensor, *, least: float = _LEAST_VARIANCE, largest: float = 16.0) -> Tensor:
    """Return the nearest matrices with eigenvalues inside the bounds, shape (label, feature, feature), float64."""
    values, vectors = torch.linalg.eigh((covariances + covariances.transpose(1, 2)) / 2)
    return vectors @ torch.diag_embed(values.clamp(least, largest)) @ vectors.mT


def _root(covariances: Tensor) -> Tensor:
    """Return symmetric square roots of matrices, shape (..., feature, feature)."""
    values, vectors = torch.linalg.eigh(covariances)
    return vectors @ torch.diag_embed(values.clamp_min(0).sqrt()) @ vectors.mT
