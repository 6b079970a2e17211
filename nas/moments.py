"""Means and covariances of hidden states, and the best linear map from some of them to others.

The least-squares map from inputs x to targets y is Cov(y, x) Cov(x)^-1; for a
layer with groups every group has its own, from its own inputs to its own
outputs, and needs only its own block of the covariance. A ridge draws the map
towards a prior, the teacher's own weights: where the data says nothing, they stay.

Shape legend: t tokens, n and m channels, r outputs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.errors import ProjectionWarning

# Share of the inputs' mean variance that is added to each. Between 1e-3 and 1e-2 nothing changes.
RIDGE = 3e-3
# Rows multiplied at once in float32 before the sum goes on in float64.
ROWS_PER_PRODUCT = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, mean (n,) and centred second moment (n, n), a sum over tokens, in float64."""

    num_tokens: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """Covariance of the channels, (n, n)."""
        return self.scatter / max(1, self.num_tokens)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both samples together (Chan, Golub and LeVeque, 1979)."""
        total = self.num_tokens + other.num_tokens
        if total == 0:
            return self
        step = other.mean - self.mean
        weight = self.num_tokens * other.num_tokens / total
        return Moments(
            total,
            self.mean + step * (other.num_tokens / total),
            self.scatter + other.scatter + weight * torch.outer(step, step),
        )


def moments_of(states: Tensor) -> Moments:
    """Return the moments of ``states`` (t, n)."""
    exact = states.double()
    mean = exact.mean(dim=0)
    centred = exact - mean
    return Moments(len(states), mean, centred.T @ centred)


def cross_scatter(left: Tensor, right: Tensor) -> Tensor:
    """Sum the products of the columns of ``left`` (t, n) and ``right`` (t, m), both centred, as (n, m) in float64."""
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64, device=left.device)
    for start in range(0, len(left), ROWS_PER_PRODUCT):
        rows = slice(start, start + ROWS_PER_PRODUCT)
        total += (left[rows].T @ right[rows]).double()
    return total


def ridge_map(scatter: Tensor, cross: Tensor, *, prior: Tensor, what: str, ridge: float = RIDGE) -> Tensor:
    """Solve for the map (r, n) from n inputs to r targets, drawn towards ``prior``.

    Args:
        scatter: Second moment of the inputs, (n, n) in float64.
        cross: Second moment of targets and inputs, (r, n) in float64.
        prior: The map where the data is silent, (r, n).
        what: Which layer this is, for the warning.
        ridge: Share of the inputs' mean second moment that is added to each.

    Returns:
        The map in float64; ``prior`` itself, with a `ProjectionWarning`, if the
        moments are not finite or not positive definite in spite of the ridge.
    """
    added = ridge * scatter.diagonal().mean()
    regular = scatter + added * torch.eye(len(scatter), dtype=scatter.dtype, device=scatter.device)
    factor, failed = torch.linalg.cholesky_ex(regular)
    if not bool(failed):
        solved = torch.cholesky_solve((cross + added * prior.double()).T, factor).T
        if bool(torch.isfinite(solved).all()):
            return solved
    warnings.warn(
        f"{what}: its inputs do not determine a projection; the teacher's weights stay", ProjectionWarning, stacklevel=2
    )
    return prior.double()
