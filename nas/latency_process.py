"""Log ratios of two sums of work at unknown prices, as one Gaussian process.

``log ratio = log(work . e^prices) - log(reference work . e^prices)``. Prices have
a normal prior around 0 (work comes at guessed prices, so 0 is the guess). Around
their most probable values the model is linear in them (Laplace; Rasmussen and
Williams, 2006, chapters 2 and 5), and a smooth process over what the work is
made of adds what no prices explain. Both are differences between architecture
and reference, so a reference's ratio to itself is 1 without an error.

Shapes: n observed, m asked for, p prices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Work of architectures and of what each is compared with, both (n, p), >= 0."""

    work: Floats
    reference: Floats

    @property
    def places(self) -> tuple[Floats, Floats]:
        """Where both lie for the smooth process: parts of the guessed time and its logarithm, (n, p + 1) each."""
        return _places(self.work), _places(self.reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linearised:
    """The model around the most probable prices under one prior, ``deviation`` its width."""

    prices: Floats
    deviation: float

    def mean(self, pairs: Pairs) -> Floats:
        """Return the log ratios the guessed prices come to, continued linearly from here, (n,)."""
        return self.at_prices(pairs) - self.slopes(pairs) @ self.prices

    def at_prices(self, pairs: Pairs) -> Floats:
        """Return the log ratios at the most probable prices, (n,)."""
        return _log_time(pairs.work, self.prices) - _log_time(pairs.reference, self.prices)

    def slopes(self, pairs: Pairs) -> Floats:
        """Return how log ratios change with log prices: differences of shares of time, (n, p)."""
        return _shares(pairs.work, self.prices) - _shares(pairs.reference, self.prices)


def linearise(pairs: Pairs, observed: Floats, noise: Floats, *, deviation: float) -> Linearised:
    """Find the most probable prices.

    Args:
        pairs: What was observed, n of them.
        observed: Their log ratios, (n,).
        noise: Variance of each, (n,).
        deviation: Standard deviation of the prior of a log price.
    """
    precision = 1 / np.sqrt(noise)

    def losses(prices: Floats) -> Floats:
        ratios = _log_time(pairs.work, prices) - _log_time(pairs.reference, prices)
        return np.concatenate([(ratios - observed) * precision, prices / deviation])

    def slopes(prices: Floats) -> Floats:
        of_ratios = _shares(pairs.work, prices) - _shares(pairs.reference, prices)
        return np.concatenate([of_ratios * precision[:, None], np.eye(len(prices)) / deviation])

    # Who only reads what was measured does without, and it is slow to import.
    from scipy.optimize import least_squares

    found = least_squares(losses, np.zeros(pairs.work.shape[1]), jac=slopes, method="lm", xtol=1e-6, ftol=1e-6)
    return Linearised(prices=found.x, deviation=deviation)


def prior_covariance(pairs: Pairs, *, price_deviation: float, bump: tuple[float, float]) -> Floats:
    """Return the covariance of log ratios at guessed prices, before anything is observed, (n, n).

    ``bump`` is the deviation and the length of the smooth part.
    """
    guessed = Linearised(prices=np.zeros(pairs.work.shape[1]), deviation=price_deviation)
    return _covariance(pairs, pairs, guessed, bump)


class RatioProcess:
    """The process given observations. ``bump`` is the deviation and the length of its smooth part."""

    def __init__(
        self,
        pairs: Pairs,
        observed: Floats,
        noise: Floats,
        *,
        linearised: Linearised,
        bump: tuple[float, float],
    ) -> None:
        self._pairs = pairs
        self._linearised = linearised
        self._bump = bump
        covariance = _covariance(pairs, pairs, linearised, self._bump) + np.diag(noise)
        self._factor = cho_factor(covariance, lower=True)
        deviations = observed - linearised.mean(pairs)
        self._weights: Floats = cho_solve(self._factor, deviations)
        # Without the constant that all settings share.
        self.log_likelihood = -0.5 * float(deviations @ self._weights) - float(np.log(np.diag(self._factor[0])).sum())

    def left_out(self) -> tuple[Floats, Floats]:
        """Return how far each observation lies from what the others say, and that distance's standard deviation.

        By Rasmussen and Williams, 2006, equations 5.10 to 5.12; prices stay where all observations put them.
        """
        precisions = np.diag(cho_solve(self._factor, np.eye(len(self._weights))))
        return self._weights / precisions, 1 / np.sqrt(precisions)

    def at(self, pairs: Pairs) -> tuple[Floats, Floats]:
        """Return means and variances of log ratios, (m,) each; without the noise of observing them."""
        across = _covariance(pairs, self._pairs, self._linearised, self._bump)
        means = self._linearised.mean(pairs) + across @ self._weights
        slopes, (deviation, _) = self._linearised.slopes(pairs), self._bump
        here, there = pairs.places
        prior = self._linearised.deviation**2 * (slopes**2).sum(axis=1)
        prior += 2 * deviation**2 * (1 - np.exp(-((here - there) ** 2).sum(axis=1) / (2 * self._bump[1] ** 2)))
        explained = (across * cho_solve(self._factor, across.T).T).sum(axis=1)
        return means, np.maximum(prior - explained, 0.0)


def _covariance(one: Pairs, other: Pairs, linearised: Linearised, bump: tuple[float, float]) -> Floats:
    """Return the covariance of log ratios, (n, m)."""
    linear = linearised.deviation**2 * linearised.slopes(one) @ linearised.slopes(other).T
    (here, there), (other_here, other_there) = one.places, other.places
    signs = ((1, here, other_here), (-1, here, other_there), (-1, there, other_here), (1, there, other_there))
    return linear + sum(sign * _smooth(left, right, bump) for sign, left, right in signs)


def _smooth(one: Floats, other: Floats, bump: tuple[float, float]) -> Floats:
    deviation, length = bump
    kernel: Floats = deviation**2 * np.exp(-cdist(one, other, "sqeuclidean") / (2 * length**2))
    return kernel


def _log_time(work: Floats, prices: Floats) -> Floats:
    log_times: Floats = np.log(work @ np.exp(prices))
    return log_times


def _shares(work: Floats, prices: Floats) -> Floats:
    times: Floats = work * np.exp(prices)
    shares: Floats = times / times.sum(axis=1, keepdims=True)
    return shares


def _places(work: Floats) -> Floats:
    total = work.sum(axis=1, keepdims=True)
    return np.hstack([2 * np.sqrt(work / total), np.log(total) / 2])
