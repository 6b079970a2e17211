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
ROWS_PER_TURN = 512


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


def fit_moments(
    inputs: Tensor,
    input_mean: Tensor,
    targets: Tensor,
    target_mean: Tensor,
    *,
    groups: int = 1,
    beside: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what a linear map from ``inputs`` (t, n) to ``targets`` (t, r) is fitted to, in float64.

    What stands ``beside`` the map (t, r), if anything, is taken from the targets;
    ``target_mean`` is the mean of what is left.

    Returns:
        Second moment of the inputs (n, n), only inside ``groups`` diagonal blocks of
        it, and of targets and inputs (r, n), around the means given.
    """
    num_inputs = inputs.shape[1]
    scatter = torch.zeros(num_inputs, num_inputs, dtype=torch.float64, device=inputs.device)
    cross = torch.zeros(num_inputs, targets.shape[1], dtype=torch.float64, device=inputs.device)
    group_size = num_inputs // groups
    blocks = [
        (slice(start, min(start + COLUMNS_PER_BLOCK, end)), slice(start, end))
        for end in range(group_size, num_inputs + 1, group_size)
        for start in range(end - group_size, end, COLUMNS_PER_BLOCK)
    ]
    inputs_room, targets_room = (each.new_empty(each[:ROWS_AT_ONCE].numel()) for each in (inputs, targets))
    for part in slices(len(inputs)):
        columns = _centred_columns(inputs[part], input_mean, room=inputs_room)
        wanted = targets_room[: targets[part].numel()].view(targets[part].shape)
        torch.sub(targets[part], target_mean, out=wanted)
        if beside is not None:
            wanted -= beside[part]
        cross += affine(columns, wanted.T)
        # Of a symmetric matrix the blocks on and right of the diagonal are all.
        for block, others in blocks:
            scatter[block, others] += affine(columns[block], columns[others])
    return scatter.triu() + scatter.triu(1).T, cross.T


def _centred_columns(states: Tensor, mean: Tensor, *, room: Tensor) -> Tensor:
    """Return the columns of ``states`` (t, n) without their mean (n,) as rows (n, t), in memory that is used again."""
    columns = room[: states.numel()].view(states.shape[::-1])
    # A few rows at a time stay in the cache while they are turned.
    for start in range(0, len(states), ROWS_PER_TURN):
        rows = slice(start, start + ROWS_PER_TURN)
        torch.sub(states[rows].T, mean[:, None], out=columns[:, rows])
    return columns


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
