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
from nas.products import ROWS_AT_ONCE, affine, slices

# Share of the inputs' mean variance that is added to each. Between 1e-3 and 1e-2 nothing changes.
RIDGE = 3e-3
COLUMNS_PER_BLOCK = 192


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


def fit_moments(inputs: Tensor, input_mean: Tensor, targets: Tensor, target_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a linear map from ``inputs`` (t, n) to ``targets`` (t, r) is fitted to, in float64.

    Returns:
        Second moment of the inputs (n, n), and of targets and inputs (r, n), around the means given.
    """
    num_inputs = inputs.shape[1]
    scatter = torch.zeros(num_inputs, num_inputs, dtype=torch.float64, device=inputs.device)
    cross = torch.zeros(targets.shape[1], num_inputs, dtype=torch.float64, device=inputs.device)
    starts = range(0, num_inputs, COLUMNS_PER_BLOCK)
    inputs_room, targets_room = (each.new_empty(2, each[:ROWS_AT_ONCE].numel()) for each in (inputs, targets))
    for part in slices(len(inputs)):
        columns = _centred_columns(inputs[part], input_mean, room=inputs_room)
        wanted = _centred_columns(targets[part], target_mean, room=targets_room)
        cross += affine(wanted, columns)
        # Of a symmetric matrix the blocks on and right of the diagonal are all.
        for start in starts:
            block = slice(start, start + COLUMNS_PER_BLOCK)
            scatter[block, start:] += affine(columns[block], columns[start:])
    for start in starts:
        end = start + COLUMNS_PER_BLOCK
        scatter[end:, start:end] = scatter[start:end, end:].T
    return scatter, cross


def _centred_columns(states: Tensor, mean: Tensor, *, room: Tensor) -> Tensor:
    """Return the columns of ``states`` (t, n) without their mean (n,) as rows (n, t), in memory that is used again."""
    centred, columns = room[:, : states.numel()]
    torch.sub(states, mean, out=centred.view(states.shape))
    as_rows: Tensor = columns.view(states.shape[::-1])
    return as_rows.copy_(centred.view(states.shape).T)


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
