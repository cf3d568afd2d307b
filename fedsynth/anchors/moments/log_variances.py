"""Log variances: the second sum where noise is loud; a few bounded logarithms instead of second moments.

Second moments drown in loud noise: there are hundreds, and a few long residuals use up their bound. The logarithm
of a residual's squared length along a group of axes is one number with a short range. The form within a group stays
the public prior's.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor, uniform_shares
from fedsynth.anchors.coordinates import Coordinates, coordinates_of, means_by, within
from fedsynth.anchors.moments.means import posterior_moves, recentred, residuals, unexplained_covariance
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape
from fedsynth.privacy.budget import SumRequest
from fedsynth.rng import torch_generator

_LOG_WEIGHT, _SHARE_WEIGHT = 1.0, 0.5  # of a bounded logarithm, and of a share, beside a residual's bound
_RANGE = 4.0  # nats of variance between the ends of a bounded logarithm
_CENTRE = math.log(0.3)  # beside the public prior's variance
# Standard deviations of log variances: of one for all, of a group's, of a label's, of a label's in a group.
_COMMON_STD, _GROUP_STD, _LABEL_STD, _OWN_STD = 0.5, 0.7, 0.5, 0.2
_LEFT_AFTER_ERRORS = 0.3  # of a variance, at least, when the centre's error is taken off
_BEND = 0.5  # within a label windows differ more evenly over the axes than all simulated ones do
_SHARE_CENTRE, _SHARE_STD = 0.6, 0.15  # of the variance, between subjects, for all labels
_OWN_SHARE_VARIANCE, _SHARES = 0.01, (0.05, 0.95)  # of a label's share around it, and the limits of a share
_SIMULATED = 4000


@dataclass(frozen=True)
class LogVariances:
    """The second sum: for each label the mean residual, `groups` bounded logarithms, the share between subjects.

    `radius` bounds a residual, in units of the square root of the number of features. `budget_share` is the sum's
    weight among those over everybody.
    """

    radius: float = 0.5
    groups: int = 2
    budget_share: float = 0.6

    def request(self, shape: Shape) -> SumRequest:
        """Return the sum; logarithms and shares lie between -1/2 and 1/2."""
        mean = self._bound(shape)
        log, share = _LOG_WEIGHT * mean, _SHARE_WEIGHT * mean
        bound = math.sqrt(mean**2 + self.groups * log**2 / 4 + share**2 / 4)
        return SumRequest("anchor: centred means and sizes", bound, self.budget_share)

    def size(self, shape: Shape) -> int:
        """Return how many numbers a row has: a mean, a logarithm of each group, and a share."""
        return codec_of(shape).n_features + self.groups + 1

    def contribution(self, anchor: Anchor, shape: Shape, *, vector: Tensor, labels: Tensor) -> Tensor:
        """Return by label the mean residual, logarithms and share, times its share of the unit's windows."""
        bound = self._bound(shape)
        onehot = torch.nn.functional.one_hot(labels, shape.n_labels).to(vector)
        residual = residuals(anchor, shape, vector=vector, labels=labels)
        mean = within(means_by(residual, onehot), bound)
        logs = means_by(logarithms(residual, coordinates_of(shape), axis_groups_of(shape, self.groups)), onehot)
        between = share_between(residual, onehot)[:, None]
        row = torch.cat([mean, _LOG_WEIGHT * bound * logs, _SHARE_WEIGHT * bound * between], dim=1)
        return row * onehot.mean(dim=0)[:, None]

    def advance(self, anchor: Anchor, shape: Shape, *, rows: Tensor, noise_std: float) -> Anchor:
        """Return the anchor with means moved, variances, and what of them lies between subjects."""
        frame, size = coordinates_of(shape), codec_of(shape).n_features
        rows, noise = rows / anchor.counts[:, None], noise_std / anchor.counts
        groups = axis_groups_of(shape, self.groups)
        log_size, share_size = _LOG_WEIGHT * self._bound(shape), _SHARE_WEIGHT * self._bound(shape)
        moves = posterior_moves(rows[:, :size], unexplained_covariance(anchor, frame.covariance), noise.square())
        errors = groups.sums((moves @ frame.axes).square())
        covariances = variances_of(rows[:, size:-1] / log_size, errors, noise / log_size, frame, groups)
        between = uniform_shares(shares_of(rows[:, -1] / share_size, noise / share_size), size)
        return recentred(
            anchor, shape, moves=moves, covariances=covariances, between=between, noise_variance=noise.square()
        )

    def _bound(self, shape: Shape) -> float:
        return self.radius * math.sqrt(codec_of(shape).n_features)


@dataclass(frozen=True)
class Groups:
    """Axes of the frame in groups, the widest first.

    `number` (axis,) is the group of each, `variances` (axis,) are expected beside each other, and `log_offset`
    (group,) is the mean logarithm of a squared length beside the logarithm of its mean.
    """

    number: Tensor
    variances: Tensor
    log_offset: Tensor

    def sums(self, squares: Tensor) -> Tensor:
        """Return sums over the axes of each group: (..., axis) to (..., group)."""
        onehot = torch.nn.functional.one_hot(self.number).to(squares)
        return squares @ onehot


