"""What a few dozen trials tell of the next: a Gaussian process over ordered answers, and what an answer may improve.

What all layers' answers to one question come to on the average counts most,
where a layer differs from that average counts less; both have linear parts, the
averages a smooth one besides (Rasmussen and Williams, 2006, chapters 2 and 5).

Shapes: n = rows told, m = rows asked for, q = questions, p = parameters,
d = objectives, s = draws, v = directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.spatial.distance import cdist

Floats = NDArray[np.float64]

LENGTHS = (0.6, 1.0, 2.0)
OWN_VARIANCES = (0.03, 0.2)
NOISE_VARIANCES = (0.001, 0.01, 0.1)
SMOOTH_VARIANCE = 2.0
# A choice among few settings needs no more rows than these, and costs their number cubed.
MAX_ROWS_TO_CHOOSE = 100
NUM_DRAWS = 8
NUM_DIRECTIONS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Rows as a model sees them: average answers (n, q), and what each differs from its average (n, p)."""

    averages: Floats
    own: Floats

    def __len__(self) -> int:
        return len(self.averages)

    def first(self, count: int) -> Features:
        """Return the first ``count`` rows."""
        return Features(averages=self.averages[:count], own=self.own[:count])


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinship:
    """What kernels are made of: products of averages and of own parts, squared distances of averages, (n, m) each."""

    averages: Floats
    own: Floats
    squared: Floats


def kinship(one: Features, other: Features) -> Kinship:
    """Return how rows (n) and others (m) resemble each other."""
    return Kinship(
        averages=one.averages @ other.averages.T,
        own=one.own @ other.own.T,
        squared=cdist(one.averages, other.averages, "sqeuclidean"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Settings of the process."""

    length: float
    own_variance: float
    noise_variance: float

    def covariance(self, kin: Kinship) -> Floats:
        """Return covariances, (n, m)."""
        smooth: Floats = SMOOTH_VARIANCE * np.exp(kin.squared / (-2 * self.length**2))
        covariance: Floats = 1.0 + kin.averages + self.own_variance * kin.own + smooth
        return covariance

    def variance(self, rows: Features) -> Floats:
        """Return variances, (n,)."""
        linear: Floats = (rows.averages**2).sum(axis=1) + self.own_variance * (rows.own**2).sum(axis=1)
        return 1.0 + linear + SMOOTH_VARIANCE

    def factor(self, kin: Kinship) -> Floats:
        """Return the Cholesky factor of the covariances of observations, (n, n)."""
        covariance = self.covariance(kin)
        covariance[np.diag_indices(len(covariance))] += self.noise_variance
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)


class Process:
    """The process given what was told, ``values`` (n,), of ``rows``."""

    def __init__(self, rows: Features, values: Floats, *, kernel: Kernel | None = None) -> None:
        self._rows = rows
        self._centre = float(values.mean())
        self._scale = float(values.std()) or 1.0
        standard = (values - self._centre) / self._scale
        self.kernel = kernel or _likeliest(rows.first(MAX_ROWS_TO_CHOOSE), standard[:MAX_ROWS_TO_CHOOSE])
        self._factor = self.kernel.factor(kinship(rows, rows))
        self._whitened: Floats = _solve(self._factor, standard)
        # As if one more value had been a standard deviation away: few values do not make a sure scale.
        self._variance = (1.0 + float(self._whitened @ self._whitened)) / (1 + len(rows))

    def at(self, rows: Features) -> tuple[Floats, Floats]:
        """Return means and standard deviations of the values of ``rows``, (m,) each, without noise."""
        across = _solve(self._factor, self.kernel.covariance(kinship(self._rows, rows)))
        left = np.maximum(self.kernel.variance(rows) - (across**2).sum(axis=0), 1e-9)
        means: Floats = self._centre + self._scale * (across.T @ self._whitened)
        return means, self._scale * np.sqrt(self._variance * left)


def expected_gains(means: Floats, deviations: Floats, front: Floats, reference: Floats, draws: Draws) -> Floats:
    """Return by how much points of uncertain losses (m, d) are expected to raise the hypervolume of ``front``.

    Hypervolume is the mean over directions of how far the dominated part reaches,
    to the power of d (Deng and Zhang, 2019); so gains need no geometry and are
    meant for comparison alone. Scale losses alike before.

    Returns:
        Gains (m,), at least 0.
    """
    power = means.shape[1]
    before = reach(reference - front, draws.directions).max(axis=0, initial=0.0) ** power
    total = np.zeros(len(means))
    for standard in draws.standard:
        after = np.maximum(reach(reference - (means + deviations * standard), draws.directions), 0.0) ** power
        total += np.maximum(after - before, 0.0).mean(axis=1)
    return total / len(draws.standard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Random numbers that all rows are compared with: ``standard`` normal (s, d), positive ``directions`` (v, d)."""

    standard: Floats
    directions: Floats


def draw(generator: np.random.Generator, num_objectives: int) -> Draws:
    """Draw what `expected_gains` needs."""
    half = generator.standard_normal((NUM_DRAWS // 2, num_objectives))
    directions = np.abs(generator.standard_normal((NUM_DIRECTIONS, num_objectives))) + 1e-6
    return Draws(
        standard=np.concatenate([half, -half]),
        directions=directions / np.linalg.norm(directions, axis=1, keepdims=True),
    )


def reach(room: Floats, directions: Floats) -> Floats:
    """Return how far boxes of ``room`` (n, d) reach into ``directions`` (v, d), as (n, v)."""
    parts = (column[:, None] / along for column, along in zip(room.T, directions.T, strict=True))
    return reduce(np.minimum, parts)


def _likeliest(rows: Features, standard: Floats) -> Kernel:
    kin = kinship(rows, rows)

    def log_likelihood(kernel: Kernel) -> float:
        factor = kernel.factor(kin)
        whitened = _solve(factor, standard)
        misfit = 0.5 * (1 + len(rows)) * math.log1p(float(whitened @ whitened))
        return -float(np.log(np.diag(factor)).sum()) - misfit

    settings = product(LENGTHS, OWN_VARIANCES, NOISE_VARIANCES)
    kernels = (Kernel(length=length, own_variance=own, noise_variance=noise) for length, own, noise in settings)
    return max(kernels, key=log_likelihood)


def _solve(factor: Floats, right: Floats) -> Floats:
    solved: Floats = solve_triangular(factor, right, lower=True, check_finite=False)
    return solved
