"""Effects of conditions: from noisy normal equations to the effect of every covariate's value on the features.

The posterior mean of a linear model with normal effects. How large they are is read off the noisy sums, for every
covariate and axis, from a mixture over a grid of variances (adaptive shrinkage, Stephens 2017,
doi:10.1093/biostatistics/kxw041): an effect that noise explains is none, and a large one along one axis keeps its
size.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, StatementDraw, deviations, positive
from fedsynth.anchors.coordinates import coordinates_of
from fedsynth.modalities.shape import Shape

# Of the variance between units along an axis: how large effects of a covariate may be; a public guess of how often,
# which weighs as much as `_GUESS_AXES` axes.
_VARIANCES = torch.tensor([1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0], dtype=torch.float64)
_GUESS = torch.tensor([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02], dtype=torch.float64)
_GUESS_AXES = 5.0
_SWEEPS = 4
_RIDGE = 1e-6
_DRAWN = 4000  # subjects, of whom a covariance is taken
_LEAST_OWN = 0.05  # of the variance along an axis, that lies between units whatever the sums said
_MOST_EXPLAINED = 0.95  # of what units differ by, that covariates explain


@dataclass(frozen=True)
class Equations:
    """The normal equations of features on a design: labels, then values of covariates, then statements.

    `gram` (row, row) is the sum over units of the design's products, and `rows` (row, feature) are noisy sums of
    residuals in the frame.
    """

    gram: Tensor
    rows: Tensor
    n_labels: int

    @property
    def mixing(self) -> Tensor:
        """Return what the sums would be for effects of one, shape (row, effect).

        Residuals are around a label's mean, which has its units' mean effects in it.
        """
        labels = self.n_labels
        usual = self.gram[:labels] / self.gram[:labels, :labels].diagonal()[:, None]
        usual = usual.clone()
        usual[:, :labels] = 0  # columns of labels stay as they are
        return self.gram - self.gram[:, :labels] @ usual


def effects_of(
    equations: Equations, anchor: Anchor, shape: Shape, *, noise_variance: float, label_variance: Tensor
) -> Tensor:
    """Return the effect of every value, then of every statement, in the frame, shape (effect, feature).

    Of a covariate's values only differences have a meaning.

    Along an axis the sums are normal with covariance M P M' + s G + t: M is the equations' `mixing`, P the effects'
    prior variances, s what units vary by, G their `gram`, t the noise. What labels' means are off by is a nuisance.

    Args:
        equations: as above.
        anchor: gives what units vary by.
        shape: of the windows.
        noise_variance: on every number of the rows.
        label_variance: of a coordinate of what is left open of labels' means, shape (label,).
    """
    own = _own_covariance(anchor, shape)
    values, axes = torch.linalg.eigh(own)
    turned = equations.rows @ axes
    groups = [*shape.strata, *([shape.n_statements] if shape.n_statements else [])]
    owners = torch.cat([torch.full((size,), k) for k, size in enumerate(groups)])
    model = _Model(equations.gram, equations.mixing, values, turned, noise_variance, label_variance, owners)
    variances = (_GUESS @ _VARIANCES).expand(len(values), len(groups)).clone()
    often = _GUESS.repeat(len(groups), 1)
    for _ in range(_SWEEPS):
        for place in range(len(groups)):
            fits = []
            for one in _VARIANCES:
                tried = variances.clone()
                tried[:, place] = one
                fits.append(model.fit(tried))
            weights = torch.softmax(torch.stack(fits, dim=1) + often[place].log(), dim=1)
            often[place] = (weights.sum(dim=0) + _GUESS_AXES * _GUESS) / (len(values) + _GUESS_AXES)
            variances[:, place] = weights @ _VARIANCES
    solved = model.posterior(variances)
    return solved[shape.n_labels :] @ axes.T


@dataclass(frozen=True)
class _Model:
    """Rows along axes, shape (row, axis), of which those after the labels' belong to covariate `owners`."""

    gram: Tensor
    mixing: Tensor
    own: Tensor
    rows: Tensor
    noise_variance: float
    label_variance: Tensor
    owners: Tensor

    def fit(self, variances: Tensor) -> Tensor:
        """Return the log likelihood of the rows along each axis, (axis,), under variances (axis, covariate)."""
        whole, _ = self._covariances(variances)
        rows = self.rows.T[:, :, None]
        solved = torch.linalg.solve(whole, rows)
        return -0.5 * ((rows * solved).sum(dim=(1, 2)) + torch.linalg.slogdet(whole).logabsdet)

    def posterior(self, variances: Tensor) -> Tensor:
        """Return the posterior mean of labels' moves and of effects, shape (row, axis)."""
        whole, priors = self._covariances(variances)
        solved = torch.linalg.solve(whole, self.rows.T[:, :, None])
        return (priors[:, :, None] * (self.mixing.T @ solved))[..., 0].T

    def _covariances(self, variances: Tensor) -> tuple[Tensor, Tensor]:
        """Return the covariance of the rows along each axis, (axis, row, row), and prior variances, (axis, row)."""
        labels = self.label_variance.expand(len(self.own), -1)
        priors = torch.cat([labels, self.own[:, None] * variances[:, self.owners]], dim=1)
        between = self.mixing @ (priors[:, :, None] * self.mixing.T)
        # Rows add up to the same by every covariate, so that without noise they are not independent.
        least = _RIDGE * self.own * self.gram.trace()
        ridge = (self.noise_variance + least)[:, None, None] * torch.eye(len(self.gram), dtype=torch.float64)
        return between + self.own[:, None, None] * self.gram + ridge, priors


