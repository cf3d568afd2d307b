"""From noisy sums to how likely each canary was in."""

import math

import numpy as np

from fedsynth.audit.bounds import Floats

_MODEL_ERROR = 2.0  # how wrong, relatively, what all canaries or all others add may be: clipping may be at fault


class Evidence:
    """What noisy sums say about who was in, as log odds of the coins.

    A sum is read as y = X' d + others + noise, for the canaries' clipped contributions X and for d, who of them was
    drawn: a linear Gaussian model, that is least squares whitened by the noise, the drawing of the others and the
    prior of d. Where everybody is drawn, d is the coins, and all such sums are solved together. Where units are
    drawn with probability q, the odds L of having been drawn for one sum count as log(1 - q + q L).
    """

    def __init__(self, canaries: int) -> None:
        """Begin knowing nothing of `canaries` canaries."""
        self._information = np.zeros((canaries, canaries))
        self._direction = np.zeros(canaries)
        self._sampled = np.zeros(canaries)
        self.sums = 0

    def add(
        self,
        total: Floats,
        contributions: Floats,
        *,
        sampling_probability: float,
        noise_std: float,
        others: Floats,
        n_others: int,
    ) -> None:
        """Take in one noisy sum.

        The noise is believed to be as loud as claimed, or quieter by the power of two that makes the sum likeliest:
        an auditor need not believe.

        Args:
            total: the noisy sum, shape (size,).
            contributions: of each canary if it were drawn, clipped, shape (canary, size).
            sampling_probability: with which each unit is drawn.
            noise_std: as claimed, of each coordinate.
            others: clipped contributions of units that are known to be in, or of some of them, shape (some, size).
            n_others: how many such units there are.
        """
        q, n = sampling_probability, len(contributions)
        each = n_others / max(1, len(others))
        known = q * each * others.sum(axis=0)
        rest = total - q / 2 * contributions.sum(axis=0) - known
        rows = np.concatenate([contributions, known[None], others if q < 1 else others[:0]])
        values, vectors = np.linalg.eigh(rows @ rows.T)
        keep = values > 1e-10 * max(float(values[-1]), 1e-300)
        roots, vectors = np.sqrt(values[keep]), vectors[:, keep]
        inside = (vectors.T @ (rows @ rest)) / roots  # the sum in an orthonormal basis of the rows
        rows = vectors * roots
        mine, theirs = rows[:n], rows[n + 1 :]
        doubt = _MODEL_ERROR * np.stack([q / 2 * mine.sum(axis=0), rows[n]])
        background = doubt.T @ doubt + q * (1 - q) * each * theirs.T @ theirs
        outside = max(float(rest @ rest - inside @ inside), 0.0), len(rest) - len(roots)
        signal = background + _variance(q) * mine.T @ mine
        std = noise_std * _loudness(inside, signal, outside, noise_std=noise_std)
        solved = np.linalg.solve(background + std**2 * np.eye(len(roots)), np.column_stack([inside, mine.T]))
        direction, information = mine @ solved[:, 0], mine @ solved[:, 1:]
        if q == 1:
            self._direction += direction
            self._information += information
        else:
            odds = _log_odds(information, direction, probability=q / 2)
            self._sampled += np.logaddexp(math.log1p(-q), math.log(q) + odds)
        self.sums += 1

    def scores(self) -> Floats:
        """Return each canary's log odds of being in, shape (canary,)."""
        return self._sampled + _log_odds(self._information, self._direction, probability=0.5)


def _variance(sampling_probability: float) -> float:
    """Return the prior variance of a canary's having been in and drawn."""
    return sampling_probability / 2 * (1 - sampling_probability / 2)


def _log_odds(information: Floats, direction: Floats, *, probability: float) -> Floats:
    """Return log P[data | 1] / P[data | 0] of each of many zeros and ones, the others averaged out.

    Args:
        information: inverse covariance of the measurement, shape (unknown, unknown).
        direction: information times the measured unknowns, less their prior mean, shape (unknown,).
        probability: of a one, before.
    """
    prior = 1 / (probability * (1 - probability))
    precision = information + prior * np.eye(len(direction))
    covariance = np.linalg.inv((precision + precision.T) / 2)
    variance = np.diag(covariance)
    odds: Floats = covariance @ direction / variance - (1 / variance - prior) * (0.5 - probability)
    return odds


def _loudness(inside: Floats, signal: Floats, outside: tuple[float, int], *, noise_std: float) -> float:
    """Return the power of two, at most 1, by which the noise seems to be scaled (largest marginal likelihood)."""
    values, vectors = np.linalg.eigh(signal)
    squares = (vectors.T @ inside) ** 2
    energy, free = outside

    def likelihood(scale: float) -> float:
        quiet = (scale * noise_std) ** 2
        spread = np.maximum(values, 0.0) + quiet
        return -float((np.log(spread) + squares / spread).sum() + free * math.log(quiet) + energy / quiet)

    return max((2.0**-power for power in range(13)), key=likelihood)
