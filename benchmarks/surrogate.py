"""A smooth stand-in for projected accuracy, learnt from real ones, so that whole searches can be replayed in seconds.

A Gaussian process over what a network keeps of its teacher: how deep, how wide,
and per position class how many groups. Of its settings those are taken that
predict left-out examples best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from search_spaces.architecture import GROUP_POSITIONS, Architecture

Floats = NDArray[np.float64]

LENGTH_SCALES = (1.0, 2.0, 4.0, 8.0)
NOISE_SHARES = (0.05, 0.1, 0.2, 0.4)


def describe(arch: Architecture, teacher: Architecture) -> list[float]:
    """Return what ``arch`` keeps of ``teacher``: early and late layers apart, losses on a log scale."""
    missing = teacher.num_hidden_layers - arch.num_hidden_layers
    features = [math.log2(arch.hidden_size / teacher.hidden_size), float(missing)]
    middle = (arch.num_hidden_layers + 1) // 2
    for blocks in (arch.blocks[:middle], arch.blocks[middle:]):
        full = teacher.blocks[0]
        features.append(float(np.mean([math.log2(b.num_attention_heads / full.num_attention_heads) for b in blocks])))
        features.append(float(np.mean([math.log2(b.intermediate_size / full.intermediate_size) for b in blocks])))
        features += [float(np.mean([math.log2(getattr(b, name)) for b in blocks])) for name in GROUP_POSITIONS]
    return features


class AccuracySurrogate:
    """Predicts an accuracy from what a network keeps of its teacher."""

    def __init__(self, archs: Sequence[Architecture], accuracies: Sequence[float], *, teacher: Architecture) -> None:
        self._teacher = teacher
        rows = np.array([describe(arch, teacher) for arch in archs])
        self._centre, self._scale = rows.mean(axis=0), rows.std(axis=0) + 1e-9
        self._rows = (rows - self._centre) / self._scale
        values = np.array(accuracies)
        self._mean = float(values.mean())
        self._length, self._noise, self.left_out_error = min(
            (
                (length, noise, self._left_out(values, length, noise))
                for length, noise in product(LENGTH_SCALES, NOISE_SHARES)
            ),
            key=lambda each: each[2],
        )
        covariance = self._kernel(self._rows, self._rows, self._length)
        covariance[np.diag_indices(len(values))] += self._noise
        self._weights: Floats = cho_solve(cho_factor(covariance), values - self._mean)

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Return accuracies, (n,)."""
        rows = (np.array([describe(arch, self._teacher) for arch in archs]) - self._centre) / self._scale
        return self._mean + self._kernel(rows, self._rows, self._length) @ self._weights

    def _left_out(self, values: Floats, length: float, noise: float) -> float:
        """Root mean square error of leave-one-out predictions (Rasmussen and Williams, 2006, equation 5.12)."""
        covariance = self._kernel(self._rows, self._rows, length)
        covariance[np.diag_indices(len(values))] += noise
        inverse = np.linalg.inv(covariance)
        residuals = (inverse @ (values - self._mean)) / np.diag(inverse)
        return float(np.sqrt(np.mean(residuals**2)))

    def _kernel(self, one: Floats, other: Floats, length: float) -> Floats:
        # A plane through everything besides the bumps: what lies outside of the examples goes on falling.
        squared = ((one[:, None, :] - other[None, :, :]) ** 2).sum(axis=2)
        kernel: Floats = np.exp(-squared / (2 * one.shape[1] * length**2)) + 0.5 * (1 + one @ other.T / one.shape[1])
        return kernel