def without_effects(anchor: Anchor, shape: Shape) -> Anchor:
    """Return the anchor whose units vary less by chance: by what covariates explain of it.

    So a label's covariance stays what it was once strata are drawn.
    """
    if anchor.strata is None:
        return anchor
    frame = coordinates_of(shape)
    along = frame.there @ frame.axes
    back = frame.axes.T @ frame.back
    explained = along.T @ _explained(anchor, shape) @ along
    covariances, between = [], anchor.between
    shares = torch.zeros_like(between)
    for component in range(anchor.means.shape[1]):
        whole = along.T @ anchor.covariances[:, component] @ along
        root = _power(whole, 0.5)
        own = positive(root @ between @ root, least=1e-9, largest=math.inf)
        less = _less(own, explained)
        after = whole - own + less
        covariances.append(positive(back.T @ after @ back))
        inverse = _power(after, -0.5)
        # One share serves all components of a label; they weigh alike here.
        shares = shares + inverse @ less @ inverse / anchor.means.shape[1]
    return replace(anchor, covariances=torch.stack(covariances, dim=1), between=(shares + shares.mT) / 2)


def _explained(anchor: Anchor, shape: Shape) -> Tensor:
    """Return the covariance of what covariates and statements add to a label's mean, (label, feature, feature)."""
    assert anchor.strata is not None
    moved = deviations(anchor, shape)
    if anchor.statement_effects is None:
        return torch.einsum("ls,lsi,lsj->lij", anchor.strata, moved, moved)
    draw = StatementDraw(anchor)
    generator = torch.Generator().manual_seed(0)
    found = []
    for label in range(shape.n_labels):
        strata = torch.multinomial(anchor.strata[label], _DRAWN, replacement=True, generator=generator)
        normal = torch.randn(_DRAWN, shape.n_statements, generator=generator)
        flags = draw.flags(torch.full((_DRAWN,), label), strata, normal)
        added = moved[label, strata] + draw.added(torch.full((_DRAWN,), label), flags).to(torch.float64)
        found.append(added.T.cov())
    return torch.stack(found)


def explained_share(anchor: Anchor, shape: Shape) -> Tensor:
    """Return for each covariate the share of what units differ by that its effects make, shape (covariate,)."""
    assert anchor.effects is not None
    assert anchor.strata is not None
    frame = coordinates_of(shape)
    weights = anchor.counts / anchor.counts.sum()
    own = float(_own_covariance(anchor, shape).trace())
    found = []
    for place, effects in enumerate(anchor.effects.split(list(shape.strata))):
        shares = anchor.strata.unflatten(1, shape.strata)
        others = [1 + other for other in range(len(shape.strata)) if other != place]
        by_value = weights @ (shares.sum(dim=others) if others else shares)
        moved = (effects - by_value @ effects) @ frame.there
        found.append(float((by_value[:, None] * moved.square()).sum()))
    return torch.tensor([one / (own + sum(found)) for one in found], dtype=torch.float64)


def _own_covariance(anchor: Anchor, shape: Shape) -> Tensor:
    """Return the covariance of what units of a label differ by, in the frame, over labels (feature, feature)."""
    frame = coordinates_of(shape)
    along = frame.there @ frame.axes
    weights = anchor.counts / anchor.counts.sum()
    whole = torch.einsum("lc,lcij->lij", anchor.weights, along.T @ anchor.covariances @ along)
    centres = anchor.means - torch.einsum("lc,lcf->lf", anchor.weights, anchor.means)[:, None]
    apart = torch.einsum("lc,lci,lcj->lij", anchor.weights, centres @ along, centres @ along)
    root = _power(whole, 0.5)
    own = root @ anchor.between @ root + apart * anchor.component_correlation[:, None, None]
    own = torch.einsum("l,lij->ij", weights, own)
    pooled = torch.einsum("l,lij->ij", weights, whole + apart)
    own = own + _LEAST_OWN * torch.diag(pooled.diagonal())
    return frame.axes @ own @ frame.axes.T


def _less(own: Tensor, explained: Tensor) -> Tensor:
    """Return `own` without what is explained, of which it keeps a little along every direction."""
    root, inverse = _power(own, 0.5), _power(own, -0.5)
    values, vectors = torch.linalg.eigh(inverse @ explained @ inverse)
    left = 1 - values.clamp(0, _MOST_EXPLAINED)
    turned = root @ vectors
    return turned @ (left[..., None] * turned.mT)


def _power(matrices: Tensor, power: float) -> Tensor:
    """Return a power of symmetric matrices, shape (..., feature, feature)."""
    values, vectors = torch.linalg.eigh((matrices + matrices.mT) / 2)
    return vectors @ torch.diag_embed(values.clamp_min(1e-9).pow(power)) @ vectors.mT