@lru_cache(maxsize=8)
def axis_groups_of(shape: Shape, groups: int) -> Groups:
    """Return the axes of a shape's frame in groups of about as many axes each."""
    frame = coordinates_of(shape)
    prior = (frame.axes.T @ frame.covariance @ frame.axes).diagonal().clamp_min(1e-4)
    order = torch.empty(len(prior), dtype=torch.long)
    order[prior.argsort(descending=True)] = torch.arange(len(prior))
    number = order * groups // len(prior)
    onehot = torch.nn.functional.one_hot(number).to(prior)
    variances = prior**_BEND
    variances = variances * ((prior @ onehot) / (variances @ onehot))[number]
    normal = torch.randn(
        _SIMULATED, len(variances), generator=torch_generator("sizes", len(variances)), dtype=torch.float64
    )
    out = Groups(number, variances, torch.zeros(groups, dtype=torch.float64))
    squares = out.sums(normal.square() * variances)
    return Groups(number, variances, squares.log().mean(dim=0) - out.sums(variances).log())


def logarithms(residual: Tensor, frame: Coordinates, groups: Groups) -> Tensor:
    """Return bounded logarithms of the residuals' squared lengths, -1/2 to 1/2, shape (window, group)."""
    squares = groups.sums((residual @ frame.axes).square())
    ratio = torch.log((squares + 1e-9) / groups.sums(groups.variances)) - _CENTRE - groups.log_offset
    return (ratio / _RANGE).clamp(-0.5, 0.5)


def share_between(residual: Tensor, onehot: Tensor) -> Tensor:
    """Return by label the squared length of the unit's mean residual beside the mean squared length, 0 to 1, less a
    half; zero for a label without two windows. The windows' own part in it is taken off.

    With a share s between units, the mean of n windows has s + (1 - s) / n of the variance of one (one-way analysis
    of variance), so n times that, less 1, over n - 1 is s.
    """
    number = onehot.sum(dim=0)
    whole = means_by(residual.square(), onehot).sum(dim=1)
    share = means_by(residual, onehot).square().sum(dim=1) / whole.clamp_min(1e-9)
    share = (share * number - 1) / (number - 1).clamp_min(1)
    return (share.clamp(0, 1) - 0.5) * (number > 1)


def variances_of(logs: Tensor, errors: Tensor, noise: Tensor, frame: Coordinates, groups: Groups) -> Tensor:
    """Turn noisy means of bounded logarithms into covariances in the frame, shape (label, feature, feature).

    The logarithms are normal a priori, with parts that labels and groups share, and the posterior mean is taken.

    Args:
        logs: shape (label, group).
        errors: squared length of the error of the centre the residuals were taken around, shape (label, group).
        noise: standard deviation of the logarithms by label.
        frame: the frame.
        groups: its groups.
    """
    labels, number = logs.shape
    observed, noise_variance = (logs * _RANGE).flatten(), (noise * _RANGE).square().repeat_interleave(number)
    all_labels, all_groups = (torch.ones(count, count, dtype=torch.float64) for count in (labels, number))
    each_label, each_group = (torch.eye(count, dtype=torch.float64) for count in (labels, number))
    prior = (
        _COMMON_STD**2 * torch.kron(all_labels, all_groups)
        + _GROUP_STD**2 * torch.kron(all_labels, each_group)
        + _LABEL_STD**2 * torch.kron(each_label, all_groups)
        + _OWN_STD**2 * torch.kron(each_label, each_group)
    )
    posterior = prior @ torch.linalg.solve(prior + torch.diag(noise_variance + 1e-9), observed)
    whole = groups.sums(groups.variances)
    size = torch.exp(posterior.view(labels, number) + _CENTRE) * whole
    size = torch.maximum(size - errors, _LEFT_AFTER_ERRORS * size)
    variances = (size / whole)[:, groups.number] * groups.variances
    return frame.axes @ torch.diag_embed(variances) @ frame.axes.T


def shares_of(observed: Tensor, noise: Tensor) -> Tensor:
    """Return the share between subjects by label from noisy means of `share_between`: posterior means around a
    common share, which is itself one around a public guess."""
    precision = noise.square().clamp_min(1e-9).reciprocal()
    noise_variance = 1 / precision
    common = float(((observed + 0.5) * precision).sum() / precision.sum())
    trust = _SHARE_STD**2 / (_SHARE_STD**2 + 1 / float(precision.sum()))
    common = _SHARE_CENTRE + trust * (common - _SHARE_CENTRE)
    own = common + _OWN_SHARE_VARIANCE / (_OWN_SHARE_VARIANCE + noise_variance) * (observed + 0.5 - common)
    return own.clamp(*_SHARES)
