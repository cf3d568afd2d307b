"""Aggregation: from the checked answers of a round to one result.

Sums are added. States that sites trained are joined by one of four rules; all but the mean bear some sites that
send nonsense. A site's own weight, where there is one, is public: an earlier private sum, never a count.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fedsynth.errors import RefusedError
from fedsynth.privacy.mechanism import Mechanism

Rule = Literal["mean", "trimmed-mean", "median", "krum"]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Total:
    """A private sum over sites: `values` (size,) and the noise's standard deviation in each coordinate.

    `sites` are those in it; `by_site` holds what each of them said, unless secure aggregation hid it.
    """

    values: Tensor
    noise_std: float
    sites: tuple[str, ...]
    by_site: Mapping[str, Tensor] = field(default_factory=dict)


def add_sums(sums: Mapping[str, Tensor], *, mechanism: Mechanism) -> Total:
    """Add the sites' private sums, each of which carries all of its own noise.

    Args:
        sums: by site, shape (size,) each, checked for shape and finiteness.
        mechanism: what every one of them is.
    """
    one = mechanism.noise_multiplier * mechanism.clipping_norm if mechanism.is_private else 0.0
    return Total(
        values=torch.stack(list(sums.values())).sum(dim=0),
        noise_std=one * math.sqrt(len(sums)),
        sites=tuple(sums),
        by_site=sums,
    )


def within_reach(
    answers: Mapping[str, State], *, start: State, largest_move: float
) -> tuple[dict[str, State], dict[str, str]]:
    """Part states that a site can have trained from those it cannot have.

    Args:
        answers: by site, checked for names, shapes and finiteness.
        start: what every site began with.
        largest_move: how far training can carry the state in L2, a public number.

    Returns:
        The states kept, and for each site left out the reason.
    """
    kept: dict[str, State] = {}
    strange: dict[str, str] = {}
    for site, state in answers.items():
        moved = math.sqrt(
            sum(float((state[name] - before).double().square().sum()) for name, before in start.items())
        )
        if moved <= largest_move * (1 + 1e-3):
            kept[site] = state
        else:
            strange[site] = f"its parts moved by {moved:.3g}, training can move them by {largest_move:.3g}"
    return kept, strange


def aggregate(answers: Mapping[str, State], *, weights: Mapping[str, float], rule: Rule) -> dict[str, Tensor]:
    """Join the sites' trained parts into one state.

    Args:
        answers: by site, all of the same names and shapes.
        weights: public weights by site; only the mean uses them.
        rule: "mean" (McMahan et al. 2017), "trimmed-mean" and "median" by coordinate (Yin et al. 2018), "krum"
            (Blanchard et al. 2017), which takes over the state with the nearest neighbours.

    Raises:
        RefusedError: a robust rule with fewer than three sites.
    """
    if rule == "mean":
        return mean_state(answers, weights=weights)
    if len(answers) < 3:
        raise RefusedError(
            f'plan.aggregation = "{rule}" needs three sites to tell who is odd; {len(answers)} are left. '
            'Nothing was released; use "mean" or invite more sites'
        )
    if rule == "krum":
        return dict(answers[_krum(answers)])
    stacked = {
        name: torch.stack([state[name] for state in answers.values()]) for name in next(iter(answers.values()))
    }
    if rule == "median":
        return {name: rows.quantile(0.5, dim=0) for name, rows in stacked.items()}
    cut = max(1, len(answers) // 4)
    return {name: rows.sort(dim=0).values[cut:-cut].mean(dim=0) for name, rows in stacked.items()}


def mean_state(answers: Mapping[str, State], *, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the weighted mean of the sites' trained parts (McMahan et al. 2017, FedAvg).

    Args:
        answers: by site, all of the same names and shapes.
        weights: public weights by site: an earlier private sum or equal ones, never a count.
    """
    total = sum(weights[site] for site in answers)
    mean: dict[str, Tensor] = {}
    for site, tensors in answers.items():
        for name, tensor in tensors.items():
            share = tensor * (weights[site] / total)
            mean[name] = mean[name] + share if name in mean else share
    return mean


def _krum(answers: Mapping[str, State]) -> str:
    """Return the site whose n - f - 2 nearest neighbours are nearest, for f = (n - 3) / 2 odd sites."""
    sites = list(answers)
    vectors = torch.stack(
        [torch.cat([value.flatten().double() for value in answers[site].values()]) for site in sites]
    )
    n = len(sites)
    near = n - (n - 3) // 2 - 2
    distances = torch.cdist(vectors, vectors).square()
    scores = distances.sort(dim=1).values[:, 1 : near + 1].sum(dim=1)
    return sites[int(scores.argmin())]
