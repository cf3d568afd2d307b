"""Counts and means from noisy sums; post-processing that the sums themselves guide (empirical Bayes)."""

import itertools
import math

import torch
from torch import Tensor

from fedsynth.anchors.anchor import Anchor

_COUNT_SPREADS = (0.03, 0.1, 0.2, 0.4, 0.8)  # of labels' mean count
_WIDER = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def even(counts: Tensor, noise: float) -> Tensor:
    """Return counts shrunk towards their mean as far as noise, not labels, makes them differ, 1 or more."""
    mean = counts.mean().clamp_min(1.0)
    best, answer = -math.inf, counts
    for spread in _COUNT_SPREADS:
        signal = float((spread * mean) ** 2)
        whole = signal + noise**2 + 1e-9
        fit = -0.5 * float(((counts - mean).square() / whole + math.log(whole)).sum())
        if fit > best:
            best, answer = fit, mean + signal / whole * (counts - mean)
    return answer.clamp_min(1.0)


def moved(observed: Tensor, left: Tensor, noise: Tensor) -> Tensor:
    """Return posterior means of what was left open, which may be more than `left` where much was cut off."""
    out = []
    for row, covariance, doubt in zip(observed, left, noise, strict=True):
        values, vectors = torch.linalg.eigh(covariance)
        turned = row @ vectors
        best, answer = -math.inf, row
        for wider in _WIDER:
            signal = wider * values.clamp_min(1e-9)
            whole = signal + doubt
            fit = -0.5 * float((turned.square() / whole + torch.log(whole)).sum()) - 0.5 * math.log(wider) ** 2
            if fit > best:
                best, answer = fit, (signal / whole * turned) @ vectors.T
        out.append(answer)
    return torch.stack(out)


def left_open(anchor: Anchor, prior: Tensor) -> Tensor:
    """Return the covariance of what the first sum left open, a little wider for its clipping, by label."""
    eye = torch.eye(len(prior), dtype=torch.float64)
    gain = prior @ torch.linalg.inv(prior + (anchor.doubt[:, None, None] + 1e-9) * eye)
    return 1.5 * (prior - gain @ prior) + 0.003 * eye


def towards_centre(observed: Tensor, prior: Tensor, noise: Tensor) -> Tensor:
    """Return posterior means of labels that share a centre; how far labels differ is read off the noisy means.

    The centre is N(0, a V) and a label's distance from it N(0, b V), where V is the public prior's covariance with
    its eigenvalues bent: where windows differ little, labels may differ even less. (a, b, bend) start from a public
    guess and move as far as the noisy means can tell (empirical Bayes; Efron and Morris 1973).
    """
    labels = len(observed)
    values, vectors = torch.linalg.eigh(prior)
    rotated = observed @ vectors
    best, answer = -math.inf, observed
    for a, b, bend in itertools.product((0.1, 0.3, 1.0), (0.03, 0.1, 0.3, 1.0), (1.0, 1.5, 2.0, 3.0)):
        bent = values.clamp_min(1e-6) ** bend
        bent = bent * values.sum() / bent.sum()
        covariance = bent[:, None, None] * (
            a * torch.ones(labels, labels, dtype=torch.float64) + b * torch.eye(labels, dtype=torch.float64)
        )
        whole = covariance + torch.diag(noise + 1e-9)
        solved = torch.linalg.solve(whole, rotated.T[:, :, None])
        fit = -0.5 * float((rotated.T[:, :, None] * solved).sum() + torch.linalg.slogdet(whole).logabsdet.sum())
        fit -= 0.5 * ((math.log(a / 0.3) / 0.7) ** 2 + (math.log(b / 0.3) / 0.5) ** 2 + ((bend - 1.5) / 0.5) ** 2)
        if fit > best:
            best, answer = fit, (covariance @ solved)[..., 0].T @ vectors.T
    return answer
